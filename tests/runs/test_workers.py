"""Jobs side by side: each ends once, a lost process is said, and none is left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

import pytest

from dp_train.runs.processes import signals_held
from dp_train.runs.workers import WorkerLost, side_by_side


def test_every_job_ends_once_whichever_worker_takes_it() -> None:
    begun: list[int] = []
    ended = list(side_by_side([-1, -2, -3], abs, workers=2, begins=begun.append))
    assert sorted(ended) == [(-3, 3), (-2, 2), (-1, 1)]
    assert begun == [-1, -2, -3]
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
