"""A person leaves: the event and its signed receipt in one transaction, and erasure of who the events are about.

    done = withdraw(store, pseudonym, at=now, purposes=(), method="web form", key=signing_key, policy=policy)
    erase(store, pseudonym, …)       # withdraws too, then severs the person from their events

A receipt names nobody: it says that an event with this hash stands in the chain, and what follows from it. Whose it is,
only the store can tell, as long as the person is linked to it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from dp_train.consent.events import ConsentEvent, EntityRole, EventState, Purpose
from dp_train.consent.policy import WithdrawalPolicy
from dp_train.consent.signing import SigningKey
from dp_train.consent.store import LOCK, ConsentStore, denies
from dp_train.consent.tables import EVENTS, LINKS

METADATA = sa.MetaData()
RECEIPTS = sa.Table(
    "consent_receipts",
    METADATA,
    sa.Column("record_id", sa.Text, primary_key=True),
    sa.Column("receipt", sa.Text, nullable=False),
)
_PREFIX = "withdrawal-"
TYPE = "dp_train withdrawal receipt 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """A withdrawal that stands in the store.

    Attributes:
      at: from when on it counts. receipt: signed; see `signing.verified`.
      new: whether this call made it; the same withdrawal again gives the receipt of the first.
    """

    at: datetime
    receipt: dict[str, Any]
    new: bool


def withdraw(
    store: ConsentStore,
    pseudonym: str,
    *,
    at: datetime,
    purposes: Collection[Purpose] = (),
    method: str,
    key: SigningKey,
    policy: WithdrawalPolicy,
) -> Withdrawal:
    """Store a person's withdrawal and its receipt, both or neither.

    Guarantee: from `at` on no decision allows the purposes, for any content and whenever it was made, until the person
    grants anew. Where their newest event is such a withdrawal already, nothing is added.

    Args:
      purposes: those that end; none named means all.
      method: how it came, e.g. "letter"; no names in it.
    """
    store.database.create(METADATA)
    with store.database.writing(LOCK) as connection:
        return _withdraw(store, connection, pseudonym, at, frozenset(purposes), method, key, policy)


def erase(
    store: ConsentStore, pseudonym: str, *, at: datetime, method: str, key: SigningKey, policy: WithdrawalPolicy
) -> Withdrawal | None:
    """Withdraw for all purposes and delete the link between the person and their events, in one transaction.

    The chain still verifies; the events stay as events of nobody. None where there was no link (any more).
    """
    store.database.create(METADATA)
    with store.database.writing(LOCK) as connection:
        query = sa.select(LINKS.c.number).where(LINKS.c.pseudonym == bytes.fromhex(pseudonym))
        if connection.execute(query).first() is None:
            return None
        done = _withdraw(store, connection, pseudonym, at, frozenset(), method, key, policy)
        store.unlink(connection, pseudonym)
    store.database.scrub(LINKS.name)
    return done


def withdrawals(store: ConsentStore) -> Iterator[ConsentEvent]:
    """The events that `withdraw` made, of everybody who is linked: they count beside events of any other source."""
    store.database.create(METADATA)
    with store.database.reading() as connection:
        made = EVENTS.c.record_id.in_(sa.select(RECEIPTS.c.record_id))
        query = sa.select(LINKS.c.pseudonym).join(EVENTS, EVENTS.c.person == LINKS.c.number).where(made).distinct()
        people = [bytes(name).hex() for (name,) in connection.execute(query)]
    for pseudonym in people:
        events = store.events(pseudonym=pseudonym)
        yield from (event for event in events if event.record_id.startswith(_PREFIX) and denies(event))


def _withdraw(
    store: ConsentStore,
    connection: sa.Connection,
    pseudonym: str,
    at: datetime,
    purposes: frozenset[Purpose],
    method: str,
    key: SigningKey,
    policy: WithdrawalPolicy,
) -> Withdrawal:
    history = sorted(store.events(pseudonym=pseudonym), key=lambda event: event.event_time)
    newest = history[-1] if history else None
    if newest and newest.record_id.startswith(_PREFIX) and newest.purpose == purposes and newest.event_time <= at:
        query = sa.select(RECEIPTS.c.receipt).where(RECEIPTS.c.record_id == newest.record_id)
        known = connection.execute(query).scalar()
        if known is not None:
            return Withdrawal(at=newest.event_time, receipt=json.loads(known), new=False)
    now = max(at, datetime.now(UTC))
    event = ConsentEvent(
        record_id=f"{_PREFIX}{secrets.token_hex(16)}",
        seq=0,
        pii_principal_id=pseudonym,
        org_id=newest.org_id if newest else "",
        entity_role=EntityRole.SELF,
        purpose=purposes,
        content_kind=frozenset(),
        event_state=EventState.WITHDRAWN,
        event_time=at,
        recorded_time=now,
        jurisdiction=newest.jurisdiction if newest else "",
        notice_id=newest.notice_id if newest else "",
        notice_version=newest.notice_version if newest else 0,
        withdrawal_method=method,
    )
    store.append_in(connection, [event])
    head = store.head_in(connection)
    receipt = key.sign(
        {
            "type": TYPE,
            "record_id": event.record_id,
            "event": {"seq": head.seq, "hash": head.event_hash},
            "state": event.event_state.value,
            "withdrawn_at": at.isoformat(),
            "recorded_at": now.isoformat(),
            "purposes": sorted(purpose.value for purpose in purposes or Purpose),
            "method": method,
            "policy": policy.digest,
            "what_follows": "from withdrawn_at on no run may start or go on with this person's content; models that "
            "have learnt from it are not unlearnt, and are retrained, blocked or retired by the policy",
        }
    )
    connection.execute(RECEIPTS.insert().values(record_id=event.record_id, receipt=json.dumps(receipt)))
    return Withdrawal(at=at, receipt=receipt, new=True)


__all__ = ["RECEIPTS", "Withdrawal", "erase", "withdraw", "withdrawals"]
