"""Rows of a file of consent as plain values: jsonl, csv and parquet. What a row means, `dp_train.consent.rows` says.

A row that cannot be read is an `Unparsed` or `Cells` in its place; a cell that cannot, a value that no field takes.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dp_train.consent.rows import Cells, Unparsed, unknown_columns
from dp_train.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 20_000
"""Rows of a file that are in memory at once."""

_SETS = ("purpose", "content_kind", "processing", "pii_type")
_INTEGERS = ("seq", "notice_version")


def read_values(path: Path) -> Iterator[object]:
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


def _check_columns(names: Collection[object], path: Path) -> None:
    """Refuse a table with columns that nothing here reads: what they say might be a no.

    Raises:
      DataError: it has; names them.
    """
    unknown = unknown_columns(names)
    if unknown:
        raise DataError(
            f"consent import: {path.name} has columns that nothing here reads: {', '.join(unknown)}; rename or remove "
            "them: `dp-train consent schema` lists those that are known"
        )
    if len(set(names)) < len(names):
        raise DataError(f"consent import: {path.name} has a column twice; expected each once")


def _jsonl(path: Path) -> Iterator[object]:
    with path.open("rb") as lines:
        for line in lines:
            if line.strip():
                yield parsed_line(line)


def parsed_line(line: bytes) -> object:
    """The JSON value of a line; the `Unparsed` that says why it is none."""
    try:
        return json.loads(line, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return Unparsed("not JSON in UTF-8; expected one JSON object a line", line.strip())


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object that says each thing once: of two values it is not known which is meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError
    return found


def _csv(path: Path) -> Iterator[object]:
    with path.open(encoding="utf-8-sig", newline="", errors="surrogateescape") as lines:
        read: list[str] = []  # the lines of the record that is being read
        records = csv.reader(_noted(lines, read), strict=True)
        header = next(records, None)
        if header is None:
            raise DataError(f"consent import: {path.name} is empty; expected a header")
        _check_columns(header, path)
        while True:
            read.clear()
            try:
                record = next(records)
            except StopIteration:
                return
            except csv.Error:
                raw = "".join(read).encode("utf-8", "surrogateescape")
                yield Unparsed("cannot be read; expected cells quoted as in RFC 4180", raw)
                continue
            if not record:
                continue
            if len(record) != len(header):
                yield Cells(tuple(header), tuple(record))
                continue
            yield _cells(dict(zip(header, record, strict=True)))


def _noted(lines: Iterable[str], read: list[str]) -> Iterator[str]:
    for line in lines:
        read.append(line)
        yield line


def _cells(cells: dict[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {name: cell for name, cell in cells.items() if cell}
    for name in values.keys() & set(_SETS):
        values[name] = values[name].split(";")
    for name in values.keys() & set(_INTEGERS):
        if values[name].isascii() and values[name].isdigit() and len(values[name]) < 19:
            values[name] = int(values[name])  # else the text stays, and is refused by name
    return values


def _parquet(path: Path) -> Iterator[object]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            _check_columns(file.schema_arrow.names, path)
            for batch in file.iter_batches(batch_size=BATCH):
                yield from _rows_of(batch)
    except pa.ArrowException as error:
        raise DataError(
            f"consent import: {path.name} cannot be read as parquet; expected a whole file: copy it again"
        ) from error


def _rows_of(batch: pa.RecordBatch) -> Iterator[dict[str, object]]:
    """Rows as plain values; a cell that Python has no value for spoils its own row and no other."""
    try:
        yield from batch.to_pylist()
        return
    except (ValueError, ArithmeticError, LookupError):
        pass
    for number in range(batch.num_rows):
        yield {name: _cell(column[number]) for name, column in zip(batch.schema.names, batch.columns, strict=True)}


def _cell(scalar: pa.Scalar) -> object:
    try:
        return scalar.as_py()
    except (ValueError, ArithmeticError, LookupError):  # a time of the year 148,000, text that is not UTF-8
        return _UNREADABLE


class _Unreadable:
    """What no field takes for a value."""

    def __repr__(self) -> str:
        return "unreadable"


_UNREADABLE = _Unreadable()


__all__ = ["BATCH", "parsed_line", "read_values"]
