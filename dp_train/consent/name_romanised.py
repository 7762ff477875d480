"""Names of other alphabets in Latin letters, as their bearers and others type them.

Alphabets with vowels are written letter by letter; Indic scripts, kana and Hangul by the names that Unicode gives their
signs. Hebrew and Arabic leave vowels out: there, what a Latin word has in common with the name are its consonants.
Chinese characters have no reading of their own and are left as they are.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from dp_train.consent.name_letters import fold

# How alphabets that write a name letter by letter are romanised.
_ROMAN_TEXT = """
    а:a б:b в:v г:g д:d е:e ж:zh з:z и:i й:y к:k л:l м:m н:n о:o п:p р:r с:s т:t у:u ф:f х:kh ц:ts ч:ch ш:sh щ:shch
    ъ: ы:y ь: э:e ю:yu я:ya і:i ї:i є:ye ґ:g
    α:a β:v γ:g δ:d ε:e ζ:z η:i θ:th ι:i κ:k λ:l μ:m ν:n ξ:x ο:o π:p ρ:r σ:s ς:s τ:t υ:y φ:f χ:ch ψ:ps ω:o
    ա:a բ:b գ:g դ:d ե:e զ:z է:e ը:y թ:t ժ:zh ի:i լ:l խ:kh ծ:ts կ:k հ:h ձ:dz ղ:gh ճ:ch մ:m յ:y ն:n շ:sh ո:o չ:ch պ:p
    ջ:j ռ:r ս:s վ:v տ:t ր:r ց:ts ւ:v փ:p ք:k օ:o ֆ:f
    ა:a ბ:b გ:g დ:d ე:e ვ:v ზ:z თ:t ი:i კ:k ლ:l მ:m ნ:n ო:o პ:p ჟ:zh რ:r ს:s ტ:t უ:u ფ:p ქ:k ღ:gh ყ:q შ:sh ჩ:ch ც:ts
    ძ:dz წ:ts ჭ:ch ხ:kh ჯ:j ჰ:h
    """
_ROMAN = {ord(pair[0]): pair[2:] for pair in _ROMAN_TEXT.split()}
# Consonants without vowels; letters that stand for several are written as the commonest of `_SAME`.
_CONSONANT_TEXT = """
    ב:b ג:g ד:d ז:z ח:h ט:t כ:k ך:k ל:l מ:m ם:m נ:n ן:n ס:s פ:p ף:p צ:z ץ:z ק:k ר:r ש:s ת:t
    ب:b ت:t ث:s ج:g ح:h خ:k د:d ذ:d ر:r ز:z س:s ش:s ص:s ض:d ط:t ظ:z غ:g ف:f ق:k ك:k ل:l م:m ن:n ه:h ة:
    """
_CONSONANTS = {ord(pair[0]): pair[2:] for pair in _CONSONANT_TEXT.split()}
_SAME = str.maketrans({"q": "k", "c": "k", "j": "g", "f": "p", "v": "b", **dict.fromkeys("aeiouwyh")})
_PAIRS = (
    ("sh", "s"),
    ("ch", "h"),
    ("kh", "k"),
    ("gh", "g"),
    ("th", "t"),
    ("dh", "d"),
    ("ts", "z"),
    ("tz", "z"),
    ("ph", "p"),
)
_SIGN = re.compile(r"(?:LETTER|VOWEL SIGN|SYLLABLE|SMALL LETTER|SIGN|LIGATURE) ?(?:SMALL )?([A-Z]+)")
_INDIC = frozenset(
    ("DEVANAGARI", "BENGALI", "GURMUKHI", "GUJARATI", "ORIYA", "TAMIL", "TELUGU", "KANNADA", "MALAYALAM", "SINHALA")
)
# Family names as their bearers write them; the rule for syllables gives "gim", "i", "bag".
_KOREAN_FAMILIES = {
    "김": "kim", "이": "lee", "박": "park", "최": "choi", "정": "jung", "강": "kang", "조": "cho", "윤": "yoon",
    "임": "lim", "신": "shin", "유": "yoo", "오": "oh", "우": "woo", "구": "koo", "노": "noh",
    "류": "ryu", "문": "moon",
    "권": "kwon",
}  # fmt: skip


def script_of(word: str) -> str:
    """Name of the script of the first letter, as Unicode calls it."""
    return "LATIN" if word[:1].isascii() else unicodedata.name(word[0], "LATIN").partition(" ")[0]


@lru_cache(maxsize=4096)
def romanised(word: str) -> str:
    """One word, in lower case, in Latin letters where its script tells them; else as it is."""
    script = script_of(word)
    if script in _INDIC:
        return _of_indic(word)
    if script in ("HANGUL", "HIRAGANA", "KATAKANA"):
        return "".join(map(_sound, word)).lower()
    # Folded between, for accented vowels of Greek; not before, for "й" is no accented "и".
    return fold(word.translate(_ROMAN)).translate(_ROMAN)


def romanised_groups(groups: list[str]) -> list[str]:
    """The words of a name in Latin letters, given name first: of one Korean word, the first syllable is the family."""
    if len(groups) == 1 and script_of(groups[0]) == "HANGUL" and 2 <= len(groups[0]) <= 4:
        family, given = groups[0][0], groups[0][1:]
        return [romanised(given), _KOREAN_FAMILIES.get(family, romanised(family))]
    return [romanised(group) for group in groups]


def without_schwas(word: str) -> str:
    """ "imran" of "imaran": of Indic names a short "a" between consonants is often not spoken, and "bh" is "v"."""
    return _SCHWA.sub("", word.replace("bh", "v"))


_SCHWA = re.compile(r"(?<=[aeiou][b-df-hj-np-tv-z])a(?=[b-df-hj-np-tv-z][aeiou])")


def consonants(word: str) -> str:
    """What a word of Hebrew, Arabic or Latin letters has of consonants, as far as the three agree."""
    if script_of(word) in ("HEBREW", "ARABIC"):
        return "".join(_CONSONANTS.get(ord(char), "") for char in word).translate(_SAME)
    word = fold(word)
    for pair, one in _PAIRS:
        word = word.replace(pair, one)
    word = re.sub(r"(.)\1+", r"\1", word)
    return word.translate(_SAME)


def _sound(char: str) -> str:
    match = _SIGN.search(unicodedata.name(char, ""))
    return match[1] if match else ""


def _of_indic(word: str) -> str:
    """Consonants carry an "a" unless a vowel sign or a virama follows; the last one is not spoken."""
    out = ""
    for char in word:
        name = unicodedata.name(char, "")
        sound = _sound(char).lower()
        if "VOWEL SIGN" in name:
            out = out.removesuffix("a") + _VOWELS.get(sound, sound)
        elif "VIRAMA" in name or "AL-LAKUNA" in name:
            out = out.removesuffix("a")
        elif "ANUSVARA" in name or "CANDRABINDU" in name:
            out += "n"
        elif "LETTER" in name:
            out += _VOWELS.get(sound, _INDIC_CONSONANTS.get(sound, sound))
    bare = out.removesuffix("a")
    return bare if len(bare) > 2 and bare[-1] not in "aeiou" and not _ends_in_vowel(word) else out


def _ends_in_vowel(word: str) -> bool:
    return "VOWEL" in unicodedata.name(word[-1], "")


_VOWELS = {"aa": "a", "ii": "i", "uu": "u", "ee": "e", "oo": "o", "vocalic": "ri", "candra": "e", "short": "e"}
_INDIC_CONSONANTS = {
    "tta": "ta", "ttha": "tha", "dda": "da", "ddha": "dha", "nna": "na", "lla": "la", "llla": "zha", "ssa": "sha",
    "rra": "ra",
    "nga": "na", "nya": "nya", "ca": "cha", "cha": "chha", "nnna": "na",
}  # fmt: skip
