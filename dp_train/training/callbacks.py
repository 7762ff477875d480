"""What a run tells the outside: three moments, public values apart from private ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from dp_train.engines.base import EngineName, StepRecord
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
    engine: EngineName
    first_step: int
    trainable_parameters: int
    consent_root: str
    seed_is_fixed: bool
    identity: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnd:
    """One step done. `step` counts finished steps, 1 … plan.steps.

    `epsilon` is what the plan has spent after `step` steps; None without privacy, and None on steps at
    which it was not computed. `private` was computed from private data and is covered by no ε: a
    callback may not log it unless the user asked for that and the run is marked. `noisy_loss` is a release that the
    plan pays for, if it has a curve (`PrivacyPlan.loss_noise_ratio`); None otherwise.
    """

    step: int
    learning_rate: float
    seconds: float
    peak_rss_bytes: int
    epsilon: float | None
    private: StepRecord
    noisy_loss: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a run ended and what may be said of its ε."""

    status: RunStatus
    steps: int
    epsilon: EpsilonClaim
    seconds: float
    checkpoint: Path | None
    stopped_by: int | None = None
    """Number of the signal that ended the run early."""
    identity: str = ""
    """Public name of the run, as in `RunStart`."""


class Callback(Protocol):
    """Follows a run. An exception in a callback ends the run as FAILED, after a checkpoint.

    Subclass it and write the methods that you need, or write a class with any of the three.
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


_METHODS = ("on_start", "on_step", "on_end")


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


def notify_start(callbacks: Sequence[Callback], run: RunStart) -> None:
    """Call `on_start` of every callback that has it."""
    for callback in callbacks:
        if hasattr(callback, "on_start"):
            callback.on_start(run)


def notify_step(callbacks: Sequence[Callback], step: StepEnd) -> None:
    """Call `on_step` of every callback that has it."""
    for callback in callbacks:
        if hasattr(callback, "on_step"):
            callback.on_step(step)


def notify_end(callbacks: Sequence[Callback], result: Result) -> None:
    """Call `on_end` of every callback that has it."""
    for callback in callbacks:
        if hasattr(callback, "on_end"):
            callback.on_end(result)
