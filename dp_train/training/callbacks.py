"""What a run tells the outside: three moments, and private values only to a callback that asks for them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol, runtime_checkable

from dp_train.engines.base import EngineName, StepRecord
from dp_train.privacy.monitor import EpsilonClaim
from dp_train.privacy.plan import PrivacyPlan


class RunStatus(Enum):
    """How a run ended; the values are MLflow's."""

    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStart:
    """Public facts of a run that starts or resumes at `first_step`."""

    task: str
    plan: PrivacyPlan
    engine: EngineName
    first_step: int
    trainable_parameters: int
    consent_root: str
    seed_is_fixed: bool


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


class Callback(Protocol):
    """Follows a run. An exception in a callback ends the run as FAILED, after a checkpoint."""

    def on_start(self, run: RunStart) -> None: ...

    def on_step(self, step: StepEnd) -> None: ...

    def on_end(self, result: Result) -> None: ...


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
