"""What a text may be read as where letters are spelt out, joined, decorated or exchanged: for the gate alone.

`readings` of "ask C-o-l-e", "*C*ole", "C0le", "askCole", "cole1987" and "Ⓒⓞⓛⓔ" have Cole as a word. A reading too many
costs a turn, one too few trains on what was said of a person; so nothing is ever taken away from the text: it is the
first of its readings, and the others stand beside it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from html import unescape

_LETTER = r"[^\W\d_]"
# What may stand between letters of one word and be no hyphen, dot, slash or apostrophe: marks of emphasis, emoji.
_STRAY = r"[^\w\s.,;:!?/'’\-–—@]"
_SIGN = re.compile(
    rf"(?<={_LETTER}){_STRAY}{{1,4}}(?={_LETTER})|{_STRAY}{{1,2}}(?={_LETTER}{_STRAY})|(?<!\w){_STRAY}(?={_LETTER})"
)
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,40}>")
_ENTITY = re.compile(r"&#?\w{1,8};")
_SPELT = re.compile(rf"(?<![\w'’]){_LETTER}(?:[ .\-_*·|\u2000-\u200a\u2800]{{1,2}}{_LETTER}){{2,}}(?!\w)")
_BOUNDS = re.compile(rf"(?<=[a-z])(?=[A-Z])|(?<={_LETTER})(?=\d)|(?<=\d)(?={_LETTER})")
_MIXED = re.compile(rf"\b(?=\w*\d)(?=\w*{_LETTER})\w{{3,20}}\b")
_DIGITS = str.maketrans("013457$", "oleasts")
_BLANKS = re.compile(r"[\u2000-\u200a\u2800\u3164\uffa0\U000e0000-\U000e007f\u20d0-\u20ff]")
"""Spaces too thin to see, blanks, tags, and marks that enclose a letter."""
_FLAGS = re.compile("[\U0001f1e6-\U0001f1ff]{3,}")
"""Three of the letters that make flags, two each."""
_FLAG_LETTERS = {0x1F1E6 + place: chr(ord("A") + place) for place in range(26)}
_APOSTROPHES = str.maketrans(dict.fromkeys("ʼʻʹˈꞌ՚´`", "’"))


def readings(text: str) -> Iterator[str]:
    """The text, and what else it may be read as: each once."""
    yield text
    if text.isascii() and not _WORTH_A_LOOK.search(text):
        return
    plain = _TAG.sub("", unescape(text)) if _TAG.search(text) or _ENTITY.search(text) else text
    if not plain.isascii():
        plain = _FLAGS.sub(lambda match: match.group().translate(_FLAG_LETTERS), plain)
        plain = _BLANKS.sub("", plain.translate(_STYLED)).translate(_APOSTROPHES)
    joined = _SIGN.sub("", plain)
    spelt = _SPELT.sub(lambda match: re.sub(r"[\W_]", "", match.group()), plain)
    parted = _BOUNDS.sub(" ", plain)
    exchanged = _MIXED.sub(lambda match: match.group().translate(_DIGITS), plain)
    seen = {text}
    for reading in (plain, joined, spelt, parted, exchanged):
        if reading not in seen:
            seen.add(reading)
            yield reading


_WORTH_A_LOOK = re.compile(
    rf"{_LETTER}{_STRAY}|{_STRAY}{_LETTER}|[a-z][A-Z]|{_LETTER}\d|\d{_LETTER}|&#"
    rf"|(?<!\w){_LETTER}[ .\-_]{{1,2}}{_LETTER}(?!\w)",
    re.ASCII,
)


def _styled() -> dict[int, str]:
    """Letters in circles, squares and brackets → the letter; flags are none."""
    found: dict[int, str] = {}
    for point in (*range(0x2460, 0x2500), *range(0x1F110, 0x1F150), *range(0x2100, 0x2150)):
        letters = [sign for sign in unicodedata.normalize("NFKD", chr(point)) if sign.isalpha()]
        if len(letters) == 1 and letters[0].isascii():
            found[point] = letters[0]
    for first in (0x1F150, 0x1F170):  # white on black: Unicode takes them for no letters
        found |= {first + place: chr(ord("A") + place) for place in range(26)}
    return found


_STYLED = _styled()


__all__ = ["readings"]
