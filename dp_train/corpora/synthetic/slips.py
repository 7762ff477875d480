"""Personal data and rare personal facts that the synthetic people let slip.

Values have the right form (cards pass Luhn, IBANs pass mod 97) and come, where there is one, from a
range kept for examples: 192.0.2.0/24, 2001:db8::/32, example domains, drama phone numbers.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from enum import Enum

from dp_train.corpora.synthetic.dice import Dice
from dp_train.corpora.synthetic.lexicon import names
from dp_train.corpora.synthetic.people import Person


class SecretKind(Enum):
    """What was let slip: the patterns of `anonymize.patterns`, or a fact about one person."""

    EMAIL = "email"
    PHONE = "phone"
    URL = "url"
    IP = "ip"
    CARD = "card"
    IBAN = "iban"
    SSN = "ssn"
    MEETING_ID = "meeting_id"
    PASSCODE = "passcode"
    SECRET = "secret"
    PERSONAL_FACT = "personal_fact"


PATTERNS = tuple(kind for kind in SecretKind if kind is not SecretKind.PERSONAL_FACT)
"""The kinds that a pattern can find."""


def let_slip(dice: Dice, kind: SecretKind, person: Person) -> tuple[str, str]:
    """A sentence in which `person` lets a value slip, and the value as it stands in the sentence."""
    if kind is SecretKind.PERSONAL_FACT:
        code = personal_code(person.index)
        return dice.pick(names().facts).replace("{code}", code), code
    value = person.email if kind is SecretKind.EMAIL else _VALUES[kind](dice)
    return dice.pick(names().pii[kind.value]).replace("{pii}", value), value


def personal_code(index: int) -> str:
    """Two words and a number that belong to person `index` alone, for the first 1.5 million people.

    A rare phrase that no pattern finds: if a model writes it, the model remembers that person.
    """
    words = names().code_words
    # 480,001 is coprime to the number of codes, so neighbours get unlike codes and none is given twice.
    rest = index * 480_001 % (len(words) ** 2 * 950)
    rest, number = divmod(rest, 950)
    second, first = divmod(rest, len(words))
    return f"{words[first]} {words[second]} {number + 50}"


def luhn_digit(digits: str) -> str:
    """The digit that makes `digits` pass the Luhn check when it is appended."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return str(-total % 10)


def iban_check(country: str, account: str) -> str:
    """The two check digits of an IBAN (ISO 7064, mod 97-10)."""
    number = "".join(str(int(character, 36)) for character in account + country)
    return f"{98 - int(number + '00') % 97:02d}"


def _phone(dice: Dice) -> str:
    if dice.chance(0.3):
        return f"+44 20 7946 0{dice.between(100, 999)}"
    area, line = dice.pick(("202", "206", "312", "415", "512", "617")), f"01{dice.between(10, 99)}"
    return dice.pick((f"+1 {area} 555 {line}", f"({area}) 555-{line}", f"{area}-555-{line}"))


def _url(dice: Dice) -> str:
    host = dice.pick(("wiki", "docs", "files", "tickets", "photos"))
    page = dice.text(string.ascii_lowercase + string.digits, 8)
    return f"https://{host}.{dice.pick(names().companies).lower()}.example/{page}"


def _ip(dice: Dice) -> str:
    if dice.chance(0.2):
        return f"2001:db8::{dice.text('0123456789abcdef', 4)}:{dice.between(1, 9)}"
    return f"192.0.2.{dice.between(1, 254)}" if dice.chance(0.5) else f"10.{dice.below(256)}.{dice.below(256)}.17"


def _card(dice: Dice) -> str:
    digits = dice.pick(("400000", "555555")) + dice.text(string.digits, 9)
    number = digits + luhn_digit(digits)
    gap = dice.pick((" ", "-", ""))
    return gap.join(number[place : place + 4] for place in range(0, 16, 4))


def _iban(dice: Dice) -> str:
    country = dice.pick(("DE", "GB", "FR"))
    account = {
        "DE": dice.text(string.digits, 18),
        "GB": "TEST" + dice.text(string.digits, 14),
        "FR": dice.text(string.digits, 23),
    }[country]
    number = country + iban_check(country, account) + account
    return number if dice.chance(0.5) else " ".join(number[place : place + 4] for place in range(0, len(number), 4))


def _ssn(dice: Dice) -> str:
    # Areas from 773 on were not given to anybody before 2011.
    return f"{dice.between(773, 899)}-{dice.between(10, 99)}-{dice.between(1000, 9999)}"


def _meeting_id(dice: Dice) -> str:
    return f"{dice.between(800, 999)} {dice.between(1000, 9999)} {dice.between(1000, 9999)}"


def _passcode(dice: Dice) -> str:
    return dice.text(string.digits, 6) if dice.chance(0.4) else _mixed(dice, 6)


def _secret(dice: Dice) -> str:
    form = dice.below(4)
    if form == 0:
        return "AKIA" + dice.text(string.ascii_uppercase + "234567", 16)
    if form == 1:
        return "ghp_" + dice.text(string.ascii_letters + string.digits, 36)
    if form == 2:
        return "sk-" + dice.text(string.ascii_letters + string.digits, 40)
    return _mixed(dice, 7) + "!" + _mixed(dice, 4)


def _mixed(dice: Dice, length: int) -> str:
    """Letters and digits, at least one of each."""
    return dice.text(string.digits, 1) + dice.text(string.ascii_letters + string.digits, length - 2) + "q"


_VALUES: Mapping[SecretKind, Callable[[Dice], str]] = {
    SecretKind.PHONE: _phone,
    SecretKind.URL: _url,
    SecretKind.IP: _ip,
    SecretKind.CARD: _card,
    SecretKind.IBAN: _iban,
    SecretKind.SSN: _ssn,
    SecretKind.MEETING_ID: _meeting_id,
    SecretKind.PASSCODE: _passcode,
    SecretKind.SECRET: _secret,
}
