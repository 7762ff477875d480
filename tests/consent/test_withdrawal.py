"""A withdrawal stands with its receipt or not at all; an erased person is in no byte of the store."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from records import CHAT, COMPANY, COMPOSE, KEY, ORG, SUMMARY, day, event, renewal

from dp_train.consent.decisions import Reason
from dp_train.consent.events import EventState, Purpose
from dp_train.consent.impact import RunKept, assess
from dp_train.consent.manifest import Manifest, forget, manifest_of, read_manifest, write_manifest
from dp_train.consent.policy import Action, Rule, WithdrawalPolicy
from dp_train.consent.signing import SigningKey, verified
from dp_train.consent.snapshot import ConsentSnapshot
from dp_train.consent.store import ConsentStore
from dp_train.consent.withdrawal import RECEIPTS, Withdrawal, erase, withdraw
from dp_train.errors import ConsentError
from dp_train.store.database import Database

POLICY = WithdrawalPolicy(rules=(Rule(action=Action.RETRAIN, people=1, days=30), Rule(action=Action.RETIRE, people=3)))
ANN = KEY.pseudonym("ann")


@pytest.fixture
def store(store_url: str) -> Iterator[ConsentStore]:
    database = Database(store_url.replace("postgresql://", "postgresql+psycopg://"))
    made = ConsentStore(database)
    for one in (COMPANY, event("ann"), event("bob"), event("cy")):
        made.append(one)
    yield made
    database.close()


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey.open(tmp_path / "signing.key")


def leaves(
    store: ConsentStore,
    key: SigningKey,
    person: str = "ann",
    at: datetime | None = None,
    purposes: tuple[Purpose, ...] = (),
) -> Withdrawal:
    pseudonym = KEY.pseudonym(person)
    return withdraw(store, pseudonym, at=at or day(60), purposes=purposes, method="letter", key=key, policy=POLICY)


def now(store: ConsentStore, number: float = 100) -> ConsentSnapshot:
    return store.snapshot(as_of=day(number), key=KEY)


def test_after_a_withdrawal_nothing_is_allowed_until_a_new_grant(store: ConsentStore, key: SigningKey) -> None:
    assert now(store).decide("ann", COMPOSE, CHAT, day(50), ORG).allowed
    leaves(store, key)
    assert now(store).decide("ann", COMPOSE, CHAT, day(50), ORG).reason is Reason.WITHDRAWN
    assert now(store).says(ANN, SUMMARY) is Reason.WITHDRAWN
    assert now(store, 59).says(ANN, SUMMARY) is Reason.GRANTED
    store.append(event("ann", EventState.RENEWED, 69))  # from a sync: no hand of hers
    assert now(store).says(ANN, SUMMARY) is Reason.WITHDRAWN
    store.append(renewal("ann", 70))
    assert now(store).says(ANN, SUMMARY) is Reason.GRANTED


def test_only_the_named_purpose_is_withdrawn(store: ConsentStore, key: SigningKey) -> None:
    leaves(store, key, purposes=(SUMMARY,))
    assert now(store).says(ANN, SUMMARY) is Reason.WITHDRAWN
    assert now(store).says(ANN, COMPOSE) is Reason.GRANTED


def test_receipt_verifies_offline_and_names_its_event(store: ConsentStore, key: SigningKey) -> None:
    done = leaves(store, key)
    statement = verified(done.receipt, key.public_pem)
    assert statement["event"] == {"seq": store.head().seq, "hash": store.head().event_hash}
    assert store.verify(expected_head=statement["event"]["hash"]).broken is None
    assert ANN not in str(done.receipt)


@pytest.mark.parametrize("change", ["withdrawn_at", "event", "policy"])
def test_changed_receipt_does_not_verify(store: ConsentStore, key: SigningKey, tmp_path: Path, change: str) -> None:
    done = leaves(store, key)
    done.receipt["statement"][change] = "2020-01-01"
    with pytest.raises(ConsentError, match="does not hold"):
        verified(done.receipt, key.public_pem)
    other = SigningKey.open(tmp_path / "other.key")
    with pytest.raises(ConsentError, match="signed by key"):
        verified(done.receipt, other.public_pem)
    with pytest.raises(ConsentError, match="not a signed statement"):
        verified({"statement": 3}, key.public_pem)


def test_signing_key_is_for_its_owner_alone_and_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "k" / "signing.key"
    first = SigningKey.open(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert SigningKey.open(path).public_pem == first.public_pem
    assert first.public_pem.encode() not in path.read_bytes()
    path.chmod(0o644)
    with pytest.raises(ConsentError, match="mode 644"):
        SigningKey.open(path)


def test_same_withdrawal_again_adds_nothing_and_gives_the_same_receipt(store: ConsentStore, key: SigningKey) -> None:
    first, head = leaves(store, key), store.head()
    again = leaves(store, key, at=day(61))
    assert (first.new, again.new) == (True, False)
    assert again.receipt == first.receipt
    assert store.head() == head


def test_one_person_who_withdraws_in_many_places_at_once_withdraws_once(store: ConsentStore, key: SigningKey) -> None:
    before = store.head().seq
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: leaves(store, key), range(8)))
    assert store.head().seq == before + 1
    assert sum(one.new for one in done) == 1
    assert len({one.receipt["signature"] for one in done}) == 1


def test_withdrawal_that_fails_at_its_receipt_leaves_no_event(
    store: ConsentStore, key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = store.head()
    monkeypatch.setattr(SigningKey, "sign", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        leaves(store, key)
    assert store.head() == head


_LEAVER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from dp_train.consent.policy import WithdrawalPolicy
from dp_train.consent.signing import SigningKey
from dp_train.consent.store import ConsentStore
from dp_train.consent.withdrawal import withdraw
from dp_train.store.database import Database
store = ConsentStore(Database(sys.argv[1]))
key = SigningKey.open(Path(sys.argv[2]))
for number in range(10_000):
    withdraw(store, f"{number:064x}", at=datetime(2024, 3, 1, tzinfo=UTC), method="form", key=key,
             policy=WithdrawalPolicy(rules=()))
    print(number, flush=True)
"""


@pytest.mark.parametrize("delay", [0.0, 0.013, 0.031])
def test_kill_in_a_withdrawal_leaves_event_and_receipt_or_neither(
    store: ConsentStore, key: SigningKey, tmp_path: Path, delay: float
) -> None:
    words = [sys.executable, "-c", _LEAVER, store.database.url, str(tmp_path / "signing.key")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env={**os.environ}) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(5)]
        signal.sigtimedwait([], delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert told[-1] == b"4\n"
    assert store.verify().broken is None
    with store.database.reading() as connection:
        receipts = {row[0] for row in connection.execute(sa.select(RECEIPTS.c.record_id))}
    events = {each.record_id for each in store.events() if each.event_state is EventState.WITHDRAWN}
    assert len(events) >= 5
    assert events == receipts


def manifest(*people: str, purpose: Purpose = COMPOSE) -> Manifest:
    return manifest_of(
        [frozenset(people)], KEY, run="r1", population=KEY.population_id, purpose=purpose, root="ab" * 32
    )


def kept(*people: str, purpose: Purpose = COMPOSE, epsilon: float | None = 2.0) -> RunKept:
    return RunKept(
        name="runs/a",
        manifest=manifest(*people, purpose=purpose),
        epsilon=epsilon,
        delta=1e-5,
        finished=True,
        retired=False,
    )


def test_impact_counts_everybody_who_left_and_asks_by_policy(store: ConsentStore, key: SigningKey) -> None:
    leaves(store, key, "bob")
    runs = [kept("ann", "bob", "cy"), kept("bob", "cy"), kept("ann", purpose=SUMMARY, epsilon=None)]
    impact = assess(runs, ANN, now(store), POLICY, since=day(60))
    assert [(each.left, each.action) for each in impact.runs] == [(2, Action.RETRAIN), (1, Action.RETRAIN)]
    assert impact.runs[0].bound is not None
    assert impact.runs[0].bound.epsilon == 4.0
    assert impact.runs[0].act_by == day(90)
    assert impact.runs[1].bound is None
    leaves(store, key, "cy")
    assert assess(runs, ANN, now(store), POLICY, since=day(60)).runs[0].action is Action.RETIRE


def test_impact_of_one_purpose_leaves_runs_of_the_other_alone(store: ConsentStore) -> None:
    runs = [kept("ann"), kept("ann", purpose=SUMMARY)]
    impact = assess(runs, ANN, now(store), POLICY, purposes=[SUMMARY], since=day(60))
    assert [each.run for each in impact.runs] == [runs[1]]


def test_asking_for_the_impact_changes_nothing(store: ConsentStore) -> None:
    head = store.head()
    assess([kept("ann")], ANN, now(store), POLICY, since=day(60))
    assert store.head() == head
    assert now(store).says(ANN, COMPOSE) is Reason.GRANTED


def test_erasure_leaves_a_chain_that_verifies_and_nobody_in_it(store: ConsentStore, key: SigningKey) -> None:
    before = store.head().seq
    done = erase(store, ANN, at=day(60), method="form", key=key, policy=POLICY)
    assert done is not None
    assert list(store.events(pseudonym=ANN)) == []
    assert not store.is_linked(ANN)
    assert store.verify().broken is None
    assert store.head().seq == before + 1
    assert not now(store).decide("ann", COMPOSE, CHAT, day(50), ORG).allowed
    assert erase(store, ANN, at=day(61), method="form", key=key, policy=POLICY) is None
    assert [each.record_id for each in store.events()] == [
        COMPANY.record_id,
        event("bob").record_id,
        event("cy").record_id,
    ]


def test_no_byte_of_a_sqlite_store_holds_an_erased_pseudonym(tmp_path: Path, key: SigningKey) -> None:
    store = ConsentStore(Database(f"sqlite:///{tmp_path / 'store.db'}"))
    for number in range(300):
        store.append(event(f"p{number}", when=number / 10))
    gone = KEY.pseudonym("p77")

    def files() -> bytes:
        return b"".join(path.read_bytes() for path in tmp_path.glob("store.db*"))

    assert bytes.fromhex(gone) in files()
    erase(store, gone, at=day(60) + timedelta(hours=1), method="form", key=key, policy=POLICY)
    assert bytes.fromhex(gone) not in files()
    assert bytes.fromhex(KEY.pseudonym("p78")) in files()
    store.database.close()


def test_an_erased_person_is_counted_in_the_manifest_and_not_named(tmp_path: Path, store: ConsentStore) -> None:
    write_manifest(manifest("ann", "bob"), tmp_path)
    assert forget(tmp_path, ANN)
    assert not forget(tmp_path, ANN)
    read = read_manifest(tmp_path)
    assert read is not None
    assert (read.people, read.erased) == ((KEY.pseudonym("bob"),), 1)
    run = RunKept(name="runs/a", manifest=read, epsilon=1.0, delta=0, finished=True, retired=False)
    assert assess([run], KEY.pseudonym("bob"), now(store), POLICY, since=day(60)).runs[0].left == 2
