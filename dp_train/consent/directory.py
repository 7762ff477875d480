"""The people of an organisation and their full names: who is spoken about and is not on a roster."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from dp_train.consent.row_files import parsed_line
from dp_train.consent.rows import Unparsed
from dp_train.errors import DataError


def read_directory(path: str | Path) -> dict[str, str]:
    """Read person id → full name from a CSV file with a header, or from JSON lines, with `person_id` and `name`.

    Guarantee: a row that cannot be read stops the read, for the person in it may have said no; nobody is passed over.

    Raises:
      DataError: the file cannot be read, or a row has no id, no name, or another name for an id before it.
    """
    path, people = Path(path), dict[str, str]()
    for number, row in _rows(path):
        person, name = row.get("person_id"), row.get("name")
        if not isinstance(person, str) or not person.strip() or not isinstance(name, str) or not name.strip():
            raise DataError(f"consent.directory: {path.name}: row {number}: expected a person_id and a name")
        if people.setdefault(person, name) != name:
            raise DataError(f"consent.directory: {path.name}: row {number}: expected one name for a person_id")
    return people


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Rows with their numbers from 1."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".csv":
                table = csv.DictReader(file, strict=True)
                if len(set(table.fieldnames or ())) < len(table.fieldnames or ()):
                    raise DataError(f"consent.directory: {path.name} has a column twice; expected each once")
                for number, cells in enumerate(table, start=1):
                    yield number, {} if None in cells or None in cells.values() else cells
                return
            for number, line in enumerate(file, start=1):
                row = parsed_line(line.encode()) if line.strip() else {}
                if isinstance(row, Unparsed):
                    raise ValueError
                if not isinstance(row, dict):
                    raise DataError(f"consent.directory: {path.name}: row {number}: expected an object")
                yield number, row
    except OSError as error:
        raise DataError(
            f"consent.directory: {path.name}: {error.strerror}; expected a file that can be read"
        ) from error
    except (ValueError, csv.Error) as error:
        raise DataError(
            f"consent.directory: {path.name} cannot be read; expected CSV with person_id,name or JSON lines in UTF-8"
        ) from error


__all__ = ["read_directory"]
