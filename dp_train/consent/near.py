"""Ids that differ from one by a slip of the hand: for a question to the officer, never for a decision."""

from __future__ import annotations

from collections.abc import Iterator

_LETTERS = "abcdefghijklmnopqrstuvwxyz._-@"


def near_ids(person_id: str) -> Iterator[str]:
    """Normalised ids one slip away: a letter too many, too few, another one, or two that changed places.

    Digits are never put in or exchanged: u17 and u18 are two people.
    """
    seen = {person_id}
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
