"""What a run asks of its processes: to be as many as it has, and to be left alone while it writes its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dp_train.engines.launched import launched, processes_launched
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
_GRACE_SECONDS = 60.0
"""For what the other processes of a run still have to do when the first one is done."""


def refuse_several_processes(expected: int = 1) -> None:
    """Raise if this process was started as one of several, but for those that share one run.

    Each would be a run of its own that charges and claims its own ε on the same people.

    Args:
      expected: trainer.processes of the run; torchrun, or what sets what it sets, may have started as many.

    Raises:
      ConfigError: the launcher's environment says so.
    """
    if launched() and processes_launched() == expected:
        return
    for name, launcher in _WORLD.items():
        count = os.environ.get(name, "1")
        if count.isdigit() and int(count) > 1:
            raise ConfigError(
                f"{launcher}: {name}={count} processes; expected one, for each would spend an ε of its own on the same "
                f"people; start dp-train without it, with {name}=1, or by torchrun -m dp_train train, which makes them "
                "one run"
            )


@contextmanager
def others_started(count: int, words: Sequence[str]) -> Iterator[None]:
    """Start the other processes of a run on this machine; this one is the first of them inside.

    They hear of Ctrl-C from this one alone, so that all end after the same step. On the way out they are waited for;
    what is still there after a minute is ended.

    Args:
      count: of all of them. words: of the command line, which each of them is started with.
    """
    world = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
    }
    if any(name == "lo" for _, name in socket.if_nameindex()):
        world["GLOO_SOCKET_IFNAME"] = "lo"
    path = os.pathsep.join(folder for folder in sys.path if folder)
    before, others = dict(os.environ), list[subprocess.Popen[bytes]]()
    try:
        for rank in range(1, count):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "PYTHONPATH": path}
            others.append(
                subprocess.Popen(
                    [sys.executable, "-m", "dp_train", *words],
                    env={**before, **world, **own},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )
        os.environ.update({**world, "RANK": "0", "LOCAL_RANK": "0"})
        yield
    finally:
        from dp_train.engines.ranks import leave  # torch takes seconds to import

        leave()
        for name in {*world, "RANK", "LOCAL_RANK"}:
            os.environ.pop(name, None)
            if name in before:
                os.environ[name] = before[name]
        for other in others:
            try:
                other.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                other.kill()
                other.wait()


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


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


__all__ = ["others_started", "refuse_several_processes", "signals_held"]
