"""Files of consent events into the store: jsonl, csv and parquet; bad rows aside, the rest goes in.

Columns are the fields of `ConsentEvent`. Instead of `pii_principal_id` a row may have `person_id`, the person's own
id: it becomes the pseudonym here and is stored nowhere. In csv the members of a set are joined by `;` and an empty
cell is left out. `seq` may be left out everywhere. A line of jsonl may also be a consent receipt (`kantara`).
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from dp_train.consent.events import ConsentEvent, is_pseudonym, parse_event
from dp_train.consent.kantara import MARK, event_fields
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.store import LOCK, ConsentStore, Fate, denies
from dp_train.consent.tables import check_terms, check_text, terms_text
from dp_train.errors import ConsentError, DataError

BATCH = 20_000
"""Rows of a file that go in together, or not at all."""

_SETS = ("purpose", "content_kind", "processing", "pii_type")
_INTEGERS = ("seq", "notice_version")
Values = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of the rows of a file: `new` events, the `same` again, and rows that went to the quarantine."""

    rows: int
    new: int
    same: int
    quarantined: int


def import_events(
    store: ConsentStore,
    path: str | os.PathLike[str],
    quarantine: str | os.PathLike[str],
    *,
    key: PrincipalKey | None = None,
    dry_run: bool = False,
    progress: Callable[[int], None] = lambda rows: None,
) -> Imported:
    """Bring the events of a file into the store, `BATCH` rows a transaction, in memory that the file does not change.

    Guarantee: a process that is killed leaves whole batches, and the same import again completes them; an
    import that is repeated changes nothing.

    Args:
      path: its ending says what it is: .jsonl, .csv or .parquet.
      quarantine: jsonl of (row, reason) of the rows that did not go in; never what they hold. Made where needed.
      key: makes pseudonyms of `person_id`.
      dry_run: parse everything, store nothing.
      progress: called with the number of rows that are done.

    Raises:
      DataError: the file cannot be read at all. ConsentError: the store's people are those of another key, or ids of
        people come without one. StoreError: the store cannot be written; whole batches stay.
    """
    if key is not None and not dry_run:
        store.bind(key)
    rows = new = same = quarantined = 0
    source = enumerate(_read(Path(path)), start=1)
    refused = _Quarantine(Path(quarantine))
    with refused:
        while batch := list(islice(source, BATCH)):
            events: list[tuple[int, ConsentEvent]] = []
            for number, values in batch:
                try:
                    events.append((number, _event(values, key)))
                except DataError as error:
                    refused.write(number, str(error).removeprefix("consent event: "))
                    quarantined += 1
            if dry_run:
                new += len(events)
            elif events:
                with store.database.writing(LOCK) as connection:
                    fates = store.append_in(connection, [event for _, event in events])
                for (number, event), fate in zip(events, fates, strict=True):
                    new += fate is Fate.NEW
                    same += fate is Fate.SAME
                    if fate is Fate.CONFLICT:
                        kept = "; it denies, so it counts under an id of its own" if denies(event) else ""
                        refused.write(number, f"another event has its record_id{kept}")
                        quarantined += 1
            rows += len(batch)
            progress(rows)
    return Imported(rows=rows, new=new, same=same, quarantined=quarantined)


class _Quarantine:
    """Writes (row, reason); the file is made at the first row that needs it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._out: Any = None

    def __enter__(self) -> _Quarantine:
        return self

    def __exit__(self, *_: object) -> None:
        if self._out is not None:
            self._out.close()

    def write(self, row: int, reason: str) -> None:
        try:
            if self._out is None:
                self._out = self._path.open("w", encoding="utf-8")
            self._out.write(json.dumps({"row": row, "reason": reason}, ensure_ascii=False) + "\n")
        except OSError as error:
            raise DataError(f"quarantine {self._path}: {error.strerror}; give --quarantine another file") from error


def _event(values: object, key: PrincipalKey | None) -> ConsentEvent:
    """The event of a row.

    Raises:
      DataError: it is none, or could not be kept; says why without content.
    """
    if isinstance(values, DataError):
        raise values
    if not isinstance(values, dict):
        raise DataError("not a JSON object; expected one object a line")
    if MARK in values:
        values = event_fields(values, received=datetime.now(UTC))
    given = {name: value for name, value in values.items() if value is not None}
    given.setdefault("seq", 0)
    person = given.pop("person_id", None)
    if person is not None:
        if not isinstance(person, str) or not person:
            raise DataError("person_id is not text; expected a person's id")
        if "pii_principal_id" in given:
            raise DataError("person_id and pii_principal_id are both given; expected one of them")
        if key is None:
            raise ConsentError("consent import: the file has person_id, and no key was given; give --key FILE")
        if len(person) >= 4 and person in "\n".join([value for value in given.values() if isinstance(value, str)]):
            # It would stay in the chain after an erasure.
            raise DataError("another field holds the person's id; expected ids that do not name the person")
        given["pii_principal_id"] = key.pseudonym(person)
    elif "pii_principal_id" not in given:
        given["pii_principal_id"] = None
    event = parse_event(given)
    entity = event.entity_id
    if entity is not None and not is_pseudonym(entity):
        raise DataError("entity_id is not a pseudonym; expected the 64 hex digits of PrincipalKey.pseudonym")
    try:
        check_text(f"{event.record_id}{event.evidence_ref}{event.org_id}")
        check_terms(terms_text(event))
    except UnicodeEncodeError:
        raise DataError("a text holds a lone surrogate; expected plain Unicode") from None
    return event


def _read(path: Path) -> Iterator[object]:
    """Rows as plain values; a row that cannot be read is the DataError that says so."""
    readers = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    reader = readers.get(path.suffix)
    if reader is None:
        raise DataError(f"consent import: {path.name} ends in {path.suffix!r}; expected {', '.join(readers)}")
    try:
        yield from reader(path)
    except OSError as error:
        why = error.strerror or "it is damaged"
        raise DataError(f"consent import: {path.name}: {why}; expected a file that can be read") from error


def _jsonl(path: Path) -> Iterator[object]:
    with path.open("rb") as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                yield DataError("not JSON in UTF-8; expected one JSON object a line")


def _csv(path: Path) -> Iterator[object]:
    with path.open(encoding="utf-8-sig", newline="", errors="surrogateescape") as lines:
        records = csv.reader(lines, strict=True)
        header = next(records, None)
        if header is None:
            raise DataError(f"consent import: {path.name} is empty; expected a header")
        while True:
            try:
                record = next(records)
            except StopIteration:
                return
            except csv.Error:
                yield DataError("cannot be read; expected cells quoted as in RFC 4180")
                continue
            if len(record) != len(header):
                yield DataError(f"{len(record)} cells; expected {len(header)} as in the header")
                continue
            yield _cells(dict(zip(header, record, strict=True)))


def _cells(cells: dict[str, str]) -> Values | DataError:
    values: Values = {name: cell for name, cell in cells.items() if cell}
    for name in values.keys() & set(_SETS):
        values[name] = values[name].split(";")
    for name in values.keys() & set(_INTEGERS):
        if not (values[name].isascii() and values[name].isdigit() and len(values[name]) < 19):
            return DataError(f"{name} cannot be read; expected a whole number")
        values[name] = int(values[name])
    return values


def _parquet(path: Path) -> Iterator[object]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH):
                yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise DataError(
            f"consent import: {path.name} cannot be read as parquet; expected a whole file: copy it again"
        ) from error
