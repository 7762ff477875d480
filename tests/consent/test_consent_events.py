"""Consent events as values and as rows of a file."""

import dataclasses
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import KEY, day, event

from dp_train.consent.event_json import read_events, write_events
from dp_train.consent.events import (
    AgeBand,
    CollectionMethod,
    ConsentEvent,
    EntityRole,
    EventState,
    LawfulBasis,
    PiiType,
    Processing,
    Purpose,
)
from dp_train.conversations import ContentKind
from dp_train.errors import DataError


def _sets(kind: Any) -> st.SearchStrategy[frozenset[Any]]:
    return st.frozensets(st.sampled_from(kind))


_text = st.text(max_size=12)
_time = st.floats(0, 1000).map(day)
_events = st.builds(
    ConsentEvent,
    record_id=st.text(min_size=1, max_size=12),
    seq=st.integers(0, 2**40),
    pii_principal_id=st.text(min_size=1).map(KEY.pseudonym),
    org_id=_text,
    entity_role=st.sampled_from(EntityRole),
    purpose=_sets(Purpose),
    content_kind=_sets(ContentKind),
    event_state=st.sampled_from(EventState),
    event_time=_time,
    recorded_time=_time,
    processing=_sets(Processing),
    pii_type=_sets(PiiType),
    notice_id=_text,
    notice_version=st.integers(0, 9),
    lawful_basis=st.sampled_from(LawfulBasis),
    data_from=st.none() | _time,
    expires_at=st.none() | _time,
    collection_method=st.none() | st.sampled_from(CollectionMethod),
    entity_id=st.none() | _text,
    age_band=st.sampled_from(AgeBand),
)


@given(events=st.lists(_events, max_size=4))
def test_what_is_written_is_read_back_equal(
    events: list[ConsentEvent], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("events") / "events.jsonl"
    write_events(events, path)
    assert list(read_events(path)) == events


def test_events_are_read_as_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write_events([event("ann"), event("bob")], path)
    with path.open("a") as out:
        out.write("broken\n")
    rows = read_events(path)
    assert next(rows) == event("ann")
    next(rows)
    with pytest.raises(DataError, match="row 3: not JSON"):
        next(rows)


def _row(**changes: Any) -> str:
    row = {
        "record_id": "r",
        "seq": 0,
        "pii_principal_id": KEY.pseudonym("ann"),
        "org_id": "acme",
        "entity_role": "self",
        "purpose": ["publish"],
        "content_kind": ["chat"],
        "event_state": "ConsentGiven",
        "event_time": "2024-01-01T00:00:00Z",
        "recorded_time": "2024-01-01T00:00:00Z",
    }
    return json.dumps({name: value for name, value in (row | changes).items() if value is not ...})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("[]", "not a JSON object"),
        (_row(seq=...), "seq is missing"),
        (_row(secretfield="secret value"), "1 unknown field"),
        (_row(event_state="secret value"), "event_state cannot be read; expected one of ConsentGiven"),
        (_row(entity_role=["secret value"]), "entity_role cannot be read"),
        (_row(purpose="secret value"), "purpose cannot be read; expected an array"),
        (_row(purpose=[{"secret": "value"}]), "purpose cannot be read; expected one of"),
        (_row(seq=True), "seq cannot be read; expected a whole number"),
        (_row(seq=-1), "seq=-1"),
        (_row(event_time="secret value"), "event_time cannot be read; expected a time in ISO 8601"),
        (_row(event_time="2024-01-01T00:00:00"), "event_time has no time zone"),
        (_row(expires_at="9999-12-31T23:59:59-05:00"), "expires_at lies outside the years 1 to 9999 in UTC"),
        (_row(data_from="0001-01-01T00:00:00+01:00"), "data_from lies outside the years 1 to 9999 in UTC"),
        (_row(record_id=""), "record_id is empty"),
        (_row(org_id=7), "org_id cannot be read; expected a string"),
        (_row(pii_principal_id="secret value"), "not a pseudonym"),
        (_row(pii_principal_id=None), "only an event of the role org_admin"),
    ],
)
def test_a_broken_row_is_one_line_that_names_the_row_and_not_its_content(
    row: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(_row() + "\n\n" + row + "\n")
    with pytest.raises(DataError) as caught:
        list(read_events(path))
    assert "row 3: " in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value).split("expected")[0]


def test_a_missing_file_and_a_wrong_encoding_are_data_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        list(read_events(tmp_path / "none.jsonl"))
    (tmp_path / "latin.jsonl").write_bytes(b'{"record_id": "\xe9"}')
    with pytest.raises(DataError, match="not UTF-8"):
        list(read_events(tmp_path / "latin.jsonl"))


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write_events([event("ann")], path)
    before = path.read_bytes()

    def failing() -> Any:
        yield event("bob")
        raise KeyError("stop")

    with pytest.raises(KeyError):
        write_events(failing(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(DataError, match="choose a folder"):
        write_events([], tmp_path / "none" / "events.jsonl")


def test_an_event_is_frozen_and_holds_no_name() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        event("ann").seq = 3  # type: ignore[misc]
    with pytest.raises(DataError, match="never a name"):
        event("ann", pii_principal_id="Ann Archer")


def test_times_without_a_zone_are_refused() -> None:
    with pytest.raises(DataError, match="expires_at has no time zone"):
        event("ann", expires_at=datetime(2024, 1, 1))
