"""Which rooms are in a language: a light guess by function words, with no model and no library."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from dp_train.words import Word

_WORD = re.compile(r"[^\W\d_]+")
_ENGLISH_TEXT = """
    the be to of and a in that have it for not on with he as you do at this but his by from they we say her she or an
    will my one all would there their what so up out if about who get which go me when make can like just know take
    is are was were am been has had did does i your it's i'm don't how any some than then them these into only
    """
_ENOUGH = 40
"""Words from which on a room can be told."""


class Language(Word):
    """The languages that can be asked for."""

    EN = "en"


_FUNCTION_WORDS = {Language.EN: frozenset(_ENGLISH_TEXT.split())}
_SHARE = 0.25
"""English chat has some 45 % function words, other languages below 10 %."""


def rooms_in(language: Language, texts: Iterable[tuple[str, str]]) -> frozenset[str]:
    """Rooms of which at least a quarter of the words are function words of the language.

    A room with fewer than 40 words is left out, since nothing can be told about it.

    Args:
      texts: (room, text) that may be read for this: of *public* people. Whether a room is kept is then no
        function of what anybody in training wrote.
    """
    words: Counter[str] = Counter()
    found: Counter[str] = Counter()
    known = _FUNCTION_WORDS[language]
    for room, text in texts:
        said = _WORD.findall(text.lower())
        words[room] += len(said)
        found[room] += sum(word in known for word in said)
    return frozenset(room for room, count in words.items() if count >= _ENOUGH and found[room] >= _SHARE * count)
