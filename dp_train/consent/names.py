"""How people are called in text: the forms of the display names in one conversation's roster.

The gate asks whether a text names somebody who did not agree, anonymisation asks where. Only names of
the roster are known: no gazetteer, no nicknames that do not follow from the display name.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, insort
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

_WORD = re.compile(r"[^\W_](?:[^\W_]|[\u0300-\u036f])*")
_GAP = re.compile(r"[\s.,'’_\-]{0,3}")
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_ASIDE = re.compile(r"\([^)]*\)|\[[^\]]*\]")
_TITLES = "mr mrs ms miss mx dr prof professor sir herr frau mme m jr sr ii iii iv phd md"
# Given and family names that are also common English words, months included.
_COMMON = """
    amber angel april art august autumn baker bank banks bell best bill black bond booth brook brooks brown buck burns
    bush butler carol carpenter case cash chance chase chip christian church clay cliff colt cook cooper cross crystal
    daisy dale dawn day dean don drew duke early faith farmer field fields fisher flower flowers forest foster fox
    frank frost gardener gene ginger glen golden good grace grant gray green guy hall harmony heath heather hill hope
    house hunt hunter iris ivory ivy jack jan jean jewel jolly joy june justice keen key king knight lance lane law
    lily little long love low lucky major march mark marks marsh mason may mercy miles mill miller mills moon moody
    morning nick noble north page park parks pat patience peace pearl penny piper pit point pope porter post potter
    power powers price prince pride ray read reed rich river rivers rob robin rock rocky roman rose ruby rusty sage
    sandy savage sharp short silver singer skip sky small smart snow spring star sterling stone storm story strange
    street strong sue summer summers sunny swift temple thorn tiger van violet wade walker ward waters weeks wells
    west white wild will wills winter winters wise wolf wood woods woody young
    """
_MONTHS = "jan april may june august march"
# After a capitalised common word at the start of a sentence these make it a subject: "Mark is away".
_VERBS = """
    is was has had will would can could should does did didn doesn isn wasn hasn won said says asked asks agreed
    agrees wants wanted thinks thought needs mentioned suggested proposed offered confirmed reported
    """
_TITLE_WORDS, _COMMON_WORDS = frozenset(_TITLES.split()), frozenset(_COMMON.split())
_MONTH_WORDS, _VERB_WORDS = frozenset(_MONTHS.split()), frozenset(_VERBS.split())


class NameSpan(NamedTuple):
    """One occurrence of a person's name in a text."""

    start: int
    end: int
    person_id: str


class _Form(NamedTuple):
    """A way to write a name: folded words, and what has to hold for them to count."""

    words: tuple[str, ...]
    person_id: str
    verbatim: str  # where not empty, the written form itself, as an id has to be


class _Word(NamedTuple):
    start: int
    end: int
    folded: str


def fold(word: str) -> str:
    """Case and accents taken away: "JOSÉ" and "Jose" are one name."""
    if word.isascii():
        return word.lower()
    plain = unicodedata.normalize("NFKD", word.casefold())
    return "".join(char for char in plain if not unicodedata.combining(char))


def words(text: str) -> list[str]:
    """Folded words of a text, in order."""
    if text.isascii():
        return _WORD.findall(text.lower())
    return [fold(word) for word in _WORD.findall(text)]


def is_free(taken: Sequence[tuple[int, int]], start: int, end: int) -> bool:
    """Whether a span touches none of the taken ones, which are sorted and do not overlap."""
    after = bisect_left(taken, (start, end))
    return (after == 0 or taken[after - 1][1] <= start) and (after == len(taken) or end <= taken[after][0])


class NameIndex:
    """The names of some people of one conversation, ready to be looked for.

    Known for "Dr. Anna-Lena van der Berg" are: the whole name without titles and asides, first and last
    name together in both orders, each part of the first and of the last name alone, the handles
    `annaberg` and `aberg` (with dot, underscore or hyphen too), and the person id itself where it has
    four or more characters. Case and accents do not matter, a possessive ending does not hide a name.

    Args:
      names: person id → display name.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._forms: dict[str, list[_Form]] = {}
        self._unspaced: list[tuple[str, str]] = []
        for person_id, name in names.items():
            for form in _forms(person_id, name):
                self._forms.setdefault(form.words[0], []).append(form)
            self._unspaced.extend((written, person_id) for written in _unspaced_forms(name))
        for forms in self._forms.values():
            if len(forms) > 1:
                forms.sort(key=lambda form: -len(form.words))
        self._unspaced.sort(key=lambda item: -len(item[0]))

    def occurs_in(self, text: str) -> bool:
        """Whether any form stands in the text, in any case: "may" counts for May.

        For those who did not agree: a false hit costs a turn, a miss trains on what was said of them.
        """
        if any(written in text for written, _ in self._unspaced):
            return True
        if self._forms.keys().isdisjoint(words(text)):
            return False
        found = _words_of(text, ())
        return any(self._forms_at(text, found, index) for index in range(len(found)))

    def find(
        self,
        text: str,
        *,
        hints: Collection[str] = (),
        covered: Sequence[tuple[int, int]] = (),
        declarative: bool = False,
    ) -> list[NameSpan]:
        """Where the names stand, left to right, without overlap, the longest form first.

        A name of common words, or of two letters, ("Will", "May", "Jo") counts when it is written with
        capitals and does not begin a sentence. At the beginning it counts when nothing, a comma, a
        possessive or a verb such as "said" follows. After "@" it always counts, and so does the
        capitalised form when the person is among the hints. A month beside a number is a month.

        Args:
          hints: ids of people whom the author is known to name; they decide between people who share a name.
          covered: spans to leave alone, sorted, without overlap.
          declarative: the text asks and orders nothing, so a capital at the start of a sentence counts too.
        """
        if not self._unspaced and self._forms.keys().isdisjoint(words(text)):
            return []
        taken = list(covered)
        spans = list(self._find_unspaced(text, taken))
        found = _words_of(text, taken)
        reached = 0
        for index, word in enumerate(found):
            if word.start < reached or word.folded not in self._forms:
                continue
            for form in _preferred(self._forms_at(text, found, index), hints):
                if _is_name(text, found, index, form, form.person_id in hints or declarative):
                    start, reached = _with_handle(text, word.start, found[index + len(form.words) - 1].end)
                    spans.append(NameSpan(start, reached, form.person_id))
                    break
        return sorted(spans)

    def _forms_at(self, text: str, found: Sequence[_Word], index: int) -> list[_Form]:
        """Forms that stand at a word, longest first."""
        return [form for form in self._forms.get(found[index].folded, ()) if _matches(form, text, found, index)]

    def _find_unspaced(self, text: str, taken: list[tuple[int, int]]) -> Iterator[NameSpan]:
        """Occurrences in scripts without spaces; each is added to the taken spans."""
        for written, person_id in self._unspaced:
            start = text.find(written)
            while start >= 0:
                end = start + len(written)
                if is_free(taken, start, end):
                    insort(taken, (start, end))
                    yield NameSpan(start, end, person_id)
                start = text.find(written, end)


def _words_of(text: str, taken: Sequence[tuple[int, int]]) -> list[_Word]:
    """Words with their places, without those that touch a taken span."""
    found = [_Word(match.start(), match.end(), fold(match.group())) for match in _WORD.finditer(text)]
    return [word for word in found if is_free(taken, word.start, word.end)] if taken else found


def _matches(form: _Form, text: str, found: Sequence[_Word], index: int) -> bool:
    stretch = found[index : index + len(form.words)]
    if len(stretch) < len(form.words) or any(w.folded != wanted for w, wanted in zip(stretch, form.words, strict=True)):
        return False
    if form.verbatim:
        return text[stretch[0].start : stretch[-1].end].casefold() == form.verbatim
    gaps = [text[left.end : right.start] for left, right in pairwise(stretch)]
    if len(form.words) == 2 and len(form.words[0]) == 1 and gaps[0].isspace():
        return False  # "A. Berg" and "a.berg" are names, "a berg" need not be one
    return all(_GAP.fullmatch(gap) for gap in gaps)


def _preferred(forms: Sequence[_Form], hints: Collection[str]) -> Sequence[_Form]:
    """Longest first; among equals those of people whom the author names, then the roster's order."""
    if len(forms) < 2:
        return forms
    return sorted(forms, key=lambda form: (-len(form.words), form.person_id not in hints))


def _with_handle(text: str, start: int, end: int) -> tuple[int, int]:
    """The span widened to the whole handle, where the name stands in one: "@bob_42", "<@U0123>"."""
    if text[start - 1 : start] != "@":
        return start, end
    rest = _HANDLE_REST.match(text, end)
    end = rest.end() if rest else end
    return (start - 2, end + 1) if text[start - 2 : start] == "<@" and text[end : end + 1] == ">" else (start - 1, end)


def _is_name(text: str, found: Sequence[_Word], index: int, form: _Form, expected: bool) -> bool:
    """Whether what was written is meant as a name; see `NameIndex.find`."""
    if form.verbatim or not all(len(word) <= 2 or word in _COMMON_WORDS for word in form.words):
        return True
    stretch = found[index : index + len(form.words)]
    start, end = stretch[0].start, stretch[-1].end
    if text[start - 1 : start] == "@":
        return True
    if not all(text[word.start : word.end].istitle() for word in stretch):
        return False
    if len(stretch) > 1:
        return True
    if text[end : end + 2] in ("'t", "’t"):  # "Don't" is not Don
        return False
    if stretch[0].folded in _MONTH_WORDS and (
        _NUMBER_AFTER.match(text, end) or _NUMBER_BEFORE.search(text, max(0, start - 12), start)
    ):
        return False
    if expected or not _SENTENCE_START.search(text, max(0, start - 8), start):
        return True
    follows = found[index + 1].folded if index + 1 < len(found) else ""
    return bool(_ADDRESSED.match(text, end)) or follows in _VERB_WORDS


_HANDLE_REST = re.compile(r"[\w\-]*\w")
_NUMBER_AFTER = re.compile(r"\.?\s*\d")
_NUMBER_BEFORE = re.compile(r"\d(?:st|nd|rd|th|\.)?\s{1,3}(?:of\s)?\Z")
_SENTENCE_START = re.compile(r"(?:[.!?…\"“•*>\n]|\A)\s{0,3}(?:[-–—•*]\s{0,3})?\Z")
_ADDRESSED = re.compile(r"\s*(?:[,.!?\n]|['’]s|\Z)")


def _forms(person_id: str, name: str) -> Iterator[_Form]:
    seen: set[tuple[str, ...]] = set()
    for form in _spoken_forms(name):
        if form and form not in seen:
            seen.add(form)
            yield _Form(form, person_id, "")
    spelled = tuple(words(person_id))
    if len(person_id) >= 4 and spelled and spelled not in seen:
        yield _Form(spelled, person_id, person_id.strip("@").casefold())


def _spoken_forms(name: str) -> Iterator[tuple[str, ...]]:
    name = _ASIDE.sub(" ", name)
    family, comma, given = name.partition(",")
    if comma and words(given) and fold(given.strip(" .")) not in _TITLE_WORDS:
        name = f"{given} {family}"  # "Berg, Anna" is Anna Berg
    groups = [tuple(words(group)) for group in name.split()]
    groups = [group for group in groups if group and not (len(group) == 1 and group[0] in _TITLE_WORDS)]
    if not groups:
        return
    whole = tuple(word for group in groups for word in group)
    first, last = groups[0], groups[-1]
    yield whole
    if len(groups) > 1:
        yield first + last
        yield last + first
        yield (first[0], *last)
        for handle in ("".join(first + last), first[0][0] + "".join(last), "".join(first) + last[0][0]):
            if len(handle) >= 5:
                yield (handle,)
        yield (first[0][0], *last)  # "a.berg", "A. Berg"
    for group in (first, last):
        yield group
        yield from ((word,) for word in group if len(word) > 1)


def _unspaced_forms(name: str) -> Iterator[str]:
    """Names in scripts that put no spaces between words cannot be found as words."""
    name = _ASIDE.sub(" ", name).strip()
    if not _UNSPACED.search(name):
        return
    forms = {name, "".join(name.split()), *name.split()}
    yield from (form for form in forms if len(form) > 1)
