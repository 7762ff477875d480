"""Words that recognisers wait for, by families: by one look at its words a text is passed over by most of them.

What is said here errs on one side: where a family is denied, none of its words is there.
"""

from __future__ import annotations

import re

from dp_train.anonymize.flags import Flags
from dp_train.anonymize.shapes import is_strange, skeleton
from dp_train.consent.name_letters import plain, words

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
OTHER_KEY = 1 << 15  # no other word for a key in ASCII
EVERYTHING = (1 << 16) - 1
KEY_OR_BEARER = SECRET | OTHER_KEY | CREDENTIAL

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
    (OTHER_KEY, ("jeton", "clave")),
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
    return found


def keywords(text: str) -> int:
    """Families of which a word may stand in a text.

    Words of other alphabets are not among them: of a text that is not ASCII, ask for those by other means.
    """
    written = text if text.isascii() else plain(text)
    if written.isascii():
        return _flags(words(written))
    return EVERYTHING if is_strange(text) else _flags(words(skeleton(text).decode()))


_flags = Flags(_families)
