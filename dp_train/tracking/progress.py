"""What a run shows while it works: a bar on a terminal, plain lines otherwise, both at public steps alone.

When a step ended tells how many people were in it. So nothing here is triggered by a clock: the bar moves and lines are
printed after the steps that `public_points` names, and the seconds are those of the whole run, at its end.
"""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn

from dp_train.privacy.rounding import rounded_up
from dp_train.training.callbacks import Result, RunStart, StepEnd, public_points


class ShowProgress:
    """A callback of the trainer. It shows public values alone: steps, ε so far, and the seconds of the whole run.

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
        self._points: frozenset[int] = frozenset()

    def on_start(self, run: RunStart) -> None:
        self._steps = run.plan.steps
        self._points = frozenset(public_points(self._steps))
        if not self._console.is_terminal:
            resumed = f", resumed at step {run.first_step}" if run.first_step else ""
            self._line(f"{run.plan.steps} steps, {run.trainable_parameters:,} parameters{resumed}")
            return
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[epsilon]}"),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task(self._label, total=self._steps, completed=run.first_step, epsilon="")
        self._bar.start()

    def on_step(self, step: StepEnd) -> None:
        if step.step not in self._points:
            return
        epsilon = "" if step.epsilon is None else f"ε so far {rounded_up(step.epsilon)}"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=step.step, epsilon=epsilon)
        elif step.step < self._steps:  # the last line is that of the end
            self._line(f"step {step.step}/{self._steps}", epsilon)

    def on_end(self, result: Result) -> None:
        if self._bar is not None:
            self._bar.stop()
        claim = result.epsilon
        spent = f"ε={rounded_up(claim.unwrap())}" if claim.private and not claim.withheld else claim.describe()
        self._line(f"{result.status.value.lower()} after {result.steps} steps, {result.seconds:.1f} s", spent)

    def _line(self, *parts: str) -> None:
        self._console.print(f"{self._label}: {', '.join(part for part in parts if part)}", highlight=False)
