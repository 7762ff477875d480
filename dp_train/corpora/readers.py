"""Files of conversations: jsonl, csv and parquet, read as a stream and as often as needed.

**jsonl**: one object a line, UTF-8. `*` marks what every row needs; null counts as left out.

| field | value |
|---|---|
| `conversation_id` * | text, one of its own for every conversation |
| `org_id` * | text, the organisation whose consent counts as well |
| `created_at` * | ISO 8601 with an offset, `2025-03-04T09:30:00+01:00` |
| `kind` * | `meeting` or `thread` |
| `turns` * | array of turns, in the order in which they were said |
| `roster` | object, person id → display name, of everyone who speaks or is named; anonymisation finds these names |
| `guests` | array of ids of people without an account, who cannot have consented |
| `summary` | text, the reference summary of a meeting |

| field of a turn | value |
|---|---|
| `person_id` * | text, who says it |
| `text` * | text |
| `content_kind` | `transcript` (default in a meeting), `chat` (default in a thread), `screen_share`, … |
| `mentions` | array of ids of people whom the text names |
| `reply_to`, `quotes` | position of an earlier turn, from 0 |

**parquet**: the same nested, `parquet_schema()`; the roster is a list of `{person_id, name}`.

**csv**: a header and one row a turn, rows of a conversation together and in the order in which they were said. Columns
`conversation_id`, `org_id`, `created_at`, `kind`, `person_id`, `text` are needed; `turn` (counting from 0, which shows
that no row is missing), `display_name`, `guest` (`true` for a guest), `content_kind`, `mentions`, `reply_to`, `quotes`
and `summary` (on a conversation's first row) may be there. Empty is left out. `mentions` is `id;id`, or
`id=Display Name` for a person who does not speak.

A jsonl or parquet file whose rows have a `person_id` and no `turns` is read as such a table, by the same columns.

Files whose columns are called otherwise, or that have more of them, are read by `columns.Columns`.

That ids are not used twice is not checked: it would take the memory that streaming saves.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from dp_train.atomic import whole_file
from dp_train.conversations import Conversation, Corpus
from dp_train.corpora.columns import Columns
from dp_train.corpora.rows import FIELDS, from_row, to_row
from dp_train.corpora.table import conversations_of_turns, records_of
from dp_train.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 256  # rows of parquet in memory at a time
_AS_WRITTEN = Columns()


@dataclass(frozen=True, slots=True)
class FileCorpus:
    """A file of conversations; a `Corpus` that opens the file anew at every pass."""

    path: Path
    _read: Callable[[Path], Iterator[Conversation]]

    @property
    def name(self) -> str:
        return self.path.stem

    def conversations(self) -> Iterator[Conversation]:
        """Yield the conversations in the file's order.

        Raises:
          DataError: a row is not a conversation; names the file and the row, never what it says.
        """
        try:
            yield from self._read(self.path)
        except OSError as error:
            raise _unreadable(self.path, error) from error
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path.name}: not UTF-8; save the file as UTF-8") from error


def read_jsonl(path: str | os.PathLike[str], columns: Columns = _AS_WRITTEN) -> FileCorpus:
    """A corpus of one JSON object a line.

    Raises:
      DataError: there is no such file. Rows are looked at when they are read.
    """
    return _corpus(path, partial(_jsonl, columns=columns))


def read_csv(path: str | os.PathLike[str], columns: Columns = _AS_WRITTEN) -> FileCorpus:
    """A corpus of one row a turn; the first row of the file, its header, is row 1.

    Raises:
      DataError: there is no such file. Rows are looked at when they are read.
    """
    return _corpus(path, partial(_csv, columns=columns))


def read_parquet(path: str | os.PathLike[str], columns: Columns = _AS_WRITTEN) -> FileCorpus:
    """A corpus of one conversation a row, read some hundred rows at a time.

    Raises:
      DataError: there is no such file. Rows are looked at when they are read.
    """
    return _corpus(path, partial(_parquet, columns=columns))


READERS: Mapping[str, Callable[[str | os.PathLike[str], Columns], FileCorpus]] = {
    ".jsonl": read_jsonl,
    ".csv": read_csv,
    ".parquet": read_parquet,
}
"""Readers by the ending of a file."""


def read_file(path: str | os.PathLike[str], columns: Columns = _AS_WRITTEN) -> FileCorpus:
    """A corpus of a file that its ending names.

    Raises:
      DataError: the ending is unknown, or there is no such file. Rows are looked at when they are read.
    """
    reader = READERS.get(Path(path).suffix.lower())
    if reader is None:
        raise DataError(f"{Path(path).name}: ends in {Path(path).suffix!r}; expected {', '.join(READERS)}")
    return reader(path, columns)


def write_jsonl(corpus: Corpus, path: str | os.PathLike[str]) -> None:
    """Write a corpus so that `read_jsonl` gives equal conversations; whole or not at all.

    Raises:
      DataError: the file cannot be written.
    """
    target = Path(path)
    try:
        with whole_file(target, mode=0o600) as out:
            for conversation in corpus.conversations():
                out.write((json.dumps(to_row(conversation), ensure_ascii=False, separators=(",", ":")) + "\n").encode())
    except OSError as error:
        raise DataError(f"{target.name}: {error.strerror}; choose a folder that can be written") from error


def parquet_schema() -> pa.Schema:
    """Columns and types of a parquet file of conversations."""
    import pyarrow as pa  # takes a while to import, and most corpora are not parquet

    text = pa.string()
    turn = pa.struct(
        [
            ("person_id", text),
            ("text", text),
            ("content_kind", text),
            ("mentions", pa.list_(text)),
            ("reply_to", pa.int32()),
            ("quotes", pa.int32()),
        ]
    )
    return pa.schema(
        [
            ("conversation_id", text),
            ("org_id", text),
            ("created_at", pa.timestamp("us", tz="UTC")),
            ("kind", text),
            ("turns", pa.list_(turn)),
            ("roster", pa.list_(pa.struct([("person_id", text), ("name", text)]))),
            ("guests", pa.list_(text)),
            ("summary", text),
        ]
    )


def _corpus(path: str | os.PathLike[str], read: Callable[[Path], Iterator[Conversation]]) -> FileCorpus:
    path = Path(path)
    try:
        with path.open("rb"):
            return FileCorpus(path, read)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path.name}: {error.strerror}; expected a file of conversations that can be read")


def _jsonl(path: Path, columns: Columns) -> Iterator[Conversation]:
    with path.open(encoding="utf-8-sig") as lines:
        rows = _objects(path, lines)
        read: list[object] = []
        for row in rows:
            read.append(row)
            if row is not None:
                break
        names = read[-1].keys() if read and isinstance(read[-1], Mapping) else ()
        yield from _of_rows(path, list(names), chain(read, rows), columns)


def _objects(path: Path, lines: Iterable[str]) -> Iterator[object]:
    """The value of each line; None of an empty one."""
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line) if line.strip() else None
        except (json.JSONDecodeError, RecursionError):
            raise DataError(
                f"{path.name} row {number}: not JSON; expected one object a line with {', '.join(FIELDS)}"
            ) from None
        if row is None and line.strip():
            raise DataError(f"{path.name} row {number}: row is not an object; expected one with {', '.join(FIELDS)}")
        yield row


def _parquet(path: Path, columns: Columns) -> Iterator[Conversation]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            batches = file.iter_batches(batch_size=_BATCH)
            rows = chain.from_iterable(batch.to_pylist() for batch in batches)
            yield from _of_rows(path, file.schema_arrow.names, rows, columns)
    except pa.ArrowException as error:
        # Arrow's own words may hold a piece of the file.
        raise DataError(f"{path.name}: cannot be read as parquet; write it with parquet_schema()") from error


def _of_rows(path: Path, names: Sequence[str], rows: Iterable[object], columns: Columns) -> Iterator[Conversation]:
    """Conversations of rows that are objects: one each, or one a turn. None is an empty row."""
    if columns.is_table(names):
        records = records_of(path.name, names, rows)
        yield from conversations_of_turns(path.name, records, columns, header_row=0)
        return
    for number, row in enumerate(rows, start=1):
        if row is not None:
            yield _conversation(path, number, row, columns)


def _csv(path: Path, columns: Columns) -> Iterator[Conversation]:
    # The standard library, for Arrow's messages about a broken row hold the row.
    with path.open(encoding="utf-8-sig", newline="") as lines:
        yield from conversations_of_turns(path.name, csv.reader(lines, strict=True), columns)


def _conversation(path: Path, number: int, row: object, columns: Columns) -> Conversation:
    try:
        return from_row(columns.row(row))
    except DataError as error:
        raise DataError(f"{path.name} row {number}: {error}") from None
