"""Exports of other consent platforms as rows that `rows.read_row` reads: Fides, OneTrust, Transcend, and GPC signals.

    mapping = read_mapping(path)                                     # their purposes and ids → ours, by the officer
    for row in vendor_rows(Vendor.ONETRUST, file, mapping, key): …   # plain values, or the DataError that says why

Guarantee: only what `GRANTS` lists is a grant; every other state of theirs, known or not, denies or holds its person.
A purpose that the mapping does not name holds the person as well. A no lasts as one that is said here does: coming back
needs a renewed consent of the person, and no export is one.

Where the formats are from:
- Fides: rows of `PrivacyPreferenceHistory` and `UserConsentPreference` (ethyca/fides, src/fides/api/models/
  privacy_preference.py and privacy_notice.py), as JSON or CSV.
- OneTrust: "Get List of Data Subjects" (developer.onetrust.com, getdatasubjectprofileusingget and
  getdatasubjectprofilelistv4): data subjects with their purposes. States of a purpose: ACTIVE, ALWAYS_ACTIVE, EXPIRED,
  EXTEND, HARD_OPT_OUT, NONE, NO_CONSENT, OPT_OUT, PENDING, WITHDRAWN; of a transaction: CANCEL, CHANGE_PREFERENCES,
  CONFIRMED, NOTGIVEN, NO_CHOICE and more (docs.loyjoy.com, OneTrust integration module).
- Transcend: preference records of `PreferenceQueryResponseItem` (transcend-io/cli, src/lib/preference-management/), and
  the file of `examples/preference-upload.csv`, whose purposes are JSON in one column.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from dp_train.consent.principals import PrincipalKey
from dp_train.consent.row_files import parsed_line
from dp_train.errors import ConfigError, DataError


class Vendor(Enum):
    """Whose export a file is."""

    FIDES = "fides"
    ONETRUST = "onetrust"
    TRANSCEND = "transcend"
    GPC = "gpc"


GRANTS: Mapping[Vendor, frozenset[str]] = {
    Vendor.FIDES: frozenset({"opt_in"}),
    Vendor.ONETRUST: frozenset({"ACTIVE", "CONFIRMED"}),
    Vendor.TRANSCEND: frozenset({"true"}),
    Vendor.GPC: frozenset(),
}
"""The states of theirs that can be a grant; `_fides` and `_transcend` ask for more beside them."""

STATES: Mapping[Vendor, Mapping[str, str]] = {
    Vendor.FIDES: {"opt_in": "ConsentGiven", "opt_out": "ConsentWithdrawn"},
    Vendor.ONETRUST: {
        "ACTIVE": "ConsentGiven",
        "CONFIRMED": "ConsentGiven",
        "WITHDRAWN": "ConsentWithdrawn",
        "OPT_OUT": "ConsentWithdrawn",
        "HARD_OPT_OUT": "ConsentWithdrawn",
        "NO_CONSENT": "ConsentRefused",
        "NOTGIVEN": "ConsentRefused",
        "EXPIRED": "ConsentExpired",
        "PENDING": "ConsentRequested",
        "NO_CHOICE": "ConsentRequestDeferred",
    },
    Vendor.TRANSCEND: {"true": "ConsentGiven", "false": "ConsentWithdrawn"},
    Vendor.GPC: {"1": "ConsentWithdrawn"},
}
"""Their state → ours; what is not listed is `UNKNOWN`."""

UNKNOWN = "ConsentUnknown"
_OWN_ACT = frozenset({"accept", "save", "individual_notice"})  # of Fides' ConsentMethod; a banner dismissed is none
_STATED = ("notice_id", "notice_version", "notice_sha256", "content_kind", "purpose", "jurisdiction", "language")
_MAPPING = ("organisation", "identifier", "age_band", "purposes", "ignored", "confirmed_when_absent")


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorMapping:
    """What an officer says of an export: whose people, by which id, and what each purpose of theirs is here.

    Attributes:
      organisation: `org_id` of the events. identifier: which id of theirs the corpus has, such as "email".
      purposes: their purpose → fields of ours: purpose, content_kind, notice_id, notice_version, notice_sha256.
      ignored: purposes of theirs that are about nothing here, such as newsletters; their rows are passed over.
      age_band: of all people of the export, where the source admits no other.
      confirmed_when_absent: Transcend's query leaves `confirmed` out; True takes such records for confirmed.
    """

    organisation: str
    identifier: str
    purposes: Mapping[str, Mapping[str, Any]]
    ignored: tuple[str, ...] = ()
    age_band: str = "unknown"
    confirmed_when_absent: bool = False


def read_mapping(path: Path) -> VendorMapping:
    """The mapping of a YAML file; see docs/officer.md.

    Raises:
      ConfigError: it cannot be read, or has keys that nothing here reads.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"mapping {path}: cannot be read; expected YAML with {', '.join(_MAPPING)}") from error
    purposes = found.get("purposes") if isinstance(found, dict) else None
    if not isinstance(found, dict) or not isinstance(purposes, dict) or not purposes or set(found) - set(_MAPPING):
        raise ConfigError(f"mapping {path}: expected {', '.join(_MAPPING)}, and nothing else")
    for name, fields in purposes.items():
        if not isinstance(fields, dict) or set(fields) - set(_STATED) or not fields.get("purpose"):
            raise ConfigError(f"mapping {path}: purposes.{name}; expected purpose and, of {', '.join(_STATED)}, more")
    values = {"organisation": "", "identifier": "", **found}
    if not all(isinstance(values[name], str) and values[name] for name in ("organisation", "identifier")):
        raise ConfigError(f"mapping {path}: expected organisation and identifier as text")
    if not isinstance(values.get("confirmed_when_absent", False), bool):
        raise ConfigError(f"mapping {path}: confirmed_when_absent; expected true or false")
    ignored = values.get("ignored", [])
    if not isinstance(ignored, list) or not all(isinstance(name, str) and name not in purposes for name in ignored):
        raise ConfigError(f"mapping {path}: ignored; expected purposes of theirs that are not in purposes")
    named = {str(name): fields for name, fields in purposes.items()}
    return VendorMapping(**{**values, "purposes": named, "ignored": tuple(ignored)})


def vendor_rows(vendor: Vendor, path: Path, mapping: VendorMapping, key: PrincipalKey) -> Iterator[object]:
    """Rows for `read_row` of a file: a mapping of plain values each, or the DataError that says why it is none.

    Raises:
      DataError: the file cannot be read at all.
    """
    one: Callable[[dict[str, Any], VendorMapping], Iterator[dict[str, Any]]] = _READERS[vendor]
    for record in _records(path):
        if not isinstance(record, dict):
            yield record if isinstance(record, DataError) else DataError("not an object; expected one a row")
            continue
        for row in one(record, mapping):
            if not isinstance(row.get("their_purpose"), str) or row["their_purpose"] not in mapping.ignored:
                yield _named(vendor, row, key)


def _fides(record: dict[str, Any], mapping: VendorMapping) -> Iterator[dict[str, Any]]:
    said = record.get("preference")
    state = _state(Vendor.FIDES, said)
    acted = record.get("method") in _OWN_ACT and record.get("notice_mechanism") == "opt_in"
    if state == "ConsentGiven" and not acted:
        state = UNKNOWN
    person = record.get(mapping.identifier)
    when = record.get("request_timestamp") or record.get("received_at") or record.get("created_at")
    row = _row(mapping, person, record.get("notice_key"), state, when)
    if record.get("method") == "gpc":
        row["collection_method"] = "gpc_signal"
    yield row


def _onetrust(record: dict[str, Any], mapping: VendorMapping) -> Iterator[dict[str, Any]]:
    subject = _lowered(record)
    purposes = subject.get("purposes")
    person = subject.get(mapping.identifier.lower(), subject.get("identifier"))
    if not isinstance(purposes, list) or not purposes:
        yield _row(mapping, person, None, UNKNOWN, subject.get("lastupdateddate"))
        return
    for each in purposes:
        said = _lowered(each) if isinstance(each, dict) else {}
        state = _state(Vendor.ONETRUST, said.get("status"))
        if state == "ConsentGiven" and said.get("withdrawaldate"):
            state = UNKNOWN  # they came back, or never left: no export tells which
        when = said.get("lasttransactiondate") or said.get("withdrawaldate") or said.get("consentdate")
        row = _row(mapping, person, said.get("name"), state, when)
        if said.get("expirydate") is not None:
            row["expires_at"] = said["expirydate"]
        yield row


def _lowered(record: Mapping[str, Any]) -> dict[str, Any]:
    """Fields by their names in small letters; one that is there in two spellings says nothing."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        found[name.lower()] = _TWICE if name.lower() in found else value
    return found


_TWICE = object()
"""What no state, id, time or list is."""


def _transcend(record: dict[str, Any], mapping: VendorMapping) -> Iterator[dict[str, Any]]:
    person = _transcend_id(record, mapping)
    said = record.get("purposes")
    if isinstance(said, str):
        said = parsed_line(said.encode("utf-8", "surrogateescape"))
    if isinstance(said, list):
        listed = [each for each in said if isinstance(each, dict)]
        named = {str(each.get("purpose")): each.get("enabled") for each in listed}
        said = named if len(named) == len(said) else None
    if not isinstance(said, dict):
        said = dict.fromkeys(mapping.purposes)  # unknown, each of them
    confirmed = record.get("confirmed", mapping.confirmed_when_absent)
    for purpose in {**dict.fromkeys(mapping.purposes), **said}:
        state = _state(Vendor.TRANSCEND, _flag(said.get(purpose)))
        if state == "ConsentGiven" and _flag(confirmed) != "true":
            state = UNKNOWN
        yield _row(mapping, person, purpose, state, record.get("timestamp"))


def _transcend_id(record: dict[str, Any], mapping: VendorMapping) -> Any:
    system = record.get("system")
    status = system.get("decryptionStatus") if isinstance(system, dict) else record.get("decryptionStatus")
    if status not in (None, "", "DECRYPTED"):
        return None
    if not isinstance(record.get("identifiers"), list):
        return record.get(mapping.identifier)
    found = {
        each.get("value")
        for each in record["identifiers"]
        if isinstance(each, dict) and each.get("name") == mapping.identifier and isinstance(each.get("value"), str)
    } - {""}
    return found.pop() if len(found) == 1 else None  # of two ids nobody knows which the corpus has


def _gpc(record: dict[str, Any], mapping: VendorMapping) -> Iterator[dict[str, Any]]:
    """A signal that a site heard: the person's id, when, and the header's value."""
    row = _row(mapping, record.get(mapping.identifier), None, "ConsentWithdrawn", record.get("time"))
    row |= {"collection_method": "gpc_signal", "purpose": sorted(_purposes(mapping))}
    del row["their_purpose"]
    if str(record.get("sec_gpc", "1")).strip() != "1":
        row["event_state"] = "not a GPC signal"  # which holds the person until an officer looked
    yield row


_READERS = {Vendor.FIDES: _fides, Vendor.ONETRUST: _onetrust, Vendor.TRANSCEND: _transcend, Vendor.GPC: _gpc}


def _state(vendor: Vendor, said: object) -> str:
    return STATES[vendor].get(said, UNKNOWN) if isinstance(said, str) else UNKNOWN


def _flag(value: object) -> object:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else value


def _purposes(mapping: VendorMapping) -> set[str]:
    return {str(name) for fields in mapping.purposes.values() for name in _several(fields["purpose"])}


def _row(mapping: VendorMapping, person: object, purpose: object, state: str, when: object) -> dict[str, Any]:
    fields = mapping.purposes.get(purpose) if isinstance(purpose, str) else None
    row: dict[str, Any] = {
        "person_id": person,
        "org_id": mapping.organisation,
        "entity_role": "self",
        "event_state": state,
        "event_time": when,
        "recorded_time": when,
        "collection_method": "import",
        "lawful_basis": "consent",
        "age_band": mapping.age_band,
        **(fields or {}),
    }
    for name in ("purpose", "content_kind"):
        row[name] = _several(row.get(name, []))
    if fields is None:
        row["their_purpose"] = purpose  # a field that nothing reads: the row is a hold of its person
    return row


def _several(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _named(vendor: Vendor, row: dict[str, Any], key: PrincipalKey) -> dict[str, Any]:
    """The row under an id that follows from what it says, and tells nobody without the key whom it is about."""
    said = json.dumps(row, sort_keys=True, default=str)
    return {**row, "record_id": f"{vendor.value}-{key.sealed(said)[:32]}"}


def _records(path: Path) -> Iterator[object]:
    """The objects of a .jsonl, .json or .csv file; a page of an API holds them under content, items, nodes or data."""
    try:
        if path.suffix == ".csv":
            with path.open(encoding="utf-8-sig", newline="", errors="surrogateescape") as lines:
                table = csv.DictReader(lines, strict=True, restkey="?", restval=None)
                if len(set(table.fieldnames or ())) < len(table.fieldnames or ()):
                    raise DataError(f"consent import: {path.name} has a column twice; expected each once")
                for cells in table:
                    if "?" in cells or None in cells.values():
                        yield DataError("cells are not as many as in the header")
                    else:
                        yield {name: cell for name, cell in cells.items() if cell}
            return
        text = path.read_bytes()
    except (OSError, csv.Error) as error:
        raise DataError(f"consent import: {path.name} cannot be read; expected a file of that platform") from error
    if path.suffix == ".jsonl":
        yield from (parsed_line(line) for line in text.splitlines() if line.strip())
        return
    if path.suffix != ".json":
        raise DataError(f"consent import: {path.name} ends in {path.suffix!r}; expected .json, .jsonl or .csv")
    found = parsed_line(text)
    if isinstance(found, dict):
        lists = {name: value for name, value in found.items() if _holds_records(value) and name not in _OF_PAGES}
        pages = [name for name in ("content", "items", "nodes", "data") if isinstance(found.get(name), list)]
        found = found[pages[0]] if len(pages) == 1 and lists.keys() <= {*pages} else found
    if not isinstance(found, list):
        raise DataError(f"consent import: {path.name} holds no list of records; expected an array, or a page with one")
    yield from found


_OF_PAGES = frozenset({"sort", "links"})
"""Lists of a page that say how it was asked for."""


def _holds_records(value: object) -> bool:
    """Whether a part of a page may hold records: those in a list beside the one that is read could be a no."""
    return isinstance(value, list) and any(isinstance(each, dict) for each in value)


__all__ = ["GRANTS", "STATES", "UNKNOWN", "Vendor", "VendorMapping", "read_mapping", "vendor_rows"]
