"""The project that a run belongs to: one store of consent and ledger, and the key that names its people.

Both are found from the working folder upwards, so that what was withdrawn and spent holds in every folder below it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from dp_train.errors import StoreError
from dp_train.runs.recipe import Recipe
from dp_train.store.database import absolute_url, file_above, shown, sqlite_file

NOTE = "ledger.json"
"""Of a run's folder: its id, its people's population, its store, and the last hash of the ledger that it saw."""
ROOTS = (Path("runs"), Path("multirun"))


def store_url(config: Recipe) -> str:
    """Address of the store of a recipe: store.url, DP_TRAIN_STORE, or the project's."""
    return absolute_url(config.store.url, Path.cwd())


def key_path(name: str | Path) -> Path:
    """The file of the principal key: a relative name belongs to the working folder, else to the project's."""
    path = Path(name)
    store = file_above(Path.cwd())
    if path.is_absolute() or path.exists() or store is None or store.parent == Path.cwd():
        return path
    return store.parent / path


def refuse_second_store(config: Recipe) -> None:
    """Raise where a run would make a store although there is one that knows its people or the runs beside it.

    A new store knows of no withdrawal and no spending. Making one on purpose is `dp-train ledger declare`.

    Raises:
      StoreError: there are such runs, or the files of the recipe lie in a project that has a store.
    """
    consent, corpus = config.consent, config.corpus
    refuse_new_store(store_url(config), consent.key, consent.events, corpus.private, *corpus.more)


def refuse_new_store(url: str, *files: str | None) -> None:
    """`refuse_second_store`, of an address and the files that belong to its people.

    Raises:
      StoreError: as there.
    """
    file = sqlite_file(url)
    if file is None or file.exists():
        return
    remedy = "give that one as --store, store.url or DP_TRAIN_STORE; dp-train ledger declare makes a new one on purpose"
    for name in filter(None, files):
        other = file_above(Path(name).absolute().parent)
        if other is not None:
            raise StoreError(
                f"store: {shown(url)} does not exist, and {name} belongs to a project whose store is {other}; {remedy}"
            )
    for noted in _noted_stores(Path.cwd()):
        raise StoreError(
            f"store: {shown(url)} does not exist, and runs in this folder are in the store {noted}; {remedy}"
        )


def _noted_stores(folder: Path) -> Iterator[str]:
    """What the runs of a folder say of their store."""
    for root in ROOTS:
        for path in sorted((folder / root).rglob(NOTE)):
            try:
                note = json.loads(path.read_text())
            except (OSError, ValueError):
                continue
            if isinstance(note, dict) and note.get("head"):
                yield str(note.get("store", "that their ledger.json is of"))


__all__ = ["NOTE", "ROOTS", "key_path", "refuse_new_store", "refuse_second_store", "store_url"]
