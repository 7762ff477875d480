"""The consent store's tables, and the bytes of an event that its hash chain is over.

- `consent_events`: one row an event, in the order in which the store took them.
- `consent_terms`: what many events share (purposes, notice, jurisdiction, …), once, under a number from its hash.
- `consent_organisations`: the same for organisations' ids.
- `consent_keys`: the population_id (not secret) of the key that pseudonyms were made under, so that another is refused.
- `principal_links`: pseudonym (HMAC) → the number that events carry. The number is a commitment to the pseudonym
  under a salt of the row (`number_for`), and it is inside the chain: another pseudonym cannot be put in its place.
  Deleting a row severs a person from their events for good, and every hash still holds.
- `consent_tombstones`: a hash of the pseudonym of everybody who was erased, so that no later grant of a sync counts.
- `consent_imports`: counts of each import; what was set aside is shown wherever decisions are.
- `consent_facts`: id of the store, version of its tables, rule of its ids.

An event's own id and its evidence may name a person, so the chain holds a salted commitment to them
(`record_commitment`); erasure leaves the commitment alone (`severed`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from json.encoder import encode_basestring
from operator import attrgetter
from typing import Any, NamedTuple

import sqlalchemy as sa

from dp_train.consent.event_json import TERMS, event_from, plain_values
from dp_train.consent.events import ConsentEvent
from dp_train.consent.facts import microseconds, moment, optional_microseconds
from dp_train.errors import DataError
from dp_train.store.chain import canonical

NUMBER_BYTES = 16
SCHEMA = "2"
"""Version of the tables. Version 1 had numbers that nothing compared with the pseudonyms."""

METADATA = sa.MetaData()
_NUMBER = sa.BigInteger

EVENTS = sa.Table(
    "consent_events",
    METADATA,
    sa.Column("seq", _NUMBER, primary_key=True, autoincrement=False),
    sa.Column("record_id", sa.Text, nullable=False, unique=True),
    sa.Column("person", sa.LargeBinary(NUMBER_BYTES), index=True),
    sa.Column("organisation", _NUMBER, nullable=False),
    sa.Column("terms", _NUMBER, nullable=False),
    sa.Column("event_time", _NUMBER, nullable=False),
    sa.Column("recorded_time", _NUMBER, nullable=False),
    sa.Column("data_from", _NUMBER),
    sa.Column("data_to", _NUMBER),
    sa.Column("expires_at", _NUMBER),
    sa.Column("source_seq", _NUMBER, nullable=False),
    sa.Column("entity", sa.LargeBinary(NUMBER_BYTES)),
    sa.Column("evidence_ref", sa.Text, nullable=False),
    sa.Column("stored_time", _NUMBER, nullable=False),
    sa.Column("salt", sa.LargeBinary(16), nullable=False),
    sa.Column("event_hash", sa.LargeBinary(32), nullable=False),
)
TERMS_TABLE = sa.Table(
    "consent_terms",
    METADATA,
    sa.Column("number", _NUMBER, primary_key=True, autoincrement=False),
    sa.Column("body", sa.Text, nullable=False),
)
ORGANISATIONS = sa.Table(
    "consent_organisations",
    METADATA,
    sa.Column("number", _NUMBER, primary_key=True, autoincrement=False),
    sa.Column("org_id", sa.Text, nullable=False),
)
KEYS = sa.Table("consent_keys", METADATA, sa.Column("population_id", sa.Text, primary_key=True))
LINKS = sa.Table(
    "principal_links",
    METADATA,
    sa.Column("pseudonym", sa.LargeBinary(32), primary_key=True),
    sa.Column("number", sa.LargeBinary(NUMBER_BYTES), nullable=False, unique=True),
    sa.Column("salt", sa.LargeBinary(16), nullable=False),
    sqlite_with_rowid=False,
)
TOMBSTONES = sa.Table(
    "consent_tombstones",
    METADATA,
    sa.Column("digest", sa.LargeBinary(32), primary_key=True),
    sa.Column("since", _NUMBER, nullable=False),
)
FACTS = sa.Table(
    "consent_facts",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
IMPORTS = sa.Table(
    "consent_imports",
    METADATA,
    sa.Column("number", _NUMBER, primary_key=True, autoincrement=False),
    sa.Column("ended_time", _NUMBER, nullable=False),
    sa.Column("rows", _NUMBER, nullable=False),
    sa.Column("held", _NUMBER, nullable=False),
    sa.Column("unread", _NUMBER, nullable=False),  # of imports before `UNREAD` was there; 0 since
    sa.Column("stopped", _NUMBER, nullable=False),
)
UNREAD = sa.Table(
    "consent_unread",
    METADATA,
    sa.Column("digest", sa.LargeBinary(16), primary_key=True),
    sa.Column("seen_time", _NUMBER, nullable=False),
    sa.Column("severed", _NUMBER, nullable=False),
)
"""Unread rows that were seen before; each is counted once, whatever file it comes in and however often. `severed`: the
digest of its content was replaced by a random one (`retention`)."""


def number_for(pseudonym: bytes, salt: bytes) -> bytes:
    """The number of a person: a commitment to their pseudonym that tells nothing once the salt is gone."""
    return hashlib.sha256(b"dp_train person 1\x00" + salt + pseudonym).digest()[:NUMBER_BYTES]


def tombstone_of(pseudonym: str) -> bytes:
    """What is kept of a person who was erased: whoever has the key and the id can ask for it, and nobody else."""
    return hashlib.sha256(b"dp_train tombstone 1\x00" + bytes.fromhex(pseudonym)).digest()


_SEVERED = "~severed~"


def severed(row: Row) -> str:
    """The record id of an event whose person was erased: its commitment, and nothing of what it was."""
    return _SEVERED + record_commitment(row)


def is_severed(row: Row) -> bool:
    """Whether the record id and the evidence of an event were taken out."""
    return row.record_id.startswith(_SEVERED)


def record_commitment(row: Row) -> str:
    """What the chain holds of an event's record id and evidence: 32 hex digits."""
    if is_severed(row):
        return row.record_id.removeprefix(_SEVERED)
    said = f"{len(row.record_id)}:{row.record_id}{row.evidence_ref}"
    return hashlib.sha256(b"dp_train record 1\x00" + row.salt + said.encode()).hexdigest()[:32]


class Row(NamedTuple):
    """What a stored event says of itself; its terms and organisation stand in tables of their own.

    `person` and `entity` are numbers of `principal_links`, times are µs. `stored_time` is when the store took it.
    """

    record_id: str
    person: bytes | None
    organisation: int
    terms: int
    event_time: int
    recorded_time: int
    data_from: int | None
    data_to: int | None
    expires_at: int | None
    source_seq: int
    entity: bytes | None
    evidence_ref: str
    stored_time: int
    salt: bytes

    def same_as(self, other: Row) -> bool:
        """Whether both are deliveries of one event: when each came, and its place in a file, do not matter."""
        blank: dict[str, Any] = {"recorded_time": 0, "source_seq": 0, "stored_time": 0, "salt": b""}
        return self._replace(**blank) == other._replace(**blank)


COLUMNS = [EVENTS.c[name] for name in Row._fields]


@lru_cache(maxsize=4_096)
def number_of(text: str) -> int:
    """63 bits of SHA-256: the number under which terms and organisations are kept."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def terms_text(event: ConsentEvent) -> str:
    """What of an event its terms are, as canonical JSON."""
    return _terms_text(_SAID(event), isinstance(event.notice_version, bool))


_SAID = attrgetter(*TERMS)


@lru_cache(maxsize=4_096)
def _terms_text(said: tuple[Any, ...], _odd: bool) -> str:
    """Once for the many events that share it; True for a version equals 1, and is written otherwise."""
    return canonical(plain_values(zip(TERMS, said, strict=True))).decode()


def row_of(
    event: ConsentEvent, *, person: bytes | None, entity: bytes | None, terms: int, stored: int, salt: bytes = b""
) -> Row:
    """The row of an event, once people and terms have numbers."""
    return Row(
        record_id=event.record_id,
        person=person,
        organisation=number_of(event.org_id),
        terms=terms,
        event_time=microseconds(event.event_time),
        recorded_time=microseconds(event.recorded_time),
        data_from=optional_microseconds(event.data_from),
        data_to=optional_microseconds(event.data_to),
        expires_at=optional_microseconds(event.expires_at),
        source_seq=int(event.seq),
        entity=entity,
        evidence_ref=event.evidence_ref,
        stored_time=stored,
        salt=salt,
    )


def body_of(row: Row, org_id: str, terms: str) -> bytes:
    """The bytes of an event that its hash is over: one line of its own, and one of its terms."""
    # Canonical JSON: sorted keys, no spaces. Written out, for it is done for every event there is.
    own = (
        f'{{"data_from":{_whole(row.data_from)},"data_to":{_whole(row.data_to)},"entity":{_hex(row.entity)},'
        f'"event_time":{row.event_time},"expires_at":{_whole(row.expires_at)},"org_id":{encode_basestring(org_id)},'
        f'"person":{_hex(row.person)},"record":"{record_commitment(row)}","recorded_time":{row.recorded_time},'
        f'"source_seq":{row.source_seq},"stored_time":{row.stored_time}}}'
    )
    return f"{own}\n{terms}".encode()


def _whole(value: int | None) -> int | str:
    return "null" if value is None else value


def _hex(value: bytes | None) -> str:
    return "null" if value is None else f'"{bytes(value).hex()}"'


def audit_parts(body: bytes) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The two lines of `body_of` as objects, for people to read; `body_of_parts` puts them together again."""
    own, _, terms = body.decode().partition("\n")
    return json.loads(own), json.loads(terms)


def body_of_parts(own: Mapping[str, Any], terms: Mapping[str, Any]) -> bytes:
    """The bytes that `audit_parts` took apart."""
    return canonical(own) + b"\n" + canonical(terms)


def event_of(
    row: Row, *, principal: str | None, entity: str | None, org_id: str, terms: Mapping[str, Any]
) -> ConsentEvent:
    """The event of a row, times in UTC, under the pseudonyms that its numbers are linked to."""
    values: dict[str, Any] = {
        "record_id": row.record_id,
        "seq": row.source_seq,
        "pii_principal_id": principal,
        "org_id": org_id,
        "event_time": moment(row.event_time),
        "recorded_time": moment(row.recorded_time),
        "data_from": _optional_moment(row.data_from),
        "data_to": _optional_moment(row.data_to),
        "expires_at": _optional_moment(row.expires_at),
        "entity_id": entity,
        "evidence_ref": row.evidence_ref,
    }
    return event_from(values, terms)


def _optional_moment(value: int | None) -> Any:
    return None if value is None else moment(value)


def check_text(text: str) -> None:
    """Refuse text that one of the databases could not keep as it is.

    Raises:
      DataError: it holds a NUL or a lone surrogate.
    """
    try:
        clean = "\x00" not in text and text.encode() is not None
    except UnicodeEncodeError:
        clean = False
    if not clean:
        raise DataError("consent event: a text holds a NUL or a lone surrogate; expected plain Unicode")


@lru_cache(maxsize=4_096)
def check_terms(text: str) -> None:
    """`check_text` of terms as JSON, in which a NUL is escaped."""
    check_text(text.replace("\\u0000", "\x00"))
