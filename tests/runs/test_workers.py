"""Jobs side by side: each ends once, a lost process is said, and none is left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from dp_train.errors import CheckpointError
from dp_train.runs.folder import RunFolder
from dp_train.runs.processes import signals_held
from dp_train.runs.workers import WorkerLost, side_by_side


def test_every_job_ends_once_whichever_worker_takes_it() -> None:
    begun: list[int] = []
    ended = list(side_by_side([-1, -2, -3], abs, workers=2, begins=begun.append))
    assert sorted(ended) == [(-3, 3), (-2, 2), (-1, 1)]
    assert begun == [-1, -2, -3]
    assert multiprocessing.active_children() == []


def _who(job: tuple[str, int]) -> tuple[str, int]:
    time.sleep(0.2)  # both workers are at it
    return job[0], os.getpid()


def test_jobs_that_are_alike_go_to_one_worker() -> None:
    jobs = [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2), ("b", 3)]
    met: list[int] = []
    begun: list[tuple[str, int]] = []
    beside = side_by_side(
        jobs, _who, workers=2, begins=begun.append, alike=lambda job: job[0], meanwhile=lambda: met.append(len(met))
    )
    ended = [done for _, done in beside]
    assert begun[:2] == [("a", 1), ("b", 1)]
    # A kind and its process; who has no job of its kind left helps with the other.
    assert len(ended) == 6
    assert len(set(ended)) <= 3
    assert met == [0]


def test_what_goes_wrong_meanwhile_leaves_no_worker() -> None:
    def wrong() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(side_by_side([0, 600], time.sleep, workers=2, meanwhile=wrong))
    assert multiprocessing.active_children() == []


def test_a_process_that_is_lost_is_said_and_the_other_jobs_go_on() -> None:
    ended = list(side_by_side([3, 4], os._exit, workers=1))
    assert [job for job, _ in ended] == [3, 4]
    assert all(isinstance(done, WorkerLost) for _, done in ended)
    assert "exit code 3" in str(ended[0][1])


def test_no_worker_is_left_when_the_parent_stops_listening() -> None:
    ends = side_by_side([0, 600], time.sleep, workers=2)
    assert next(ends) == (0, None)
    assert multiprocessing.active_children()
    ends.close()
    assert multiprocessing.active_children() == []


def test_a_signal_within_a_held_block_comes_after_it() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), signals_held():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        done.append("written")
    assert done == ["written"]


def test_ctrl_c_in_a_terminal_is_the_parents_alone() -> None:
    masked = partial(signal.pthread_sigmask, signal.SIG_BLOCK)
    ended = list(side_by_side([(), ()], masked, workers=2))
    assert [signal.SIGINT in done for _, done in ended if isinstance(done, set)] == [True, True]
    assert signal.SIGINT not in masked(())


def test_a_worker_whose_parent_was_killed_ends() -> None:
    lines = (
        "import time",
        "from dp_train.runs.workers import side_by_side",
        "if __name__ == '__main__':",
        "    list(side_by_side([0, 600], time.sleep, workers=1, begins=lambda job: print(job, flush=True)))",
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", "\n".join(lines)], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline().strip() for _ in range(2)] == ["0", "600"]
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
    deadline = time.monotonic() + 60
    while any(map(_lives, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_lives, children))


def _lives(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_folder_is_run_by_one_process_at_a_time(tmp_path: Path) -> None:
    with RunFolder(tmp_path).held(), pytest.raises(CheckpointError, match="in use"), RunFolder(tmp_path).held():
        pass
    with RunFolder(tmp_path).held():
        pass
    assert list(tmp_path.iterdir()) == []
