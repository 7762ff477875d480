"""Ids that differ from one by a slip of the hand: for a question to the officer, never for a decision."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

_LETTERS = "abcdefghijklmnopqrstuvwxyz._-@"


def near_ids(person_id: str) -> Iterator[str]:
    """Normalised ids one slip away: a letter too many, too few, another one, or two that changed places.

    Digits are never put in or exchanged: u17 and u18 are two people. A number may be one that a spreadsheet wrote anew:
    17.0 and 17 are 17, and so may be 00017.
    """
    seen = {person_id}
    for number in _as_numbers(person_id):
        if number not in seen:
            seen.add(number)
            yield number
    for at in range(len(person_id) + 1):
        head, tail = person_id[:at], person_id[at:]
        slips = [head + letter + tail for letter in _LETTERS]
        if tail:
            if not tail[0].isdigit():
                slips += [head + tail[1:], *(head + letter + tail[1:] for letter in _LETTERS)]
            if len(tail) > 1:
                slips.append(head + tail[1] + tail[0] + tail[2:])
        for slip in slips:
            if slip and slip not in seen:
                seen.add(slip)
                yield slip


_NUMBER = re.compile(r"0*(\d{1,20})(?:\.0+)?", re.ASCII)
_POWER = re.compile(r"\d(?:\.\d{1,19})?e\+?\d{1,2}", re.ASCII)
_WIDEST = 12


def _as_numbers(person_id: str) -> Iterator[str]:
    """What an id was, if a table took it for a number: without ".0" and "e+", or with zeros in front."""
    whole = _NUMBER.fullmatch(person_id)
    digits = whole[1] if whole else ""
    if not whole and _POWER.fullmatch(person_id) and float(person_id).is_integer():
        digits = str(int(Decimal(person_id)))
    if digits:
        yield from (digits.zfill(width) for width in range(len(digits), max(len(digits), _WIDEST) + 1))
        yield f"{digits}.0"
