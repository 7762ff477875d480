"""Files into the consent store: bad rows aside, whole batches or nothing, a second import changes nothing."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from records import COMPANY, KEY, event

from dp_train.consent import imports
from dp_train.consent.events import EventState, to_json, write_events
from dp_train.consent.imports import import_events
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.store import ConsentStore
from dp_train.errors import ConsentError, DataError
from dp_train.store.database import Database

EVENTS = [COMPANY, event("ann", evidence_ref="a, b"), event("bob", EventState.WITHDRAWN, 3)]


@pytest.fixture
def store(store_url: str) -> ConsentStore:
    return ConsentStore(Database(store_url.replace("postgresql://", "postgresql+psycopg://")))


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
    assert (first.new, first.quarantined) == (3, 0)
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
    assert (done.rows, done.new, done.quarantined) == (9, 3, 6)
    text = (tmp_path / "bad").read_text()
    assert [json.loads(line)["row"] for line in text.splitlines()] == [3, 4, 5, 6, 9, 7]
    assert "Archer" not in text
    assert list(store.events()) == EVENTS


def test_person_ids_become_pseudonyms_and_are_stored_nowhere(tmp_path: Path) -> None:
    values = to_json(event("ann.archer", record_id="r-1"))
    del values["pii_principal_id"]
    leaking = values | {"person_id": "ann.archer", "record_id": "ann.archer/2"}
    path = written(tmp_path / "events.jsonl", [values | {"person_id": "ann.archer"}, leaking])
    store = ConsentStore(Database(f"sqlite:///{tmp_path / 'store.db'}"))
    with pytest.raises(ConsentError, match="no key was given"):
        import_events(store, path, tmp_path / "bad")
    done = import_events(store, path, tmp_path / "bad", key=KEY)
    assert (done.new, done.quarantined) == (1, 1)
    assert [one.pii_principal_id for one in store.events()] == [KEY.pseudonym("ann.archer")]
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
    assert (done.new, done.quarantined) == (1, 5)


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
from dp_train.consent import imports, store
from dp_train.store.database import Database
imports.BATCH = 10
real = store._Batch._write
count = 0
def write(self, rows):
    global count
    real(self, rows)
    count += 1
    if count == 4:
        os.kill(os.getpid(), signal.SIGKILL)  # written, not committed
store._Batch._write = write
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
