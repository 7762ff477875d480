"""Names with a typing error: two letters swapped, one left out or doubled.

Each is a possible word, so such a form counts only where it is written like a name (`Form.guarded`), and none is a
known given name or a common word: "Brain" in a sentence may be Brian, "brain" and "Brianna" never are.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from dp_train.consent.name_forms import COMMON, Form, forms_of, given_names
from dp_train.consent.name_romanised import consonants, script_of

_SWAPPED, _LEFT_OUT = 4, 6
"""So many letters a name needs before another order, or another number, of them is taken for it."""


@lru_cache(maxsize=4096)
def typing_errors(person_id: str, name: str) -> dict[str, Form]:
    """Mistyped word → the form that was meant, for the single words of one person's name; none of a handle's."""
    found: dict[str, Form] = {}
    if len(name.split()) < 2:
        return found
    for form in forms_of(person_id, name):
        word = form.words[0]
        if len(form.words) > 1 or form.guarded or form.exact or form.folded or not (word.isalpha() and word.isascii()):
            continue
        for typed in _typed(word):
            if typed not in given_names() and typed not in COMMON:
                found.setdefault(typed, form._replace(words=(typed,), guarded=True))
    return found


def _typed(word: str) -> Iterator[str]:
    if len(word) >= _SWAPPED:
        for n in range(1 if len(word) < _LEFT_OUT else 0, len(word) - 1):
            if word[n] != word[n + 1]:
                yield word[:n] + word[n + 1] + word[n] + word[n + 2 :]
    if len(word) >= _LEFT_OUT:
        for n in range(1, len(word)):
            yield word[:n] + word[n + 1 :]
            yield word[:n] + word[n] + word[n:]


@lru_cache(maxsize=4096)
def by_consonants(person_id: str, name: str) -> dict[str, Form]:
    """Consonants of a word in Latin letters → the Hebrew or Arabic name that it may be: "trk" of طارق is Tarek's.

    Three consonants at least: with two, half of all words would be a person's name.
    """
    found: dict[str, Form] = {}
    for form in forms_of(person_id, name):
        for word in form.words:
            if script_of(word) in ("HEBREW", "ARABIC") and len(key := consonants(word)) >= 3:
                found.setdefault(key, form._replace(words=(word,), guarded=True))
    return found
