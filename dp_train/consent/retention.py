"""What an organisation promised to keep only so long: its rules, and what of the consent store is past its date.

    rules = read_rules("conf/retention.yaml")
    due_records(store, rules, now=now)                                  # changes nothing
    expire_records(store, rules, now=now, by=officer, files={…})        # removes, and writes into the chain that it did

What denies goes on denying, and what allows is never touched. Of a hold the digest of the row that made it goes, as an
erasure takes it out: the chain holds a salted commitment to it, which tells nothing once the salt is gone. So the
person is held as before, and the chain verifies. Of an unread row its digest goes and its count stays. A receipt goes
whole; its event stays, and whoever was given the receipt can still show it.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

import sqlalchemy as sa

from dp_train.consent.events import ConsentEvent, EventState, Purpose
from dp_train.consent.facts import microseconds, moment
from dp_train.consent.rule_file import read_rule_rows
from dp_train.consent.store import LOCK, ConsentStore
from dp_train.consent.stored import terms_in
from dp_train.consent.tables import COLUMNS, EVENTS, TERMS_TABLE, UNREAD, Row, is_severed, severed
from dp_train.consent.withdrawal import RECEIPTS, Officer
from dp_train.errors import ConfigError


class Kept(Enum):
    """What may have a date."""

    TABLES = "tables"
    """Tokenised rows of people, cached in runs/units."""
    CHECKPOINTS = "checkpoints"
    """States of runs: weights, realised batch sizes, secret seeds until a run has finished."""
    SAMPLES = "samples"
    """Generated texts beside references, in MLflow's artifacts."""
    HOLDS = "holds"
    """Digests of rows that could not be read; that their people are held stays."""
    RECEIPTS = "receipts"
    """Copies of signed receipts; the events stay."""


_FIELDS = ("kind", "days", "purpose")
_SLACK = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRule:
    """How many days a kind is kept; `purpose` limits the rule to what was kept for it."""

    kind: Kept
    days: int
    purpose: Purpose | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRules:
    """Rules, of which the shortest that applies holds. A kind without a rule has no date.

    Guarantee: another rule never keeps anything longer. What has no purpose that can be read is under the rules of
    every purpose, and what has no date that can be read, or one that is to come, is past it.
    """

    rules: tuple[RetentionRule, ...]

    def due_at(self, kind: Kept, purposes: Collection[Purpose], since: datetime | None) -> datetime | None:
        """When something is past its date; the beginning of time where `since` is not known, None where it has none."""
        days = [
            rule.days
            for rule in self.rules
            if rule.kind is kind and (rule.purpose is None or not purposes or rule.purpose in purposes)
        ]
        if not days:
            return None
        return moment(-(1 << 63)) if since is None else since + timedelta(days=min(days))

    def is_due(self, kind: Kept, purposes: Collection[Purpose], since: datetime | None, now: datetime) -> bool:
        """Return whether something that is kept since then is past its date."""
        due = self.due_at(kind, purposes, None if since is not None and since > now + _SLACK else since)
        return due is not None and due <= now

    @property
    def digest(self) -> str:
        """Names the rules in the chain: 16 hex digits of SHA-256."""
        lines = sorted(f"{r.kind.value} {r.days} {'' if r.purpose is None else r.purpose.value}" for r in self.rules)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def read_rules(path: str | os.PathLike[str]) -> RetentionRules:
    """The rules of a YAML file: `rules`, a list of mappings with the fields of `RetentionRule`.

    Raises:
      ConfigError: the file cannot be read, or a rule is none; names the rule.
    """
    rows = read_rule_rows(path, what="retention")
    return RetentionRules(rules=tuple(_rule(row, f"retention {path}, rule {n}") for n, row in enumerate(rows, 1)))


def _rule(row: Any, where: str) -> RetentionRule:
    if not isinstance(row, Mapping) or not set(row) <= set(_FIELDS) or not {"kind", "days"} <= set(row):
        raise ConfigError(f"{where}: expected kind, days and, where wanted, purpose")
    kinds, purposes = [kind.value for kind in Kept], [purpose.value for purpose in Purpose]
    if row["kind"] not in kinds:
        raise ConfigError(f"{where}: kind={row['kind']!r}; expected one of {', '.join(kinds)}")
    if not isinstance(row["days"], int) or isinstance(row["days"], bool) or not 0 <= row["days"] <= 36_500:
        raise ConfigError(f"{where}: days={row['days']!r}; expected a whole number, 0 to 36500")
    if row.get("purpose") not in (None, *purposes):
        raise ConfigError(f"{where}: purpose={row['purpose']!r}; expected one of {', '.join(purposes)}")
    purpose = None if row.get("purpose") is None else Purpose(row["purpose"])
    return RetentionRule(kind=Kept(row["kind"]), days=row["days"], purpose=purpose)


@dataclass(frozen=True, slots=True)
class _Due:
    """Rows of the store that are past their date."""

    holds: Sequence[Row]
    receipts: Sequence[str]
    unread: Sequence[bytes]

    @property
    def counts(self) -> dict[Kept, int]:
        return {Kept.HOLDS: len(self.holds) + len(self.unread), Kept.RECEIPTS: len(self.receipts)}


def due_records(store: ConsentStore, rules: RetentionRules, *, now: datetime) -> dict[Kept, int]:
    """How many holds (with unread rows) and receipts are past their date."""
    with store.database.reading() as connection:
        return _due(connection, rules, now).counts


def expire_records(
    store: ConsentStore, rules: RetentionRules, *, now: datetime, by: Officer, files: Mapping[Kept, int]
) -> dict[Kept, int]:
    """Take what is past its date out of the store, and write into the chain that it was, by whom and why.

    Guarantee: all of it or nothing; no decision changes; the chain verifies. The entry is written before any file is
    deleted, so that none goes without one.

    Args:
      files: how many of each kind the caller is about to delete; they stand in the entry. With nothing due, nothing
        is written.
    """
    with store.database.writing(LOCK) as connection:
        due = _due(connection, rules, now)
        counts = {**files, **due.counts}
        if not any(counts.values()):
            return counts
        store.append_in(connection, [_entry(rules, counts, now, by)])
        for row in due.holds:
            changes = {"record_id": severed(row), "evidence_ref": "", "salt": b""}
            connection.execute(EVENTS.update().where(EVENTS.c.record_id == row.record_id).values(**changes))
        for record_id in due.receipts:
            connection.execute(RECEIPTS.delete().where(RECEIPTS.c.record_id == record_id))
        for digest in due.unread:
            # Another row in its place: the count stays, and nothing leads to what the row was.
            fresh = {"digest": secrets.token_bytes(16), "severed": 1}
            connection.execute(UNREAD.update().where(UNREAD.c.digest == digest).values(**fresh))
    for table, rows in ((EVENTS.name, due.holds), (RECEIPTS.name, due.receipts), (UNREAD.name, due.unread)):
        if rows:
            store.database.scrub(table)
    return counts


def _due(connection: sa.Connection, rules: RetentionRules, now: datetime) -> _Due:
    terms = terms_in(connection, EventState.HELD)
    said = dict(tuple(row) for row in connection.execute(sa.select(TERMS_TABLE).where(TERMS_TABLE.c.number.in_(terms))))
    holds = []
    for values in connection.execute(sa.select(*COLUMNS).where(EVENTS.c.terms.in_(terms))):
        row = Row._make(values)
        purposes = [Purpose(name) for name in json.loads(said[row.terms])["purpose"]]
        if not is_severed(row) and rules.is_due(Kept.HOLDS, purposes, moment(row.stored_time), now):
            holds.append(row)
    receipts = []
    if sa.inspect(connection).has_table(RECEIPTS.name):
        for record_id, text in connection.execute(sa.select(RECEIPTS.c.record_id, RECEIPTS.c.receipt)):
            if rules.is_due(Kept.RECEIPTS, *_of_receipt(text), now):
                receipts.append(record_id)
    found = connection.execute(sa.select(UNREAD.c.digest, UNREAD.c.seen_time).where(UNREAD.c.severed == 0))
    unread = [bytes(digest) for digest, seen in found if rules.is_due(Kept.HOLDS, (), moment(seen), now)]
    return _Due(holds, receipts, unread)


def _of_receipt(text: str) -> tuple[list[Purpose], datetime | None]:
    """What a receipt is about and since when it is kept; neither, where it cannot be read."""
    try:
        statement = json.loads(text)["statement"]
        since = datetime.fromisoformat(statement["recorded_at"])
        return [Purpose(name) for name in statement["purposes"]], since if since.tzinfo is not None else None
    except (ValueError, TypeError, KeyError):
        return [], None


def _entry(rules: RetentionRules, counts: Mapping[Kept, int], now: datetime, by: Officer) -> ConsentEvent:
    did = ", ".join(f"{count} {kind.value}" for kind, count in counts.items() if count)
    return ConsentEvent.of_store(
        f"retention-{secrets.token_hex(16)}",
        EventState.EXPUNGED,
        at=moment(microseconds(now)),
        recorded=now,
        evidence_ref=did,
        operator=by.operator,
        reason=by.reason or f"rules of retention {rules.digest}",
    )


__all__ = ["Kept", "RetentionRule", "RetentionRules", "due_records", "expire_records", "read_rules"]
