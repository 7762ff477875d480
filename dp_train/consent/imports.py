"""Files of consent events: jsonl, csv and parquet, into the store or straight into a run; see `rows` for what a row is.

In csv the members of a set are joined by `;` and an empty cell is left out.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from dp_train.consent.events import ConsentEvent, EventState, denies
from dp_train.consent.facts import microseconds
from dp_train.consent.near import near_ids
from dp_train.consent.principals import PrincipalKey, normalised_id
from dp_train.consent.row_files import BATCH, read_values
from dp_train.consent.rows import COLUMNS, ReadRow, hold_for, read_row
from dp_train.consent.store import LOCK, ConsentStore, Fate, Tombstones
from dp_train.consent.tombstones import bring_in
from dp_train.consent.unread import note_import, note_unread
from dp_train.errors import DataError

NEAR_CHECKS = 200
"""How many unknown ids that deny are compared with the known ones, an import."""

_CONFLICT = "another event has its record_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of the rows of a file.

    Attributes:
      new, same: events that are stored now, and that were there. held: rows that deny until an officer decides.
      unread: rows whose person cannot be read. suppressed: of people who were erased.
      near: unknown ids that deny and differ by one character from a known one; perhaps a misspelling.
      problems: why rows were held or unread → how many; no content.
      stopped: the first unread row and why, where no quarantine takes such rows.
    """

    rows: int
    new: int
    same: int
    held: int = 0
    unread: int = 0
    suppressed: int = 0
    near: int = 0
    problems: Mapping[str, int] = field(default_factory=dict)
    stopped: tuple[int, str] | None = None

    @property
    def set_aside(self) -> int:
        """Rows that are no events: a user has to look at them."""
        return self.held + self.unread


def import_events(
    store: ConsentStore,
    path: str | os.PathLike[str],
    quarantine: str | os.PathLike[str] | None = None,
    *,
    key: PrincipalKey | None = None,
    dry_run: bool = False,
    progress: Callable[[int], None] = lambda rows: None,
) -> Imported:
    """Bring the events of a file into the store, `BATCH` rows a transaction, in memory that the file does not change.

    Guarantee: no row that could be a no is lost in silence. A row whose person can be read is stored, as its event or
    as a hold that denies. At a row whose person cannot be read, only what denies is stored from its batch on, and the
    result says `stopped`; with `quarantine` the import goes on, and the row is counted. A process that is killed
    leaves whole batches, and the same import again completes them; an import that is repeated changes nothing.

    Args:
      path: its ending says what it is: .jsonl, .csv or .parquet.
      quarantine: jsonl of (row, what, reason) of the rows that are no events; never what they hold. Made where needed.
      key: makes pseudonyms of `person_id`.
      dry_run: parse everything, store nothing.
      progress: called with the number of rows that are done.

    Raises:
      DataError: the file cannot be read at all, or has columns that nothing here reads. ConsentError: the store's
        people are those of another key, or ids of people come without one. StoreError: the store cannot be written;
        whole batches stay.
    """
    received = datetime.now(UTC)
    rows = read_rows(path, key, received=received)
    return import_rows(
        store, rows, key=key, received=received, quarantine=quarantine, dry_run=dry_run, progress=progress
    )


def import_rows(
    store: ConsentStore,
    rows: Iterable[tuple[int, ReadRow]],
    *,
    key: PrincipalKey | None,
    received: datetime,
    quarantine: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    progress: Callable[[int], None] = lambda rows: None,
) -> Imported:
    """Bring rows that were read into the store; guarantee, arguments and errors are those of `import_events`."""
    if key is not None and not dry_run:
        store.bind(key)
    counts: Counter[str] = Counter()
    problems: Counter[str] = Counter()
    stopped: tuple[int, str] | None = None
    source = iter(rows)
    with _Quarantine(quarantine) as refused:
        while batch := list(islice(source, BATCH)):
            for number, row in batch:
                if row.problem is not None:
                    what = "unread" if row.is_unread else "held"
                    counts[what] += 1
                    problems[row.problem.partition(";")[0]] += 1
                    refused.write(number, what, row.problem)
                    if row.is_unread and quarantine is None:
                        stopped = stopped or (number, row.problem)
            counts["rows"] += len(batch)
            if not dry_run:
                note_unread(store, [row.content for _, row in batch if row.is_unread])
            if dry_run:
                counts["new"] += sum(row.problem is None for _, row in batch)
            else:
                counts["near"] += _near(store, batch, key, NEAR_CHECKS - counts["looked"], counts)
                wanted = [
                    (number, row, event)
                    for number, row in batch
                    for event in row.events
                    if event.event_state is not EventState.ERASED and (not stopped or denies(event))
                ]
                _store(store, wanted, received, refused, counts, problems)
                buried = [e for _, row in batch for e in row.events if e.event_state is EventState.ERASED]
                counts.update(fate.value for fate in (bring_in(store, buried, received=received) if buried else ()))
            progress(counts["rows"])
    done = Imported(
        **{name: counts[name] for name in ("rows", "new", "same", "held", "unread", "suppressed", "near")},
        problems=dict(problems),
        stopped=stopped,
    )
    if not dry_run and done.set_aside:
        note_import(store, rows=done.rows, held=done.held, stopped=stopped is not None)
    return done


def events_of_file(path: str | os.PathLike[str], key: PrincipalKey | None) -> Iterator[ConsentEvent]:
    """The events and holds of a file, for a run that takes no store, as a stream; without whom its tombstones keep out.

    Raises:
      DataError: the file cannot be read, or whose a row is cannot.
    """
    received = datetime.now(UTC)
    since: dict[bytes, int] = {}
    if _may_bury(Path(path)):
        for _, row in read_rows(path, key, received=received):
            since |= {
                bytes.fromhex(event.evidence_ref): microseconds(event.event_time)
                for event in row.events
                if event.event_state is EventState.ERASED
            }
    erased = Tombstones(since)
    for number, row in read_rows(path, key, received=received):
        if row.is_unread:
            raise DataError(
                f"consent events {Path(path).name}, row {number}: whose it is cannot be read: {row.problem}; "
                "mend the row: it may be a no"
            )
        kept = (event for event in row.events if event.event_state is not EventState.ERASED)
        yield from (event for event in kept if not erased.keeps_out(event))


def _may_bury(path: Path) -> bool:
    """Whether a file may hold a tombstone; one that cannot be looked into may."""
    try:
        with path.open("rb") as lines:
            return path.suffix == ".parquet" or any(EventState.ERASED.value.encode() in line for line in lines)
    except OSError:
        return True


def read_rows(
    path: str | os.PathLike[str], key: PrincipalKey | None, *, received: datetime
) -> Iterator[tuple[int, ReadRow]]:
    """(number, what it is) of every row of a file, as a stream."""
    for number, values in enumerate(read_values(Path(path)), start=1):
        yield number, read_row(values, key, received=received)


def _store(
    store: ConsentStore,
    rows: list[tuple[int, ReadRow, ConsentEvent]],
    received: datetime,
    refused: _Quarantine,
    counts: Counter[str],
    problems: Counter[str],
) -> None:
    """One transaction: the events of a batch, and a hold for every grant that contradicts a known event."""
    if not rows:
        return
    with store.database.writing(LOCK) as connection:
        fates = store.append_in(connection, [event for *_, event in rows])
        conflicts = [
            (number, event)
            for (number, row, event), fate in zip(rows, fates, strict=True)
            if fate is Fate.CONFLICT and not row.is_copy
        ]
        holds = [hold_for(event, _CONFLICT, received=received) for _, event in conflicts if not denies(event)]
        if holds:
            store.append_in(connection, holds)
    for (_, row, _), fate in zip(rows, fates, strict=True):
        if row.problem is None and (fate is not Fate.CONFLICT or row.is_copy):
            counts[Fate.SAME.value if fate is Fate.CONFLICT else fate.value] += 1
    for number, event in conflicts:
        kept = "it denies, so it counts under an id of its own" if denies(event) else "its person is held"
        counts["held"] += 1
        problems[_CONFLICT] += 1
        refused.write(number, "held", f"{_CONFLICT}; {kept}")


def _near(
    store: ConsentStore, batch: Iterable[tuple[int, ReadRow]], key: PrincipalKey | None, left: int, counts: Counter[str]
) -> int:
    """How many ids that nobody knows deny, and differ by one character from one that is known."""
    if key is None or left <= 0:
        return 0
    denying = {normalised_id(row.person) for _, row in batch if row.person and any(map(denies, row.events))}
    known = store.known({key.pseudonym(person) for person in denying})
    unknown = sorted(person for person in denying if key.pseudonym(person) not in known)[:left]
    counts["looked"] += len(unknown)
    return sum(bool(store.known({key.pseudonym(other) for other in near_ids(person)})) for person in unknown)


class _Quarantine:
    """Writes (row, what, reason); the file is made at the first row that needs it, and nothing without a path."""

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self._path = None if path is None else Path(path)
        self._out: Any = None

    def __enter__(self) -> _Quarantine:
        return self

    def __exit__(self, *_: object) -> None:
        if self._out is not None:
            self._out.close()

    def write(self, row: int, what: str, reason: str) -> None:
        if self._path is None:
            return
        try:
            if self._out is None:
                self._out = self._path.open("w", encoding="utf-8")
            self._out.write(json.dumps({"row": row, "what": what, "reason": reason}, ensure_ascii=False) + "\n")
        except OSError as error:
            raise DataError(f"quarantine {self._path}: {error.strerror}; give --quarantine another file") from error


__all__ = [
    "BATCH",
    "COLUMNS",
    "Imported",
    "events_of_file",
    "import_events",
    "import_rows",
    "read_rows",
]
