"""What became of a run: in memory, and in `result.json` of its folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dp_train.privacy.monitor import EpsilonClaim
from dp_train.privacy.plan import PrivacyPlan
from dp_train.runs.baselines import Baseline, baseline_of, rate_of
from dp_train.runs.folder import RunFolder
from dp_train.runs.recipe import Recipe
from dp_train.tasks.base import Sample
from dp_train.tasks.metrics import TriggerPoint
from dp_train.training.callbacks import Result, RunStatus

RESULT = "result.json"
TUNING = "tuning_"
"""Before the name of a score: it is of the people on whom settings are chosen, and none to report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialOf:
    """The study that a run is a trial of; a stand-alone run is a study of one.

    `trial` is which of them, for the run's identity. `trials` and `without_privacy` count the runs on the same people,
    for the card: choosing among them spends too.
    """

    parent_id: str | None = None
    trial: str = ""
    trials: int = 1
    without_privacy: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What a model gave on the evaluation population; `private` was computed from training text, no ε covers it."""

    scores: Mapping[str, float] = field(default_factory=dict)
    samples: Sequence[Sample] = ()
    curve: Sequence[TriggerPoint] = ()
    private: Mapping[str, float] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What became of a run; `scores`, `samples` and `curve` (of suggestions) are of the evaluation population."""

    label: str
    config: Recipe
    plan: PrivacyPlan
    result: Result
    scores: Mapping[str, float]
    samples: Sequence[Sample]
    folder: RunFolder
    curve: Sequence[TriggerPoint] = ()

    @property
    def epsilon(self) -> float | None:
        """ε where there is one to show."""
        claim = self.result.epsilon
        return claim.unwrap() if claim.private and not claim.withheld else None


def label(config: Recipe) -> str:
    """What a run is called, such as "chat_compose ε=8"."""
    privacy = config.privacy
    baseline = baseline_of(config)
    if baseline is not None:
        asked = config.tradeoff.none if baseline is Baseline.NONE else config.tradeoff.best
        several = len(asked.learning_rates) > 1
        how = f"{baseline.title}, rate {rate_of(config):g}" if several else baseline.title
    elif privacy.epsilon is not None:
        how = f"ε={privacy.epsilon:g}"
    else:
        how = f"σ={privacy.noise_multiplier:g}"
    return f"{config.task.name} {how}"


def result_values(
    outcome: RunResult,
    *,
    metric: str,
    higher_is_better: bool,
    consent_root: str,
    starting_point: str | None,
    tracked: str | None,
) -> dict[str, Any]:
    """`result.json`: public values alone."""
    claim, epsilon = outcome.result.epsilon, outcome.epsilon
    return {
        "label": outcome.label,
        "task": outcome.config.task.name,
        "status": outcome.result.status.value,
        "steps": outcome.result.steps,
        "seconds": round(outcome.result.seconds, 1),
        "claim": claim.describe(),
        "epsilon": epsilon if epsilon is None or math.isfinite(epsilon) else None,
        "withheld": list(claim.withheld),
        "in_ledger": claim.in_ledger,
        "unknown_start": claim.unknown_start,
        "untried": claim.untried,
        "fixed_seed": claim.fixed_seed,
        "earlier": list(claim.earlier),
        "plan": outcome.plan.describe(),
        "plan_digest": outcome.plan.digest,
        "identity": outcome.result.identity,
        "consent_root": consent_root,
        "starting_point": starting_point,
        "metric": metric,
        "higher_is_better": higher_is_better,
        "scores": dict(outcome.scores),
        "trigger_curve": [asdict(point) for point in outcome.curve],
        "mlflow_run_id": tracked,
    }


def finished_before(config: Recipe, plan: PrivacyPlan, folder: RunFolder) -> RunResult | None:
    """What a run that has finished left in its folder, samples left out; None where it has not, or ran otherwise."""
    found = folder.read_json(RESULT)
    if found.get("status") != RunStatus.FINISHED.value or found.get("plan_digest") != plan.digest:
        return None
    withheld = tuple(found["withheld"])
    spent = None
    if plan.private and not withheld:
        spent = math.inf if found["epsilon"] is None else float(found["epsilon"])
    claim = EpsilonClaim(
        private=plan.private,
        withheld=withheld,
        spent=spent,
        delta=plan.delta,
        unit=plan.unit,
        steps=found["steps"],
        planned_steps=plan.steps,
        unknown_start=bool(found.get("unknown_start")),
        untried=bool(found.get("untried")),
        in_ledger=found["in_ledger"],
        earlier=tuple(found.get("earlier", ())),
        fixed_seed=bool(found.get("fixed_seed")),
    )
    return RunResult(
        label=found["label"],
        config=config,
        plan=plan,
        result=Result(
            status=RunStatus.FINISHED,
            steps=found["steps"],
            epsilon=claim,
            seconds=found["seconds"],
            checkpoint=folder.checkpoint,
        ),
        scores=found["scores"],
        samples=(),
        folder=folder,
        curve=tuple(TriggerPoint(**point) for point in found.get("trigger_curve", ())),
    )


__all__ = ["RESULT", "TUNING", "RunResult", "Scored", "TrialOf", "finished_before", "label", "result_values"]
