"""Receipts against the chain: each says that an event with its hash stands at its place."""

from __future__ import annotations

import json
from collections.abc import Iterator

import sqlalchemy as sa

from dp_train.consent.stored import FETCH, stream
from dp_train.consent.tables import EVENTS
from dp_train.consent.withdrawal import RECEIPTS
from dp_train.errors import StoreError
from dp_train.store.database import Database, find_rows


def check_receipts(database: Database) -> None:
    """Raise unless every receipt that the store keeps is of an event that stands in its chain.

    Raises:
      StoreError: one is not; a no was taken out of the chain, or a receipt was edited.
    """
    with database.reading() as connection:
        inspector = sa.inspect(connection)
        if not inspector.has_table(RECEIPTS.name):
            return
        there = inspector.has_table(EVENTS.name)
        for said in _said(connection):
            found: dict[int, bytes] = {}
            if there:
                rows = find_rows(connection, (EVENTS.c.seq, EVENTS.c.event_hash), EVENTS.c.seq, set(said.values()))
                found = {seq: bytes(digest) for seq, digest in rows}
            for digest, seq in said.items():
                if found.get(seq) != digest:
                    raise StoreError(
                        f"consent store: a receipt is of event {seq}, {digest.hex()[:12]}, which the chain does not "
                        "hold; a no was taken out of it: dp-train consent restore the newest copy"
                    )


def _said(connection: sa.Connection) -> Iterator[dict[bytes, int]]:
    """(hash, place) of the events that receipts are of, some thousand at a time."""
    part: dict[bytes, int] = {}
    for (text,) in stream(connection, sa.select(RECEIPTS.c.receipt)):
        try:
            event = json.loads(text)["statement"]["event"]
            part[bytes.fromhex(event["hash"])] = int(event["seq"])
        except (ValueError, TypeError, KeyError):
            raise StoreError("consent store: a receipt cannot be read; restore the store from a backup") from None
        if len(part) >= FETCH:
            yield part
            part = {}
    yield part


__all__ = ["check_receipts"]
