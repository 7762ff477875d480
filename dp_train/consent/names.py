"""How people are called in text: the forms of the display names in one conversation's roster.

The gate asks whether a text names a person who did not agree, anonymisation asks where. Only names of
the roster are known: no gazetteer, no nicknames that do not follow from the display name.
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from functools import cached_property, lru_cache
from itertools import chain, pairwise
from operator import itemgetter
from typing import NamedTuple

from dp_train.consent.disguises import readings
from dp_train.consent.name_cases import declined_begins, declined_forms, stems
from dp_train.consent.name_forms import HONORIFICS, Form, forms_of, unspaced_forms
from dp_train.consent.name_letters import INVISIBLE, PLAIN_WORD, WORD, fold, plain, words
from dp_train.consent.name_romanised import consonants
from dp_train.consent.name_romanised import readings as sounds
from dp_train.consent.name_slips import by_consonants, typing_errors

_LARGE = re.compile(r"(?<![A-Za-z0-9])[A-Z0-9][A-Za-z0-9]*")  # in ASCII, words that do not begin with a small letter
_FIRST_LETTERS = itemgetter(slice(3))
_NONE: frozenset[str] = frozenset()
_GAP = re.compile(r"[\s.,'’_\-]{0,3}")
_MONTHS = "jan april may june august march"
# After a capitalised common word at the start of a sentence these make it a subject: "Mark is away".
_VERBS = """
    is was has had will would can could should does did didn doesn isn wasn hasn won said says asked asks agreed
    agrees wants wanted thinks thought needs mentioned suggested proposed offered confirmed reported
    """
_MONTH_WORDS, _VERB_WORDS = frozenset(_MONTHS.split()), frozenset(_VERBS.split())


class NameSpan(NamedTuple):
    """One occurrence of a person's name in a text."""

    start: int
    end: int
    person_id: str


class _Words(NamedTuple):
    """The words of a text: folded, and where each stands."""

    folded: Sequence[str]
    places: Sequence[tuple[int, int]]

    def stretch(self, index: int, form: Form) -> tuple[int, int]:
        """Where a form stands that begins with a word."""
        return self.places[index][0], self.places[index + len(form.words) - 1][1]


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
      whole: only forms that hold more than one part of a name.
    """

    def __init__(self, names: Mapping[str, str], *, whole: bool = False) -> None:
        self._forms: dict[str, Sequence[Form]] = {}
        self._unspaced: list[tuple[str, str]] = []
        called = [_called(person_id, name, whole) for person_id, name in names.items()]
        for person in called:
            for word, forms in person.by_first_word:
                known = self._forms.get(word)
                self._forms[word] = _longest_first([*known, *forms]) if known else forms
            self._unspaced += person.unspaced
        self._people = tuple(names.items())
        self._whole = whole
        self._begins = frozenset().union(*(person.begins for person in called))
        self._letters_first = not any(begin[0].isdigit() for begin in self._begins)
        self._prefixed = not all(map(str.isascii, self._begins))
        self._typed = [person.typed for person in called if person.typed]
        self._consonants = [person.consonants for person in called if person.consonants]
        self._typed_words = frozenset(chain.from_iterable(self._typed))
        self._words = self._typed_words.union(self._forms)
        # A longer name goes before a part of it, and any name before one character with an honorific.
        self._unspaced.sort(key=lambda item: (item[0].endswith(HONORIFICS), -len(item[0])))

    def occurs_in(self, text: str) -> bool:
        """Whether any form stands in a reading of the text (`disguises`), in any case: "may" counts for May.

        For those who did not agree: a false hit costs a turn, a miss trains on what was said of them.
        """
        return any(map(self._occurs_in, readings(text)))

    def _occurs_in(self, text: str) -> bool:
        text = _visible(text)[0]
        if any(written in text for written, _ in self._unspaced):
            return True
        likely = self._likely(text)
        if not likely:
            return False
        found = _words_of(text, ())
        return any(self._forms_at(text, found, index) for index, word in enumerate(found.folded) if word in likely)

    def people_in(self, text: str) -> set[str]:
        """Everybody of whom any form stands in the text, in any case."""
        return set().union(*map(self._people_in, readings(text)))

    def _people_in(self, text: str) -> set[str]:
        text = _visible(text)[0]
        people = {person_id for written, person_id in self._unspaced if written in text}
        if likely := self._likely(text):
            found = _words_of(text, ())
            indices = (index for index, word in enumerate(found.folded) if word in likely)
            people |= {form.person_id for index in indices for form in self._forms_at(text, found, index)}
        return people

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
        text, places = _visible(text)
        if places:
            here = [(bisect_left(places, start), bisect_left(places, end)) for start, end in covered]
            spans = self.find(text, hints=hints, covered=here, declarative=declarative)
            return [NameSpan(places[s.start], places[s.end - 1] + 1, s.person_id) for s in spans]
        likely = self._likely(text)
        if not likely and not self._unspaced:
            return []
        taken = list(covered)
        spans = list(self._find_unspaced(text, taken))
        found, reached = _words_of(text, taken) if likely else _Words((), ()), 0
        for index, word in enumerate(found.folded):
            if word not in likely or found.places[index][0] < reached:
                continue
            for form in _preferred(self._forms_at(text, found, index), hints):
                if _is_name(text, found, index, form, form.person_id in hints or declarative):
                    start, reached = _with_handle(text, *found.stretch(index, form))
                    spans.append(NameSpan(start, reached, form.person_id))
                    break
        return sorted(spans)

    def _forms_at(self, text: str, found: _Words, index: int) -> Sequence[Form]:
        """Forms that stand at a word, longest first; where there is none, what it may be a case of."""
        word, start = found.folded[index], found.places[index][0]
        whole = [form for form in self._forms.get(word, ()) if _matches(form, text, found, index)]
        if whole or text[start].islower():  # scripts without case have no lower one
            return whole
        if stem := self._stem_of(word):
            return self._stems[stem]
        typed = [forms[word] for forms in self._typed if word in forms]
        if not typed and not word.isascii():
            return self._read_at(text[slice(*found.places[index])])
        if typed or not self._consonants:
            return typed
        key = consonants(word)
        return [forms[key] for forms in self._consonants if key in forms]

    def _read_at(self, written: str) -> list[Form]:
        """Forms in Latin letters that a word of another alphabet sounds like: "इमरान" is Imran."""
        heard = (form for spelling in sounds(written) for form in self._forms.get(spelling, ()))
        forms = [form for form in heard if not (form.words[1:] or form.exact or form.folded)]
        return [form._replace(words=(written,), guarded=True) for form in forms]

    @cached_property
    def _stems(self) -> dict[str, list[Form]]:
        """Forms by what case endings may follow; few conversations need them."""
        stems_: dict[str, list[Form]] = {}
        for person in self._people:
            for form in declined_forms(*person):
                if not self._whole or form.whole:
                    stems_.setdefault(form.words[0], []).append(form)
        return stems_

    def _stem_of(self, word: str) -> str:
        """The stem of a name that a folded word may be a case of, or nothing."""
        if word[:3] in self._begins or (self._prefixed and not word.isascii()):
            for stem in (word, *stems(word)):
                if stem in self._stems:
                    return stem
        return ""

    def _likely(self, text: str) -> Set[str]:
        """Folded words of the text at which a name may stand: none in most texts, and no other one is looked at."""
        text = text if text.isascii() else plain(text)
        found = words(text)
        plainly = text.isascii() and not self._consonants and self._words.isdisjoint(found)
        if plainly and (
            (text.islower() and self._letters_first) or self._begins.isdisjoint(map(_FIRST_LETTERS, found))
        ):
            return _NONE
        likely = set() if self._forms.keys().isdisjoint(found) else self._forms.keys() & found
        if text.isascii():  # the others have to be written large
            found = tuple(map(str.lower, _LARGE.findall(text)))
            if not found:
                return likely
        else:
            other = [word for word in WORD.findall(text) if not word.isascii()]
            likely.update(fold(word) for word in other if not self._forms.keys().isdisjoint(sounds(word)))
            if self._prefixed:
                likely.update(filter(self._stem_of, map(fold, other)))
        if not self._begins.isdisjoint(map(_FIRST_LETTERS, found)):
            likely.update(filter(self._stem_of, found))
        if not text.islower():
            if not self._typed_words.isdisjoint(found):
                likely |= self._typed_words.intersection(found)
            if self._consonants:
                likely.update(found)
        return likely

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


class FullNames:
    """The full names, handles and ids of many people, such as an organisation's directory.

    A part of a name alone does not count here: in a room "Anna" is the Anna of the room.

    Args:
      names: person id → full name.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._index = NameIndex(names, whole=True)

    def people_in(self, text: str) -> set[str]:
        """Everybody whose full name stands in the text."""
        return self._index.people_in(text)


class _Called(NamedTuple):
    """How one person may be called.

    `by_first_word`: forms by the word that they begin with, the longest first. `unspaced`: (as written, person id).
    `begins`: of declined forms. `typed`, `consonants`: what is mistyped, or written without the vowels that its script
    leaves out; it tells a part of a name alone.
    """

    by_first_word: tuple[tuple[str, Sequence[Form]], ...]
    unspaced: tuple[tuple[str, str], ...]
    begins: frozenset[str]
    typed: Mapping[str, Form]
    consonants: Mapping[str, Form]


@lru_cache(maxsize=4096)
def _called(person_id: str, name: str, whole: bool) -> _Called:
    """What is known of one person, kept as `forms_of` keeps its forms; `whole`: without a part of a name alone."""
    found: dict[str, list[Form]] = {}
    for form in forms_of(person_id, name):
        if not whole or form.whole:
            found.setdefault(form.words[0], []).append(form)
    length = len(name.replace(" ", "")) if whole else 0
    return _Called(
        by_first_word=tuple((word, _longest_first(forms)) for word, forms in found.items()),
        unspaced=tuple((form, person_id) for form in unspaced_forms(name) if len(form) >= length),
        begins=declined_begins(person_id, name),
        typed={} if whole else typing_errors(person_id, name),
        consonants={} if whole else by_consonants(person_id, name),
    )


def _longest_first(forms: Sequence[Form]) -> Sequence[Form]:
    return sorted(forms, key=lambda form: -len(form.words)) if len(forms) > 1 else forms


def _visible(text: str) -> tuple[str, list[int]]:
    """The text without what nobody sees, and where each character stood; no places if nothing was taken out."""
    if text.isascii() or not INVISIBLE.search(text):
        return text, []
    places: list[int] = []
    reached = 0
    for match in INVISIBLE.finditer(text):
        places += range(reached, match.start())
        reached = match.end()
    return INVISIBLE.sub("", text), [*places, *range(reached, len(text) + 1)]


def _words_of(text: str, taken: Sequence[tuple[int, int]]) -> _Words:
    """Words with their places, without those that touch a taken span."""
    text = plain(text)
    finder = PLAIN_WORD.finditer(text.lower()) if text.isascii() else WORD.finditer(text)
    found = _Words(words(text), [match.span() for match in finder])
    return _free_words(found, taken) if taken else found


def _free_words(found: _Words, taken: Sequence[tuple[int, int]]) -> _Words:
    """Those that touch no taken span; both are sorted."""
    free, after = [], 0
    for index, (start, end) in enumerate(found.places):
        while after < len(taken) and taken[after][1] <= start:
            after += 1
        if after == len(taken) or end <= taken[after][0]:
            free.append(index)
    return _Words(tuple(found.folded[index] for index in free), [found.places[index] for index in free])


def _matches(form: Form, text: str, found: _Words, index: int) -> bool:
    size = len(form.words)
    if size > 1 and found.folded[index : index + size] != form.words:
        return False
    if form.folded or form.exact:
        written = text[slice(*found.stretch(index, form))]
        return written == form.exact or (form.folded != "" and written.casefold() == form.folded)
    if size == 1:
        return True
    gaps = [text[left[1] : right[0]] for left, right in pairwise(found.places[index : index + size])]
    if size == 2 and len(form.words[0]) == 1 and gaps[0].isspace():
        return False  # "A. Berg" and "a.berg" are names, "a berg" need not be one
    return all(_GAP.fullmatch(gap) for gap in gaps)


def _preferred(forms: Sequence[Form], hints: Collection[str]) -> Sequence[Form]:
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


def _is_name(text: str, found: _Words, index: int, form: Form, expected: bool) -> bool:
    """Whether what was written is meant as a name; see `NameIndex.find`."""
    if not form.guarded:
        return True
    start, end = found.stretch(index, form)
    if text[start - 1 : start] == "@":
        return True
    places = found.places[index : index + len(form.words)]
    if not all(_written_large(text[slice(*place)]) for place in places):
        return False
    if len(places) > 1 or not text[start:end].istitle():
        return True
    if text[end : end + 2] in ("'t", "’t"):  # "Don't" is not Don
        return False
    if found.folded[index] in _MONTH_WORDS and (
        _NUMBER_AFTER.match(text, end) or _NUMBER_BEFORE.search(text, max(0, start - 12), start)
    ):
        return False
    if expected or not _SENTENCE_START.search(text, max(0, start - 8), start):
        return True
    follows = found.folded[index + 1] if index + 1 < len(found.folded) else ""
    return bool(_ADDRESSED.match(text, end)) or follows in _VERB_WORDS


def _written_large(word: str) -> bool:
    """Whether a word begins with a capital, where there are any."""
    return word.istitle() or word.lower() == word.upper()


_HANDLE_REST = re.compile(r"[\w\-]*\w(?:\.\w{1,2}\b)?|\.\w{1,2}\b")
_NUMBER_AFTER = re.compile(r"\.?\s*\d")
_NUMBER_BEFORE = re.compile(r"\d(?:st|nd|rd|th|\.)?\s{1,3}(?:of\s)?\Z")
_SENTENCE_START = re.compile(r"(?:[.!?…\"“•*>\n]|\A)\s{0,3}(?:[-–—•*]\s{0,3})?\Z")
_ADDRESSED = re.compile(r"\s*(?:[,.!?\n]|['’]s|\Z)")
