"""Letters as a reader sees them: words in any script, without case, accents, disguise and what is invisible."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

import regex

WORD = regex.compile(r"[\p{L}\p{N}][\p{L}\p{N}\p{M}]*")  # marks are vowels in half of the world's scripts
PLAIN_WORD = re.compile(r"[a-z0-9]+")  # the same in lower-case ASCII, three times as fast
UNSPACED = re.compile(  # Thai, Lao, Burmese, Khmer, Chinese, Japanese, Korean
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]"
)
INVISIBLE = re.compile(
    r"[\u00ad\u034f\u061c\u115f\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
"""Soft hyphens, joiners, marks of direction, selectors: what a reader does not see does not part a name."""
# What the decomposition of Unicode leaves whole.
_LATIN_TEXT = """
    ø:o ł:l đ:d ð:d þ:th æ:ae œ:oe ı:i ħ:h ŧ:t ɑ:a ɡ:g ɩ:i ɘ:e ɛ:e ɔ:o ʏ:y ᴀ:a ʙ:b ᴄ:c ᴅ:d ᴇ:e ꜰ:f ɢ:g ʜ:h ɪ:i ᴊ:j ᴋ:k
    ʟ:l ᴍ:m ɴ:n ᴏ:o ᴘ:p ʀ:r ꜱ:s ᴛ:t ᴜ:u ᴠ:v ᴡ:w ᴢ:z
    """
# Letters of other alphabets that look like Latin ones.
_CONFUSABLE_TEXT = """
    А:A В:B Е:E З:3 І:I Ј:J К:K М:M Н:H О:O Р:P Ѕ:S С:C Т:T У:Y Х:X а:a в:b е:e і:i ј:j к:k м:m о:o р:p с:c т:t у:y х:x
    ѕ:s ԁ:d ԛ:q ԝ:w һ:h ѵ:v г:r п:n ӏ:l
    Α:A Β:B Ε:E Ζ:Z Η:H Ι:I Κ:K Μ:M Ν:N Ο:O Ρ:P Τ:T Υ:Y Χ:X α:a ε:e η:n ι:i κ:k ν:v ο:o ρ:p τ:t υ:u χ:x
    ո:n օ:o ս:u հ:h ք:p ց:g
    Ꭺ:A Ᏼ:B Ꮯ:C Ꭰ:D Ꭼ:E Ꮐ:G Ꮋ:H Ꭵ:i Ꭻ:J Ꮶ:K Ꮮ:L Ꮇ:M Ꮲ:P Ꭱ:R Ꮪ:S Ꭲ:T Ꮩ:V Ꮃ:W Ꮍ:Y Ꮓ:Z
    ꓐ:B ꓑ:P ꓓ:D ꓔ:T ꓖ:G ꓗ:K ꓙ:J ꓚ:C ꓜ:Z ꓝ:F ꓟ:M ꓠ:N ꓡ:L ꓢ:S ꓣ:R ꓦ:V ꓧ:H ꓪ:W ꓫ:X ꓬ:Y ꓮ:A ꓰ:E ꓲ:I ꓳ:O ꓴ:U
    Ⲁ:A Ⲃ:B Ⲉ:E Ⲏ:H Ⲓ:I Ⲕ:K Ⲙ:M Ⲛ:N Ⲟ:O ⲟ:o Ⲣ:P ⲣ:p Ⲥ:C ⲥ:c Ⲧ:T Ⲩ:Y Ⲭ:X ⲭ:x 𐐕:C 𐐄:O 𐐬:o
    """
_LATIN, _CONFUSABLE = ({ord(pair[0]): pair[2:] for pair in text.split()} for text in (_LATIN_TEXT, _CONFUSABLE_TEXT))
_ASCII_LETTER = re.compile(r"[A-Za-z]")


def fold(word: str) -> str:
    """Case, accents and look-alikes taken away: "JOSÉ", "Jose" and "𝐉𝐨sе" are one name, "Søren" and "Soren" too."""
    if word.isascii():
        return word.lower()
    plain = unicodedata.normalize("NFKD", word)
    if _ASCII_LETTER.search(plain):  # letters of other alphabets among Latin ones stand for what they look like
        plain = plain.translate(_CONFUSABLE)
    plain = plain.casefold().translate(_LATIN)
    return "".join(char for char in plain if not unicodedata.combining(char) and not INVISIBLE.match(char))


# Small letters and digits as they are, capitals as small ones, all else as a space.
_PLAIN = bytes(
    code if (chr(code).isdigit() and code < 128) or 97 <= code <= 122 else code + 32 if 65 <= code <= 90 else 32
    for code in range(256)
)


@lru_cache(maxsize=4)
def plain(text: str) -> str:
    """Return the text with "?" for signs outside of ASCII, where none of them is a space or a part of a word.

    Guarantee: the words, digits and spaces of the result, and where each stands, are those of the text. A text that
    holds another letter, digit, mark or space comes back as it is: no other text is without ASCII alone.
    """
    if text.isascii():
        return text
    others = set("".join(_OTHERS.findall(text)))
    if not _KNOWN_IN_WORDS.isdisjoint(others):
        return text
    for sign in others.difference(_KNOWN_BETWEEN):
        if _IN_A_WORD.match(sign):
            _KNOWN_IN_WORDS.add(sign)
            return text
        _KNOWN_BETWEEN.add(sign)
    return text.encode("ascii", "replace").decode()


_OTHERS, _IN_A_WORD = re.compile(r"[^\x00-\x7f]+"), regex.compile(r"[\p{L}\p{N}\p{M}\s]")
_KNOWN_IN_WORDS: set[str] = set()
_KNOWN_BETWEEN: set[str] = set()
"""Single signs that were looked at: letters, digits, marks and spaces; dashes, quotation marks, most emoji."""


@lru_cache(maxsize=4)
def words(text: str) -> tuple[str, ...]:
    """Folded words of a text, in order; what is kept are the last few texts of this process, in memory alone."""
    text = text if text.isascii() else plain(text)
    if text.isascii():
        return tuple(text.encode().translate(_PLAIN).decode().split())
    return tuple(word.lower() if word.isascii() else _fold(word) for word in WORD.findall(text))


_fold = lru_cache(maxsize=1 << 14)(fold)
"""Words recur; some are kept, in the memory of this process alone."""
