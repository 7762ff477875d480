"""The screen goes by steps that the plan names, and tells the time once, at the end."""

import io

from rich.console import Console

from dp_train.engines.base import EngineName
from dp_train.privacy.monitor import RunMonitor
from dp_train.privacy.plan import PrivacyPlan
from dp_train.tracking.progress import ShowProgress
from dp_train.training.callbacks import Result, RunStart, RunStatus, StepEnd, public_points

PLAN = PrivacyPlan(sample_rate=0.1, expected_units=10, steps=100, delta=1e-5, noise_multiplier=1.0)


def lines(clock: float, monkeypatch) -> list[str]:  # type: ignore[no-untyped-def]
    """What a run prints whose steps take `clock` seconds each."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    out = io.StringIO()
    shown = ShowProgress("run", Console(file=out, force_terminal=False))
    shown.on_start(
        RunStart(
            task="letters",
            plan=PLAN,
            engine=EngineName.NAIVE,
            first_step=0,
            trainable_parameters=1000,
            consent_root="ab" * 32,
            seed_is_fixed=False,
        )
    )
    for step in range(1, 101):
        now[0] += clock
        shown.on_step(StepEnd(step=step, learning_rate=0.1, epsilon=None))
    claim = RunMonitor(PLAN.without_privacy()).claim(10)
    shown.on_end(Result(status=RunStatus.FINISHED, steps=100, epsilon=claim, seconds=1.0, checkpoint=None))
    return out.getvalue().splitlines()


def test_lines_do_not_depend_on_how_long_steps_take(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    fast, slow = lines(0.001, monkeypatch), lines(60.0, monkeypatch)
    assert fast == slow
    assert [line for line in fast if " s" in line.removeprefix("run: ").replace(" steps", "")] == fast[-1:]
    assert [line.split()[2].rstrip(",") for line in fast[1:-1]] == [f"{step}/100" for step in public_points(100)[:-1]]
