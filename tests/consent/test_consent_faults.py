"""What the consent store holds after races and a full disk: whole events, and a chain that verifies."""

import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from records import AS_OF, CHAT, COMPANY, COMPOSE, KEY, ORG, RULES, Listed, day, event, says, thread

from dp_train.consent.event_json import write_events
from dp_train.consent.events import EventState
from dp_train.consent.gate import ConsentPolicy, gate
from dp_train.consent.imports import import_events
from dp_train.consent.store import ConsentStore, Fate
from dp_train.consent.withdrawal import RECEIPTS
from dp_train.store.database import Database

ROOT = Path(__file__).parents[2]


def test_importers_appends_and_snapshots_at_once(postgres_url: str, tmp_path: Path) -> None:
    """Three importers of one file, two people who withdraw again and again, and a gate that never sees a half."""
    url = postgres_url.replace("postgresql://", "postgresql+psycopg://")
    people = [f"person {number}" for number in range(300)]
    path = tmp_path / "events.jsonl"
    write_events([COMPANY, *map(event, people)], path)
    ConsentStore(Database(url)).database.close()
    talks = Listed(*(thread(says(one, "x"), conversation_id=one, roster={one: ""}) for one in people[:20]))
    failures: list[BaseException] = []
    policy, done = ConsentPolicy(purpose=COMPOSE), threading.Event()

    def importer(number: int) -> None:
        database = Database(url)
        import_events(ConsentStore(database), path, tmp_path / f"refused-{number}.jsonl")
        database.close()

    def withdraw(number: int) -> None:
        database = Database(url)
        store = ConsentStore(database)
        for turn in range(20):
            one = event(people[number], EventState.WITHDRAWN, 1 + turn / 100)
            assert store.append(one) is Fate.NEW
            assert store.append(one) is Fate.SAME
            frozen = store.snapshot(as_of=AS_OF, rules=RULES, key=KEY)
            assert not frozen.decide(people[number], COMPOSE, CHAT, day(50), ORG).allowed
            passed = gate(talks, frozen, policy).conversations()
            assert people[number] not in {one.conversation_id for one in passed}
        database.close()

    def reader() -> None:
        database = Database(url)
        store = ConsentStore(database)
        while not done.is_set():
            frozen = store.snapshot(as_of=AS_OF, rules=RULES, key=KEY)
            assert store.snapshot(as_of=AS_OF, rules=RULES, key=KEY, upto=frozen.upto).root == frozen.root
            assert store.verify().broken is None
            passed = {each.conversation_id for each in gate(talks, frozen, policy).conversations()}
            agree = {one for one in people[:20] if frozen.decide(one, COMPOSE, CHAT, day(50), ORG).allowed}
            assert passed == agree
        database.close()

    def safely(work: object, *words: int) -> None:
        try:
            work(*words)  # type: ignore[operator]
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=safely, args=(importer, number)) for number in range(3)]
    writers += [threading.Thread(target=safely, args=(withdraw, number)) for number in range(2)]
    watching = threading.Thread(target=safely, args=(reader,))
    for one in (*writers, watching):
        one.start()
    for one in writers:
        one.join()
    done.set()
    watching.join()
    assert failures == []
    database = Database(url)
    store = ConsentStore(database)
    assert store.verify().rows == store.head().seq == 301 + 40
    frozen = store.snapshot(as_of=AS_OF, rules=RULES, key=KEY)
    allowed = {one for one in people if frozen.decide(one, COMPOSE, CHAT, day(50), ORG).allowed}
    assert allowed == set(people[2:])
    database.close()


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files")
@pytest.mark.parametrize("kilobytes", [150, 400, 900])
def test_full_disk_leaves_whole_events_and_the_import_completes_later(tmp_path: Path, kilobytes: int) -> None:
    people = [f"person {number}" for number in range(6000)]
    path = tmp_path / "events.jsonl"
    write_events([COMPANY, *map(event, people)], path)
    url = f"sqlite:///{tmp_path / 'store.db'}"
    code = f"""
        import resource, signal, sys
        from dp_train.consent.imports import import_events
        from dp_train.consent.store import ConsentStore
        from dp_train.errors import StoreError
        from dp_train.store.database import Database
        import dp_train.consent.imports as imports
        imports.BATCH = 200
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store = ConsentStore(Database({url!r}))
        resource.setrlimit(resource.RLIMIT_FSIZE, ({kilobytes} * 1024, {kilobytes} * 1024))
        try:
            import_events(store, {str(path)!r}, {str(tmp_path / "refused.jsonl")!r})
        except StoreError as error:
            print(error)
            sys.exit(9)
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 9, ended.stderr
    assert ended.stdout.count("\n") == 1
    assert "disk is full" in ended.stdout
    database = Database(url)
    store = ConsentStore(database)
    held = store.verify()
    assert held.broken is None
    assert held.rows % 200 == 0
    assert held.rows < 6001
    kept = list(store.events())
    rows = [json.loads(line)["record_id"] for line in path.read_text().splitlines()]
    assert [one.record_id for one in kept] == rows[: held.rows]
    import_events(store, path, tmp_path / "refused.jsonl")
    assert store.verify().rows == store.head().seq == 6001
    database.close()


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files")
def test_full_disk_leaves_a_withdrawal_with_its_receipt_or_neither(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    code = f"""
        import resource, signal, sys
        from datetime import UTC, datetime
        from pathlib import Path
        from dp_train.consent.policy import WithdrawalPolicy
        from dp_train.consent.signing import SigningKey
        from dp_train.consent.store import ConsentStore
        from dp_train.consent.withdrawal import withdraw
        from dp_train.errors import StoreError
        from dp_train.store.database import Database
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        key = SigningKey.open(Path({str(tmp_path / "signing.key")!r}))
        store = ConsentStore(Database({url!r}))
        resource.setrlimit(resource.RLIMIT_FSIZE, (200 * 1024, 200 * 1024))
        try:
            for number in range(10_000):
                withdraw(store, f"{{number:064x}}", at=datetime(2024, 3, 1, tzinfo=UTC), method="form", key=key,
                         policy=WithdrawalPolicy(rules=()))
        except StoreError as error:
            print(error)
            sys.exit(9)
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 9, ended.stderr
    assert "disk is full" in ended.stdout
    store = ConsentStore(Database(url))
    with store.database.reading() as connection:
        receipts = {row[0] for row in connection.execute(sa.select(RECEIPTS.c.record_id))}
    assert receipts == {each.record_id for each in store.events()}
    assert store.verify().rows == len(receipts) > 0
    store.database.close()
