"""Numbers that point at a person or an account: IBAN, card, US social security and telephone numbers.

What makes one is its plan (length by country, Luhn, a national format), so each is checked after its shape was seen;
`patterns` says in which order kinds are looked for, and in which text at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

REGIONS: tuple[str, ...] = ("US", "GB", "DE", "FR", "ES", "IT", "IN", "AU", "BR", "JP")
"""Regions whose national telephone formats are known; international numbers are known from everywhere."""

Place = tuple[int, int]
"""Where something stands in a text: start and end."""

_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?=((?:[ \-]?[A-Za-z0-9]){11,27}))")
_IBAN_LENGTHS = {
    country: int(length)
    for length, countries in (
        ("15", "NO"),
        ("16", "BE"),
        ("18", "DK FI FO GL NL"),
        ("19", "MK SI"),
        ("20", "AT BA EE KZ LT LU XK"),
        ("21", "CH CR HR LI LV"),
        ("22", "BG BH DE GB GE IE ME RS"),
        ("23", "AE GI IL"),
        ("24", "AD CZ ES MD PK RO SA SE SK TN VG"),
        ("25", "PT"),
        ("26", "IS TR"),
        ("27", "FR GR IT MC MR SM"),
        ("28", "AL AZ BY CY DO GT HU LB PL"),
        ("29", "BR PS QA UA"),
        ("30", "JO KW MU"),
        ("31", "MT SC"),
    )
    for country in countries.split()
}

_CARD = re.compile(r"(?<![\d+])(?=((?:[2-6]\d|18)(?:[ \-]?\d){10,17}))\d")
_SSN = re.compile(r"(?<![\d\-])\d{3}-\d{2}-\d{4}(?![\d\-])")
_SSN_NAMED = re.compile(
    r"\b(?:ssn|social security)(?:\s+(?:number|no\.?|is|#))*\W{0,3}(\d{3}[ .\-]?\d{2}[ .\-]?\d{4})(?!\d)", re.IGNORECASE
)

# A letter before or after makes it part of a word; scripts that put no spaces between words do not.
_PHONE = re.compile(
    r"(?<![A-Za-zÀ-ɏ0-9_+.,/\-])(?:\+|00|\()?\d(?:[ .\-()/–]{0,3}\d){6,}+(?:\s?(?:x|ext\.?|extension)\s?\d{1,6})?"
    r"(?![A-Za-zÀ-ɏ0-9_]|[,./\-]\d)",
    re.IGNORECASE,
)
_EXTENSION = re.compile(r"\s?(?:x|ext)", re.IGNORECASE)
_PART, _MOST_PARTS = re.compile(r"\S+"), 8
_DATE = re.compile(
    r"(?:(?:19|20)\d\d[\-–/ ]+(?:19|20)\d\d|\d{4}[\-./]\d{1,2}[\-./]\d{1,2}|\d{1,2}[\-./]\d{1,2}[\-./]\d{4})(?!\d)"
)
_NORTH_AMERICA = re.compile(r"(?:1[ .\-]?)?(?:\(\d{3}\) ?|\d{3}[ .\-])\d{3}[ .\-]\d{4}|555[ .\-]\d{4}")
_CALLED = re.compile(
    r"\b(?:call|phone|tel|telephone|mobile|cell|fax|reach|ring|whatsapp|number|dial|nummer|numéro|número|appelle|llámame)\b|電話|番号",
    re.IGNORECASE,
)


def ibans(text: str) -> Iterator[Place]:
    """Find account numbers whose length and check digits are those of their country."""
    for match in _IBAN.finditer(text):
        length = _IBAN_LENGTHS.get(match.group()[:2].upper(), 0)
        places = [place for place in range(match.start(), match.end(1)) if text[place].isalnum()][:length]
        if length and len(places) == length and not text[places[-1] + 1 : places[-1] + 2].isalnum():
            compact = "".join(text[place] for place in places).upper()
            if int("".join(str(int(char, 36)) for char in compact[4:] + compact[:4])) % 97 == 1:
                yield places[0], places[-1] + 1


def cards(text: str) -> Iterator[Place]:
    """Find card numbers: from each start the longest that passes Luhn, for other numbers may stand before and after."""
    for match in _CARD.finditer(text):
        start, longest = match.span(1)
        if _DATE.match(text, start):
            continue
        for end in range(longest, start + 11, -1):
            number = text[start:end]
            ends = number[-1].isdigit() and not text[end : end + 1].isdigit()
            if ends and sum(map(str.isdigit, number)) >= (12 if number.startswith("50") else 13) and _luhn(number):
                yield start, end
                break


def _luhn(number: str) -> bool:
    digits = [int(char) for char in reversed(number) if char.isdigit()]
    return sum(digits[::2] + [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]) % 10 == 0


def social_security(text: str) -> Iterator[Place]:
    """Find US social security numbers: as they are written, or after their name."""
    yield from (match.span(1) for match in _SSN_NAMED.finditer(text))
    yield from (match.span() for match in _SSN.finditer(text))


def phones(text: str) -> Iterator[Place]:
    """Find telephone numbers: by shape, or by a national plan where the text speaks of calling."""
    named = None
    for match in _PHONE.finditer(text):
        if named is None:
            named = bool(_CALLED.search(text))
        if _is_phone(_EXTENSION.split(match.group())[0], named):
            yield match.span()
        else:
            yield from _phones_within(text, match)


def _phones_within(text: str, match: re.Match[str]) -> Iterator[Place]:
    """Parts, between spaces, that have the shape of a number: others may stand before and after."""
    parts = [part.span() for part in _PART.finditer(text, *match.span())]
    reached = 0
    for index, (start, _) in enumerate(parts):
        ends = [end for _, end in parts[index : index + _MOST_PARTS] if _has_shape(text[start:end])]
        if ends and start >= reached:
            reached = ends[-1]
            yield start, reached


def _is_phone(written: str, named: bool) -> bool:
    digits = sum(map(str.isdigit, written))
    if _has_shape(written):
        return True
    if _DATE.match(written) or not 7 <= digits <= 15 or not (named or digits < len(written) or digits >= 10):
        return False
    return _valid_somewhere(written)


def _has_shape(written: str) -> bool:
    """International, North American, or national with a leading zero and separators."""
    digits = sum(map(str.isdigit, written))
    if _DATE.match(written) or not 7 <= digits <= 15:
        return False
    if written.startswith("+") or _NORTH_AMERICA.fullmatch(written):
        return True
    return written.lstrip("(").startswith("0") and 9 <= digits < len(written)


def _valid_somewhere(written: str) -> bool:
    import phonenumbers  # its metadata takes long to load, and most text has no number

    for region in REGIONS:
        try:
            if phonenumbers.is_valid_number(phonenumbers.parse(written, region)):
                return True
        except phonenumbers.NumberParseException:
            continue
    return False
