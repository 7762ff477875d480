"""Identifiers and secrets that can be told by their shape: where they stand, and as what.

Recall comes before precision: a number that looks like a telephone number is taken for one. Each kind is
looked for only in text that can hold it, which keeps plain chat cheap.
"""

from __future__ import annotations

import re
from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import or_
from typing import NamedTuple

from dp_train.anonymize import codes, keywords, links, secrets
from dp_train.anonymize.addresses import street_addresses
from dp_train.anonymize.birth_dates import AFTER, BEFORE, birth_dates
from dp_train.anonymize.labelled import accounts, documents, labelled_plates, plates
from dp_train.anonymize.labels import BANK, DOCUMENTS, PLATES, WEAK_BANK, Labels, Place, one_may_stand
from dp_train.anonymize.national_ids import national_ids
from dp_train.anonymize.numbers import cards, ibans, phones, social_security
from dp_train.anonymize.shapes import count_digits, has_code, has_hexadecimal, has_pairs, has_run, looks, signs
from dp_train.consent.name_letters import plain
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


def find_patterns(text: str, covered: Sequence[Place] = ()) -> list[PatternSpan]:
    """Identifiers in the text, left to right, without overlap; none touches a covered span.

    Kinds are looked for in a fixed order, and what one kind has claimed the next leaves alone: a link
    with a passcode in it is one URL. The covered spans are sorted and do not overlap.
    """
    seen = _look(text, covered)
    if seen is None:
        return []
    taken = list(covered)
    spans: list[PatternSpan] = []
    for kind in _kinds(min(seen.digits, _MOST_DIGITS), seen.signs):
        if kind.applies(seen) and kind.may_find(seen, taken):
            for start, end in kind.find(text):
                if is_free(taken, start, end):
                    insort(taken, (start, end))
                    spans.append(PatternSpan(start, end, kind.token))
    return sorted(spans)


_DIGIT = re.compile(r"\d")
_INNER_DOT = re.compile(r"\.\w")
_LONG_WORD = re.compile(r"[^\s]{16}")
_OTHER_CODES_TEXT = """
    código パス 暗証 фраз 助 恢复 lösen hasło jelsz şifre пароль κωδικ συνθημ סיסמ كلمة पासव পাসও รหัส mật 密 口令 비밀
    암호
    """
_OTHER_CODES = tuple(_OTHER_CODES_TEXT.split())
_SHORTEST = 15
"""Of the keys that are told by their shape alone."""

# Signs of a text, by which kinds are passed over; what they say errs on one side.
_DOT, _CODE, _LONG, _KEY, _HYPHENS, _COLON, _MANY = (1 << place for place in range(7))
_NUMBERS, _MOST_DIGITS = 9, 12
"""So many digits are many; more than these no kind asks for."""


class _Seen:
    """What a text holds beside what is covered, looked at once, so that each kind can be passed over cheaply.

    Attributes:
      text: whole. bare: with a sign that means nothing in place of each covered span.
      words: families of which a word may stand in the whole text.
      ascii: whether the text is. digits: how many. dot: whether a letter or digit follows one.
      code_word: a word for a passcode is there. long_word: sixteen signs without a space.
    """

    __slots__ = (
        "_lowered",
        "_pieces",
        "_secret",
        "ascii",
        "bare",
        "code_word",
        "digits",
        "dot",
        "long_word",
        "text",
        "words",
    )

    def __init__(
        self, text: str, bare: str, words: int, *, digits: int, dot: bool, long_word: bool, code_word: bool
    ) -> None:
        self.text, self.bare, self.words, self.ascii = text, bare, words, text.isascii()
        self.digits, self.dot, self.long_word, self.code_word = digits, dot, long_word, code_word
        self._lowered: str | None = None
        self._pieces: list[str] | None = None
        self._secret: bool | None = None

    @property
    def signs(self) -> int:
        """What kinds ask for (`_Kind.asks`), as bits."""
        found = _DOT * self.dot | _CODE * self.code_word | _LONG * self.long_word | _MANY * (self.digits >= _NUMBERS)
        found |= _HYPHENS * (self.text.count("-") > 1) | _COLON * (":" in self.bare)
        return found | _KEY if (found or self.digits) and self.secret else found

    @property
    def lowered(self) -> str:
        """The bare text in small letters."""
        if self._lowered is None:
            self._lowered = self.bare.lower()
        return self._lowered

    @property
    def secret(self) -> bool:
        """Whether keys and tokens are looked for: a long word of their letters, or a word for them and a digit."""
        if self._secret is None:
            keys = self.long_word and _LONG_KEY.search(self.lowered) is not None
            if not keys and (not self.ascii or self.words & keywords.KEY_OR_BEARER):
                keys = "bearer" in self.lowered or (
                    self.digits > 0 and any(map(self.lowered.__contains__, _SECRET_WORDS))
                )
            self._secret = keys
        return self._secret

    def has(self, families: int) -> bool:
        """Whether a word of one of these families may stand in the whole text."""
        return self.words & families != 0

    def pieces(self, taken: Sequence[Place]) -> list[str]:
        """What is long and has no space in it, outside of what was taken when this was asked first."""
        if self._pieces is None:
            self._pieces = [piece for piece in _without(self.text, taken, " ").split() if len(piece) >= _SHORTEST]
        return self._pieces


def _look(text: str, covered: Sequence[Place]) -> _Seen | None:
    """What the text holds, or None if nothing is there that a kind could begin with: most chat is done here."""
    bare = _without(text, covered, "\0") if covered else text
    words = keywords.keywords(text)
    written = bare if bare.isascii() else plain(bare)
    if written.isascii():
        digits = count_digits(written)
        dot = "." in bare and _INNER_DOT.search(bare) is not None
        long_word = has_run(written, 16)
        code_word = words & keywords.CODE > 0
        if code_word and covered:  # in a surrogate, perhaps
            lowered = bare.lower()
            code_word = any(map(lowered.__contains__, keywords.CODES))
    else:
        lowered = bare.lower()
        digits = len(_DIGIT.findall(bare))
        dot = _INNER_DOT.search(lowered) is not None
        long_word = _LONG_WORD.search(lowered) is not None
        code_word = any(map(lowered.__contains__, keywords.CODES + _OTHER_CODES))
    if not (digits or code_word or long_word or dot):
        # What is left: links, private keys, addresses of devices without a digit, codes of meetings.
        hyphens, colons = bare.count("-"), bare.count(":")
        if hyphens < 2 and (not colons or (hyphens + colons < 5 and "://" not in bare)):
            return None
    return _Seen(text, bare, words, digits=digits, dot=dot, long_word=long_word, code_word=code_word)


def _without(text: str, covered: Sequence[Place], sign: str) -> str:
    """The text with a sign in place of each covered span."""
    parts, reached = [], 0
    for start, end in covered:
        parts.append(text[reached:start])
        reached = end
    return sign.join([*parts, text[reached:]])


# What a kind asks of a text before it is looked for. Together with `may_find` below this says where it can be.
_CAMEL = re.compile(r"[a-z][A-Z]")
_MEET_CODE = re.compile(r"[a-z]-[a-z]{4}-[a-z]")
_LONG_KEY = re.compile(r"[\w+/=\-]{16}")
_SECRET_WORDS = ("key", "token", "secret", "credential", "jeton", "schlüssel", "clé", "clave", "キー", "トークン")


def _hardware(seen: _Seen) -> bool:
    """Eight pairs, three groups with dots, or a word for it."""
    signs = seen.bare.count(":") >= 7 or seen.bare.count("-") >= 7
    return signs or seen.dot or any(map(seen.lowered.__contains__, keywords.HARDWARE))


def _network(seen: _Seen) -> bool:
    bare = seen.bare
    return (seen.dot and seen.digits >= 4) or "::" in bare or bare.count(":") >= 5 or bare.count("-") >= 5


def _meeting(seen: _Seen) -> bool:
    return seen.digits >= 9 or (seen.text.count("-") > 1 and _MEET_CODE.search(seen.lowered) is not None)


def _passcode(seen: _Seen) -> bool:
    """A code word, and what could be a code: digits, a sign before it, hyphens, or a capital within a word."""
    signs = seen.digits or ":" in seen.text or "=" in seen.text or "-" in seen.text
    return seen.code_word and (bool(signs) or _CAMEL.search(seen.text) is not None)


@dataclass(frozen=True, slots=True)
class _Kind:
    """One thing to look for.

    Attributes:
      token: what replaces it. find: where it stands in a text.
      digits: so many have to be there. applies: what else decides whether it is looked for at all.
      asks: signs of which `applies` needs one, if any; else it need not be asked.
      may_find: False only where `find` gives no span that is free; the taken ones are its second argument. It changes
        the time that a text takes, and never what is found: tests/anonymize/test_fast_and_slow.py.
    """

    token: str
    find: Callable[[str], Iterable[Place]]
    digits: int = 0
    applies: Callable[[_Seen], bool] = lambda seen: True
    may_find: Callable[[_Seen, Sequence[Place]], bool] = lambda seen, taken: True
    asks: int = -1


def _labelled(*tables: Labels) -> Callable[[_Seen, Sequence[Place]], bool]:
    bits = reduce(or_, (table.bit for table in tables))
    return lambda seen, taken: one_may_stand(seen.text, bits)


def _of_meeting(seen: _Seen, taken: Sequence[Place]) -> bool:
    if not (looks(seen.text, b"0" * 9, without=b" -") or looks(seen.lowered, b"aaa-aaaa-aaa")):
        return False
    return not seen.ascii or seen.has(keywords.MEETING)


def _of_passcode(seen: _Seen, taken: Sequence[Place]) -> bool:
    if seen.has(keywords.PASSCODE) or (seen.has(keywords.BARE_CODE) and seen.has(keywords.OF_A_LOCK)):
        return True
    return not signs(seen.text).isdisjoint("èñóÈÑÓパ暗")


def _of_plate(seen: _Seen, taken: Sequence[Place]) -> bool:
    return looks(seen.text, b"-000-", b"-A 0", b"-AA 0") or (
        not plain(seen.text).isascii() and any(sign >= "\u0400" for sign in signs(seen.text))
    )


_NET = _DOT | _COLON | _HYPHENS
_KINDS = (
    _Kind(
        SECRET,
        secrets.private_keys,
        0,
        lambda seen: "-----" in seen.bare and "-----begin" in seen.lowered,
        asks=_HYPHENS,
    ),
    _Kind(URL, links.urls, 0, lambda seen: seen.dot or "://" in seen.bare, asks=_DOT | _COLON),
    _Kind(
        EMAIL,
        links.emails,
        0,
        lambda seen: seen.dot and "@" in seen.bare,
        lambda seen, _: links.AT_A_HOST.search(seen.text) is not None,
        asks=_DOT,
    ),
    _Kind(IBAN, ibans, 7, may_find=lambda seen, _: looks(seen.text, b"AA00", b"Aa00", b"aA00", b"aa00")),
    _Kind(
        SECRET,
        secrets.vendor_keys,
        0,
        lambda seen: seen.long_word,
        lambda seen, taken: any(map(secrets.may_be_vendor_key, seen.pieces(taken))),
        asks=_LONG,
    ),
    _Kind(
        SECRET,
        secrets.credentials,
        0,
        lambda seen: seen.long_word,
        lambda seen, _: "Key=" in seen.text or "sig=" in seen.text or seen.has(keywords.CREDENTIAL),
        asks=_LONG,
    ),
    _Kind(
        SECRET,
        secrets.known_secrets,
        0,
        lambda seen: seen.secret,
        lambda seen, taken: any(map(secrets.may_be_known_secret, seen.pieces(taken))),
        asks=_KEY,
    ),
    _Kind(
        SECRET, secrets.bearers, 0, lambda seen: seen.secret, lambda seen, _: seen.has(keywords.CREDENTIAL), asks=_KEY
    ),
    _Kind(SECRET, secrets.assigned, 0, lambda seen: seen.secret, lambda seen, _: seen.has(keywords.SECRET), asks=_KEY),
    _Kind(
        SECRET,
        secrets.random_words,
        0,
        lambda seen: seen.secret,
        lambda seen, taken: any(map(secrets.may_be_random, seen.pieces(taken))),
        asks=_KEY,
    ),
    _Kind(
        SSN, social_security, 9, may_find=lambda seen, _: seen.has(keywords.SOCIAL) or looks(seen.text, b"000-00-0000")
    ),
    _Kind(ACCOUNT, accounts, 5, may_find=_labelled(BANK, WEAK_BANK)),
    _Kind(ID, documents, 4, may_find=_labelled(DOCUMENTS)),
    _Kind(CARD, cards, 12, may_find=lambda seen, _: looks(seen.text, b"0" * 12, without=b" -")),
    _Kind(ID, national_ids, 6, may_find=lambda seen, _: has_code(seen.text)),
    _Kind(
        IP,
        secrets.hardware_addresses,
        4,
        _hardware,
        lambda seen, _: (
            (seen.text.count(":") + seen.text.count("-") >= 7 and has_pairs(seen.text, 8))
            or secrets.AMONG_DOTS.search(seen.text) is not None
            or (seen.has(keywords.MAC) and has_hexadecimal(seen.text))
        ),
    ),
    _Kind(
        IP, links.ipv4, 4, _network, lambda seen, _: looks(seen.text, b"0.0") and seen.text.count(".") >= 3, asks=_NET
    ),
    _Kind(
        IP,
        links.mac,
        0,
        _network,
        lambda seen, _: seen.text.count(":") + seen.text.count("-") >= 5 and has_pairs(seen.text, 6),
        asks=_NET,
    ),
    _Kind(IP, links.ipv6, 1, _network, lambda seen, _: "::" in seen.text or seen.text.count(":") >= 6, asks=_NET),
    _Kind(
        MEETING_ID,
        codes.named_meetings,
        0,
        _meeting,
        _of_meeting,
        asks=_HYPHENS | _MANY,
    ),
    _Kind(
        MEETING_ID,
        codes.meetings,
        11,
        _meeting,
        lambda seen, _: looks(seen.text, b"000 0000 0000"),
        asks=_HYPHENS | _MANY,
    ),
    _Kind(PASSCODE, secrets.phrases, 0, lambda seen: seen.code_word, _labelled(secrets.PHRASES), asks=_CODE),
    _Kind(
        PASSCODE,
        secrets.passwords,
        0,
        lambda seen: seen.code_word,
        lambda seen, _: seen.has(keywords.PASSWORD) or secrets.PASSWORD.may_stand(seen.text),
        asks=_CODE,
    ),
    _Kind(PASSCODE, codes.passcodes, 0, _passcode, _of_passcode, asks=_CODE),
    _Kind(PASSCODE, codes.combinations, 2, _passcode, lambda seen, _: seen.has(keywords.COMBINATION), asks=_CODE),
    _Kind(BIRTH_DATE, birth_dates, 2, may_find=_labelled(BEFORE, AFTER)),
    _Kind(PLATE, plates, 2, may_find=_of_plate),
    _Kind(PLATE, labelled_plates, 2, may_find=_labelled(PLATES)),
    _Kind(ADDRESS, street_addresses, 1),
    _Kind(PHONE, phones, 7, may_find=lambda seen, _: looks(seen.text, b"0" * 7, without=b" .-()/?")),
)


@lru_cache(maxsize=1 << 11)
def _kinds(digits: int, signs: int) -> tuple[_Kind, ...]:
    """Kinds, in their order, that may apply where so many digits and these signs are."""
    return tuple(kind for kind in _KINDS if digits >= kind.digits and (kind.asks < 0 or signs & kind.asks))
