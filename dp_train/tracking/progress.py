"""What a run shows while it works: a bar on a terminal, a plain line now and then otherwise."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dp_train.privacy.rounding import rounded_up
from dp_train.training.callbacks import Result, RunStart, StepEnd

_SECONDS_BETWEEN_LINES = 10.0


class ShowProgress:
    """A callback of the trainer. It shows public values alone: steps, learning rate, ε so far, time.

    Args:
      label: what is being trained, such as "meeting_summary ε=8".
      console: where to show it; a bar where it is a terminal, else plain lines.
    """

    def __init__(self, label: str, console: Console) -> None:
        self._label = label
        self._console = console
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._steps = 0
        self._epsilon = ""
        self._last_line = 0.0

    def on_start(self, run: RunStart) -> None:
        self._steps = run.plan.steps
        self._last_line = time.monotonic()
        if not self._console.is_terminal:
            resumed = f", resumed at step {run.first_step}" if run.first_step else ""
            self._line(f"{run.plan.steps} steps, {run.trainable_parameters:,} parameters{resumed}")
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[epsilon]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task(self._label, total=self._steps, completed=run.first_step, epsilon="")
        self._bar.start()

    def on_step(self, step: StepEnd) -> None:
        if step.epsilon is not None:
            self._epsilon = f"ε so far {rounded_up(step.epsilon)}"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=step.step, epsilon=self._epsilon)
        elif time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self._line(f"step {step.step}/{self._steps}", self._epsilon, f"{step.seconds:.0f} s")

    def on_end(self, result: Result) -> None:
        if self._bar is not None:
            self._bar.stop()
        claim = result.epsilon
        spent = f"ε={rounded_up(claim.unwrap())}" if claim.private and not claim.withheld else claim.describe()
        self._line(f"{result.status.value.lower()} after {result.steps} steps, {result.seconds:.1f} s", spent)

    def _line(self, *parts: str) -> None:
        self._console.print(f"{self._label}: {', '.join(part for part in parts if part)}", highlight=False)
