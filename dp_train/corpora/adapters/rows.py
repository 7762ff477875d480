"""Rows of gzipped JSON lines, as public corpora come here."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from dp_train.errors import DataError


def open_folder(folder: Path, *files: str) -> tuple[Path, ...]:
    """The files of a corpus' folder.

    Raises:
      DataError: one of them is not there.
    """
    found = tuple(folder / name for name in files)
    for path in found:
        if not path.is_file():
            raise DataError(
                f"corpus {folder.name}: {path.name} is not in corpus.folder={folder}; fetch that public corpus, "
                "and name the folder that holds it: corpus.folder=PATH"
            )
    return found


def read_rows(path: Path, fields: Mapping[str, type]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where it stands, row) of every line, as a stream; each row has `fields` of those types, perhaps among others.

    Raises:
      DataError: the file cannot be read, or a row is not as expected; names the row, never what it says.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                where = f"{path.name} row {number}"
                yield where, _row(where, line, fields)
    except UnicodeDecodeError:
        raise DataError(f"{path.name}: not UTF-8; expected gzipped JSON lines in UTF-8") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path.name}: cannot be read as gzip; expected gzipped JSON lines, fetch it anew") from error


def time_of(where: str, text: str) -> datetime:
    """A time with its offset.

    Raises:
      DataError: it is not one.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise DataError(f"{where}: not a time; expected ISO 8601 with an offset")
    return time


def _row(where: str, line: str, fields: Mapping[str, type]) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise DataError(f"{where}: not a JSON object; expected one a line with {', '.join(fields)}")
    for name, kind in fields.items():
        value = row.get(name)
        if not isinstance(value, kind):
            raise DataError(f"{where}: {name} is missing or not a {kind.__name__}; expected {', '.join(fields)}")
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise DataError(f"{where}: {name} is not valid Unicode; expected no lone surrogates") from None
    return row
