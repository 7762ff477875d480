"""What is past its date is removed from the store, and nothing that decides: a hold holds, a no stays a no."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from records import AS_OF, COMPANY, KEY, RULES, event
from test_consent_laws import histories

from dp_train.consent.event_json import to_json, write_events
from dp_train.consent.events import EventState, Purpose
from dp_train.consent.imports import import_events
from dp_train.consent.policy import WithdrawalPolicy
from dp_train.consent.receipts import check_receipts
from dp_train.consent.retention import (
    Kept,
    RetentionRule,
    RetentionRules,
    due_records,
    expire_records,
    read_rules,
)
from dp_train.consent.signing import SigningKey
from dp_train.consent.store import ConsentStore
from dp_train.consent.tables import EVENTS, UNREAD
from dp_train.consent.withdrawal import RECEIPTS, Officer, withdraw
from dp_train.errors import ConfigError
from dp_train.store.database import Database

NOW = datetime.now(UTC)
ALL = RetentionRules(rules=tuple(RetentionRule(kind=kind, days=0) for kind in Kept))
LATER = NOW + timedelta(days=400)
BY = Officer(operator="office", reason="promise of 2025")


@pytest.fixture
def store(store_url: str) -> Iterator[ConsentStore]:
    database = Database(store_url.replace("postgresql://", "postgresql+psycopg://"))
    yield ConsentStore(database)
    database.close()


def held_and_unread(store: ConsentStore, folder: Path, *, more: list[Any] | None = None) -> Path:
    """Import a file with a grant of Bob, a row of Ann that cannot be read, and one of nobody knows whom."""
    bad = to_json(event("ann", EventState.GIVEN, 2)) | {"event_state": "ConsentGivem"}
    path = folder / "events.jsonl"
    rows = [json.dumps(to_json(one)) for one in (COMPANY, event("bob"), *(more or []))]
    path.write_text("\n".join([*rows, json.dumps(bad), '{"whose": "?"}']) + "\n")
    import_events(store, path, folder / "bad.jsonl", key=KEY)
    return path


def test_a_hold_past_its_date_loses_what_it_was_made_of_and_holds(store: ConsentStore, tmp_path: Path) -> None:
    path = held_and_unread(store, tmp_path)
    before = store.snapshot(as_of=AS_OF, rules=RULES, key=KEY)
    month = RetentionRules(rules=(RetentionRule(kind=Kept.HOLDS, days=30),))
    assert due_records(store, month, now=NOW + timedelta(days=29))[Kept.HOLDS] == 0
    assert due_records(store, ALL, now=LATER) == {Kept.HOLDS: 2, Kept.RECEIPTS: 0}
    head = store.head()
    assert expire_records(store, ALL, now=LATER, by=BY, files={})[Kept.HOLDS] == 2
    assert store.verify(expected_head=head.event_hash).broken is None
    assert store.check().seq == head.seq + 1
    after = store.snapshot(as_of=AS_OF, rules=RULES, key=KEY)
    assert (after.root, after.set_aside) == (before.root, before.set_aside) == (before.root, 1)
    assert list(store.held()) == [KEY.pseudonym("ann")]
    with store.database.reading() as connection:
        names = connection.execute(sa.select(EVENTS.c.record_id)).scalars().all()
    assert not [name for name in names if name.startswith("held-")]
    assert due_records(store, ALL, now=LATER) == {Kept.HOLDS: 0, Kept.RECEIPTS: 0}
    import_events(store, path, tmp_path / "bad.jsonl", key=KEY)  # a sync brings the row again: it holds again
    assert list(store.held()) == [KEY.pseudonym("ann")]


def test_the_chain_says_what_was_removed_by_whom_and_why(store: ConsentStore, tmp_path: Path) -> None:
    held_and_unread(store, tmp_path)
    expire_records(store, ALL, now=LATER, by=BY, files={Kept.CHECKPOINTS: 3})
    with store.database.reading() as connection:
        newest = connection.execute(sa.select(EVENTS).order_by(EVENTS.c.seq.desc()).limit(1)).one()
    assert newest.evidence_ref == "3 checkpoints, 2 holds"
    link = list(store.links())[-1][0]
    assert all(word in link.body.decode() for word in ("RetentionApplied", "office", "promise of 2025"))
    write_events(store.events(), tmp_path / "out.jsonl")  # a record of this store, which goes nowhere else
    assert "RetentionApplied" not in (tmp_path / "out.jsonl").read_text()
    head = store.head()
    assert not any(expire_records(store, ALL, now=LATER, by=BY, files={}).values())
    assert store.head() == head  # nothing was due, so nothing is said


def test_a_receipt_past_its_date_goes_and_the_no_stays(store: ConsentStore, tmp_path: Path) -> None:
    done = withdraw(
        store,
        KEY.pseudonym("ann"),
        at=NOW,
        method="letter",
        key=SigningKey.open(tmp_path / "signing.key"),
        policy=WithdrawalPolicy(rules=()),
    )
    compose = RetentionRules(rules=(RetentionRule(kind=Kept.RECEIPTS, days=30, purpose=Purpose.PUBLISH),))
    assert due_records(store, compose, now=NOW + timedelta(days=29))[Kept.RECEIPTS] == 0
    expire_records(store, compose, now=NOW + timedelta(days=31), by=BY, files={})
    with store.database.reading() as connection:
        assert connection.execute(sa.select(RECEIPTS)).all() == []
    check_receipts(store.database)
    frozen = store.snapshot(as_of=NOW + timedelta(days=1), rules=RULES, key=KEY)
    assert frozen.says(KEY.pseudonym("ann"), Purpose.TRAIN_CHAT_COMPOSE).value == "withdrawn"
    assert done.receipt["statement"]["event"]["seq"] == 1  # the copy of whoever was given it


def test_a_receipt_whose_date_cannot_be_read_is_past_it(store: ConsentStore, tmp_path: Path) -> None:
    store.database.create(RECEIPTS.metadata)
    with store.database.writing("consent") as connection:
        connection.execute(RECEIPTS.insert().values(record_id="r", receipt="{}"))
    assert due_records(store, ALL, now=NOW)[Kept.RECEIPTS] == 1


@settings(max_examples=15)
@given(histories(), histories(person="bob"))
def test_no_decision_changes_by_what_is_removed(anns: list[Any], bobs: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = ConsentStore(Database(f"sqlite:///{Path(folder) / 'store.db'}"))
        held_and_unread(store, Path(folder), more=[*anns, *bobs])
        before = store.snapshot(as_of=AS_OF, rules=RULES, key=KEY)
        expire_records(store, ALL, now=LATER, by=BY, files={})
        after = store.snapshot(as_of=AS_OF, rules=RULES, key=KEY)
        assert (after.root, after.set_aside) == (before.root, before.set_aside)
        assert store.verify().broken is None
        store.database.close()


days = st.integers(0, 400)
rule = st.builds(
    RetentionRule, kind=st.sampled_from(Kept), days=days, purpose=st.none() | st.sampled_from(list(Purpose))
)


@given(st.lists(rule, max_size=5), rule, st.sampled_from(Kept), st.sets(st.sampled_from(list(Purpose))), days)
def test_another_rule_never_keeps_anything_longer(
    rules: list[RetentionRule], one: RetentionRule, kind: Kept, purposes: set[Purpose], age: int
) -> None:
    fewer, more = RetentionRules(rules=tuple(rules)), RetentionRules(rules=(*rules, one))
    since = NOW - timedelta(days=age)
    assert more.is_due(kind, purposes, since, NOW) >= fewer.is_due(kind, purposes, since, NOW)
    # What has no date, or one that is to come, is past it; what has no purpose is under the rules of all of them.
    for unknown in (None, NOW + timedelta(days=9)):
        assert more.is_due(kind, purposes, unknown, NOW) >= more.is_due(kind, purposes, since, NOW)
    assert more.is_due(kind, (), since, NOW) >= more.is_due(kind, purposes, since, NOW)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules: 1", "expected one key, rules"),
        ("rules: [{kind: tables}]", "rule 1: expected kind, days"),
        ("rules: [{kind: tapes, days: 1}]", "kind='tapes'; expected one of tables"),
        ("rules: [{kind: tables, days: -1}]", "days=-1; expected a whole number"),
        ("rules: [{kind: tables, days: true}]", "days=True; expected a whole number"),
        ("rules: [{kind: tables, days: 1, purpose: all}]", "purpose='all'; expected one of"),
        ("rules: [{kind: tables, days: 1, until: x}]", "rule 1: expected kind, days"),
        ("\t", "not YAML"),
    ],
)
def test_rules_that_cannot_be_read_are_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "retention.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_rules(path)


def test_the_digest_of_an_unread_row_is_replaced_and_its_count_stays(store: ConsentStore, tmp_path: Path) -> None:
    held_and_unread(store, tmp_path)
    with store.database.reading() as connection:
        (old,) = connection.execute(sa.select(UNREAD.c.digest)).scalars()
    expire_records(store, ALL, now=LATER, by=BY, files={})
    with store.database.reading() as connection:
        (new,) = connection.execute(sa.select(UNREAD.c.digest)).scalars()
    assert (bytes(old) != bytes(new), store.set_aside()) == (True, 1)
