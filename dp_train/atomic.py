"""Files and folders that appear whole or not at all, and what a killed process leaves of them.

1. write beside the destination, to `.NAME.PLACE-PID-BEGUN-RANDOM.part`, with the destination's mode from the start;
2. make it durable;
3. give it its name by one rename, and make that durable, too.

A process that is killed between 1 and 3 leaves a part that may hold what its destination was to hold: secret seeds,
who is in a run, a key. Its name says which process wrote it, so that `sweep` can remove it and leave alone what a
living process is writing.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

FOREIGN_SECONDS = 24 * 3600.0
"""How old a part of another machine or container must be before `sweep` takes its writer for dead."""

_PART = re.compile(r"\..+\.(?P<place>[0-9a-f]{12})-(?P<pid>\d+)-(?P<begun>\d+)-[0-9a-f]{8}\.part")
# What versions before 0.1.0 left: `.NAME.PID`.
_OLD_PART = re.compile(r"\.(step-\d{8}(-final)?|people\.jsonl|[a-z_]+\.json|[0-9a-f]{16}|[0-9a-f]{32})\.(?P<pid>\d+)")


@contextmanager
def whole_file(final: Path, *, mode: int = 0o666, replace: bool = True) -> Iterator[BinaryIO]:
    """Yield a new binary file that takes the name `final` when the block ends; an error leaves no trace of it.

    Guarantee: at every moment `final` is absent, as it was, or whole; after the block it survives a power cut.

    Args:
      mode: of the new file, less the process's umask.
      replace: an existing file gives way; with False it stays, and FileExistsError says so.

    Raises:
      OSError: it cannot be written; an older file stays as it was.
    """
    part = final.with_name(_part_name(final.name))
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if replace:
            part.replace(final)
        else:
            os.link(part, final)  # fails if there is one; a rename would not
        _sync(final.parent)
    finally:
        part.unlink(missing_ok=True)


def write_text(final: Path, text: str, *, mode: int = 0o666, replace: bool = True) -> None:
    """Write UTF-8 text by `whole_file`."""
    with whole_file(final, mode=mode, replace=replace) as file:
        file.write(text.encode())


@contextmanager
def whole_folder(final: Path, *, mode: int = 0o777, replace: bool = False) -> Iterator[Path]:
    """Yield a new folder that takes the name `final` when the block ends; an error leaves no trace of it.

    Guarantee: at every moment `final` is absent, as it was, or whole.

    Args:
      mode: of the new folder, less the process's umask.
      replace: an existing folder gives way. With False it stays and the new one is dropped: another process that makes
        the same thing was faster.

    Raises:
      OSError: it cannot be written; an older folder stays as it was.
    """
    part, old = (final.with_name(_part_name(final.name)) for _ in range(2))
    try:
        part.mkdir(mode=mode)
        yield part
        for file in part.rglob("*"):
            _sync(file)
        _sync(part)
        if replace and final.exists():
            final.rename(old)  # no system call that Python knows exchanges two folders
        if not final.exists():
            with suppress(FileExistsError):
                _rename_folder(part, final)
        _sync(final.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def whole_file_of_others(final: Path) -> Iterator[Path]:
    """Yield a path at which another library makes a file; it takes the name `final` when the block ends.

    Guarantee: as `whole_folder`; an existing file stays, and what was made is dropped.

    Raises:
      OSError: it cannot be written.
    """
    part = final.with_name(_part_name(final.name))
    try:
        part.mkdir()
        yield part / final.name
        _sync(part / final.name)
        with suppress(FileExistsError):
            os.link(part / final.name, final)
        _sync(final.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def sweep(folder: Path, *, deep: bool = False, foreign_seconds: float = FOREIGN_SECONDS) -> int:
    """Remove the parts in `folder` whose writers are dead; return how many. No folder: none.

    | the part was written | it is removed |
    |---|---|
    | by a living process of this machine, this one included | never |
    | by a process of this machine that has ended, or whose number another process has | at once |
    | on another machine, in another container, before a restart | `foreign_seconds` after its last change |

    Args:
      deep: also in every folder below, links not followed.
    """
    removed = 0
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(parent, name)
            if _is_left_over(path, foreign_seconds):
                with suppress(OSError):
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                    removed += 1
        if not deep:
            break
    return removed


def parts(folder: Path) -> list[Path]:
    """Every part in a folder, also of the living: for who empties it."""
    return [path for path in folder.glob(".*") if _PART.fullmatch(path.name) or _OLD_PART.fullmatch(path.name)]


def _rename_folder(part: Path, final: Path) -> None:
    """Rename; FileExistsError if another process was faster, which Linux reports as ENOTEMPTY."""
    try:
        part.rename(final)
    except OSError as error:
        if final.is_dir():
            raise FileExistsError(str(final)) from error
        raise


def _part_name(name: str) -> str:
    pid = os.getpid()
    return f".{name}.{_place()}-{pid}-{_begun(pid) or 0}-{secrets.token_hex(4)}.part"


def _is_left_over(path: Path, foreign_seconds: float) -> bool:
    old = _OLD_PART.fullmatch(path.name)
    if old is not None:
        return _begun(int(old["pid"])) is None
    found = _PART.fullmatch(path.name)
    if found is None:
        return False
    if found["place"] == _place():
        return _begun(int(found["pid"])) != int(found["begun"])
    try:
        return time.time() - path.stat().st_mtime >= foreign_seconds
    except OSError:  # renamed since
        return False


@cache
def _place() -> str:
    """Names where process numbers mean the same: this start of this machine, and this container of it."""
    try:
        facts = Path("/proc/sys/kernel/random/boot_id").read_text() + str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        facts = platform.node()
    return hashlib.sha256(facts.encode()).hexdigest()[:12]


def _begun(pid: int) -> int | None:
    """When a process began, in the machine's ticks; 0 where the machine does not say, None if there is no such one."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass
    except (OSError, OverflowError):
        return None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0 if not Path("/proc/self/stat").exists() else None
    state, *rest = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return None if state in "ZX" else int(rest[18])


def _sync(path: Path) -> None:
    """Make a file's content, or a folder's list of names, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


__all__ = ["parts", "sweep", "whole_file", "whole_file_of_others", "whole_folder", "write_text"]
