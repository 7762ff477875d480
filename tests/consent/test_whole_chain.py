"""The store is trusted whole or not at all: swapped people, edited events, old copies and cut ends decide nothing."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from records import COMPANY, COMPOSE, KEY, RULES, day, event, renewal

from dp_train.cli.main import main
from dp_train.consent.decisions import Reason
from dp_train.consent.events import EventState
from dp_train.consent.policy import WithdrawalPolicy
from dp_train.consent.signing import SigningKey
from dp_train.consent.store import LOCK, ConsentStore
from dp_train.consent.tables import EVENTS, LINKS, TERMS_TABLE, TOMBSTONES
from dp_train.consent.withdrawal import Officer, erase, link, opt_out, withdraw
from dp_train.errors import StoreError
from dp_train.privacy.ledger.ledger import Ledger
from dp_train.store.chain import GENESIS, row_hash
from dp_train.store.database import Database
from dp_train.store.heads import Chain, Head, check_heads, heads_now

ANN, BOB = KEY.pseudonym("ann"), KEY.pseudonym("bob")
POLICY = WithdrawalPolicy(rules=())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ConsentStore]:
    database = Database(f"sqlite:///{tmp_path / 'store.db'}")
    made = ConsentStore(database)
    for one in (COMPANY, event("ann", EventState.REFUSED), event("bob"), event("cy")):
        made.append(one)
    yield made
    database.close()


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey.open(tmp_path / "signing.key")


def says(store: ConsentStore, person: str) -> Reason:
    return store.snapshot(as_of=datetime.now(UTC), rules=RULES, key=KEY).says(KEY.pseudonym(person), COMPOSE)


def test_two_people_who_are_swapped_break_the_chain(store: ConsentStore) -> None:
    with store.database.writing(LOCK) as connection:
        rows = {bytes(r.pseudonym).hex(): r for r in connection.execute(sa.select(LINKS))}
        connection.execute(LINKS.delete().where(LINKS.c.pseudonym.in_([bytes.fromhex(ANN), bytes.fromhex(BOB)])))
        for name, other in ((ANN, BOB), (BOB, ANN)):
            values = {"pseudonym": bytes.fromhex(name), "number": rows[other].number, "salt": rows[other].salt}
            connection.execute(LINKS.insert().values(**values))
    broken = store.verify().broken
    assert broken is not None
    assert "another person" in broken.reason
    with pytest.raises(StoreError, match="given to another person"):
        says(store, "ann")


def test_events_that_were_edited_decide_nothing(store: ConsentStore) -> None:
    with store.database.writing(LOCK) as connection:
        for number, body in connection.execute(sa.select(TERMS_TABLE)).all():
            edited = body.replace("ConsentRefused", "ConsentGiven")
            connection.execute(TERMS_TABLE.update().where(TERMS_TABLE.c.number == number).values(body=edited))
    with pytest.raises(StoreError, match="was changed after it was written"):
        says(store, "ann")


def test_a_link_that_is_taken_out_without_an_erasure_breaks_the_chain(store: ConsentStore) -> None:
    with store.database.writing(LOCK) as connection:
        connection.execute(LINKS.delete().where(LINKS.c.pseudonym == bytes.fromhex(ANN)))
    with pytest.raises(StoreError, match="no erasure says so"):
        says(store, "bob")


def test_an_erased_person_stays_erased_whatever_a_sync_brings(store: ConsentStore, key: SigningKey) -> None:
    assert erase(store, BOB, at=day(60), method="form", key=key, policy=POLICY) is not None
    late = {"when": 900, "data_from": day(0)}
    for number, one in enumerate((event("bob"), event("bob", **late), event("bob", EventState.RENEWED, **late))):
        store.append(one if number == 0 else dataclasses.replace(one, record_id=f"new-{number}"))
        assert says(store, "bob") is Reason.NO_RECORD
    erased = store.tombstones()
    assert erased.keeps_out(event("bob", **late))
    assert not erased.keeps_out(renewal("bob", 70))
    assert not erased.keeps_out(event("cy", **late))
    with store.database.reading() as connection:
        names = {name for (name,) in connection.execute(sa.select(EVENTS.c.record_id))}
    assert event("bob").record_id not in names
    store.append(renewal("bob", 70, data_from=day(0)))
    assert says(store, "bob") is Reason.GRANTED
    with store.database.writing(LOCK) as connection:
        connection.execute(TOMBSTONES.delete())
    with pytest.raises(StoreError, match="tombstones"):
        says(store, "cy")


def test_an_organisation_that_opts_out_stays_out_until_its_administrator_renews(
    store: ConsentStore, key: SigningKey
) -> None:
    def allowed() -> bool:
        frozen = store.snapshot(as_of=datetime.now(UTC), rules=RULES, key=KEY)
        kind = next(iter(COMPANY.content_kind))
        return frozen.decide("bob", COMPOSE, kind, day(50), "acme").allowed

    assert allowed()
    done = opt_out(store, "acme", at=day(60), method="letter", key=key, policy=POLICY, by=Officer(reason="board"))
    assert done.receipt["statement"]["event"]["hash"] == store.head().event_hash
    store.append(event(None, when=70, record_id="sync"))
    assert not allowed()
    store.append(renewal(None, 80, data_from=day(0)))
    assert allowed()


def test_a_no_of_one_id_is_a_no_of_all_and_a_yes_is_of_one_alone(store: ConsentStore, key: SigningKey) -> None:
    assert says(store, "bob") is Reason.GRANTED
    assert link(store, BOB, KEY.pseudonym("robert"), at=day(50), by=Officer())
    assert says(store, "robert") is Reason.NO_RECORD
    assert link(store, KEY.pseudonym("robert"), KEY.pseudonym("cy"), at=day(50), by=Officer())
    withdraw(store, KEY.pseudonym("robert"), at=day(60), method="form", key=key, policy=POLICY)
    assert {says(store, person) for person in ("bob", "robert", "cy")} == {Reason.WITHDRAWN}
    erase(store, BOB, at=day(70), method="form", key=key, policy=POLICY)
    assert not any(store.is_linked(KEY.pseudonym(person)) for person in ("bob", "robert", "cy"))
    assert store.verify().broken is None


def test_an_older_copy_a_cut_end_and_an_empty_store_are_refused(store: ConsentStore, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store.database.backup(tmp_path / "old.db")
    store.append(event("bob", EventState.WITHDRAWN, 60))
    seen = [Head(chain=h.chain, digest=h.digest, store=h.store, noted_in="run a") for h in heads_now(store.database)]
    assert [head.chain for head in seen] == [Chain.CONSENT]
    check_heads(store.database, seen)
    other = Head(chain=Chain.LEDGER, digest="ab" * 32, store="elsewhere.db", noted_in="run b")
    check_heads(store.database, [*seen, other])
    with store.database.writing(LOCK) as connection:
        connection.execute(EVENTS.delete().where(EVENTS.c.seq == store.head().seq))
    with pytest.raises(StoreError, match="older copy"):
        check_heads(store.database, seen)
    store.database.close()
    for copy in ("old.db", None):
        for file in tmp_path.glob("store.db*"):
            file.unlink()
        if copy:
            shutil.copy(tmp_path / copy, path)
        database = Database(f"sqlite:///{path}")
        with pytest.raises(StoreError, match="run a"):
            check_heads(database, seen)
        database.close()


def test_a_backup_of_an_open_store_is_whole_and_an_older_one_is_not_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DP_TRAIN_STORE", raising=False)
    monkeypatch.setenv("DP_TRAIN_HEADS", str(tmp_path / "heads.jsonl"))
    assert main(["consent", "withdraw", "one"]) == 0  # its database stays open in the write-ahead log
    assert main(["ledger", "declare", "--epsilon", "3", "--delta", "1e-6"]) == 0
    assert main(["consent", "backup", "first.db"]) == 0
    assert main(["consent", "restore", "first.db"]) == 0
    assert main(["consent", "verify"]) == 0
    assert main(["consent", "withdraw", "two"]) == 0
    assert main(["consent", "restore", "first.db"]) == 9
    assert "older copy" in capsys.readouterr().err
    shutil.copy("first.db", "dp_train.db")
    for file in ("dp_train.db-wal", "dp_train.db-shm"):
        Path(file).unlink(missing_ok=True)
    assert main(["ledger", "show"]) == 9
    assert "heads.jsonl" in capsys.readouterr().err


def test_a_ledger_that_was_hashed_anew_does_not_verify(tmp_path: Path) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'store.db'}")
    ledger.declare("ab" * 16, epsilon=1.0, delta=1e-6)
    assert (tmp_path / "runs" / "ledger.key").stat().st_mode & 0o777 == 0o600
    table: Any = sa.table("ledger", sa.column("seq"), sa.column("row_hash"), sa.column("body"))
    with ledger.database.writing("ledger") as connection:
        body = connection.execute(sa.select(table.c.body)).scalar_one().replace('"epsilon":1.0', '"epsilon":9.0')
        forged = row_hash(GENESIS, 1, body.encode())
        connection.execute(table.update().values(body=body, row_hash=forged))
    assert ledger.verify().broken is not None
    with pytest.raises(StoreError, match="was changed"):
        ledger.book()
    (tmp_path / "runs" / "ledger.key").unlink()
    with pytest.raises(StoreError, match=r"its key .* is missing"):
        ledger.book()
    ledger.close()


def test_a_budget_is_not_raised_for_a_blank_reason(tmp_path: Path) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'store.db'}")
    ledger.declare("ab" * 16, epsilon=1.0, delta=1e-6)
    with pytest.raises(Exception, match="give a reason"):
        ledger.declare("ab" * 16, epsilon=2.0, delta=1e-6, reason=" \t")
    ledger.close()
