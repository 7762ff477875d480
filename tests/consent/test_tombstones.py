"""Who was erased in one store does not come back in another, or in a run of its export; receipts stand in the chain."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import pytest
from records import COMPANY, COMPOSE, KEY, event, renewal

from dp_train.consent.decisions import Reason
from dp_train.consent.event_json import write_events
from dp_train.consent.imports import events_of_file, import_events
from dp_train.consent.policy import WithdrawalPolicy
from dp_train.consent.receipts import check_receipts
from dp_train.consent.signing import SigningKey
from dp_train.consent.store import LOCK, ConsentStore
from dp_train.consent.tables import EVENTS, TOMBSTONES
from dp_train.consent.tombstones import tombstones_out
from dp_train.consent.withdrawal import RECEIPTS, erase, withdraw
from dp_train.errors import StoreError
from dp_train.store.database import Database

POLICY = WithdrawalPolicy(rules=())


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[ConsentStore, ConsentStore]]:
    databases = [Database(f"sqlite:///{tmp_path / name}.db") for name in ("here", "there")]
    one, other = map(ConsentStore, databases)
    for each in (one, other):
        for said in (COMPANY, event("ann"), event("bob")):
            each.append(said)
    yield one, other
    for database in databases:
        database.close()


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey.open(tmp_path / "signing.key")


def exported(store: ConsentStore, path: Path) -> Path:
    write_events(chain(store.events(), tombstones_out(store)), path)
    return path


def says(store: ConsentStore, person: str) -> Reason:
    return store.snapshot(as_of=datetime.now(UTC), key=KEY).says(KEY.pseudonym(person), COMPOSE)


def test_an_export_erases_in_the_store_that_takes_it(
    stores: tuple[ConsentStore, ConsentStore], key: SigningKey, tmp_path: Path
) -> None:
    here, there = stores
    erase(here, KEY.pseudonym("ann"), at=datetime.now(UTC), method="letter", key=key, policy=POLICY)
    path = exported(here, tmp_path / "export.jsonl")
    done = import_events(there, path, key=KEY)
    assert (done.new, done.set_aside) == (1, 0)
    assert says(there, "ann") is Reason.NO_RECORD
    assert not there.is_linked(KEY.pseudonym("ann"))
    assert there.tombstone(KEY.pseudonym("ann")) == here.tombstone(KEY.pseudonym("ann"))
    assert says(there, "bob") is Reason.GRANTED
    there.append(event("ann", record_id="a later sync", when=5))
    assert says(there, "ann") is Reason.NO_RECORD
    assert there.verify().broken is None
    assert import_events(there, path, key=KEY).new == 0
    assert says(here, "ann") is Reason.NO_RECORD


def test_a_run_of_an_export_leaves_out_whom_its_tombstones_name(
    stores: tuple[ConsentStore, ConsentStore], key: SigningKey, tmp_path: Path
) -> None:
    here, there = stores
    erase(here, KEY.pseudonym("ann"), at=datetime.now(UTC), method="letter", key=key, policy=POLICY)
    path = exported(here, tmp_path / "export.jsonl")
    own = tmp_path / "own.jsonl"
    write_events(there.events(), own)  # still with Ann, before the tombstone
    own.write_text(own.read_text() + path.read_text().splitlines()[-1] + "\n")
    people = {each.pii_principal_id for each in events_of_file(own, KEY)}
    assert people == {None, KEY.pseudonym("bob")}


def test_a_tombstone_of_the_future_counts_from_its_arrival(
    stores: tuple[ConsentStore, ConsentStore], key: SigningKey, tmp_path: Path
) -> None:
    here, there = stores
    erase(here, KEY.pseudonym("ann"), at=datetime.now(UTC), method="letter", key=key, policy=POLICY)
    path = exported(here, tmp_path / "export.jsonl")
    text = path.read_text().replace(str(datetime.now(UTC).year), "9000")
    path.write_text(text)
    import_events(there, path, key=KEY)
    since = there.tombstone(KEY.pseudonym("ann"))
    assert since is not None
    assert since <= datetime.now(UTC)
    back = renewal("ann", 0, event_time=datetime.now(UTC), recorded_time=datetime.now(UTC))
    there.append(back)
    assert there.is_linked(KEY.pseudonym("ann"))


@pytest.mark.parametrize("how", ["cut", "edited", "no json"])
def test_a_receipt_whose_event_is_not_in_the_chain_is_refused(
    stores: tuple[ConsentStore, ConsentStore], key: SigningKey, how: str
) -> None:
    store, _ = stores
    check_receipts(store.database)
    withdraw(store, KEY.pseudonym("ann"), at=datetime.now(UTC), method="letter", key=key, policy=POLICY)
    check_receipts(store.database)
    with store.database.writing(LOCK) as connection:
        if how == "cut":
            connection.execute(EVENTS.delete().where(EVENTS.c.seq == 4))
        elif how == "edited":
            connection.execute(EVENTS.update().where(EVENTS.c.seq == 4).values(event_hash=b"h" * 32))
        else:
            connection.execute(RECEIPTS.update().values(receipt="{}"))
    with pytest.raises(StoreError, match="receipt"):
        check_receipts(store.database)


def test_tombstones_are_those_of_the_chain_after_an_import(
    stores: tuple[ConsentStore, ConsentStore], key: SigningKey, tmp_path: Path
) -> None:
    here, there = stores
    for person in ("ann", "bob", "never seen there"):
        erase(here, KEY.pseudonym(person), at=datetime.now(UTC), method="letter", key=key, policy=POLICY)
    import_events(there, exported(here, tmp_path / "export.jsonl"), key=KEY)
    assert len(there.tombstones().since) == 3
    assert TOMBSTONES.name == "consent_tombstones"
    assert there.verify().broken is None
