"""`dp-train consent backup | restore`: a copy of the store that is whole, and its way back."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from dp_train.cli.consent_store import open_store
from dp_train.consent.store import ConsentStore
from dp_train.errors import StoreError
from dp_train.privacy.ledger.ledger import Ledger
from dp_train.runs.heads import seen_heads
from dp_train.store.chain_key import PEOPLE_KEY, key_path
from dp_train.store.database import Database, absolute_url, shown
from dp_train.store.heads import Head, check_heads, heads_now, keep_heads, kept_heads

_SQLITE = "sqlite:///"


def run(options: Namespace) -> int:
    """Do what the second word says."""
    if options.does == "backup":
        return _backup(open_store(options), Path(options.file))
    return _restore(absolute_url(options.store, Path.cwd()), Path(options.file))


def _backup(store: ConsentStore, target: Path) -> int:
    """Copy the store, once both its chains verify."""
    url = store.database.url
    database = store.database
    try:
        _verify(database, key_path(url))
        database.backup(target)
        keep_heads(database)
        heads = heads_now(database)
    finally:
        database.close()
    print(
        f"wrote {target}: consent and ledger, as they stand; keep {key_path(url)}, {PEOPLE_KEY} beside it and the "
        "principal key apart from it"
    )
    for head in heads:
        print(f"head of the {head.chain.value} chain: {head.digest}")
    return 0


def _restore(url: str, source: Path) -> int:
    """Put a backup in the store's place, if it is whole and not older than what was seen of the store."""
    if not url.startswith(_SQLITE):
        raise StoreError(f"store: {shown(url)} is PostgreSQL; restore it by its own tools")
    if not source.is_file():
        raise StoreError(f"store: {source} is no file; expected what dp-train consent backup wrote")
    target = Path(url.removeprefix(_SQLITE))
    fresh = target.with_name(f".{target.name}.restored")
    for leftover in _files(fresh):
        leftover.unlink(missing_ok=True)
    backup = Database(f"{_SQLITE}{source.absolute()}")
    try:
        backup.backup(fresh)
    finally:
        backup.close()
    copy = Database(f"{_SQLITE}{fresh.absolute()}")
    try:
        _verify(copy, key_path(url))
        here, there = shown(url), shown(copy.url)
        seen = [head for head in [*seen_heads(), *kept_heads(), *_heads_of(url)] if head.store == here]
        check_heads(
            copy,
            [Head(chain=head.chain, digest=head.digest, store=there, noted_in=head.noted_in) for head in seen],
        )
    except StoreError:
        copy.close()
        for leftover in _files(fresh):
            leftover.unlink(missing_ok=True)
        raise
    copy.close()
    for old in _files(target):
        if old.exists():
            old.replace(old.with_name(f"{old.name}.replaced"))
    fresh.replace(target)
    print(f"restored {target}; what was there lies beside it as {target.name}.replaced")
    return 0


def _heads_of(url: str) -> list[Head]:
    """The heads of the store that is to be replaced, as far as it can be read: a restore is no way back for a no."""
    target = Path(url.removeprefix(_SQLITE))
    if not target.exists():
        return []
    database = Database(url)
    try:
        found = heads_now(database)
    except StoreError:
        return []
    finally:
        database.close()
    return [Head(chain=h.chain, digest=h.digest, store=h.store, noted_in="the store itself") for h in found]


def _verify(database: Database, key: Path) -> None:
    ConsentStore(database).check()
    found = Ledger(database, key=key).verify()
    if found.broken is not None:
        raise StoreError(f"ledger: {found.broken.reason}; expected a store that verifies")


def _files(path: Path) -> list[Path]:
    return [path, *(path.with_name(f"{path.name}{end}") for end in ("-wal", "-shm"))]
