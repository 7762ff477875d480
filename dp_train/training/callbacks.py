"""What a run tells the outside: three moments, and private values only to a callback that asks for them.

Public and private values are in objects of their own: whoever logs a `RunStart`, a `StepEnd` or a `Result` whole cannot
log a `PrivateStep` with it.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import nn

from dp_train.engines.base import AnyEngine, StepRecord
from dp_train.errors import ConfigError
from dp_train.privacy.monitor import EpsilonClaim
from dp_train.privacy.plan import PrivacyPlan


class RunStatus(Enum):
    """How a run ended; the values are MLflow's."""

    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStart:
    """Public facts of a run that starts or resumes at `first_step`.

    `identity` names the run in public: the same when it resumes, another for every other run.
    """

    task: str
    plan: PrivacyPlan
    engine: AnyEngine
    first_step: int
    trainable_parameters: int
    consent_root: str
    seed_is_fixed: bool
    identity: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnd:
    """One step done: public values alone. `step` counts finished steps, 1 … plan.steps.

    `epsilon` is what the plan has spent after `step` steps; None without privacy, and None on steps at
    which it was not computed. `noisy_loss` is a release that the plan pays for, if it has a curve
    (`PrivacyPlan.loss_noise_ratio`); None otherwise.
    """

    step: int
    learning_rate: float
    epsilon: float | None
    noisy_loss: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateStep:
    """What one step computed from private data, and no ε covers; for `ReadsPrivateSteps` alone.

    `seconds` of the run so far and `peak_rss_bytes` follow the realised batch sizes: over 150 steps their curves tell
    as much as an ε of 1 to 2.
    """

    step: int
    seconds: float
    peak_rss_bytes: int
    record: StepRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a run ended and what may be said of its ε. `seconds` and `peak_rss_bytes` are of the whole run."""

    status: RunStatus
    steps: int
    epsilon: EpsilonClaim
    seconds: float
    checkpoint: Path | None
    peak_rss_bytes: int | None = None
    stopped_by: int | None = None
    """Number of the signal that ended the run early."""
    identity: str = ""
    """Public name of the run, as in `RunStart`."""
    history: tuple[StepEnd, ...] = ()
    """Every step, as callbacks heard of it; also those before the run was interrupted."""


class Callback(Protocol):
    """Follows a run. An exception in a callback ends the run as FAILED, after a checkpoint.

    Subclass it and write the methods that you need, or write a class with any of the three. A method that has a
    parameter `model` is handed the model as well, as the run would leave it at that moment. It is for looking at: a
    callback that changes the weights costs the run its claim.
    """

    def on_start(self, run: RunStart) -> None:
        """Hear that a run starts or resumes."""
        return

    def on_step(self, step: StepEnd) -> None:
        """Hear that a step is done."""
        return

    def on_end(self, result: Result) -> None:
        """Hear how the run ended."""
        return


_METHODS = ("on_start", "on_step", "on_private_step", "on_end")


def check_callbacks(callbacks: Sequence[Callback]) -> tuple[Callback, ...]:
    """Return the callbacks.

    Raises:
      ConfigError: one has none of the three methods, or is a class and not an instance of it.
    """
    if not isinstance(callbacks, Sequence):
        raise ConfigError(f"trainer: callbacks is a {type(callbacks).__name__}; expected a list of callbacks")
    for callback in callbacks:
        if isinstance(callback, type) or not any(callable(getattr(callback, name, None)) for name in _METHODS):
            kind = f"the class {callback.__name__}" if isinstance(callback, type) else f"a {type(callback).__name__}"
            raise ConfigError(
                f"trainer: a callback is {kind}; expected an object with on_start, on_step or on_end; "
                "subclass Callback and give an instance"
            )
    return tuple(callbacks)


def notify_start(callbacks: Sequence[Callback], run: RunStart, model: nn.Module) -> None:
    """Call `on_start` of every callback that has it."""
    for callback in callbacks:
        _call(callback, "on_start", run, model)


def notify_step(callbacks: Sequence[Callback], step: StepEnd, private: PrivateStep, model: nn.Module) -> None:
    """Call `on_step` of every callback that has it, after `on_private_step` of those that ask for that."""
    for callback in callbacks:
        _call(callback, "on_private_step", private, model)
        _call(callback, "on_step", step, model)


def notify_end(callbacks: Sequence[Callback], result: Result, model: nn.Module) -> None:
    """Call `on_end` of every callback that has it."""
    for callback in callbacks:
        _call(callback, "on_end", result, model)


def _call(callback: Callback, name: str, event: object, model: nn.Module) -> None:
    method: Any = getattr(callback, name, None)
    if method is None:
        return
    if "model" in inspect.signature(method).parameters:
        method(event, model=model)
    else:
        method(event)


@runtime_checkable
class ReadsPrivateSteps(Protocol):
    """A callback that also asks for what is private; whoever writes one answers for where that goes."""

    def on_private_step(self, step: PrivateStep) -> None: ...


PUBLIC_POINTS = 8


def public_points(steps: int) -> tuple[int, ...]:
    """The steps, the last among them, at which a run shows itself: which they are depends on the plan alone.

    When a step ended tells how many units it had; eight moments of a whole run tell next to nothing.

    >>> public_points(100)
    (12, 25, 38, 50, 62, 75, 88, 100)
    """
    return tuple(sorted({max(1, round(steps * point / PUBLIC_POINTS)) for point in range(1, PUBLIC_POINTS + 1)}))
