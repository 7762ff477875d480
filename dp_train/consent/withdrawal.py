"""A no that is said here: the event and its signed receipt in one transaction; and erasure.

    done = withdraw(store, pseudonym, at=now, purposes=(), method="web form", key=signing_key, policy=policy)
    opt_out(store, "acme", …)        # an organisation takes all its content out
    erase(store, pseudonym, …)       # severs the person from their events and leaves a tombstone
    resolve(store, pseudonym, …)     # somebody decided about the person's holds
    link(store, one, other, …)       # two ids of one person

A no needs no yes before it: whoever never agreed may object once and for all. It lasts: see `events.renews`.
A receipt names nobody: it says that an event with this hash stands in the chain, and what follows from it. Whose it is,
only the store can tell, as long as the person is linked to it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from dp_train.consent.events import CollectionMethod, ConsentEvent, EntityRole, EventState, Purpose, denies
from dp_train.consent.policy import WithdrawalPolicy
from dp_train.consent.signing import SigningKey
from dp_train.consent.store import LOCK, ConsentStore
from dp_train.consent.tables import LINKS
from dp_train.store.database import find_rows

METADATA = sa.MetaData()
RECEIPTS = sa.Table(
    "consent_receipts",
    METADATA,
    sa.Column("record_id", sa.Text, primary_key=True),
    sa.Column("receipt", sa.Text, nullable=False),
)
_PREFIX = "withdrawal-"
GPC = "gpc"
"""The method of a Global Privacy Control signal."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Officer:
    """Who of the staff enters an event, and why; stands in the event. No name of the person it is about."""

    operator: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _No:
    at: datetime
    purposes: frozenset[Purpose]
    method: str
    by: Officer


def withdraw(
    store: ConsentStore,
    pseudonym: str,
    *,
    at: datetime,
    purposes: Collection[Purpose] = (),
    method: str,
    key: SigningKey,
    policy: WithdrawalPolicy,
    by: Officer | None = None,
) -> Withdrawal:
    """Store a person's withdrawal and its receipt, both or neither; also of somebody who never agreed.

    Guarantee: from `at` on no decision allows the purposes, for any content and whenever it was made, until the person
    renews with their own hand (`events.renews`). Where their newest event is such a withdrawal already, nothing is
    added.

    Args:
      purposes: those that end; none named means all.
      method: how it came, e.g. "letter"; no names in it.
    """
    store.database.create(METADATA)
    with store.database.writing(LOCK) as connection:
        said = _No(at=at, purposes=frozenset(purposes), method=method, by=by or Officer())
        return _withdraw(store, connection, pseudonym, said, key, policy)


def opt_out(
    store: ConsentStore,
    org_id: str,
    *,
    at: datetime,
    purposes: Collection[Purpose] = (),
    method: str,
    key: SigningKey,
    policy: WithdrawalPolicy,
    by: Officer | None = None,
) -> Withdrawal:
    """Store that an organisation takes its content out, for all purposes or some, with a receipt.

    Guarantee: from `at` on no decision allows content of the organisation for them, whatever its people say, until its
    administrator renews.
    """
    store.database.create(METADATA)
    with store.database.writing(LOCK) as connection:
        event = ConsentEvent(
            record_id=f"{_PREFIX}{secrets.token_hex(16)}",
            seq=0,
            pii_principal_id=None,
            org_id=org_id,
            entity_role=EntityRole.ORG_ADMIN,
            purpose=frozenset(purposes),
            content_kind=frozenset(),
            event_state=EventState.WITHDRAWN,
            event_time=at,
            recorded_time=max(at, datetime.now(UTC)),
            withdrawal_method=method,
            **_words(by or Officer()),
        )
        return _receipted(store, connection, event, key, policy)


def erase(
    store: ConsentStore,
    pseudonym: str,
    *,
    at: datetime,
    method: str,
    key: SigningKey,
    policy: WithdrawalPolicy,
    by: Officer | None = None,
) -> Withdrawal | None:
    """Sever a person, under all their linked ids, from their events, and leave a tombstone, in one transaction.

    Guarantee: nothing that is kept leads back to them but for whoever has the key and their id; the chain still
    verifies; no later event of a sync brings them back, whatever its record id and time. None where they are erased
    already.
    """
    store.database.create(METADATA)
    ids = store.same_person(pseudonym)
    if store.tombstone(pseudonym) is not None and not any(store.is_linked(each) for each in ids):
        return None
    record = f"erasure-{secrets.token_hex(16)}"
    with store.database.writing(LOCK) as connection:
        for number, each in enumerate(sorted(ids, key=lambda name: name == pseudonym)):
            last = number == len(ids) - 1
            name = record if last else f"erasure-{secrets.token_hex(16)}"
            store.erase_in(connection, each, at=at, record_id=name, reason=(by or Officer()).reason)
        receipt = _receipt(
            store, connection, record, EventState.ERASED, at, datetime.now(UTC), frozenset(), method, key, policy
        )
    store.database.scrub(LINKS.name)
    return Withdrawal(at=at, receipt=receipt, new=True)


def resolve(store: ConsentStore, pseudonym: str, *, at: datetime, by: Officer) -> None:
    """Store that an officer has decided about a person's holds: what they said otherwise counts again.

    A hold that comes later, of the same file read again too if it is another row, holds anew.
    """
    event = _record(pseudonym, EventState.RESOLVED, at, by)
    store.append(event)


def link(store: ConsentStore, one: str, other: str, *, at: datetime, by: Officer) -> bool:
    """Store that two ids are one person, so that a no of one is a no of both; whether they were not linked before."""
    if other in store.same_person(one):
        return False
    store.append(replace(_record(one, EventState.LINKED, at, by), entity_id=other))
    return True


def _record(pseudonym: str, state: EventState, at: datetime, by: Officer) -> ConsentEvent:
    return ConsentEvent(
        record_id=f"{state.value}-{secrets.token_hex(16)}",
        seq=0,
        pii_principal_id=pseudonym,
        org_id="",
        entity_role=EntityRole.CONTROLLER,
        purpose=frozenset(),
        content_kind=frozenset(),
        event_state=state,
        event_time=at,
        recorded_time=max(at, datetime.now(UTC)),
        **_words(by),
    )


def _words(by: Officer) -> dict[str, Any]:
    return {"operator": by.operator, "reason": by.reason}


def withdrawals(store: ConsentStore) -> Iterator[ConsentEvent]:
    """The no of everybody who is linked, and the links of their ids: they count beside events of any other source.

    These are the events that `withdraw`, `opt_out` and `link` made, and holds.

    Raises:
      StoreError: the chain is broken; a no may have been taken out of it.
    """
    store.check()
    for event in store.events():
        made_here = event.record_id.startswith(_PREFIX) and denies(event)
        if made_here or event.event_state in (EventState.LINKED, EventState.HELD, EventState.RESOLVED):
            yield event


def receipts_of(store: ConsentStore, record_ids: Collection[str]) -> list[dict[str, Any]]:
    """Return the signed receipts of some events; an event that has none is left out."""
    with store.database.reading() as connection:
        if not sa.inspect(connection).has_table(RECEIPTS.name):
            return []
        found = find_rows(connection, (RECEIPTS.c.receipt,), RECEIPTS.c.record_id, record_ids)
        return [json.loads(text) for (text,) in found]


def _withdraw(
    store: ConsentStore, connection: sa.Connection, pseudonym: str, no: _No, key: SigningKey, policy: WithdrawalPolicy
) -> Withdrawal:
    history = sorted(store.events(pseudonym=pseudonym), key=lambda event: event.event_time)
    newest = history[-1] if history else None
    if newest and newest.record_id.startswith(_PREFIX) and newest.purpose == no.purposes and newest.event_time <= no.at:
        query = sa.select(RECEIPTS.c.receipt).where(RECEIPTS.c.record_id == newest.record_id)
        known = connection.execute(query).scalar()
        if known is not None:
            return Withdrawal(at=newest.event_time, receipt=json.loads(known), new=False)
    event = ConsentEvent(
        record_id=f"{_PREFIX}{secrets.token_hex(16)}",
        seq=0,
        pii_principal_id=pseudonym,
        org_id=newest.org_id if newest else "",
        entity_role=EntityRole.SELF,
        purpose=no.purposes,
        content_kind=frozenset(),
        event_state=EventState.WITHDRAWN,
        event_time=no.at,
        recorded_time=max(no.at, datetime.now(UTC)),
        collection_method=CollectionMethod.GPC_SIGNAL if no.method == GPC else None,
        jurisdiction=newest.jurisdiction if newest else "",
        notice_id=newest.notice_id if newest else "",
        notice_version=newest.notice_version if newest else 0,
        withdrawal_method=no.method,
        **_words(no.by),
    )
    return _receipted(store, connection, event, key, policy)


def _receipted(
    store: ConsentStore, connection: sa.Connection, event: ConsentEvent, key: SigningKey, policy: WithdrawalPolicy
) -> Withdrawal:
    store.append_in(connection, [event])
    receipt = _receipt(
        store,
        connection,
        event.record_id,
        event.event_state,
        event.event_time,
        event.recorded_time,
        event.purpose,
        event.withdrawal_method,
        key,
        policy,
    )
    return Withdrawal(at=event.event_time, receipt=receipt, new=True)


def _receipt(
    store: ConsentStore,
    connection: sa.Connection,
    record_id: str,
    state: EventState,
    at: datetime,
    recorded: datetime,
    purposes: frozenset[Purpose],
    method: str,
    key: SigningKey,
    policy: WithdrawalPolicy,
) -> dict[str, Any]:
    """The signed receipt of the event that was appended last; stored beside it."""
    head = store.head_in(connection)
    receipt = key.sign(
        {
            "type": TYPE,
            "record_id": record_id,
            "store": store.store_id,
            "event": {"seq": head.seq, "hash": head.event_hash},
            "state": state.value,
            "withdrawn_at": at.isoformat(),
            "recorded_at": recorded.isoformat(),
            "purposes": sorted(purpose.value for purpose in purposes or Purpose),
            "method": method,
            "policy": policy.digest,
            "what_follows": "from withdrawn_at on no run may start or go on with this content; models that "
            "have learnt from it are not unlearnt, and are retrained, blocked or retired by the policy",
        }
    )
    connection.execute(RECEIPTS.insert().values(record_id=record_id, receipt=json.dumps(receipt)))
    return receipt


__all__ = [
    "RECEIPTS",
    "Officer",
    "Withdrawal",
    "erase",
    "link",
    "opt_out",
    "receipts_of",
    "resolve",
    "withdraw",
    "withdrawals",
]
