"""Exports of other platforms: only what the table of grants lists can grant; all else denies or holds."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from records import KEY

from dp_train.cli.main import main
from dp_train.consent.events import ConsentEvent, EventState, denies
from dp_train.consent.rows import read_row
from dp_train.consent.store import ConsentStore
from dp_train.consent.vendors import GRANTS, STATES, Vendor, VendorMapping, read_mapping, vendor_rows
from dp_train.errors import ConfigError, DataError
from dp_train.store.database import Database

WHEN = "2025-01-31T12:00:00.000Z"
OURS = {
    "purpose": ["train_chat_compose"],
    "content_kind": ["chat"],
    "notice_id": "features",
    "notice_version": 1,
}
MAPPING = VendorMapping(
    organisation="acme", identifier="email", purposes={"Training": OURS}, ignored=("News",), age_band="adult"
)


def fides(state: object = "opt_in", **changes: object) -> dict[str, Any]:
    row = {"email": "ann@x.org", "preference": state, "method": "save", "notice_mechanism": "opt_in"}
    return row | {"notice_key": "Training", "received_at": WHEN} | changes


def onetrust(state: object = "ACTIVE", **changes: object) -> dict[str, Any]:
    purpose = {"Id": "1", "Name": "Training", "Version": 1, "Status": state, "LastTransactionDate": WHEN}
    return {"Id": "7", "Identifier": "ann@x.org", "LastUpdatedDate": WHEN, "Purposes": [purpose | changes]}


def transcend(state: object = True, **changes: object) -> dict[str, Any]:
    row = {"identifiers": [{"name": "email", "value": "ann@x.org"}], "timestamp": WHEN, "confirmed": True}
    return row | {"purposes": [{"purpose": "Training", "enabled": state}]} | changes


def gpc(state: object = "1", **changes: object) -> dict[str, Any]:
    return {"email": "ann@x.org", "time": WHEN, "sec_gpc": state} | changes


MAKE = {Vendor.FIDES: fides, Vendor.ONETRUST: onetrust, Vendor.TRANSCEND: transcend, Vendor.GPC: gpc}


def events(vendor: Vendor, folder: Path, *records: object, mapping: VendorMapping = MAPPING) -> list[ConsentEvent]:
    path = folder / "export.json"
    path.write_text(json.dumps(list(records)))
    found = vendor_rows(vendor, path, mapping, KEY)
    return [event for row in found for event in read_row(row, KEY, received=datetime.now(UTC)).events]


@pytest.mark.parametrize("vendor", Vendor)
def test_each_state_of_the_table_becomes_ours(vendor: Vendor, tmp_path: Path) -> None:
    for theirs, ours in STATES[vendor].items():
        said = {"true": True, "false": False}.get(theirs, theirs)
        (event,) = events(vendor, tmp_path, MAKE[vendor](said))
        assert event.event_state.value == ours
        assert event.pii_principal_id == KEY.pseudonym("ann@x.org")
        assert denies(event) == (theirs not in GRANTS[vendor])


STATES_OF_THEIRS = st.one_of(
    st.sampled_from(["acknowledge", "tcf", "ALWAYS_ACTIVE", "EXTEND", "NONE", "CANCEL", "CHANGE_PREFERENCES"]),
    st.sampled_from(["PENDING", "NO_CHOICE"]),
    st.sampled_from(["Active", " ACTIVE", "OPT_IN", "opt_in ", "True", "TRUE", "1", "yes", "granted", "ConsentGiven"]),
    st.text(max_size=12),
    st.none(),
    st.booleans(),
    st.integers(-1, 2),
    st.lists(st.just("ACTIVE"), max_size=2),
    st.dictionaries(st.just("Status"), st.just("ACTIVE")),
)


@given(vendor=st.sampled_from(list(Vendor)), state=STATES_OF_THEIRS)
def test_no_state_outside_the_table_of_grants_ever_grants(
    tmp_path_factory: pytest.TempPathFactory, vendor: Vendor, state: object
) -> None:
    listed = {True: "true", False: "false"}[state] if isinstance(state, bool) else state
    if isinstance(listed, str) and listed in GRANTS[vendor]:
        return
    found = events(vendor, tmp_path_factory.mktemp("x"), MAKE[vendor](state))
    assert found
    assert all(denies(event) for event in found)
    assert {event.pii_principal_id for event in found} == {KEY.pseudonym("ann@x.org")}


NOT_YET = [
    (Vendor.FIDES, fides(method="dismiss")),
    (Vendor.FIDES, fides(method="gpc")),
    (Vendor.FIDES, fides(method=None)),
    (Vendor.FIDES, fides(notice_mechanism="opt_out")),
    (Vendor.FIDES, fides(notice_key="Another")),
    (Vendor.FIDES, fides(received_at="2025-01-31T12:00:00")),
    (Vendor.ONETRUST, onetrust(Name="Another")),
    (Vendor.ONETRUST, onetrust(ExpiryDate="soon")),
    (Vendor.ONETRUST, onetrust(LastTransactionDate=None)),
    (Vendor.ONETRUST, onetrust(status="WITHDRAWN")),
    (Vendor.ONETRUST, onetrust(STATUS="ACTIVE")),
    (Vendor.ONETRUST, onetrust(name="Training")),
    (Vendor.ONETRUST, onetrust(WithdrawalDate=WHEN)),
    (Vendor.ONETRUST, onetrust() | {"purposes": onetrust("OPT_OUT")["Purposes"]}),
    (Vendor.ONETRUST, onetrust() | {"Purposes": []}),
    (Vendor.ONETRUST, onetrust() | {"Purposes": ["ACTIVE"]}),
    (Vendor.TRANSCEND, transcend(confirmed=False)),
    (Vendor.TRANSCEND, {k: v for k, v in transcend().items() if k != "confirmed"}),
    (Vendor.TRANSCEND, transcend(purposes=[])),
    (Vendor.TRANSCEND, transcend(purposes=[*transcend()["purposes"], *transcend(False)["purposes"]])),
    (Vendor.TRANSCEND, transcend(purposes="not json")),
    (Vendor.GPC, gpc("0")),
]


@pytest.mark.parametrize(("vendor", "record"), NOT_YET)
def test_what_is_open_dismissed_unmapped_or_undated_denies(vendor: Vendor, record: object, tmp_path: Path) -> None:
    found = events(vendor, tmp_path, record)
    assert found
    assert all(denies(event) for event in found)


TABLES = {
    Vendor.FIDES: fides(),
    Vendor.TRANSCEND: transcend()
    | {"email": "ann@x.org", "identifiers": "", "purposes": '{"Training": true}', "confirmed": "true"},
}


@pytest.mark.parametrize("vendor", TABLES)
def test_a_table_with_a_column_twice_is_refused(vendor: Vendor, tmp_path: Path) -> None:
    path, row = tmp_path / "export.csv", TABLES[vendor]
    said = "preference" if vendor is Vendor.FIDES else "purposes"
    with path.open("w", newline="") as out:
        csv.writer(out).writerows([[said, *row], ["opt_out", *row.values()]])
    with pytest.raises(DataError, match="a column twice"):
        list(vendor_rows(vendor, path, MAPPING, KEY))


@pytest.mark.parametrize("beside", ["withdrawn", "items", "optOuts"])
def test_a_page_with_records_in_two_lists_is_refused(beside: str, tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    page = {"content": [onetrust()], "sort": [{"direction": "ASC"}], "totalPages": 1}
    path.write_text(json.dumps(page))
    assert len(list(vendor_rows(Vendor.ONETRUST, path, MAPPING, KEY))) == 1
    path.write_text(json.dumps({**page, beside: [onetrust("WITHDRAWN")]}))
    with pytest.raises(DataError, match="no list of records"):
        list(vendor_rows(Vendor.ONETRUST, path, MAPPING, KEY))


SPELLINGS = st.sampled_from([str.upper, str.lower, str.title, str.swapcase])


@given(field=st.sampled_from(["Id", "Name", "Status", "LastTransactionDate"]), how=SPELLINGS, said=STATES_OF_THEIRS)
def test_a_field_that_is_said_twice_never_grants(
    tmp_path_factory: pytest.TempPathFactory, field: str, how: Callable[[str], str], said: object
) -> None:
    record = onetrust()
    (purpose,) = record["Purposes"]
    if how(field) in purpose or field == "Id":
        return
    record["Purposes"] = [{how(field): said, **purpose}, {**purpose, how(field): said}]
    found = events(Vendor.ONETRUST, tmp_path_factory.mktemp("x"), record)
    assert len(found) == 2
    assert all(map(denies, found))


NOBODY = [
    (Vendor.FIDES, fides(email=None)),
    (Vendor.TRANSCEND, transcend(system={"decryptionStatus": "ENCRYPTED"})),
    (Vendor.TRANSCEND, transcend(identifiers=[{"name": "email", "value": e} for e in ("a@x.org", "b@x.org")])),
    (Vendor.ONETRUST, onetrust() | {"Identifier": 7}),
    (Vendor.GPC, "no object"),
]


@pytest.mark.parametrize(("vendor", "record"), NOBODY)
def test_a_record_whose_person_cannot_be_read_is_unread(vendor: Vendor, record: object, tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    path.write_text(json.dumps([record]))
    (row,) = vendor_rows(vendor, path, MAPPING, KEY)
    assert read_row(row, KEY, received=datetime.now(UTC)).is_unread


def test_purposes_that_are_about_nothing_here_are_passed_over(tmp_path: Path) -> None:
    assert events(Vendor.FIDES, tmp_path, fides("opt_out", notice_key="News")) == []


def test_a_record_id_tells_nobody_without_the_key_and_is_the_same_at_every_import(tmp_path: Path) -> None:
    (one,) = events(Vendor.FIDES, tmp_path, fides())
    (again,) = events(Vendor.FIDES, tmp_path, fides())
    (other,) = events(Vendor.FIDES, tmp_path, fides("opt_out"))
    assert one.record_id == again.record_id != other.record_id
    assert "ann" not in one.record_id


def test_the_upload_file_of_transcend_is_read(tmp_path: Path) -> None:
    path = tmp_path / "preference-upload.csv"
    with path.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["email", "timestamp", "purposes", "confirmed", "updated", "usp", "tcf", "gpp"])
        rows.writerow(["ann@x.org", WHEN, '{"Training":true,"News":true}', "true", "true", "1YYY", "", ""])
    (row,) = vendor_rows(Vendor.TRANSCEND, path, MAPPING, KEY)
    (event,) = read_row(row, KEY, received=datetime.now(UTC)).events
    assert event.event_state is EventState.GIVEN


def test_a_file_that_is_no_list_of_records_is_refused(tmp_path: Path) -> None:
    for name, text in (("a.json", '{"x": 1}'), ("a.json", "no json"), ("a.xml", "<a/>")):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match="expected"):
            list(vendor_rows(Vendor.FIDES, tmp_path / name, MAPPING, KEY))


@pytest.mark.parametrize(
    "change", [{"purposes": {}}, {"organisation": ""}, {"extra": 1}, {"ignored": ["Training"]}, {"identifier": 7}]
)
def test_a_mapping_that_cannot_be_read_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_text(
        yaml.safe_dump({"organisation": "acme", "identifier": "email", "purposes": {"Training": OURS}} | change)
    )
    with pytest.raises(ConfigError, match="expected"):
        read_mapping(path)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_export_comes_in_by_the_command_line(project: Path) -> None:
    assert main(["consent", "key", "k.key"]) == 0
    mapping = {"organisation": "acme", "identifier": "email", "purposes": {"Training": OURS}, "age_band": "adult"}
    Path("mapping.yaml").write_text(yaml.safe_dump(mapping))
    Path("export.json").write_text(json.dumps({"content": [onetrust(), onetrust("PENDING")]}))
    words = ["consent", "import", "export.json", "--format", "onetrust", "--key", "k.key"]
    assert main(words) == 2
    assert main([*words, "--mapping", "mapping.yaml"]) == 0
    database = Database(f"sqlite:///{project / 'dp_train.db'}")
    states = [event.event_state for event in ConsentStore(database).events()]
    database.close()
    assert states == [EventState.GIVEN, EventState.REQUESTED]
