"""Tokenised units on disk: Arrow tables that are read by memory map, and never without the gate.

runs/units/<key>/            mode 0700; the key names everything that decides the rows
  rows.arrow                 a row an example, in the order of the units: token ids and which of them are labels
  facts.json                 key, consent root, checksum, digest of the cohort

A table saves tokenising and memory; it opens no door. Each start reads the consented examples through the gate
again, and the key is taken from what comes out: the text as it passed, the snapshot's root, the population, the bounds,
and the task. So a table is found only by who holds the same consent over the same words, and it holds no names and no
text: which rows are whose is selected anew. A table of an older root is deleted where a newer one is made, and `purge`
deletes all of them when a person leaves.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dp_train.atomic import parts, sweep, whole_folder
from dp_train.conversations import Example
from dp_train.errors import CheckpointError
from dp_train.privacy.contribution_bounding import Ownership, Selected
from dp_train.privacy.steady_encoding import check_encoding, copied, sample_of

if TYPE_CHECKING:
    from dp_train.consent.gate import ConsentedExamples

_FORMAT = 1
_ROWS, _FACTS = "rows.arrow", "facts.json"
_TABLE = re.compile(r"[0-9a-f]{32}")
_BATCH = 1 << 15
_IGNORE = -100  # a label that is not learnt, as torch's cross entropy has it
_PROBES = tuple(
    Example(example_id="probe", prompt=prompt, target=target, owners=frozenset({"nobody"}))
    for prompt, target in (
        ("", "a"),
        ("Ann: when do we ship?\nBob: on Friday", "Ann asks when to ship; Bob says: on Friday, ü 7."),
        ("\n".join(f"Kim: line {number} of a long talk" for number in range(400)), "long " * 400),
    )
)
"""Public text that tells one way to tokenise from another, long enough to be cut."""

Tokens = tuple[tuple[int, ...], tuple[int, ...]]
"""(input ids, labels) of one example."""


class TokenRow(Protocol):
    """What a task makes of an example; `tasks.base.Row` is one."""

    @property
    def input_ids(self) -> tuple[int, ...]: ...

    @property
    def labels(self) -> tuple[int, ...]: ...


Encode = Callable[[Example], TokenRow]


@dataclass(frozen=True, slots=True)
class Tabled:
    """Examples that were read once: who owns what, what was selected, and the table of it."""

    ownership: Ownership
    selected: Selected
    table: TokenTable


class UnitTables:
    """A folder of tables, and how a task tokenises.

    Memory: for each example that passes the gate 33 bytes and 4 an owner, about three times that while it is sorted,
    for each person their id, and a batch of rows; where examples have several owners, also ids and owners of all, for
    the selection. The text waits in a file without a name, which is gone with the process.

    Attributes:
      encoding: names the way to tokenise.

    Args:
      path: made with mode 0700 where it is missing.
      encode: of the task. facts: what decides its tokens beside the text, such as the tokenizer's digest.
    """

    def __init__(self, path: Path | str, *, encode: Encode, facts: Mapping[str, object]) -> None:
        self.path = Path(path)
        self.encoding = encoding_digest(encode)
        self._encode = encode
        self._facts = dict(facts)

    def take(
        self, examples: ConsentedExamples, select: Callable[[Ownership, Callable[[], Iterator[str]]], Selected]
    ) -> Tabled:
        """Read the examples once, select, and tokenise what was selected, unless a whole table of it is there.

        Raises:
          CheckpointError: the folder cannot be written.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            sweep(self.path)
            with tempfile.TemporaryFile(dir=self.path) as spool:
                return self._take(examples, select, spool)
        except OSError as error:
            raise CheckpointError(
                f"tables: {self.path} cannot be written ({error.strerror}); free space, or set corpus.tables to "
                "another folder"
            ) from error

    def _take(
        self,
        examples: ConsentedExamples,
        select: Callable[[Ownership, Callable[[], Iterator[str]]], Selected],
        spool: IO[bytes],
    ) -> Tabled:
        ownership, ends, content = Ownership(), array("q", [0]), hashlib.sha256()
        for example in examples.places():
            ownership.add(example.example_id, example.owners, empty=example.empty)
            line = json.dumps([example.example_id, example.prompt, example.target, sorted(example.owners)]).encode()
            content.update(line + b"\n")
            spool.write(line + b"\n")
            ends.append(ends[-1] + len(line) + 1)
        spool.flush()

        def ids() -> Iterator[str]:
            spool.seek(0)
            return (json.loads(line)[0] for line in spool)

        selected = select(ownership, ids)
        decided = {
            "format": _FORMAT,
            "content": content.hexdigest(),
            "root": examples.root,
            "population": examples.population_id,
            "purpose": examples.purpose.value,
            "bounds": [selected.unit.value, selected.max_contributions, selected.rows_per_unit],
            "encoding": self.encoding,
            "facts": self._facts,
        }
        key = hashlib.sha256(json.dumps(decided, sort_keys=True, default=str).encode()).hexdigest()
        folder = self.path / key[:32]
        table = _open(folder, key, examples.root)
        if table is None or len(table) != len(selected.examples):
            shutil.rmtree(folder, ignore_errors=True)
            for other in _folders(self.path):
                if _read_facts(other).get("root") != examples.root:
                    shutil.rmtree(other, ignore_errors=True)
            self._write(folder, key, examples.root, selected, partial(_read, spool.fileno(), ends))
            table = _open(folder, key, examples.root)
        if table is None:
            raise CheckpointError(f"tables: {folder} cannot be read back; check the disk, or set corpus.tables=null")
        return Tabled(ownership, selected, table)

    def _write(self, folder: Path, key: str, root: str, selected: Selected, read: Callable[[int], Example]) -> None:
        """Beside, then by one rename: no reader ever sees a half of it."""
        sample = [selected.examples[row] for row in sample_of(len(selected.examples))]
        check_encoding(copied(self._encode), copied(self._encode), sample, read)
        with whole_folder(folder, mode=0o700) as part:
            cohort = hashlib.sha256()
            _write_rows(part / _ROWS, self._encoded(selected, read, cohort))
            with (part / _ROWS).open("rb") as rows:
                checksum = hashlib.file_digest(rows, "sha256").hexdigest()
            facts = {"key": key, "root": root, "checksum": checksum, "cohort": cohort.hexdigest()}
            (part / _FACTS).write_text(json.dumps(facts) + "\n")

    def _encoded(self, selected: Selected, read: Callable[[int], Example], cohort: Any) -> Iterator[TokenRow]:
        """One example at a time, in the order of the units."""
        for unit in selected.units():
            yield from map(self._encode, in_cohort(cohort, map(read, unit)))


class TokenTable:
    """Rows of a table by number, read from the map when they are asked for."""

    def __init__(self, source: Path | bytes, cohort: str) -> None:
        """Open a file of rows, or take its contents, as another process of a run gets them."""
        import pyarrow as pa

        self.cohort = cohort
        self._source = source
        opened = pa.py_buffer(source) if isinstance(source, bytes) else pa.memory_map(str(source), "r")
        self._reader = pa.ipc.open_file(opened)
        self._batches: dict[int, tuple[NDArray[Any], ...]] = {}
        batches = range(self._reader.num_record_batches)
        self._length = sum(int(self._reader.get_batch(number).num_rows) for number in batches)

    def __reduce__(self) -> tuple[type[TokenTable], tuple[bytes, str]]:
        """Give the rows themselves to another process: it may have no such disk, and reads no file without the gate."""
        held = self._source if isinstance(self._source, bytes) else self._source.read_bytes()
        return TokenTable, (held, self.cohort)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Tokens:
        number, place = divmod(index, _BATCH)
        ids, id_ends, masked, same, labels, label_ends = self._batch(number)
        inputs = tuple(ids[id_ends[place] : id_ends[place + 1]].tolist())
        before = int(masked[place])
        learnt = inputs[before:] if same[place] else tuple(labels[label_ends[place] : label_ends[place + 1]].tolist())
        return inputs, (_IGNORE,) * before + learnt

    def _batch(self, number: int) -> tuple[NDArray[Any], ...]:
        if number not in self._batches:
            batch = self._reader.get_batch(number)
            views: list[NDArray[Any]] = []
            for name in ("ids", "labels"):
                column = batch.column(name)
                views += [column.values.to_numpy(), column.offsets.to_numpy()]
            plain = [batch.column(name).to_numpy() for name in ("masked", "same")]
            self._batches[number] = (*views[:2], *plain, *views[2:])
        return self._batches[number]


def tables_in(path: Path | str) -> list[Path]:
    """Return the folders of the whole tables in a folder."""
    return _folders(Path(path))


def purge(path: Path | str) -> int:
    """Delete every table of a folder, half-written ones too; how many whole ones there were.

    Raises:
      CheckpointError: one cannot be deleted.
    """
    whole = _folders(Path(path))
    try:
        for folder in (*whole, *parts(Path(path))):
            shutil.rmtree(folder)
    except OSError as error:
        raise CheckpointError(
            f"tables: {path} cannot be emptied ({error.strerror}); delete what is in it, or mend its permissions and "
            "repeat the command"
        ) from error
    return len(whole)


def encoding_digest(encode: Encode) -> str:
    """Names a way to tokenise by what it makes of public text."""
    rows = [encode(probe) for probe in _PROBES]
    return hashlib.sha256(json.dumps([[row.input_ids, row.labels] for row in rows]).encode()).hexdigest()


def in_cohort(digest: Any, unit: Iterable[Example]) -> Iterator[Example]:
    """The examples of a unit, read into the digest that names the very units of a run, in their order."""
    for example in unit:
        for part in (example.example_id, example.prompt, example.target, *sorted(example.owners)):
            data = part.encode()
            digest.update(len(data).to_bytes(8, "big") + data)
        yield example
    digest.update(b"\xff" * 8)


def _read(spool: int, ends: array[int], index: int) -> Example:
    """An example back from the spool."""
    example_id, prompt, target, owners = json.loads(os.pread(spool, ends[index + 1] - ends[index], ends[index]))
    return Example(example_id=example_id, prompt=prompt, target=target, owners=frozenset(owners))


def _write_rows(path: Path, rows: Iterator[TokenRow]) -> None:
    import pyarrow as pa

    tokens = pa.list_(pa.field("item", pa.int32(), nullable=False))
    types = {"ids": tokens, "labels": tokens, "masked": pa.int32(), "same": pa.uint8()}
    schema = pa.schema([pa.field(name, kind, nullable=False) for name, kind in types.items()])

    def listed(values: array[int], ends: array[int]) -> Any:
        parts = (pa.array(np.frombuffer(part, dtype=np.int32)) for part in (ends, values))
        return pa.ListArray.from_arrays(*parts, type=tokens)

    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_file(out, schema) as writer:
        while True:
            ids, id_ends, labels, label_ends = array("i"), array("i", [0]), array("i"), array("i", [0])
            masked, same = array("i"), array("B")
            for row in rows:
                before = next((i for i, label in enumerate(row.labels) if label != _IGNORE), len(row.labels))
                learnt = row.labels[before:]
                equal = learnt == row.input_ids[before:]
                ids.extend(row.input_ids)
                id_ends.append(len(ids))
                labels.extend(() if equal else learnt)
                label_ends.append(len(labels))
                masked.append(before)
                same.append(equal)
                if len(masked) == _BATCH:
                    break
            if masked:
                columns = [listed(ids, id_ends), listed(labels, label_ends), pa.array(masked, pa.int32())]
                writer.write_batch(pa.record_batch([*columns, pa.array(same, pa.uint8())], schema=schema))
            if len(masked) < _BATCH:
                break
        writer.close()
        out.flush()


def _open(folder: Path, key: str, root: str) -> TokenTable | None:
    """The table, if it is whole and of this key and consent root."""
    facts = _read_facts(folder)
    if facts.get("key") != key or facts.get("root") != root:
        return None
    try:
        with (folder / _ROWS).open("rb") as rows:
            if hashlib.file_digest(rows, "sha256").hexdigest() != facts.get("checksum"):
                return None
        return TokenTable(folder / _ROWS, str(facts["cohort"]))
    except (OSError, ValueError, KeyError):  # pyarrow's errors are ValueErrors
        return None


def _read_facts(folder: Path) -> dict[str, Any]:
    try:
        facts = json.loads((folder / _FACTS).read_text())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _folders(path: Path) -> list[Path]:
    return [found for found in path.glob("*") if _TABLE.fullmatch(found.name)]


__all__ = [
    "Encode",
    "Tabled",
    "TokenTable",
    "Tokens",
    "UnitTables",
    "encoding_digest",
    "in_cohort",
    "purge",
    "tables_in",
]
