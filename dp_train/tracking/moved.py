"""A working folder that moved with its runs: MLflow keeps absolute addresses of artifacts, so they are put right."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dp_train.errors import TrackingError

_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Where MLflow keeps the address of a file."""


def follow_move(database: Path, root: str, *, wait_seconds: float = 20) -> int:
    """Let a store's artifacts be found where its folder lies now; return how many addresses were changed.

    | artifacts are noted | their addresses are |
    |---|---|
    | beside the database | left |
    | in another folder's `mlartifacts`, which is gone, and one is beside the database | changed to that one |
    | in another folder's, which is there: this one is a copy | left |

    Args:
      database: the SQLite file of MLflow. root: address of the folder of artifacts beside it.
      wait_seconds: how long to wait for a database that is locked.

    Raises:
      TrackingError: the database cannot be read or written.
    """
    here = Path(unquote(urlsplit(root).path))
    if not here.is_dir():
        return 0
    try:
        with closing(sqlite3.connect(database, timeout=wait_seconds)) as connection, connection:
            there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            known = [(table, column) for table, column in _COLUMNS if table in there]
            changed = 0
            for old in _gone(connection, known, here.name, root):
                for table, column in known:
                    # Names of this file alone; the addresses are bound.
                    changed += connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                        f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                        (root, len(old) + 1, old, len(old) + 1, f"{old}/"),
                    ).rowcount
            return changed
    except sqlite3.Error as error:
        raise TrackingError(
            f"tracking: {database.name}: where artifacts lie cannot be read or put right ({type(error).__name__}); "
            "close other programs that use it"
        ) from error


def _gone(connection: sqlite3.Connection, known: list[tuple[str, str]], name: str, root: str) -> set[str]:
    """Folders of artifacts that addresses name and that are not there any more."""
    found = set()
    for table, column in known:
        for (address,) in connection.execute(f"SELECT DISTINCT {column} FROM {table}"):
            before, separator, _ = f"{address}/".partition(f"/{name}/")
            old = f"{before}/{name}"
            if separator and old != root and urlsplit(old).scheme == "file":
                found.add(old)
    return {old for old in found if not Path(unquote(urlsplit(old).path)).exists()}


__all__ = ["follow_move"]
