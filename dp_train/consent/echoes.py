"""What was said in turns that were left out, known again where another person repeats or quotes it without a link."""

from __future__ import annotations

import re
from itertools import chain

from dp_train.consent.disguises import readings
from dp_train.consent.name_letters import INVISIBLE, UNSPACED, words

RUN_OF_WORDS = 6
"""So many words in a row, shared with an earlier turn that was left out, are a quotation of it."""


class Echoes:
    """What was said in turns that were left out, to know it again where no link says so.

    Known again are `RUN_OF_WORDS` words in a row; all of a shorter turn of three words, or of twelve letters, or more;
    and of what a text itself marks as quoted ("> …", “…”, 「…」, `…`), or announces ("she wrote: …"), any `_QUOTED`
    letters that stood in such a turn, also between dots for what is left out.
    A sign of a script without spaces counts as a word.
    """

    def __init__(self) -> None:
        self._runs: set[tuple[str, ...]] = set()
        self._lengths: set[int] = set()
        self._said: list[str] = []

    def add(self, text: str) -> None:
        said = _signs(text)
        if not said:
            return
        self._said.append("".join(said))
        length = min(len(said), RUN_OF_WORDS)
        if length >= 3 or sum(map(len, said)) >= _LETTERS:
            self._lengths.add(length)
            self._runs.update(_runs(said, length))

    def repeated_in(self, text: str) -> bool:
        return bool(self._said) and any(map(self._repeats, readings(text)))

    def _repeats(self, text: str) -> bool:
        said = _signs(text)
        if any(not self._runs.isdisjoint(_runs(said, length)) for length in self._lengths):
            return True
        quoted = (next(filter(None, match.groups())) for match in _MARKED.finditer(text))
        after = _ANNOUNCED.search(text)
        lines = text[after.end() :].splitlines() if after else ()
        marked = ("".join(_signs(part)) for each in chain(quoted, lines) for part in _LEFT_OUT.split(each))
        return any(len(part) >= _QUOTED and part in whole for part in marked for whole in self._said)


_LETTERS, _QUOTED = 12, 4
_MARKED = re.compile(
    r"^\s*[>＞|]+\s*(.+)$|[\"“„”«»＂〝〟〞]([^\"“„”«»＂〝〟〞]+)[\"“”«»＂〟〞]|[「『《〈]([^」』》〉]+)[」』》〉]"
    r"|(?<!\w)[‘'‚]([^’'‘]{4,})[’'‘](?!\w)|‹([^›]+)›|›([^‹]+)‹|`+([^`]{8,})`|<(?:blockquote|q|cite)\b[^>]*>([^<]+)",
    re.MULTILINE | re.IGNORECASE,
)
"""What a text itself marks as quoted, or sets off as chats do where quotation marks would stand."""
_WROTE = (
    r"wrote|said|writes|schrieb|schreibt|a écrit|escribió|escreveu|scrisse|ha scritto|schreef|skrev|napisała?|написала?"
)
_ANNOUNCED = re.compile(
    r"^[\s>]*[-_*]*\s*(?:begin )?(?:forwarded|fwd|weitergeleitete?|reenviado|transféré|inoltrato)\b.*$"
    rf"|\b(?:{_WROTE})\b[^\n:]{{0,40}}:",
    re.MULTILINE | re.IGNORECASE,
)
"""Words after which another person's follow; each line after them counts as quoted."""
_LEFT_OUT = re.compile(r"…|\.{3,}|\[[.…]+\]|\([.…]+\)")


def _signs(text: str) -> list[str]:
    """Folded words; of scripts without spaces, the letters."""
    found: list[str] = []
    for word in words(INVISIBLE.sub("", text)):
        found.extend(word if UNSPACED.search(word) else (word,))
    return found


def _runs(said: list[str], length: int) -> set[tuple[str, ...]]:
    return {tuple(said[start : start + length]) for start in range(len(said) - length + 1)}
