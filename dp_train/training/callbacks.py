"""What a run tells the outside: three moments, public values apart from private ones."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from dp_train.engines.base import AnyEngine, StepRecord
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
    engine: AnyEngine
    first_step: int
    trainable_parameters: int
    consent_root: str
    seed_is_fixed: bool


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


class Callback(Protocol):
    """Follows a run. An exception in a callback ends the run as FAILED, after a checkpoint."""

    def on_start(self, run: RunStart) -> None: ...

    def on_step(self, step: StepEnd) -> None: ...

    def on_end(self, result: Result) -> None: ...
