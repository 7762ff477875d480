"""Heads of the chains, as they were seen elsewhere: a store that does not pass through one of them is an older copy.

A chain alone does not show that its end was cut off, nor that an old copy of the database was put back. Whoever keeps a
head where the database is not (a run folder, a receipt, a file of one's choice) can.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import sqlalchemy as sa

from dp_train.errors import StoreError
from dp_train.store.chain import GENESIS
from dp_train.store.database import Database, shown

ENVIRONMENT = "DP_TRAIN_HEADS"
"""Names a file that heads are kept in as well: on another disk, say, or one that is backed up apart."""


class Chain(Enum):
    """Which chain a head is of."""

    CONSENT = "consent"
    LEDGER = "ledger"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The last row of a chain, as it was at some time: its hash, and where it was noted."""

    chain: Chain
    digest: str
    store: str
    noted_in: str


_EVENTS = sa.table("consent_events", sa.column("seq"), sa.column("event_hash"))
_LEDGER = sa.table("ledger", sa.column("seq"), sa.column("row_hash"))


def check_heads(database: Database, seen: Iterable[Head]) -> None:
    """Raise unless the store's chains pass through every head that was seen of it.

    Args:
      seen: heads of this store and of others; `Head.store` is `shown(url)`, and others are passed over.

    Raises:
      StoreError: a chain lacks one: an older or an empty copy was put back, or the end was cut off.
    """
    here = shown(database.url)
    for chain in Chain:
        wanted = {head.digest: head for head in seen if head.chain is chain and head.store == here}
        wanted.pop(GENESIS, None)
        if not wanted:
            continue
        table = _EVENTS if chain is Chain.CONSENT else _LEDGER
        with database.reading() as connection:
            there = sa.inspect(connection).has_table(table.name)
            found = set(_digests(connection, chain, wanted)) if there else set()
        for digest, head in wanted.items():
            if digest not in found:
                raise StoreError(
                    f"store: {here} lacks row {digest[:12]} of the {chain.value} chain, which {head.noted_in} saw; "
                    "an older copy was put back, or its end was cut off: dp-train consent restore the newest copy"
                )


def _digests(connection: sa.Connection, chain: Chain, wanted: Iterable[str]) -> Iterator[str]:
    values = list(wanted)
    for at in range(0, len(values), 500):
        part = values[at : at + 500]
        if chain is Chain.CONSENT:
            query = sa.select(_EVENTS.c.event_hash).where(_EVENTS.c.event_hash.in_([bytes.fromhex(d) for d in part]))
            yield from (bytes(digest).hex() for (digest,) in connection.execute(query))
        else:
            rows = sa.select(_LEDGER.c.row_hash).where(_LEDGER.c.row_hash.in_(part))
            yield from (str(digest) for (digest,) in connection.execute(rows))


def heads_now(database: Database) -> list[Head]:
    """The heads of both chains; none of a chain that is not there or is empty."""
    found = []
    for chain, table in ((Chain.CONSENT, _EVENTS), (Chain.LEDGER, _LEDGER)):
        with database.reading() as connection:
            if not sa.inspect(connection).has_table(table.name):
                continue
            query = sa.select(list(table.c)[1]).order_by(table.c.seq.desc()).limit(1)
            digest = connection.execute(query).scalar()
        if digest is not None:
            text = digest if isinstance(digest, str) else bytes(digest).hex()
            found.append(Head(chain=chain, digest=text, store=shown(database.url), noted_in=""))
    return found


def kept_heads() -> list[Head]:
    """The heads of the file that DP_TRAIN_HEADS names; none without it.

    Raises:
      StoreError: it is named and cannot be read.
    """
    path = os.environ.get(ENVIRONMENT)
    if not path or not Path(path).exists():
        return []
    try:
        rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
        return [Head(chain=Chain(r["chain"]), digest=r["head"], store=r["store"], noted_in=path) for r in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"heads {path}: cannot be read; restore the file that {ENVIRONMENT} names") from error


def keep_heads(database: Database) -> None:
    """Add the heads of a store to the file that DP_TRAIN_HEADS names, where they are new.

    Raises:
      StoreError: it cannot be written.
    """
    path = os.environ.get(ENVIRONMENT)
    if not path:
        return
    known = {(head.chain, head.digest, head.store) for head in kept_heads()}
    fresh = [head for head in heads_now(database) if (head.chain, head.digest, head.store) not in known]
    try:
        with Path(path).open("a", encoding="utf-8") as out:
            for head in fresh:
                out.write(json.dumps({"chain": head.chain.value, "head": head.digest, "store": head.store}) + "\n")
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        raise StoreError(f"heads {path}: {error.strerror}; name another file in {ENVIRONMENT}") from error
