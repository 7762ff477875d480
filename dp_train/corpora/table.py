"""Conversations from a table with one row a turn, as csv files hold them; `readers` has the columns."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from dp_train.conversations import Conversation
from dp_train.corpora.columns import CONSTANTS, Columns
from dp_train.corpora.rows import from_row
from dp_train.errors import DataError

REQUIRED = ("conversation_id", "org_id", "created_at", "kind", "person_id", "text")
COLUMNS = (*REQUIRED, "turn", "display_name", "guest", "content_kind", "mentions", "reply_to", "quotes", "summary")

_SAME = ("org_id", "created_at", "kind")
"""What all rows of a conversation say alike."""

Cells = dict[str, str]
Records = Iterator[list[str]]


def conversations_of_turns(
    file: str, records: Records, columns: Columns, *, header_row: int = 1
) -> Iterator[Conversation]:
    """Conversations of consecutive rows.

    Args:
      file: name for messages. records: the header first. columns: what the header means.
      header_row: number of the header; 0 where it is no row of the file.

    Raises:
      DataError: a row does not fit; names file and row, never what it says.
    """
    rows = _rows(file, records, columns, header_row)
    for _, group in groupby(rows, key=lambda row: row[1]["conversation_id"]):
        yield _conversation(file, list(group))


def records_of(file: str, names: Sequence[str], rows: Iterable[object]) -> Records:
    """A header and the cells of rows that are objects, as a table has them; None is an empty row.

    Args:
      file: name for messages. names: columns, those of the first row.

    Raises:
      DataError: a row is no object, or has a column that is not among them.
    """
    yield list(names)
    for number, row in enumerate(rows, start=1):
        if row is None:
            yield []
        elif not isinstance(row, Mapping):
            raise DataError(
                f"{file} row {number}: row is not an object; expected one with the columns of the first row"
            )
        elif not row.keys() <= set(names):
            raise DataError(
                f"{file} row {number}: a column that the first row has not; expected the same in every row, null where "
                "empty"
            )
        else:
            yield [_cell(row.get(name)) for name in names]


def _cell(value: object) -> str:
    """A value as a cell of csv says it; null is empty, and a list is joined by semicolons."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list):
        return ";".join(map(_cell, value))
    return str(value)


def _rows(file: str, records: Records, columns: Columns, header_row: int) -> Iterator[tuple[int, Cells]]:
    """(row number, column → cell) of every row that is not empty."""
    header: list[str | None] | None = None
    number = header_row - 1
    while True:
        number += 1
        try:
            record = next(records)
        except StopIteration:
            break
        except csv.Error:
            raise DataError(
                f"{file} row {number}: cannot be read; expected cells quoted as in RFC 4180, of at most "
                f"{csv.field_size_limit()} characters"
            ) from None
        if header is None:
            header = _header(file, record, columns)
        elif record:
            if len(record) != len(header):
                raise DataError(f"{file} row {number}: {len(record)} cells; expected {len(header)} as in the header")
            cells = zip(header, record, strict=True)
            yield number, {**columns.constants, **{name: cell for name, cell in cells if name is not None}}
    if header is None:
        raise DataError(f"{file}: no header; expected a first row with {', '.join(REQUIRED)}")


def _header(file: str, record: list[str], columns: Columns) -> list[str | None]:
    """The field of each column; None for what is kept out."""
    try:
        header = columns.header(record, COLUMNS)
    except DataError as error:
        raise DataError(f"{file}: {error}") from None
    names = [name for name in header if name is not None]
    for name in REQUIRED:
        if name not in names and name not in columns.constants:
            alike = f", or the same in all rows by --constant {name}=VALUE" if name in CONSTANTS else ""
            raise DataError(
                f"{file}: column {name} is missing; expected {', '.join(REQUIRED)}, or what the file calls them by "
                f"--column {name}=NAME of dp-train init (corpus.columns){alike}"
            )
    unknown = sum(name not in COLUMNS for name in names)
    if unknown:
        raise DataError(f"{file}: {unknown} unknown column(s); expected some of {', '.join(COLUMNS)}")
    if len(set(names)) < len(names):
        raise DataError(f"{file}: a column comes twice; expected each once")
    return header


def _conversation(file: str, rows: list[tuple[int, Cells]]) -> Conversation:
    first_number, first = rows[0]
    roster: dict[str, str] = {}
    guests: list[str] = []
    turns: list[dict[str, Any]] = []
    for number, cells in rows:
        where = f"{file} row {number}"
        if cells.get("turn", str(len(turns))) != str(len(turns)):
            raise DataError(
                f"{where}: turn is not {len(turns)}; rows of a conversation stand together, turns counting from 0"
            )
        for name in _SAME:
            if cells[name] != first[name]:
                raise DataError(f"{where}: {name} differs; expected the same in all rows of a conversation")
        if turns and cells.get("summary"):
            raise DataError(f"{where}: summary on a later turn; expected it on the first row of a conversation")
        if not cells["person_id"]:
            raise DataError(f"{where}: turn has no speaker; every turn needs a person_id")
        if cells.get("display_name"):
            roster[cells["person_id"]] = cells["display_name"]
        if _flag(cells.get("guest", ""), where):
            guests.append(cells["person_id"])
        mentions = _mentions(cells.get("mentions", ""), roster)
        turns.append(_turn(cells, mentions, where))
    try:
        return from_row(
            {
                "conversation_id": first["conversation_id"],
                **{name: first[name] for name in _SAME},
                "turns": turns,
                "roster": roster,
                "guests": guests,
                "summary": first.get("summary") or None,
            }
        )
    except DataError as error:
        raise DataError(f"{file} rows {first_number} to {rows[-1][0]}: {error}") from None


def _turn(cells: Cells, mentions: list[str], where: str) -> dict[str, Any]:
    return {
        "person_id": cells["person_id"],
        "text": cells["text"],
        "content_kind": cells.get("content_kind") or None,
        "mentions": mentions,
        "reply_to": _position(cells.get("reply_to", ""), "reply_to", where),
        "quotes": _position(cells.get("quotes", ""), "quotes", where),
    }


def _mentions(cell: str, roster: dict[str, str]) -> list[str]:
    """Ids of `id;id=Display Name`; a name that is given goes on the roster."""
    people: list[str] = []
    for entry in filter(None, cell.split(";")):
        person, _, name = entry.partition("=")
        people.append(person)
        if name:
            roster.setdefault(person, name)
    return people


def _position(cell: str, name: str, where: str) -> int | None:
    if not cell:
        return None
    if not (cell.isascii() and cell.isdigit() and len(cell) < 10):
        raise DataError(f"{where}: {name} is not a whole number; expected the position of an earlier turn, from 0")
    return int(cell)


def _flag(cell: str, where: str) -> bool:
    flags = {"": False, "false": False, "true": True}
    if cell.lower() not in flags:
        raise DataError(f"{where}: guest is neither true nor false; expected one of the two, or nothing")
    return flags[cell.lower()]
