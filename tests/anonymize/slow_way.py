"""The slow way to what `find_patterns` and `NameIndex` find: every recogniser on every text, every word a name's start.

What decides whether a kind is looked for at all (`_Kind.applies`) is the same; nothing is passed over for its shape,
its words or its labels.
"""

from __future__ import annotations

import re
from bisect import insort
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from unittest.mock import patch

from dp_train.anonymize import addresses, keywords, labels, links, patterns, secrets
from dp_train.anonymize.labels import Labels, Place
from dp_train.anonymize.shapes import is_strange
from dp_train.consent.name_letters import WORD, fold
from dp_train.consent.names import NameIndex, is_free

_SIGN = re.compile(r"[\d@:=]|\.\w|-\w+-|-----")


class Seen:
    """What `_Seen` holds, by searches alone."""

    def __init__(self, text: str, covered: Sequence[Place]) -> None:
        self.text = text
        self.bare = patterns._without(text, covered, "¤")
        self.lowered = self.bare.lower()
        self.digits = len(re.findall(r"\d", self.lowered))
        self.dot = re.search(r"\.\w", self.lowered) is not None
        self.long_word = re.search(r"[^\s]{16}", self.lowered) is not None
        self.code_word = any(code in self.lowered for code in keywords.CODES + patterns._OTHER_CODES)

    @property
    def secret(self) -> bool:
        if (self.long_word and re.search(r"[\w+/=\-]{16}", self.lowered)) or "bearer" in self.lowered:
            return True
        return self.digits > 0 and any(word in self.lowered for word in patterns._SECRET_WORDS)


def slow_patterns(text: str, covered: Sequence[Place] = ()) -> list[patterns.PatternSpan]:
    """Return what `find_patterns` has to find."""
    seen = Seen(text, covered)
    if not (seen.code_word or seen.long_word or _SIGN.search(seen.lowered)):
        return []
    taken, spans = list(covered), []
    with patch.object(labels, "_found", _every_label), patch.object(labels, "_tables", lambda text: -1):
        for kind in patterns._KINDS:
            if seen.digits >= kind.digits and kind.applies(seen):  # type: ignore[arg-type]
                for start, end in _SEARCHES.get(kind.find, kind.find)(text):
                    if is_free(taken, start, end):
                        insort(taken, (start, end))
                        spans.append(patterns.PatternSpan(start, end, kind.token))
    return sorted(spans)


@contextmanager
def every_word_may_be_a_name() -> Iterator[None]:
    """Within this, `NameIndex` looks at each word of a text."""
    with patch.object(NameIndex, "_likely", lambda self, text: set(map(fold, WORD.findall(text)))):
        yield


@lru_cache(maxsize=1)
def _every_label(text: str) -> dict[Labels, list[Place]]:
    lowered = labels._lowered(text)
    known = chain(*labels._BY_BEGIN.values(), labels._WITHIN) if not is_strange(text) else labels._likely(text)
    found: dict[Labels, list[Place]] = {}
    for label in known:
        start = lowered.find(label.word)
        while start >= 0:
            end = start + len(label.word)
            inside = not label.anywhere and lowered[:start][-1:].isalpha()
            if not inside and not (label.whole and lowered[end:][:1].isalnum()):
                found.setdefault(label.table, []).append((start, end))
            start = lowered.find(label.word, end)
    return found


def _urls(text: str) -> Iterator[Place]:
    return (links._trimmed(m) for pattern in (links._URL, links._DOMAIN) for m in pattern.finditer(text))


def _passwords(text: str) -> Iterator[Place]:
    yield from (match.span(2) for match in secrets._PASSWORD_ASSIGNED.finditer(text))
    with patch.object(secrets, "keywords", lambda text: 0):
        yield from secrets.passwords(text)


def _assigned(text: str) -> Iterator[Place]:
    with patch.object(secrets, "_assignments", secrets._ASSIGNED.finditer):
        yield from secrets.assigned(text)


def _streets(text: str) -> Iterator[re.Match[str]]:
    held = (
        addresses._NUMBER_AND_CAPITAL.search(text),
        addresses._WITHIN_A_WORD.ends(text),
        addresses._WORD_BEFORE.ends(text),
        addresses._POSTCODE.search(text),
    )
    for holds, group in zip(held, addresses._GROUPS, strict=True):
        if holds:
            yield from chain.from_iterable(pattern.finditer(text) for pattern in group)


def _street_addresses(text: str) -> list[Place]:
    with patch.object(addresses, "_streets", _streets), patch.object(addresses, "looks", lambda *_, **__: True):
        return addresses.street_addresses(text)


_SEARCHES = {
    links.urls: _urls,
    secrets.passwords: _passwords,
    secrets.assigned: _assigned,
    addresses.street_addresses: _street_addresses,
}
