"""Several processes that are one run, as torchrun starts them, forked from the server of `processes`."""

from __future__ import annotations

import os
import pickle
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from processes import context

WAIT = 300.0
"""Seconds after which a test is lost; machines that many share are slow."""


@dataclass(frozen=True)
class Ended:
    """How a process ended: what its work returned, or why it did not."""

    value: Any = None
    error: BaseException | None = None
    killed: bool = False


def ended(size: int, work: Callable[..., Any], *given: Any) -> list[Ended]:
    """Call `work(*given)` in each of `size` processes of one group of gloo, and say how each ended.

    `work` is a function of a module that can be imported, and what it takes and returns can be pickled.
    """
    with tempfile.TemporaryDirectory() as folder:
        started = [
            context().Process(target=_work, args=(rank, size, folder, work, given), daemon=True) for rank in range(size)
        ]
        for process in started:
            process.start()
        for process in started:
            process.join(WAIT)
        lost = [process for process in started if process.exitcode is None]
        for process in lost:
            process.kill()
            process.join()
        if lost:
            raise TimeoutError(f"{len(lost)} of {size} processes did not end")
        found = [Path(folder, f"{rank}.pickle") for rank in range(size)]
        return [pickle.loads(one.read_bytes()) if one.exists() else Ended(killed=True) for one in found]


def together(size: int, work: Callable[..., Any], *given: Any) -> list[Any]:
    """Call `work(*given)` in each of `size` processes, and return what it returned in each."""
    found = ended(size, work, *given)
    for one in found:
        if one.error is not None:
            raise one.error
        assert not one.killed, "a process was killed"
    return [one.value for one in found]


def _work(rank: int, size: int, folder: str, work: Callable[..., Any], given: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
    try:
        one = Ended(value=work(*given))
    except BaseException as error:
        error.add_note(f"in process {rank}: {traceback.format_exc()}")
        one = Ended(error=error)
    part = Path(folder, f"{rank}.part")
    part.write_bytes(pickle.dumps(one))
    part.rename(Path(folder, f"{rank}.pickle"))
    os._exit(0)  # no farewell to processes that may be gone
