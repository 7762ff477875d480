"""Follows a training run into the store: public numbers always, private statistics only where asked and marked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from dp_train.errors import TrackingError
from dp_train.tracking.run import DELTA, EPSILON, PLANNED_EPSILON, TAINTED, TrackedRun

if TYPE_CHECKING:
    from dp_train.training.callbacks import PrivateStep, Result, RunStart, StepEnd

_RATE = "train/learning_rate"


class MlflowCallback:
    """Logs a run of the trainer; fulfils `dp_train.training.callbacks.Callback`.

    Guarantee: without `log_private_statistics` nothing that was computed from private data reaches the store, but
    releases of the plan (``train/noisy_loss``, where it has a curve) and the ε, and that by way of the claim. Nor do
    times tell a step's size: it writes at the steps of `public_points` alone, with times cut to the minute, and
    seconds and peak memory are those of the whole run.
    ``privacy/planned_epsilon`` shows, while the run goes on, what the *plan* spends; ``privacy/epsilon`` is written at
    the end, for every step of that curve, and only if the claim holds. Withheld, there is none, and the tag
    ``privacy.withheld`` names the reasons.

    Args:
      run: where to.
      log_private_statistics: also log loss, share clipped, units drawn, non-finite units, seconds and peak memory of
        every step. They are released data that no ε covers: the run is tagged ``privacy.tainted=true`` before the
        first of them.
      validate: scores on the evaluation population, taken where the ε is known, so that the within-run curve has
        both. It costs an evaluation each time.
    """

    def __init__(
        self,
        run: TrackedRun,
        *,
        log_private_statistics: bool = False,
        validate: Callable[[], Mapping[str, float]] | None = None,
    ) -> None:
        self._run = run
        self._log_private_statistics = log_private_statistics
        self._validate = validate
        self._rows: list[tuple[str, float, int]] = []
        self._points: frozenset[int] = frozenset()
        self._known_steps = 0

    def on_start(self, run: RunStart) -> None:
        """Parameters and tags; on resume, the last step that is already in the store."""
        from dp_train.training.callbacks import public_points  # the trainer's side, which imports torch

        plan = run.plan
        self._points = frozenset(public_points(plan.steps))
        tags = {
            "dp_train.task": run.task,
            "privacy.mode": "dp" if plan.private else "none",
            "privacy.plan_digest": plan.digest,
            "consent.root": run.consent_root,
            "seed": "fixed" if run.seed_is_fixed else "secret",
            "dp_train.identity": run.identity,
        }
        if self._log_private_statistics:
            tags[TAINTED] = "true"
        self._run.set_tags(tags)
        self._run.log_params(
            {
                "task": run.task,
                "engine": run.engine.value,
                "model.trainable_parameters": run.trainable_parameters,
                **{f"privacy.{name}": value for name, value in plan.describe().items()},
            }
        )
        if run.first_step > 0:
            self._known_steps = max((step for step, _ in self._run.metric_history(_RATE)), default=0)

    def on_step(self, step: StepEnd) -> None:
        """Buffer the step; write at public points. A store that cannot be written now is asked again at the next."""
        if step.step <= self._known_steps:
            return  # replayed after a resume, with the same values
        row = {_RATE: step.learning_rate}
        if step.epsilon is not None:
            row[PLANNED_EPSILON] = step.epsilon
            if self._validate is not None:
                row |= {f"valid/{name}": score for name, score in self._validate().items()}
        if step.noisy_loss is not None:
            row["train/noisy_loss"] = step.noisy_loss
        self._rows += [(name, value, step.step) for name, value in row.items()]
        if step.step in self._points:
            with suppress(TrackingError):  # the numbers are kept; a full or busy disk must not stop a run
                self._flush()

    def on_private_step(self, step: PrivateStep) -> None:
        """Buffer what is private, where it was asked for and the run is marked; else forget it."""
        if not self._log_private_statistics or step.step <= self._known_steps:
            return
        record, units = step.record, max(step.record.units, 1)
        row = {
            "train/loss": record.loss_sum / units,
            "train/share_clipped": record.clipped_units / units,
            "train/units_drawn": record.units,
            "train/nonfinite_units": record.nonfinite_units,
            "train/seconds": step.seconds,
            "train/peak_memory_mib": step.peak_rss_bytes / 2**20,
        }
        self._rows += [(name, value, step.step) for name, value in row.items()]

    def on_end(self, result: Result) -> None:
        """Write what is left, the ε or why there is none, and the status.

        Raises:
          TrackingError: the store cannot be written; the run itself is done and its checkpoint stands.
        """
        self._rows.append(("system/seconds", result.seconds, result.steps))
        if result.peak_rss_bytes is not None:
            self._rows.append(("system/peak_memory_mib", result.peak_rss_bytes / 2**20, result.steps))
        self._flush()
        claim = result.epsilon
        if claim.withheld:
            self._run.set_tags({"privacy.withheld": "; ".join(claim.withheld)})
            if self._run.metric_history(EPSILON):  # shown when the run was interrupted before; MLflow cannot delete
                self._run.log_nan(EPSILON, step=result.steps)
        elif claim.private:
            spent = claim.unwrap()
            curve = {step: value for step, value in self._run.metric_history(PLANNED_EPSILON) if step < result.steps}
            if claim.earlier:
                curve = {}  # of this run alone, where the claim is of all that trained the model
            rows = [(EPSILON, value, step) for step, value in (curve | {result.steps: spent}).items()]
            self._run.log_metric_rows([*rows, (DELTA, claim.delta, result.steps)])
            self._run.set_tags({"privacy.claim": claim.describe(), "privacy.unit": claim.unit.value})
            if math.isinf(spent):
                self._run.set_tags({"privacy.mode": "none"})
        self._run.finish(result.status)

    def _flush(self) -> None:
        self._run.log_metric_rows(self._rows)
        self._rows.clear()


__all__ = ["MlflowCallback"]
