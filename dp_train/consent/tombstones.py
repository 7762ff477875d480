"""Tombstones on their way from one store to another, so that who was erased here does not come back there.

    tombstones_out(store)                        # events to write beside `store.events()`
    bring_in(store, events, received=now)        # of a file; severs people who are known here

A tombstone holds a digest of the pseudonym, which is of use only under the same key. It can only deny: whoever brings
one keeps a person out of every later sync until they renew with their own hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

import sqlalchemy as sa

from dp_train.consent.appending import Fate, bury_digest
from dp_train.consent.events import ConsentEvent, EventState
from dp_train.consent.facts import microseconds, moment
from dp_train.consent.store import LOCK, ConsentStore
from dp_train.consent.stored import stream
from dp_train.consent.tables import LINKS, TOMBSTONES, tombstone_of
from dp_train.store.database import find_rows

REASON = "erased in another store"


def tombstones_out(store: ConsentStore) -> Iterator[ConsentEvent]:
    """An event for each tombstone of a store, by digest; its record id follows from it."""
    for digest, since in sorted(store.tombstones().since.items()):
        yield ConsentEvent.of_store(
            f"erasure-{digest.hex()[:32]}",
            EventState.ERASED,
            at=moment(since),
            recorded=moment(since),
            evidence_ref=digest.hex(),
        )


def bring_in(store: ConsentStore, events: Iterable[ConsentEvent], *, received: datetime) -> list[Fate]:
    """Keep tombstones of a file, and sever those of their people who are linked here, in one transaction.

    A tombstone that is known, and not older than the one of the file, changes nothing. One from the future counts
    from `received` on.
    """
    wanted = {bytes.fromhex(event.evidence_ref): event for event in events}
    fates = []
    severs = False
    with store.database.writing(LOCK) as connection:
        known: dict[bytes, int] = {
            bytes(digest): since for digest, since in find_rows(connection, TOMBSTONES.c, TOMBSTONES.c.digest, wanted)
        }
        linked = _linked(connection, wanted) if wanted.keys() - known.keys() else {}
        for digest, event in wanted.items():
            at = min(microseconds(event.event_time), microseconds(received))
            if known.get(digest, at - 1) >= at:
                fates.append(Fate.SAME)
                continue
            record_id = f"{event.record_id}-{at:x}"
            if digest in linked:
                severs = True
                store.erase_in(connection, linked[digest], at=moment(at), record_id=record_id, reason=REASON)
            else:
                bury_digest(connection, digest, at, record_id, REASON)
            fates.append(Fate.NEW)
    if severs:
        store.database.scrub(LINKS.name)
    return fates


def _linked(connection: sa.Connection, digests: Iterable[bytes]) -> dict[bytes, str]:
    """Those of some erased people whom events lead to here: digest → pseudonym."""
    wanted = set(digests)
    found = {}
    for (name,) in stream(connection, sa.select(LINKS.c.pseudonym)):
        digest = tombstone_of(bytes(name).hex())
        if digest in wanted:
            found[digest] = bytes(name).hex()
    return found


__all__ = ["bring_in", "tombstones_out"]
