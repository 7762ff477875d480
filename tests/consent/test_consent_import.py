"""Files into the consent store: bad rows aside, whole batches or nothing, a second import changes nothing."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from records import AS_OF, CHAT, COMPANY, COMPOSE, KEY, RULES, day, event

from dp_train.consent import imports
from dp_train.consent.decisions import Reason
from dp_train.consent.event_json import to_json, write_events
from dp_train.consent.events import EventState, Purpose
from dp_train.consent.imports import events_of_file, import_events
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.registry import ConsentRegistry
from dp_train.consent.store import ConsentStore
from dp_train.consent.withdrawal import Officer, resolve
from dp_train.errors import ConsentError, DataError
from dp_train.store.database import Database

EVENTS = [COMPANY, event("ann", evidence_ref="a, b"), event("bob", EventState.WITHDRAWN, 3)]


@pytest.fixture
def store(store_url: str) -> ConsentStore:
    return ConsentStore(Database(store_url.replace("postgresql://", "postgresql+psycopg://")))


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[ConsentStore]:
    database = Database(f"sqlite:///{tmp_path / 'own.db'}")
    yield ConsentStore(database)
    database.close()


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".csv":
        names = sorted({name for row in rows for name in row})
        cells = [
            [";".join(v) if isinstance(v := row.get(n, ""), list) else str(v or "") for n in names] for row in rows
        ]
        lines = [",".join('"' + cell.replace('"', '""') + '"' for cell in line) for line in [names, *cells]]
        path.write_text("\n".join(lines) + "\n")
    elif path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_import_takes_every_format_and_twice_changes_nothing(store: ConsentStore, tmp_path: Path, ending: str) -> None:
    rows = [to_json(one) for one in EVENTS]
    names = {name for row in rows for name in row}
    if ending == "parquet":  # a table has one set of columns
        rows = [{name: row.get(name) for name in names} for row in rows]
    path = written(tmp_path / f"events.{ending}", rows)
    first = import_events(store, path, tmp_path / "bad")
    head = store.head()
    assert (first.new, first.set_aside) == (3, 0)
    assert list(store.events()) == EVENTS
    again = import_events(store, path, tmp_path / "bad")
    assert (again.new, again.same, store.head()) == (0, 3, head)
    assert not (tmp_path / "bad").exists()


def test_bad_rows_are_named_without_content_and_the_rest_goes_in(store: ConsentStore, tmp_path: Path) -> None:
    good = [json.dumps(to_json(one)) for one in EVENTS]
    state = json.dumps(to_json(EVENTS[1]) | {"event_state": "Ann Archer", "record_id": "x"})
    unpaired = json.dumps(to_json(EVENTS[1]) | {"record_id": "\ud800"})
    other = json.dumps(to_json(dataclasses.replace(EVENTS[1], org_id="elsewhere")))
    path = tmp_path / "events.jsonl"
    path.write_bytes(
        "\n".join([*good[:2], "{Ann Archer", state, "[]", unpaired, other, good[2]]).encode() + b"\n\xff\n"
    )
    done = import_events(store, path, tmp_path / "bad")
    assert (done.rows, done.new, done.held, done.unread) == (9, 3, 3, 3)
    text = (tmp_path / "bad").read_text()
    said = [(line["row"], line["what"]) for line in map(json.loads, text.splitlines())]
    assert said == [(3, "unread"), (4, "held"), (5, "unread"), (6, "held"), (9, "unread"), (7, "held")]
    assert "Archer" not in text
    assert [each for each in store.events() if each.event_state is not EventState.HELD] == EVENTS
    assert (len(store.held()), store.set_aside()) == (1, 3)
    head = store.head()
    assert import_events(store, path, tmp_path / "bad").held == 3
    assert store.head() == head
    assert store.set_aside() == 3  # the same rows, each counted once


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_an_unread_row_is_counted_once_whatever_file_it_comes_in(
    store: ConsentStore, tmp_path: Path, ending: str
) -> None:
    rows = [to_json(one) for one in EVENTS]
    nobodys = [to_json(EVENTS[1]) | {"pii_principal_id": who, "record_id": who} for who in ("?", "??")]
    path = written(tmp_path / f"monday.{ending}", [rows[0], nobodys[0]])
    assert import_events(store, path).stopped is not None
    assert store.set_aside() == 1
    import_events(store, path, tmp_path / "bad")
    assert store.set_aside() == 1
    import_events(store, written(tmp_path / f"tuesday.{ending}", [*rows, *nobodys]), tmp_path / "bad")
    assert store.set_aside() == 2


def test_person_ids_become_pseudonyms_and_are_stored_nowhere(tmp_path: Path) -> None:
    values = to_json(event("ann.archer", record_id="r-1"))
    del values["pii_principal_id"]
    leaking = values | {"person_id": "ann.archer", "record_id": "ann.archer/2"}
    path = written(tmp_path / "events.jsonl", [values | {"person_id": "ann.archer"}, leaking])
    store = ConsentStore(Database(f"sqlite:///{tmp_path / 'store.db'}"))
    with pytest.raises(ConsentError, match="no key was given"):
        import_events(store, path, tmp_path / "bad")
    done = import_events(store, path, tmp_path / "bad", key=KEY)
    assert (done.new, done.held) == (1, 1)
    assert [one.pii_principal_id for one in store.events()] == [KEY.pseudonym("ann.archer")] * 2
    store.database.close()
    for file in tmp_path.iterdir():
        assert file == path or b"ann.archer" not in file.read_bytes()


def test_a_second_import_under_another_key_is_refused_and_stores_nothing(store: ConsentStore, tmp_path: Path) -> None:
    row = {**to_json(EVENTS[1]), "person_id": "somebody", "record_id": "r1"}
    del row["pii_principal_id"]
    import_events(store, written(tmp_path / "first.jsonl", [row]), tmp_path / "bad", key=KEY)
    path = written(tmp_path / "second.jsonl", [{**row, "record_id": "r2", "event_state": "ConsentWithdrawn"}])
    with pytest.raises(ConsentError, match="another key"):
        import_events(store, path, tmp_path / "bad", key=PrincipalKey(b"another key of the tests, no secret"))
    assert store.head().seq == 1


def test_terms_that_were_read_before_do_not_let_another_type_pass(store: ConsentStore, tmp_path: Path) -> None:
    """True equals 1 and an array of arrays has no hash: what is kept of earlier rows must not hide that."""
    sound = {**to_json(EVENTS[1]), "notice_version": 1}
    rows: list[dict[str, Any]] = [sound, {**sound, "record_id": "b", "notice_version": True}]
    rows += [{**sound, "record_id": "c", "notice_version": 1.0}, {**sound, "record_id": "d", "purpose": [["publish"]]}]
    rows += [{**sound, "record_id": "e", "purpose": "publish"}, {**sound, "record_id": "f", "purpose": [None]}]
    done = import_events(store, written(tmp_path / "events.jsonl", rows), tmp_path / "bad")
    assert (done.new, done.held) == (1, 5)


def test_truncated_parquet_keeps_whole_batches_and_says_so(store: ConsentStore, tmp_path: Path) -> None:
    path = written(tmp_path / "events.parquet", [to_json(EVENTS[1])])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="cannot be read as parquet"):
        import_events(store, path, tmp_path / "bad")
    assert store.head().seq == 0


def test_damaged_parquet_is_one_line_that_says_so(tmp_path: Path) -> None:
    rows = [{**to_json(EVENTS[1]), "record_id": f"r{number}"} for number in range(2_000)]
    path = written(tmp_path / "events.parquet", rows)
    whole = path.read_bytes()
    path.write_bytes(whole[:50] + bytes(byte ^ 0x5A for byte in whole[50:4000]) + whole[4000:])
    store = ConsentStore(Database(f"sqlite:///{tmp_path / 'store.db'}"))
    with pytest.raises(DataError, match=r"damaged|cannot be read as parquet"):
        import_events(store, path, tmp_path / "bad")
    assert store.head().seq == 0
    store.database.close()


def test_dry_run_stores_nothing(store: ConsentStore, tmp_path: Path) -> None:
    write_events(EVENTS, tmp_path / "events.jsonl")
    assert import_events(store, tmp_path / "events.jsonl", tmp_path / "bad", dry_run=True).new == 3
    assert store.head().seq == 0


def test_file_that_is_nothing_known_is_one_line(store: ConsentStore, tmp_path: Path) -> None:
    for name in ("events.xml", "missing.jsonl"):
        with pytest.raises(DataError, match=name):
            import_events(store, tmp_path / name, tmp_path / "bad")
    (tmp_path / "broken.parquet").write_text("no parquet")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        import_events(store, tmp_path / "broken.parquet", tmp_path / "bad")


def test_killed_import_leaves_whole_batches_and_the_next_completes_it(store_url: str, tmp_path: Path) -> None:
    url = store_url.replace("postgresql://", "postgresql+psycopg://")
    path = tmp_path / "events.jsonl"
    write_events([event(f"person {number}", record_id=f"r{number}") for number in range(60)], path)
    code = f"""
import os, signal
from dp_train.consent import appending, imports, store
from dp_train.store.database import Database
imports.BATCH = 10
real = appending.Batch._write
count = 0
def write(self, rows):
    global count
    real(self, rows)
    count += 1
    if count == 4:
        os.kill(os.getpid(), signal.SIGKILL)  # written, not committed
appending.Batch._write = write
imports.import_events(store.ConsentStore(Database({url!r})), {str(path)!r}, {str(tmp_path / "bad")!r})
"""
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    store = ConsentStore(Database(url))
    assert store.head().seq == 30
    assert store.verify().broken is None
    again = imports.import_events(store, path, tmp_path / "bad")
    assert (again.new, again.same) == (30, 30)
    assert store.verify().rows == 60
    store.database.close()


WITHDRAWAL = {
    "record_id": "w-1",
    "person_id": "ann",
    "org_id": "acme",
    "entity_role": "self",
    "purpose": ["train_chat_compose"],
    "content_kind": ["chat"],
    "event_state": "ConsentWithdrawn",
    "event_time": "2024-02-01T00:00:00+00:00",
    "recorded_time": "2024-02-01T00:00:00+00:00",
}


def allows(store: ConsentStore, person: str = "ann", purpose: Purpose = COMPOSE) -> bool:
    return (
        store.snapshot(as_of=datetime.now(UTC), rules=RULES, key=KEY)
        .decide(person, purpose, CHAT, day(50), "acme")
        .allowed
    )


@pytest.mark.parametrize(
    "change",
    [
        {"event_time": "2024-02-01"},
        {"event_time": "2024-02-01T00:00:00"},
        {"event_time": "2024-02-01T23:59:60+00:00"},
        {"event_time": "2024-02-01T24:30:00+00:00"},
        {"event_time": 1706745600},
        {"event_state": "ConsentWithdrawm"},
        {"event_state": None},
        {"purpose": ["train_everything"]},
        {"purpose": None},
        {"purpose": "train_chat_compose"},
        {"content_kind": ["smoke"]},
        {"remark": "please"},
        {"schema_version": 1},
        {"event_state": "HoldResolved"},
    ],
)
def test_a_row_whose_meaning_cannot_be_read_denies_its_person_until_somebody_decides(
    sqlite: ConsentStore, tmp_path: Path, change: dict[str, Any]
) -> None:
    sqlite.bind(KEY)
    for one in (COMPANY, event("ann"), event("bob")):
        sqlite.append(one)
    assert allows(sqlite)
    path = written(tmp_path / "events.jsonl", [WITHDRAWAL | change])
    done = import_events(sqlite, path, key=KEY)
    assert (done.new, done.held, done.stopped) == (0, 1, None)
    assert not allows(sqlite)
    assert allows(sqlite, "bob")
    assert list(sqlite.held()) == [KEY.pseudonym("ann")]
    sqlite.append(
        event("ann", when=900, data_from=day(0), record_id="sync")
    )  # what a sync stamps later does not lift it
    assert not allows(sqlite)
    resolve(sqlite, KEY.pseudonym("ann"), at=datetime.now(UTC), by=Officer(operator="officer", reason="a letter"))
    assert sqlite.held() == {}
    assert allows(sqlite)


@pytest.mark.parametrize("line", ["ann,self,a,b", "ann,self", "ann,self,a,b,c,d,e"])
def test_a_row_with_a_cell_too_many_or_too_few_denies_its_person(
    sqlite: ConsentStore, tmp_path: Path, line: str
) -> None:
    sqlite.bind(KEY)
    for one in (COMPANY, event("ann")):
        sqlite.append(one)
    path = tmp_path / "events.csv"
    path.write_text(f"person_id,entity_role,record_id\n{line}\n")
    assert import_events(sqlite, path, key=KEY).held == 1
    assert not allows(sqlite)


def test_only_the_purpose_that_could_be_read_is_held(sqlite: ConsentStore, tmp_path: Path) -> None:
    sqlite.bind(KEY)
    for one in (COMPANY, event("ann")):
        sqlite.append(one)
    import_events(sqlite, written(tmp_path / "e.jsonl", [WITHDRAWAL | {"event_time": "never"}]), key=KEY)
    assert not allows(sqlite)
    assert allows(sqlite, purpose=Purpose.PUBLISH)


@pytest.mark.parametrize(
    "row",
    ['{"person_id": "ann", ', "[]", '{"record_id": "r"}', '{"person_id": "\u200b"}', '{"pii_principal_id": "ann"}'],
)
def test_a_row_whose_person_cannot_be_read_stops_the_import_and_no_grant_follows(
    sqlite: ConsentStore, tmp_path: Path, row: str
) -> None:
    path = tmp_path / "events.jsonl"
    rows = [json.dumps(to_json(COMPANY)), row, json.dumps(to_json(event("bob"))), json.dumps(WITHDRAWAL)]
    path.write_text("\n".join(rows) + "\n")
    done = import_events(sqlite, path, key=KEY)
    assert done.stopped is not None
    assert done.stopped[0] == 2
    assert [each.event_state for each in sqlite.events()] == [EventState.WITHDRAWN]
    with pytest.raises(DataError, match="row 2: whose it is cannot be read"):
        list(events_of_file(path, KEY))
    done = import_events(sqlite, path, tmp_path / "bad", key=KEY)
    assert (done.stopped, done.new, done.unread) == (None, 2, 1)
    assert sqlite.snapshot(as_of=AS_OF, rules=RULES, key=KEY).set_aside == sqlite.set_aside() > 0


def test_a_run_that_reads_a_file_holds_what_an_import_holds(tmp_path: Path) -> None:
    rows = [to_json(COMPANY), to_json(event("ann")), WITHDRAWAL | {"event_time": "2024-02-01"}]
    events = events_of_file(written(tmp_path / "events.jsonl", rows), KEY)
    frozen = ConsentRegistry(events, rules=RULES, key=KEY).snapshot(as_of=datetime.now(UTC))
    assert frozen.decide("ann", COMPOSE, CHAT, day(50), "acme").reason is Reason.HELD


def test_columns_that_nothing_reads_are_named_and_nothing_is_stored(sqlite: ConsentStore, tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("person_id,entity_role,opted_out\nann,self,yes\n")
    with pytest.raises(DataError, match="opted_out"):
        import_events(sqlite, path, key=KEY)
    assert sqlite.head().seq == 0


def test_a_grant_that_contradicts_a_known_event_denies(sqlite: ConsentStore, tmp_path: Path) -> None:
    for one in (COMPANY, event("ann", record_id="r")):
        sqlite.append(one)
    other = to_json(event("ann", record_id="r", data_from=day(-100)))
    assert import_events(sqlite, written(tmp_path / "e.jsonl", [other])).held == 1
    assert not allows(sqlite)


@pytest.mark.parametrize("spelt", [" ann", "ANN", "ann\u200b", "\uff41nn", "a\u00adnn", "\u202aann\u202c", "ann\t"])
def test_another_spelling_of_an_id_is_the_same_person(sqlite: ConsentStore, tmp_path: Path, spelt: str) -> None:
    sqlite.bind(KEY)
    for one in (COMPANY, event("ann")):
        sqlite.append(one)
    import_events(sqlite, written(tmp_path / "e.jsonl", [WITHDRAWAL | {"person_id": spelt}]), key=KEY)
    assert not allows(sqlite)
    assert not allows(sqlite, spelt)


def test_an_unknown_id_that_denies_and_is_nearly_a_known_one_is_reported(sqlite: ConsentStore, tmp_path: Path) -> None:
    sqlite.bind(KEY)
    sqlite.append(event("ann.archer"))
    rows = [WITHDRAWAL | {"person_id": "ann.acher"}, WITHDRAWAL | {"person_id": "zoe", "record_id": "w-2"}]
    assert import_events(sqlite, written(tmp_path / "e.jsonl", rows), key=KEY).near == 1


def test_a_withdrawal_from_the_future_denies_now_and_a_grant_from_the_future_does_not_allow(
    sqlite: ConsentStore, tmp_path: Path
) -> None:
    sqlite.bind(KEY)
    for one in (COMPANY, event("ann")):
        sqlite.append(one)
    times = dict.fromkeys(("event_time", "recorded_time"), "2090-02-01T00:00:00+00:00")
    grant = to_json(event("bob", event_time=day(30_000), recorded_time=day(30_000)))
    import_events(sqlite, written(tmp_path / "e.jsonl", [WITHDRAWAL | times, grant]), key=KEY)
    assert not allows(sqlite)
    assert not allows(sqlite, "bob")
    registry = ConsentRegistry(events_of_file(tmp_path / "e.jsonl", KEY), rules=RULES, key=KEY)
    asked: Any = {"purpose": COMPOSE, "kind": CHAT, "created_at": day(50), "as_of": datetime.now(UTC)}
    assert not registry.decide("ann", **asked).allowed
