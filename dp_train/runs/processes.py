"""What a run asks of its process: to be the only one, and to be left alone while it writes its end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dp_train.errors import ConfigError

_WORLD = {
    "WORLD_SIZE": "torchrun or accelerate",
    "SLURM_NTASKS": "Slurm",
    "OMPI_COMM_WORLD_SIZE": "Open MPI",
    "PMI_SIZE": "MPI",
    "MV2_COMM_WORLD_SIZE": "MVAPICH",
    "JSM_NAMESPACE_SIZE": "jsrun",
    "FLUX_JOB_SIZE": "Flux",
}


def refuse_several_processes() -> None:
    """Raise if this process was started as one of several.

    Each would be a run of its own that charges and claims its own ε on the same people.

    Raises:
      ConfigError: the launcher's environment says so.
    """
    for name, launcher in _WORLD.items():
        count = os.environ.get(name, "1")
        if count.isdigit() and int(count) > 1:
            raise ConfigError(
                f"{launcher}: {name}={count} processes; expected one, for each would spend an ε of its own on the same "
                f"people; start dp-train without it, or with {name}=1"
            )


@contextmanager
def signals_held() -> Iterator[None]:
    """Deliver Ctrl-C and SIGTERM after the block: an exception in the middle of a database call breaks its connection.

    Outside the main thread, where Python allows no handlers, it holds nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    old = {number: signal.signal(number, lambda got, _: held.append(got)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])


__all__ = ["refuse_several_processes", "signals_held"]
