"""The key of a chain that only its owner can continue: a file outside the database, made on first use.

It lies where `DP_TRAIN_LEDGER_KEY` says; else in `runs/ledger.key`, beside the principal key, of the folder that a
SQLite store lies in, or of the working folder for PostgreSQL. Everybody who writes to one store needs the same key.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from dp_train.errors import StoreError

ENVIRONMENT = "DP_TRAIN_LEDGER_KEY"
PEOPLE_KEY = "people.key"
"""Beside it: the secret under which the ledger keeps digests of people (`privacy.ledger.people`)."""
_BYTES = 32
_SQLITE = "sqlite:///"


def key_path(url: str) -> Path:
    """Where the key of a store lies."""
    given = os.environ.get(ENVIRONMENT)
    if given:
        return Path(given)
    folder = Path(url.removeprefix(_SQLITE)).parent if url.startswith(_SQLITE) else Path.cwd()
    return folder / "runs" / "ledger.key"


def read_key(path: Path) -> bytes | None:
    """The key of a file; None where there is none.

    Raises:
      StoreError: it is open to others, is no key, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(4096)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"ledger key {path}: {error.strerror}; expected a key that can be read") from error
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise StoreError(f"ledger key {path}: mode {stat.S_IMODE(mode):03o}; expected 600, run chmod 600 on it")
    try:
        secret = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        secret = b""
    if len(secret) != _BYTES:
        raise StoreError(f"ledger key {path}: not a key; restore it from its copy")
    return secret


def open_key(path: Path) -> bytes:
    """Read the key, or draw one from the OS into a new file of mode 0600; of two processes that do, one makes it.

    Raises:
      StoreError: as `read_key`, or it cannot be written.
    """
    known = read_key(path)
    if known is not None:
        return known
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as out:
            out.write(secrets.token_hex(_BYTES) + "\n")
            out.flush()
            os.fsync(out.fileno())
        try:
            os.link(temporary, path)  # whole, and never over a key that is there
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    except OSError as error:
        raise StoreError(f"ledger key {path}: {error.strerror}; choose a folder that can be written") from error
    made = read_key(path)
    if made is None:
        raise StoreError(f"ledger key {path}: was taken away while it was made; repeat the command")
    return made
