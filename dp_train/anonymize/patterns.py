"""Identifiers and secrets that can be told by their shape: where they stand, and as what.

Recall comes before precision: a number that looks like a telephone number is taken for one. Each kind is
looked for only in text that can hold it, which keeps plain chat cheap.
"""

from __future__ import annotations

import ipaddress
import math
import re
from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from dp_train.anonymize.addresses import street_addresses
from dp_train.anonymize.birth_dates import birth_dates
from dp_train.anonymize.labelled import accounts, documents, plates
from dp_train.anonymize.national_ids import national_ids
from dp_train.anonymize.numbers import Place, cards, ibans, phones, social_security
from dp_train.anonymize.secrets import HARDWARE, hardware_addresses, passwords, phrases, vendor_keys
from dp_train.consent.names import is_free

EMAIL, PHONE, URL, IP, CARD = "[EMAIL]", "[PHONE]", "[URL]", "[IP]", "[CARD]"
IBAN, SSN, MEETING_ID, PASSCODE, SECRET = "[IBAN]", "[SSN]", "[MEETING_ID]", "[PASSCODE]", "[SECRET]"
ADDRESS, BIRTH_DATE, ID, ACCOUNT, PLATE = "[ADDRESS]", "[BIRTH_DATE]", "[ID]", "[ACCOUNT]", "[PLATE]"
PERSON = "[PERSON]"

TOKENS: tuple[str, ...] = (
    *(EMAIL, PHONE, URL, IP, CARD, IBAN, SSN, MEETING_ID, PASSCODE, SECRET),
    *(ADDRESS, BIRTH_DATE, ID, ACCOUNT, PLATE, PERSON),
)
"""What each kind is replaced by."""


class PatternSpan(NamedTuple):
    """One identifier: where it stands and the token that replaces it."""

    start: int
    end: int
    token: str


def find_patterns(text: str, covered: Sequence[tuple[int, int]] = ()) -> list[PatternSpan]:
    """Identifiers in the text, left to right, without overlap; none touches a covered span.

    Kinds are looked for in a fixed order, and what one kind has claimed the next leaves alone: a link
    with a passcode in it is one URL. The covered spans are sorted and do not overlap.
    """
    lowered = _without(text, covered).lower()
    code_word = any(map(lowered.__contains__, _CODES))
    if not code_word and not lowered.isascii():
        code_word = any(map(lowered.__contains__, _OTHER_CODES))
    long_word = _LONG_WORD.search(lowered) is not None
    if not (code_word or long_word or _SIGN.search(lowered)):
        return []
    seen = _Seen(
        text, lowered, len(_DIGIT.findall(lowered)), _INNER_DOT.search(lowered) is not None, code_word, long_word
    )
    taken = list(covered)
    spans: list[PatternSpan] = []
    for token, applies, find in _KINDS:
        if applies(seen):
            for start, end in find(text):
                if is_free(taken, start, end):
                    insort(taken, (start, end))
                    spans.append(PatternSpan(start, end, token))
    return sorted(spans)


# Without any of these there is nothing to find: most chat is done after these few scans.
_SIGN = re.compile(r"[\d@:=]|\.\w|-\w+-|-----")
_INNER_DOT = re.compile(r"\.\w")
_LONG_WORD = re.compile(r"[^\s]{16}")
_CODES_TEXT = """
    pass pwd pin code otp kenn contrase clave senha lock bearer phrase frase mnemo satz wachtw kodeord adgang salasana
    heslo parol sandi palavra fras
    """
_OTHER_CODES_TEXT = """
    código パス 暗証 фраз 助 恢复 lösen hasło jelsz şifre пароль κωδικ συνθημ סיסמ كلمة पासव পাসও รหัส mật 密 口令 비밀
    암호
    """
_CODES, _OTHER_CODES = tuple(_CODES_TEXT.split()), tuple(_OTHER_CODES_TEXT.split())
_CAMEL = re.compile(r"[a-z][A-Z]")
_MEET_CODE = re.compile(r"[a-z]-[a-z]{4}-[a-z]")


def _without(text: str, covered: Sequence[tuple[int, int]]) -> str:
    """The text with nothing where it is covered."""
    parts, reached = [], 0
    for start, end in covered:
        parts.append(text[reached:start])
        reached = end
    return "¤".join([*parts, text[reached:]]) if covered else text


class _Seen(NamedTuple):
    """What a text holds, looked at once, so that each kind can be passed over cheaply."""

    text: str
    lowered: str
    digits: int
    dot: bool  # with a letter or digit after it
    code_word: bool
    long_word: bool


_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z ]*-----|\Z)", re.DOTALL)

_URL = re.compile(r"(?<![\w@])(?:[a-z][a-z0-9+.\-]{1,20}://|www\.)[^\s<>\"|]+", re.IGNORECASE)
_DOMAIN = re.compile(
    r"(?<![\w.@\-])(?:[a-z0-9\-]{1,63}\.){1,6}(?:com|org|net|io|dev|app|ai|gov|edu|eu|uk|de|fr|es|jp|pt|br|nl|pl|dk|fi|ch|ru|ua|cz|mx|kr|cn|tw|ca|au|nz|ie|info|biz|cloud)\b"
    r"(?:[/?#][^\s<>\"|]*)?",
    re.IGNORECASE,
)
_TRAILING = ".,;:!?)]}'”’*_"

_EMAIL = re.compile(r"(?<![\w.%+\-])[\w.%+\-]++@(?:[\w\-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w])")

_KNOWN_SECRET = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}"
    r"|glpat-[\w\-]{16,}|xox[abeoprs]-[\w\-]{10,}|AIza[\w\-]{30,}|npm_[A-Za-z0-9]{20,}|ya29\.[\w\-]{20,}"
    r"|[spr]k[\-_](?:(?:live|test|proj|ant|or)[\-_])?[\w\-]{16,}|eyJ[\w\-]{8,}\.[\w\-]{8,}(?:\.[\w\-]*)?)"
)
_BEARER = re.compile(r"\bbearer\s+([\w\-.~+/=]{8,})", re.IGNORECASE)
_ASSIGNED = re.compile(
    r"(?:key|secret|token|credential)s?[\"']?(?:\s+[^\W\d]+){0,4}?\s*(?:\bis\b|[:=])\s*[\"'`“]?([^\s\"'`”,;\[]{8,})",
    re.IGNORECASE,
)
_LONG = re.compile(r"(?<![\w+/=\-])[\w+/=\-]{20,}+")
_SEGMENT = re.compile(r"[A-Za-z0-9+=]{16,}")

_IPV4 = re.compile(r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?!\d|\.\d)")
_IPV6 = re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){2,8}(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4})(?![\w:])")

_MAC = re.compile(r"(?<![\w:\-])(?:[0-9A-Fa-f]{2}(?:[:\-](?=[0-9A-Fa-f]{2})|(?![\w:\-]))){6}(?![\w:\-])")

_MEETING_WORD = (
    r"(?:meet|meeting|join|webinar|zoom|conference|teams|webex|besprechung|konferenz|réunion|reunión|reunião|riunione"
    r"|会議|ミーティング)"
)
_MEETING_NAMED = re.compile(
    rf"(?:{_MEETING_WORD}(?:s?[ \-]*(?:id|number|nummer|code|no\.?|#))?|(?:id|code) (?:of|for) the (?:meeting|call))"
    r"(?:\s+(?:is|with|ist|lautet|est|es|é))?(?:\s+code)?\s*[:=#は]?\s*"
    r"(\d{3}[ \-]?\d{3,4}[ \-]?\d{3,5}|[a-z]{3}-[a-z]{4}-[a-z]{3})(?![A-Za-z0-9_\-])",
    re.IGNORECASE,
)
_MEETING_SHAPE = re.compile(r"(?<![\d+\-(])(?<!\d )[1-9]\d{2} \d{4} \d{4}(?![\d\-])(?! \d)")

_CODE_WORD = (
    r"(?:\b(?:pass ?code|pass ?word|passwd|pwd|pass ?phrase|pin(?: code| number)?|kennwort|passwort|otp"
    r"|one[ \-]time code"
    r"|(?:access|door|alarm|entry|security|conference|locker|gate|building|safe|lock) code"
    r"|(?:kenn|zugangs|zugriffs)code"
    r"|mot de passe|code (?:secret|d'accès)|contraseña|clave|código (?:de acceso|secreto)|senha)\b"
    r"|パスワード|パスコード|暗証番号)"
)
_CODE = re.compile(_CODE_WORD, re.IGNORECASE)
_IS = r"(?:\s+(?:is|was|to|ist|lautet|est|es|é)(?:\s+(?:now|still|jetzt|ahora))?|\s*は)"
_PASSCODE_GIVEN = re.compile(_CODE_WORD + r"[\w ]{0,32}[:=]\s*[\"'`“]?([^\s\"'`”,;\[]{3,64})", re.IGNORECASE)
# Without a colon the value has to look like one: a digit, two hyphens, or a capital inside.
_PASSCODE_SAID = re.compile(
    rf"(?i:{_CODE_WORD}(?:\s+(?:for|of|to)(?:\s+[^\W\d]+){{1,4}}?)?{_IS}?)\s*(?<!\w(?=[a-zA-Z]))"
    r"[\"'`“]?((?=[^\s\"'`”,;\[]*(?:\d|\w-\w+-\w|[a-z][A-Z]))[^\s\"'`”,;:\[]{3,64})"
)
# What opens a lock may be words and a number, to be remembered.
_JAPANESE_AFTER = re.compile(r"(?<=[A-Za-z0-9])[\u3040-\u9fff].*")
_PHRASE = re.compile(
    r"\b(?:code|lock|combination)(?:\s+(?:is|was|opens with|opens at))(?:\s+(?:now|still))?\s+"
    r"([a-z]{2,12} (?:[a-z]{2,12} )?\d{2,6})\b"
)


def _private_keys(text: str) -> Iterator[Place]:
    return (match.span() for match in _PRIVATE_KEY.finditer(text))


def _urls(text: str) -> Iterator[Place]:
    for pattern in (_URL, _DOMAIN):
        for match in pattern.finditer(text):
            yield match.start(), match.start() + len(match.group().rstrip(_TRAILING))


def _emails(text: str) -> Iterator[Place]:
    return (match.span() for match in _EMAIL.finditer(text))


def _secrets(text: str) -> Iterator[Place]:
    yield from (match.span() for match in _KNOWN_SECRET.finditer(text))
    yield from (match.span(1) for match in _BEARER.finditer(text))
    for match in _ASSIGNED.finditer(text):
        if any(map(str.isdigit, match[1])) and any(map(str.isalpha, match[1])):
            yield match.start(1), match.start(1) + len(match[1].rstrip(".!?)"))
    yield from (match.span() for match in _LONG.finditer(text) if _looks_random(match.group()))


def _looks_random(word: str) -> bool:
    """Whether a long word is a key: by a stretch of letters with three digits, or as mixed-case base64."""
    for segment in _SEGMENT.findall(word):
        digits = sum(char.isdigit() for char in segment)
        if 3 <= digits < len(segment) and _bits(segment) >= 3.2:
            return True
    mixed = all(any(test(char) for char in word) for test in (str.isupper, str.islower, str.isdigit))
    return mixed and len(word) >= 32 and "-" not in word and "_" not in word and _bits(word) >= 4.4


def _bits(text: str) -> float:
    """Entropy per character of the characters' own distribution."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def _addresses(text: str) -> Iterator[Place]:
    yield from (match.span() for match in _IPV4.finditer(text))
    yield from (match.span() for match in _MAC.finditer(text))
    for match in _IPV6.finditer(text):
        try:
            ipaddress.IPv6Address(match.group())
        except ValueError:
            continue
        if any(char.isdigit() for char in match.group()):
            yield match.span()


def _meetings(text: str) -> Iterator[Place]:
    yield from (match.span(1) for match in _MEETING_NAMED.finditer(text))
    yield from (match.span() for match in _MEETING_SHAPE.finditer(text))


def _passcodes(text: str) -> Iterator[Place]:
    first = _CODE.search(text)
    for pattern in (_PASSCODE_GIVEN, _PASSCODE_SAID) if first else ():
        for match in pattern.finditer(text, first.start() if first else 0):
            value = _JAPANESE_AFTER.sub("", match[1].rstrip(".!?)"))
            if len(value) >= 3:
                yield match.start(1), match.start(1) + len(value)
    yield from (match.span(1) for match in _PHRASE.finditer(text))


_DIGIT = re.compile(r"\d")
_SECRET_WORDS = (
    "key",
    "token",
    "secret",
    "credential",
    "jeton",
    "schlüssel",
    "clé",
    "clave",
    "キー",
    "トークン",
)
_LONG_KEY = re.compile(r"[\w+/=\-]{16}")


def _may_hold_secret(seen: _Seen) -> bool:
    if (seen.long_word and _LONG_KEY.search(seen.lowered)) or "bearer" in seen.lowered:
        return True
    return seen.digits > 0 and any(map(seen.lowered.__contains__, _SECRET_WORDS))


def _may_hold_hardware(seen: _Seen) -> bool:
    """Eight pairs, three groups with dots, or a word for it."""
    lowered = seen.lowered
    if seen.digits < 4:
        return False
    return lowered.count(":") >= 7 or lowered.count("-") >= 7 or any(map(lowered.__contains__, HARDWARE)) or seen.dot


def _may_hold_meeting(seen: _Seen) -> bool:
    return seen.digits >= 9 or ("-" in seen.text and _MEET_CODE.search(seen.lowered) is not None)


def _may_hold_passcode(seen: _Seen) -> bool:
    """A code word, and what could be a code: digits, a sign before it, hyphens, or a capital within a word."""
    signs = seen.digits or ":" in seen.text or "=" in seen.text or "-" in seen.text
    return seen.code_word and (bool(signs) or _CAMEL.search(seen.text) is not None)


_KINDS: tuple[tuple[str, Callable[[_Seen], bool], Callable[[str], Iterable[Place]]], ...] = (
    (SECRET, lambda seen: "-----begin" in seen.lowered, _private_keys),
    (URL, lambda seen: seen.dot or "://" in seen.lowered, _urls),
    (EMAIL, lambda seen: "@" in seen.lowered and seen.dot, _emails),
    (IBAN, lambda seen: seen.digits >= 7, ibans),
    (SECRET, lambda seen: seen.long_word, vendor_keys),
    (SECRET, _may_hold_secret, _secrets),
    (SSN, lambda seen: seen.digits >= 9, social_security),
    (ACCOUNT, lambda seen: seen.digits >= 5, accounts),
    (ID, lambda seen: seen.digits >= 4, documents),
    (CARD, lambda seen: seen.digits >= 12, cards),
    (ID, lambda seen: seen.digits >= 6, national_ids),
    (IP, _may_hold_hardware, hardware_addresses),
    (
        IP,
        lambda seen: (
            (seen.dot and seen.digits >= 4)
            or ("::" in seen.lowered)
            or seen.lowered.count(":") >= 5
            or seen.lowered.count("-") >= 5
        ),
        _addresses,
    ),
    (MEETING_ID, _may_hold_meeting, _meetings),
    (PASSCODE, lambda seen: seen.code_word, phrases),
    (PASSCODE, lambda seen: seen.code_word, passwords),
    (PASSCODE, _may_hold_passcode, _passcodes),
    (BIRTH_DATE, lambda seen: seen.digits >= 2, birth_dates),
    (PLATE, lambda seen: seen.digits >= 2, plates),
    (ADDRESS, lambda seen: seen.digits >= 1, street_addresses),
    (PHONE, lambda seen: seen.digits >= 7, phones),
)
