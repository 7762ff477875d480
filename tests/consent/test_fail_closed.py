"""From any valid history, no corruption of a file of consent ever enlarges the set of people who are trained on."""

from __future__ import annotations

import json
import random
import tempfile
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from records import AS_OF, CHAT, COMPANY, COMPOSE, KEY, ORG, RULES, SUMMARY, TRANSCRIPT, day, event, renewal

from dp_train.consent.event_json import to_json
from dp_train.consent.events import CollectionMethod, ConsentEvent, EventState
from dp_train.consent.imports import events_of_file, import_events
from dp_train.consent.principals import normalised_id
from dp_train.consent.registry import ConsentRegistry
from dp_train.consent.snapshot import ConsentSnapshot
from dp_train.consent.store import ConsentStore
from dp_train.errors import DataError
from dp_train.store.database import Database

PEOPLE = ("ann", "bob", "cy")
STATES = (
    EventState.GIVEN,
    EventState.GIVEN,
    EventState.RENEWED,
    EventState.REFUSED,
    EventState.WITHDRAWN,
    EventState.REVOKED,
    EventState.EXPIRED,
    EventState.UNKNOWN,
)
_FIELDS = (
    "event_state",
    "event_time",
    "recorded_time",
    "purpose",
    "content_kind",
    "entity_role",
    "notice_version",
    "notice_id",
    "age_band",
    "collection_method",
    "schema_version",
    "data_to",
)
_JUNK = (
    None,
    "",
    "ConsentGivem",
    "2024-02-01",
    "2024-02-01T23:59:60+00:00",
    1706745600,
    -1,
    True,
    ["?"],
    {},
    "\u200b",
    "\x00",
)


@st.composite
def rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A valid history as a file has it, under people's own ids."""
    found = []
    for number in range(draw(st.integers(1, 7))):
        person = draw(st.sampled_from(PEOPLE))
        state, when = draw(st.sampled_from(STATES)), draw(st.integers(0, 12))
        one: ConsentEvent = event(
            person,
            state,
            when,
            record_id=f"r{number}",
            purpose=frozenset(draw(st.sets(st.sampled_from((COMPOSE, SUMMARY)), min_size=1))),
            content_kind=frozenset(draw(st.sets(st.sampled_from((CHAT, TRANSCRIPT)), min_size=1))),
            collection_method=draw(st.sampled_from((CollectionMethod.FORM, CollectionMethod.IMPORT))),
            data_to=draw(st.sampled_from((None, day(40)))),
        )
        row = to_json(one)
        del row["pii_principal_id"]
        found.append(row | {"person_id": person})
    return found


def corrupted(row: dict[str, Any], chance: random.Random) -> list[str]:
    """The line, or the lines, that a row became."""
    kind = chance.choice(("junk", "drop", "extra", "cut", "byte", "spelling", "twice", "clock", "id"))
    changed = dict(row)
    if kind == "junk":
        changed[chance.choice(_FIELDS)] = chance.choice(_JUNK)
        if changed.get("data_to", "") is None and row.get("data_to") is not None:
            changed["data_to"] = "never"  # null says that there is no end, which is another event and no corruption
    elif kind == "drop":
        changed.pop(
            chance.choice(("event_state", "event_time", "recorded_time", "purpose", "entity_role", "record_id"))
        )
    elif kind == "extra":
        changed["one_more"] = "no"
    elif kind == "clock":
        ahead = (datetime.now(UTC) + timedelta(days=chance.choice((1, 900)))).isoformat()
        changed |= {"event_time": ahead, "recorded_time": ahead}
    elif kind == "spelling":
        person = row["person_id"]
        changed["person_id"] = chance.choice((person.upper(), f" {person}", f"{person}\u200b", f"\ufeff{person}\t"))
    elif kind == "id":
        changed["person_id"] = chance.choice((None, "", 17, "\u200b", ["ann"], {"id": "ann"}))
    line = json.dumps(changed)
    if kind == "cut":
        return [line[: chance.randrange(1, len(line))]]
    if kind == "byte":
        at = line.index('"event_state": "') + 16 + chance.randrange(7)
        return [line[:at] + chr(chance.choice((0x00, 0x22, 0x7F, 0x416))) + line[at + 1 :]]
    if kind == "twice":
        return [line, line]
    return [line]


def allowed(frozen: ConsentSnapshot) -> set[tuple[Any, ...]]:
    return {
        (person, purpose, kind)
        for person in PEOPLE
        for purpose in (COMPOSE, SUMMARY)
        for kind in (CHAT, TRANSCRIPT)
        if frozen.decide(person, purpose, kind, day(30), ORG).allowed
    }


@settings(max_examples=60)
@given(rows(), st.randoms(use_true_random=False), st.booleans())
def test_no_corruption_of_a_file_enlarges_who_is_trained_on(
    history: list[dict[str, Any]], chance: random.Random, quarantine: bool
) -> None:
    now = datetime.now(UTC) + timedelta(days=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in [to_json(COMPANY), *history]))
        whole = ConsentRegistry(events_of_file(path, KEY), rules=RULES, key=KEY).snapshot(as_of=now)
        marked = set(chance.sample(range(len(history)), chance.randint(1, len(history))))
        lines = [
            line
            for n, row in enumerate(history)
            for line in (corrupted(row, chance) if n in marked else [json.dumps(row)])
        ]
        chance.shuffle(lines)
        path.write_text("\n".join([json.dumps(to_json(COMPANY)), *lines]))
        try:
            damaged = ConsentRegistry(events_of_file(path, KEY), rules=RULES, key=KEY).snapshot(as_of=now)
        except DataError:
            pass  # refused: nobody is trained on
        else:
            assert allowed(damaged) <= allowed(whole)
        store = ConsentStore(Database(f"sqlite:///{Path(folder) / 'store.db'}"))
        done = import_events(store, path, Path(folder) / "bad" if quarantine else None, key=KEY)
        frozen = store.snapshot(as_of=now, rules=RULES, key=KEY)
        store.database.close()
        # A row that cannot be told whose it is stops the import, or is counted wherever decisions are shown.
        assert allowed(frozen) <= allowed(whole) or (quarantine and done.unread >= frozen.set_aside > 0)
        assert done.stopped is None or not allowed(frozen)
        if not done.unread:
            assert allowed(frozen) == allowed(damaged)


CELLS: dict[str, pa.Array] = {
    "whole number": pa.array([17]),
    "not a number": pa.array([float("nan")]),
    "17.0": pa.array([17.0]),
    "a bit": pa.array([True]),
    "nothing": pa.array([None], pa.string()),
    "bytes": pa.array([b"ann"]),
    "a day": pa.array([date(2024, 2, 1)]),
    "a time without a zone": pa.array([1706745600], pa.timestamp("s")),
    "the year 148,000": pa.array([2**62], pa.timestamp("us", "UTC")),
    "long ago": pa.array([-(2**62)], pa.timestamp("us", "UTC")),
    "no place": pa.array([1706745600], pa.timestamp("s", "Mars/Phobos")),
    "a decimal": pa.array([Decimal("17.00")]),
    "a list": pa.array([[None]], pa.list_(pa.string())),
    "an object": pa.array([{"a": 1}]),
    "no UTF-8": pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\3\0\0\0"), pa.py_buffer(b"\xff\xfe\xfd")]
    ),
}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("name", ["person_id", "event_state", "event_time", "purpose", "notice_version", "seq"])
def test_no_type_of_a_column_of_parquet_enlarges_who_is_trained_on(name: str, cell: str, tmp_path: Path) -> None:
    said = {**to_json(event("ann", EventState.WITHDRAWN, 5, record_id="no")), "person_id": "ann"}
    del said["pii_principal_id"]
    columns = {column: pa.array([value]) for column, value in said.items()} | {name: CELLS[cell]}
    store = ConsentStore(Database(f"sqlite:///{tmp_path / 'store.db'}"))
    for one in (COMPANY, event("ann", record_id="yes"), event("bob")):
        store.append(one)
    parquet.write_table(pa.table(columns), tmp_path / "no.parquet")
    done = import_events(store, tmp_path / "no.parquet", key=KEY)
    frozen = store.snapshot(as_of=datetime.now(UTC) + timedelta(days=1), rules=RULES, key=KEY)
    store.database.close()
    # Whose the row is can be read, or the import stops and says so.
    assert done.rows == 1
    assert done.stopped or not any(person == "ann" for person, *_ in allowed(frozen))
    assert any(person == "bob" for person, *_ in allowed(frozen))


@pytest.mark.parametrize("name", ["seq", "notice_version"])
@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**30, -1])
def test_a_number_that_no_store_holds_is_a_hold_of_its_person(name: str, number: int, tmp_path: Path) -> None:
    row = {**to_json(event("ann", record_id="yes")), "person_id": "ann", name: number}
    del row["pii_principal_id"]
    (tmp_path / "e.jsonl").write_text(f"{json.dumps(to_json(event('bob')))}\n{json.dumps(row)}\n")
    found = list(events_of_file(tmp_path / "e.jsonl", KEY))
    assert [each.event_state for each in found] == [EventState.GIVEN, EventState.HELD]


@pytest.mark.parametrize("spelt", ["17.0", "017", "000017", "1.7e+01", "1.7E1"])
def test_a_no_of_an_id_that_a_table_took_for_a_number_is_told(spelt: str, tmp_path: Path) -> None:
    store = ConsentStore(Database(f"sqlite:///{tmp_path / 'store.db'}"))
    store.append(event("17"))
    row = {**to_json(event("17", EventState.WITHDRAWN, 5)), "person_id": spelt}
    del row["pii_principal_id"]
    (tmp_path / "e.jsonl").write_text(json.dumps(row))
    assert import_events(store, tmp_path / "e.jsonl", key=KEY).near == 1
    store.database.close()


@given(st.text(max_size=12), st.sampled_from(("\u200b", "\u00ad", "\u2060", "\ufeff", "\u202e")), st.integers(0, 12))
def test_an_id_has_one_spelling(text: str, unseen: str, at: int) -> None:
    found = normalised_id(text)
    assert normalised_id(found) == found
    assert normalised_id(f" {text}\t") == found
    assert normalised_id(text.casefold()) == found
    place = min(at, len(found))
    assert normalised_id(found[:place] + unseen + found[place:]) == found
    assert KEY.pseudonym(text) == KEY.pseudonym(found)


@settings(max_examples=40)
@given(rows(), st.integers(0, 20))
def test_after_a_withdrawal_only_the_persons_own_hand_grants(history: list[dict[str, Any]], later: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in history))
        events = [COMPANY, *events_of_file(path, KEY)]
    end = event("ann", EventState.WITHDRAWN, 13, purpose=frozenset(), record_id="no")
    sync = event("ann", EventState.RENEWED, 14 + later, record_id="sync", data_from=day(0))
    by_sync = ConsentRegistry([*events, end, sync], rules=RULES, key=KEY).snapshot(as_of=AS_OF)
    assert not {cell for cell in allowed(by_sync) if cell[0] == "ann"}
    own = renewal("ann", 14 + later, record_id="own", data_from=day(0))
    by_hand = ConsentRegistry([*events, end, sync, own], rules=RULES, key=KEY).snapshot(as_of=AS_OF)
    assert {cell for cell in allowed(by_hand) if cell[0] == "ann"}
