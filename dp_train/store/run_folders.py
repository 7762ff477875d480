"""Where the folder of each run is: one row a run, in the ledger or not, written before anything private is learnt.

The ledger says which runs there were, in a chain that shows what was taken out; this table says where they lie. It is
kept beside the chain because folders move: a row may be replaced, and whoever reads it compares the id in the folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from dp_train.store.database import Database, sqlite_file

_LOCK = "run_folders"
_METADATA = sa.MetaData()
_ROWS = sa.Table(
    "run_folders",
    _METADATA,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("folder", sa.Text, nullable=False),
    sa.Column("beside_store", sa.Text),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("task", sa.Text, nullable=False),
    sa.Column("population", sa.Text, nullable=False),
    sa.Column("in_ledger", sa.Boolean, nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlace:
    """A run and where its folder was when it last began; all of it public.

    Attributes:
      run: its id, which its folder and its line in the ledger have as well. folder: absolute.
      beside_store: the same from the folder of the store's file; None where the store is a server.
      label, task: what people call it. population: population_id of its people.
      in_ledger: whether it was to be reserved; an open or missing line is then an error and no choice.
    """

    run: str
    folder: Path
    beside_store: Path | None = None
    label: str
    task: str
    population: str
    in_ledger: bool

    @property
    def candidates(self) -> Iterator[Path]:
        """Where to look: beside the store, which may have moved with its runs, then where the folder was."""
        if self.beside_store is not None:
            yield self.beside_store
        yield self.folder


def note_place(database: Database, place: RunPlace) -> None:
    """Write where a run is, in place of what was known of it.

    Raises:
      StoreError: the store cannot be written; the run must not begin.
    """
    database.create(_METADATA)
    values = {
        "run": place.run,
        "folder": str(place.folder.absolute()),
        "beside_store": _beside(database.url, place.folder),
        "label": place.label,
        "task": place.task,
        "population": place.population,
        "in_ledger": place.in_ledger,
    }
    with database.writing(_LOCK) as connection:
        connection.execute(_ROWS.delete().where(_ROWS.c.run == place.run))
        connection.execute(_ROWS.insert().values(**values))


def places(url: str) -> tuple[RunPlace, ...]:
    """Every run that the store at `url` knows of; none where there is no store, and none is made."""
    file = sqlite_file(url)
    if file is not None and not file.exists():
        return ()
    database = Database(url)
    try:
        database.create(_METADATA)
        with database.reading() as connection:
            rows = connection.execute(sa.select(_ROWS).order_by(_ROWS.c.folder, _ROWS.c.run)).all()
    finally:
        database.close()
    return tuple(
        RunPlace(
            run=row.run,
            folder=Path(row.folder),
            beside_store=None if row.beside_store is None or file is None else file.parent / row.beside_store,
            label=row.label,
            task=row.task,
            population=row.population,
            in_ledger=row.in_ledger,
        )
        for row in rows
    )


def _beside(url: str, folder: Path) -> str | None:
    file = sqlite_file(url)
    return None if file is None else os.path.relpath(folder.absolute(), file.parent)


__all__ = ["RunPlace", "note_place", "places"]
