"""Opens the consent store of a verb: the project's, and a new one never in silence."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from pathlib import Path

from dp_train.consent.integrity import has_store
from dp_train.consent.store import ConsentStore
from dp_train.errors import StoreError
from dp_train.runs.project import refuse_new_store
from dp_train.store.database import Database, absolute_url, shown, sqlite_file


def open_store(options: Namespace, *, makes: bool = False, copies: bool = False) -> ConsentStore:
    """Open the store that --store, DP_TRAIN_STORE or the working folder names; close its `database`.

    | there is no store at that address | |
    |---|---|
    | the verb only reads | an error: an answer would be about no person |
    | `makes`, and runs or the key here belong to another store | an error: a no there would reach no run |
    | `makes` otherwise | it is made, and the error stream says so |

    Args:
      makes: the verb enters something.
      copies: the verb may fill a second store on purpose, where the address was given.

    Raises:
      StoreError: as above, or the database cannot be used.
    """
    url = absolute_url(options.store, Path.cwd())
    file = sqlite_file(url)
    if file is not None and file.exists():
        return ConsentStore(Database(url))
    if file is not None and not makes:
        raise _missing(url)
    if file is not None and not (copies and (options.store or os.environ.get("DP_TRAIN_STORE"))):
        refuse_new_store(url, getattr(options, "key", None))
    database = Database(url)
    try:
        new = file is not None or not has_store(database)
        if new and not makes:
            raise _missing(url)
        store = ConsentStore(database)
    except BaseException:
        database.close()
        raise
    if new:
        print(
            f"new store: {shown(url)}; no run and no consent is in it: if yours are elsewhere, repeat this in their "
            "folder, or with --store or DP_TRAIN_STORE",
            file=sys.stderr,
        )
    return store


def _missing(url: str) -> StoreError:
    return StoreError(
        f"store: there is none at {shown(url)}, and this verb makes none; go to the folder of your runs, or give "
        "--store or DP_TRAIN_STORE"
    )


__all__ = ["open_store"]
