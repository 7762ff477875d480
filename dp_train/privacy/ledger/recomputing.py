"""Derive the ε of lines again from their stored events: what `ledger recompute` and `ledger verify` compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dp_train.privacy.composition import Price, compose, event_from_json, renyi_epsilon
from dp_train.privacy.ledger.budget import standing
from dp_train.privacy.ledger.lines import Book, Line
from dp_train.privacy.ledger.requests import price_of
from dp_train.privacy.relations import strictest
from dp_train.store.chain import Broken


def recomputed(book: Book, population: str, *, accountant: str) -> Mapping[str, float]:
    """Return ε of every bounded line of a population by reservation, and of all "together", by "pld" or "rdp".

    It is what their events give and what is charged, also of a line whose claim is withheld: it is no claim.
    """
    stands = standing(book, population)

    def priced(lines: Sequence[Line]) -> float:
        events = [event_from_json(line.event) for line in lines]
        if accountant == "rdp":
            return renyi_epsilon(events, stands.delta)
        return compose(events, strictest(line.relation for line in lines), stands.delta).epsilon

    bounded = [line for line in stands.lines if line.bounded]
    return {**{line.reservation: priced([line]) for line in bounded}, "together": priced(bounded)}


def first_mispriced(book: Book) -> Broken | None:
    """Return the first line whose stored event does not give its stored ε, or None."""
    for line in book.lines.values():
        if line.price is not None and not _same(line.price, price_of(line.event, line)):
            reason = f"row {line.first_row} (reservation {line.reservation}): its event does not give its ε"
            return Broken(line.first_row, reason)
    return None


def _same(stored: Price, found: Price) -> bool:
    """Equal but for the last digits, in which two versions of a library may differ."""
    if stored.epsilon == found.epsilon:
        return True
    return abs(stored.epsilon - found.epsilon) <= 1e-3 + 1e-3 * abs(found.epsilon)
