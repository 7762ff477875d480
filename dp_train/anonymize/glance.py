"""What a text holds, looked at once, so that most recognisers are passed over without a search.

Three looks, each cheap: its *shape* (what class of sign stands where), its *keywords* (which families of words that
recognisers wait for stand in it) and, in `labels`, its labels. All err on one side: what they deny is not there.
Most chat has no digit, no sign and no keyword, and is done after them. In text with signs whose case or value is
unlike ASCII's (`is_strange`) nothing is denied.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache, reduce
from operator import or_

from dp_train.anonymize.labels import labels_of
from dp_train.consent.name_letters import PLAIN_WORD, plain_words

_CODES_TEXT = """
    pass pwd pin code otp kenn contrase clave senha lock bearer phrase frase mnemo satz wachtw kodeord adgang salasana
    heslo parol sandi palavra fras
    """
CODES = tuple(_CODES_TEXT.split())
"""One of these is in every text in which a passcode or a passphrase is looked for; letters alone."""
HARDWARE = ("mac", "bluetooth", "wlan", "wifi", "hardware", "address", "adresse")
"""One of these stands before a MAC address without separators."""


# Families of words; each says what its absence denies.
CODE = 1 << 0  # none of `CODES` is there
PASSCODE = 1 << 1  # no word that alone announces a passcode
BARE_CODE = 1 << 2  # no "code"
OF_A_LOCK = 1 << 3  # none of the words that make "code" a passcode
COMBINATION = 1 << 4  # nothing that opens with words and a number
PASSWORD = 1 << 5  # no word of an assignment, as in "DB_PASSWORD="
SECRET = 1 << 6  # no key, token, secret, credential
MAC = 1 << 7  # none of `HARDWARE`
MEETING = 1 << 8  # no word for a meeting or a call
SOCIAL = 1 << 9  # no SSN
STREET = 1 << 10  # no English word for a street
HOUSE = 1 << 11  # no "House No", but for the No
NUMBER = 1 << 12  # no "No", "No8"
CREDENTIAL = 1 << 13  # neither "bearer" nor "authorization"
BOX = 1 << 14  # no post-office box
LABEL = 1 << 15  # no label of any table in `labels`
_EVERYTHING = (1 << 16) - 1

_PASSCODE_TEXT = """
    passcode pass password passwd pwd passphrase pin kennwort passwort otp kenncode zugangscode zugriffscode passe clave
    senha
    """
_OF_A_LOCK_TEXT = "time access door alarm entry security conference locker gate building safe lock secret"
_STREET_TEXT = """
    street st avenue ave road rd lane ln drive dr boulevard blvd court ct place pl square sq way terrace ter close
    crescent cres parkway pkwy highway hwy circle cir row mews grove gardens gdns hill walk quay wharf trail loop alley
    """
_MEETING_TEXT = "meet join webinar zoom conference teams webex besprechung konferenz riunione call"
_NUMBER = re.compile(r"no\d*")
_WITHIN: tuple[tuple[int, tuple[str, ...]], ...] = (
    (CODE, CODES),
    (PASSWORD, ("password", "passwd", "pwd", "passphrase")),
    (SECRET, ("key", "secret", "token", "credential")),
    (MAC, HARDWARE),
    (MEETING, tuple(_MEETING_TEXT.split())),
    (SOCIAL, ("ssn", "security")),
    (CREDENTIAL, ("bearer", "authorization")),
)
_WHOLE: tuple[tuple[int, frozenset[str]], ...] = (
    (PASSCODE, frozenset(_PASSCODE_TEXT.split())),
    (BARE_CODE, frozenset({"code"})),
    (OF_A_LOCK, frozenset(_OF_A_LOCK_TEXT.split())),
    (COMBINATION, frozenset({"code", "lock", "combination"})),
    (STREET, frozenset(_STREET_TEXT.split())),
    (BOX, frozenset({"box", "postfach", "apartado", "postale"})),
    (HOUSE, frozenset({"h", "house", "plot", "door"})),
)


@lru_cache(maxsize=1 << 15)
def _families(word: str) -> int:
    """What one word of letters and digits, in lower-case ASCII, may stand for."""
    found = 0
    for family, parts in _WITHIN:
        if any(part in word for part in parts):
            found |= family
    for family, known in _WHOLE:
        if word in known:
            found |= family
    if _NUMBER.fullmatch(word):
        found |= NUMBER
    if labels_of(word):
        found |= LABEL
    return found


@lru_cache(maxsize=4)
def keywords(text: str) -> int:
    """Families of which a word may stand in a text; what is kept are the last few texts, in memory alone.

    Words of other alphabets are not among them: of a text that is not ASCII, ask for those by other means.
    """
    if text.isascii():
        found: Sequence[str] = plain_words(text)
    elif is_strange(text):
        return _EVERYTHING
    else:
        found = PLAIN_WORD.findall(skeleton(text).decode().lower())
    families = reduce(or_, map(_families, found), 0)
    return families if text.isascii() else families | LABEL


# Signs outside ASCII that count as digits, or that a pattern without case takes for a letter of ASCII.
_STRANGE = re.compile(r"[ſKİı]|(?![0-9])\d")


@lru_cache(maxsize=4)
def is_strange(text: str) -> bool:
    """Whether signs of other alphabets may count as digits or as letters of ASCII."""
    return not text.isascii() and _STRANGE.search(text) is not None


def skeleton(text: str) -> bytes:
    """The text's ASCII, in place; "?" for all else."""
    return text.encode("ascii", "replace")


_SPACES = b" \t\n\r\f\v\x1c\x1d\x1e\x1f"
_SHAPE = bytes(
    ord("0") if chr(code).isdigit() and code < 128
    else ord("a") if 97 <= code <= 122
    else ord("A") if 65 <= code <= 90
    else ord(" ") if code in _SPACES
    else code
    for code in range(256)
)  # fmt: skip
_SOLID = bytes(ord(" ") if code in _SPACES else ord("x") for code in range(256))


@lru_cache(maxsize=4)
def shape(text: str) -> bytes:
    """Digits as "0", letters as "A" and "a", spaces as " ", signs as they are, what is not ASCII as "?"."""
    return skeleton(text).translate(_SHAPE)


def looks(text: str, *shapes: bytes, without: bytes = b"") -> bool:
    """Whether one of these shapes may stand in a text, when some signs are left out."""
    seen = shape(text).translate(None, without) if without else shape(text)
    return any(map(seen.__contains__, shapes)) or is_strange(text)


def has_run(text: str, length: int) -> bool:
    """Whether so many signs that are no spaces stand in a row, in ASCII text."""
    return len(text) >= length and b"x" * length in text.encode().translate(_SOLID)


_SIGNS_BETWEEN = b" .-/+"
_CAPITAL_AS_DIGIT = bytes.maketrans(b"A", b"0")


def has_code(text: str) -> bool:
    """Whether seven capitals and digits may stand in a row, with at most a sign between each two."""
    return b"0" * 7 in shape(text).translate(_CAPITAL_AS_DIGIT, _SIGNS_BETWEEN) or is_strange(text)
