"""Every start compares the store with what earlier runs saw of it, and refuses a step back."""

from __future__ import annotations

from collections.abc import Iterator

from dp_train.consent.receipts import check_receipts
from dp_train.runs.folder import RunFolder
from dp_train.store.database import Database
from dp_train.store.heads import Chain, Head, check_heads, keep_heads, kept_heads

NOTES = {"consent.json": Chain.CONSENT, "ledger.json": Chain.LEDGER}
"""Notes of a run folder, each with the keys "head" and "store" (of consent: "store_at")."""


def check_start(database: Database) -> None:
    """Raise unless the store holds all that earlier runs, its receipts and the file of DP_TRAIN_HEADS saw of it.

    The heads that it has now are kept.

    Raises:
      StoreError: it is an older copy, or rows were cut off.
    """
    check_heads(database, [*seen_heads(), *kept_heads()])
    check_receipts(database)
    keep_heads(database)


def head_tags(folder: RunFolder) -> dict[str, str]:
    """Tags of a run's record: the head of each chain that its folder noted, for `consent verify --head` elsewhere."""
    found = {}
    for name, chain in NOTES.items():
        digest = folder.read_json(name).get("head")
        if isinstance(digest, str):
            found[f"dp_train.{chain.value}_head"] = digest
    return found


def seen_heads() -> Iterator[Head]:
    """The heads that the run folders here noted."""
    for folder in RunFolder.all():
        for name, chain in NOTES.items():
            note = folder.read_json(name)
            digest, store = note.get("head"), note.get("store_at", note.get("store"))
            if isinstance(digest, str) and isinstance(store, str):
                yield Head(chain=chain, digest=digest, store=store, noted_in=f"run {folder.path}")
