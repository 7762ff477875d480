"""Several processes on one machine that take jobs one after the other, and how many of them fit it.

Processes are spawned, so that each starts as a fresh program does. A signal to the parent ends them: each gets SIGTERM,
ends its run after the step in hand, closes what it opened, and is waited for. Ctrl-C, which a terminal sends to all of
them, is the parent's alone. A worker whose parent was killed ends in the same way.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from dp_train.runs.names import DeviceName
from dp_train.runs.recipe import Recipe

JobT = TypeVar("JobT")
DoneT = TypeVar("DoneT")
_GRACE_SECONDS = 60.0
"""For a step in hand and a checkpoint; what is still there after it is killed, and its line counts in full."""
_LEAST_BYTES = 1 << 30


class WorkerLost(Exception):
    """A worker process ended before its job did."""


def workers_that_fit(recipes: Sequence[Recipe], wanted: int | None) -> int:
    """How many trials run at once: `wanted`, else as many as fit cores and memory.

    Each takes trainer.threads cores. Where torch is to choose the threads (0), or they share one GPU, one runs at a
    time. A trial is taken to need what this process has used so far, for it has prepared the same data.
    """
    if wanted is not None:
        return min(wanted, len(recipes))
    threads = [recipe.trainer.threads for recipe in recipes]
    if min(threads, default=0) == 0 or any(recipe.trainer.device is DeviceName.CUDA for recipe in recipes):
        return 1
    cores = len(os.sched_getaffinity(0)) // max(threads)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return max(1, min(len(recipes), cores, _available_bytes() // max(used, _LEAST_BYTES)))


def _available_bytes() -> int:
    try:
        with Path("/proc/meminfo").open() as lines:
            found = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(found.split()[1]) * 1024
    except (OSError, StopIteration, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


@dataclass(slots=True)
class _Worker(Generic[JobT]):
    process: SpawnProcess
    pipe: Connection
    job: JobT | None = None


def side_by_side(
    jobs: Sequence[JobT],
    work: Callable[[JobT], DoneT],
    *,
    workers: int,
    begins: Callable[[JobT], None] = lambda job: None,
    alike: Callable[[JobT], object] = lambda job: None,
    meanwhile: Callable[[], None] = lambda: None,
) -> Generator[tuple[JobT, DoneT | WorkerLost]]:
    """Each job with what `work` gave of it, in the order in which they end; `WorkerLost` where the process died.

    Guarantee: on every way out no worker is left.

    Args:
      work: a function of a module, as a fresh process imports it; `jobs` and what it returns are pickled.
      begins: called here before a job is given to a worker.
      alike: jobs of which this is equal go to the same worker where they can, for it has prepared what they need.
      meanwhile: called here, once, while the first workers are at their jobs.
    """
    waiting = list(jobs)
    running: list[_Worker[JobT]] = []
    met = False
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                worker = _start(work)
                _give(worker, _next(waiting, worker, running, alike), begins)
                running.append(worker)
            if not met:
                meanwhile()
                met = True
            ready = wait([worker.pipe for worker in running])
            for worker in [worker for worker in running if worker.pipe in ready]:
                job = worker.job
                assert job is not None
                try:
                    done: DoneT | WorkerLost = worker.pipe.recv()
                except EOFError:
                    worker.process.join()
                    done = WorkerLost(f"its process ended ({_how(worker.process.exitcode)}) before the run did")
                    running.remove(worker)
                else:
                    if waiting:
                        _give(worker, _next(waiting, worker, running, alike), begins)
                    else:
                        worker.pipe.close()  # it ends
                        worker.process.join()
                        running.remove(worker)
                yield job, done
    finally:
        for worker in running:
            worker.process.terminate()
        _wait_for(running)


def _start(work: Callable[[Any], Any]) -> _Worker[Any]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_loop, args=(theirs, work), daemon=True)
    resource_tracker.ensure_running()  # it would take the mask away
    # The process inherits the mask, from its first instruction on: Ctrl-C would end its imports with a traceback.
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
    theirs.close()
    return _Worker(process, ours)


def _next(
    waiting: list[JobT], worker: _Worker[JobT], running: Sequence[_Worker[JobT]], alike: Callable[[JobT], object]
) -> JobT:
    """Take out the next job for a worker: one like its last, else one that no other worker is at the like of."""
    last = [] if worker.job is None else [alike(worker.job)]
    elsewhere = [alike(other.job) for other in running if other is not worker and other.job is not None]
    kinds = [alike(job) for job in waiting]
    like = [number for number, kind in enumerate(kinds) if kind in last]
    free = [number for number, kind in enumerate(kinds) if kind not in elsewhere]
    return waiting.pop((like or free or [0])[0])


def _give(worker: _Worker[JobT], job: JobT, begins: Callable[[JobT], None]) -> None:
    begins(job)
    worker.job = job
    worker.pipe.send(job)


def _wait_for(workers: Sequence[_Worker[Any]]) -> None:
    for worker in workers:
        worker.pipe.close()
        worker.process.join(_GRACE_SECONDS)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _loop(pipe: Connection, work: Callable[[Any], Any]) -> None:
    """What a worker does until its parent closes the pipe, or is gone."""
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    while True:
        try:
            job = pipe.recv()
        except (EOFError, OSError):  # the parent closed it, or is gone
            return
        done = work(job)
        try:
            pipe.send(done)
        except OSError:
            return


def _end_with_parent() -> None:
    """Wait until the parent is gone, and end as at its signal: no process would take the result, or end this one."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _leave(number: int, frame: object) -> NoReturn:
    """SIGTERM outside the training loop: leave through every `finally`."""
    raise SystemExit(128 + number)


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"


__all__ = ["WorkerLost", "side_by_side", "workers_that_fit"]
