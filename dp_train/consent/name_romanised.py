"""Names of other alphabets in Latin letters, as their bearers and others type them.

Alphabets with vowels are written letter by letter; Indic scripts, kana and Hangul by the names that Unicode gives their
signs. Hebrew and Arabic leave vowels out: there, what a Latin word has in common with the name are its consonants.
Chinese characters have no reading of their own and are left as they are.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
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


# What other standards write otherwise: of passports (ICAO 9303), of libraries (ISO 9 and what is left of it without
# signs), of Ukraine (2010) and Bulgaria (2009), of Serbia, of German and French newspapers; of Greece (ELOT 743) as it
# is written and as it sounds. Two letters that are written as one sound come before their parts.
_STANDARDS = {
    "CYRILLIC": (
        "й:i ю:iu я:ia ъ:ie ё:e",
        "й:y ё:yo ю:yu я:ya",
        "ж:z х:h ц:c ч:c ш:s щ:s ю:ju я:ja й:j ё:jo",
        "г:h и:y й:i ю:iu я:ia є:ie ї:i",
        "щ:sht х:h ъ:a",
        "ж:z х:h ц:c ч:c ш:s ј:j љ:lj њ:nj ђ:dj ћ:c џ:dz",
        "ж:z х:h ц:c ч:c ш:s ј:j љ:lj њ:nj ђ:d ћ:c џ:dz",
        "ж:sch х:ch ц:z ч:tsch ш:sch щ:schtsch ю:ju я:ja в:w з:s й:i",
        "ж:j ч:tch ш:ch щ:chtch ю:iou я:ia у:ou й:i",
    ),
    "GREEK": (
        "αυ:av ευ:ev ου:ou μπ:b γγ:ng γκ:gk γξ:nx γχ:nch",
        "αυ:af ευ:ef ου:ou μπ:b ντ:d γγ:ng γκ:g χ:h",
        "ου:u μπ:mp χ:h υ:i ει:i οι:i φ:ph",
    ),
}
_RULES = {
    script: tuple([tuple(pair.split(":")) for pair in standard.split()] for standard in standards)
    for script, standards in _STANDARDS.items()
}
# Syllables of kana as Hepburn writes them, and of Hangul as names are spelled and as McCune and Reischauer wrote them.
_HEPBURN = {"si": "shi", "ti": "chi", "tu": "tsu", "hu": "fu", "zi": "ji", "di": "ji", "du": "zu"}
_HANGUL = (
    "yeong:young hyeon:hyun jeong:jung seong:sung seon:sun gyeong:kyung yeo:yu eo:u hyi:hee",
    "eo:o eu:u gy:ky",
    "u:oo",
)
_YE = re.compile(r"(?:\A|(?<=[аеёиоуыэюяйъь]))[её]")  # as BGN and PCGN write it
_LONG = re.compile(r"(?<=o)u|([aeiou])(?=\1)")


@lru_cache(maxsize=1 << 14)
def romanisations(word: str) -> tuple[str, ...]:
    """The word, folded, as other standards than `romanised` write it in Latin letters, in their order.

    Empty where a standard has no letter for a sign; no spellings of a script that has no other standard.
    """
    script, folded = script_of(word), word.casefold()
    if script in ("HIRAGANA", "KATAKANA"):
        written = _hepburn(folded)
        found = [written, _LONG.sub("", written)]
    elif script == "HANGUL":
        plain = romanised(folded)
        found = [_replaced(plain, [tuple(pair.split(":")) for pair in rule.split()]) for rule in _HANGUL]
    elif script in _INDIC:
        found = [without_schwas(romanised(folded))]
    elif script == "CYRILLIC":  # composed, for "й" is no accented "и"
        written = unicodedata.normalize("NFC", folded)
        found = [romanised(_replaced(written, rules)) for rules in _RULES[script]]
        found.append(romanised(_YE.sub("ye", written)))
    else:
        written = "".join(map(fold, folded))
        found = [romanised(_replaced(written, rules)) for rules in _RULES.get(script, ())]
    return tuple(spelling if spelling.isascii() else "" for spelling in found)


def _replaced(word: str, rules: Sequence[tuple[str, ...]]) -> str:
    for letters, latin in rules:
        word = word.replace(letters, latin)
    return word


def _hepburn(word: str) -> str:
    """ "shouta" of しょうた, "kitcho" of きっちょ; the mark of a long vowel is not written."""
    out = double = ""
    for char in word:
        name, sound = unicodedata.name(char, ""), _sound(char).lower()
        if "SMALL TU" in name:
            double = "x"
            continue
        sound = _HEPBURN.get(sound, sound)
        if "SMALL Y" in name and out.endswith("i"):
            out = out[:-1] + (sound[1:] if out.endswith(("shi", "chi", "ji")) else sound)
        elif double and sound:
            out += ("t" if sound.startswith("ch") else sound[0]) + sound
            double = ""
        elif "PROLONGED" not in name:
            out += sound
    return out


def romanised_groups(groups: list[str]) -> list[str]:
    """The words of a name in Latin letters, given name first: of one Korean word, the first syllable is the family."""
    if len(groups) == 1 and script_of(groups[0]) == "HANGUL" and 2 <= len(groups[0]) <= 4:
        family, given = groups[0][0], groups[0][1:]
        return [romanised(given), _KOREAN_FAMILIES.get(family, romanised(family))]
    return [romanised(group) for group in groups]


def romanised_otherwise(groups: list[str]) -> Iterator[list[str]]:
    """The words of a name as each other standard writes them."""
    latin = romanised_groups(groups)
    if latin == groups:
        return
    if len(latin) > len(groups):  # of one Korean word
        groups = [groups[0][1:], groups[0][0]]
    others = [() if group.isascii() else romanisations(group) for group in groups]
    for number in range(max(map(len, others))):
        yield [other[number] if other[number:] else plain for other, plain in zip(others, latin, strict=True)]


@lru_cache(maxsize=1 << 14)
def readings(word: str) -> frozenset[str]:
    """How a word of a text in another alphabet may be spelled in Latin letters, where its script tells that."""
    script = script_of(word)
    if not (script in _RULES or script in _INDIC or script in ("ARMENIAN", "GEORGIAN")):
        return frozenset()
    spelled = (romanised(unicodedata.normalize("NFC", word.casefold())), *romanisations(word))
    return frozenset(spelling for spelling in spelled if spelling.isascii() and len(spelling) >= 3)


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
