"""Whom the populations of a ledger have in common, whatever principal keys named them.

A principal key names a population, and two keys name the same people twice. So a ledger keeps, of everybody who was in
a run, a keyed digest under a secret of the store: the file `people.key` beside the ledger's key, made once, mode 0600.

| | |
|---|---|
| whoever holds the database alone | can test no id: the digests are of no use without the secret |
| how many people there are | not told: digests lie in blocks whose size is a power of two, filled up at random |
| a block that is missing or was changed | its hash is in the chain: its population counts as sharing people with all |
| the secret is gone | a new one is made; populations from before count as sharing people with all |
| a person is erased | their digest stays, as their tombstone does: what was spent on them must not be forgotten |
| all are to be severed | destroy `people.key` with the principal key |
| linked ids | `dp-train consent link` links the digests; links under pseudonyms alone (in files) are not known here |
| other stores | are not known; the card says so |

Digests have 64 bits. Two people who share one by chance (3e-8 for a million) are charged together.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from dp_train.consent.identities import groups_of
from dp_train.consent.principals import normalised_id
from dp_train.privacy.ledger.lines import Book
from dp_train.store.chain_key import PEOPLE_KEY, open_key

Digests = NDArray[np.uint64]

_SMALLEST = 1024
TABLES = sa.MetaData()
_BLOCKS = sa.Table(
    "ledger_people",
    TABLES,
    sa.Column("block", sa.String(64), primary_key=True),
    sa.Column("digests", sa.LargeBinary, nullable=False),
)


class Secret:
    """The store's secret, which makes digests of ids; never printed."""

    def __init__(self, ledger_key: Path) -> None:
        """Read it from beside the ledger's key; make it where it is missing.

        Raises:
          StoreError: it cannot be read or written, or is open to others.
        """
        self._secret = open_key(ledger_key.with_name(PEOPLE_KEY))
        self.name = hmac.digest(self._secret, b"dp_train people 1", "sha256").hex()[:16]
        """Tells this secret from another one; not secret."""

    def digest(self, person_id: str) -> bytes:
        """8 bytes of an HMAC of the normalised id."""
        said = b"person\x00" + normalised_id(person_id).encode("utf-8", "surrogatepass")
        return hmac.digest(self._secret, said, "sha256")[:8]

    def digests(self, people: Iterable[str]) -> Digests:
        """Those of some people, sorted, each once."""
        return np.unique(np.frombuffer(b"".join(map(self.digest, people)), dtype=np.uint64))


def rows_to_enter(
    connection: sa.Connection, book: Book, secret: Secret, *, population: str, people: Iterable[str]
) -> list[dict[str, Any]]:
    """Write who a population's people are, and return the rows of the chain that say it, and who shares them.

    Guarantee: afterwards every population of the ledger whose people were entered, and that may have one of these, is
    joined with this one.
    """
    found = _with_linked(secret.digests(people), book, secret)
    known = _known(connection, book, secret)
    own = known.get(population)
    rows: list[dict[str, Any]] = []
    new = found if own is None else np.setdiff1d(found, own, assume_unique=True)
    if len(new) or population not in book.people:
        rows.append(_block(connection, population, new, secret))
    for other in book.people:
        if other not in book.group(population):
            theirs = known.get(other)
            if theirs is None or len(np.intersect1d(found, theirs, assume_unique=True)):
                rows.append(_join(population, other, "unknown" if theirs is None else "shared"))
    return rows


def rows_to_link(
    connection: sa.Connection, book: Book, secret: Secret, *, one: str, other: str
) -> list[dict[str, Any]]:
    """Return the rows that say that two ids are one person, and which populations therefore share people."""
    pair = [secret.digest(one), secret.digest(other)]
    digests = _with_linked(np.unique(np.frombuffer(b"".join(pair), dtype=np.uint64)), book, secret)
    known = _known(connection, book, secret)
    holding = [name for name in book.people if name not in known or len(np.intersect1d(digests, known[name]))]
    rows: list[dict[str, Any]] = [{"kind": "same", "secret": secret.name, "people": [each.hex() for each in pair]}]
    for name in holding[1:]:
        if name not in book.group(holding[0]):
            rows.append(_join(holding[0], name, "linked" if name in known else "unknown"))
    return rows


def _join(one: str, other: str, because: str) -> dict[str, Any]:
    return {"kind": "join", "populations": [one, other], "because": because}


def _block(connection: sa.Connection, population: str, digests: Digests, secret: Secret) -> dict[str, Any]:
    size = max(_SMALLEST, 1 << (max(1, len(digests)) - 1).bit_length())
    filled = np.concatenate([digests, np.frombuffer(secrets.token_bytes(8 * (size - len(digests))), dtype=np.uint64)])
    data = np.sort(filled).tobytes()
    block = hashlib.sha256(data).hexdigest()
    connection.execute(_BLOCKS.insert().values(block=block, digests=data))
    return {"kind": "people", "population": population, "block": block, "secret": secret.name}


def _known(connection: sa.Connection, book: Book, secret: Secret) -> Mapping[str, Digests]:
    """Digests by population, of those whose every block is whole and under this secret."""
    found: dict[str, Digests] = {}
    for population, blocks in book.people.items():
        parts = list(_read(connection, blocks, secret))
        if len(parts) == len(blocks):
            found[population] = np.unique(np.concatenate(parts))
    return found


def _read(connection: sa.Connection, blocks: Mapping[str, str], secret: Secret) -> Iterator[Digests]:
    for block, name in blocks.items():
        data = connection.execute(sa.select(_BLOCKS.c.digests).where(_BLOCKS.c.block == block)).scalar()
        if name == secret.name and data is not None and hashlib.sha256(data).hexdigest() == block:
            yield np.frombuffer(data, dtype=np.uint64)


def _with_linked(digests: Digests, book: Book, secret: Secret) -> Digests:
    """The digests, and those of every id that is linked with one of them."""
    groups = groups_of((one, other) for name, one, other in book.same if name == secret.name)
    if not groups:
        return digests
    ids, numbers = list(groups), np.array(list(groups.values()))
    linked = np.frombuffer(b"".join(ids), dtype=np.uint64)
    inside = np.isin(numbers, numbers[np.isin(linked, digests)])
    return np.union1d(digests, linked[inside])


__all__ = ["TABLES", "Digests", "Secret", "rows_to_enter", "rows_to_link"]
