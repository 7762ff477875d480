"""Holds what a run really did against its plan; where they differ, there is no ε (docs/privacy.md, What is checked)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dp_train.errors import CheckpointError, EpsilonWithheld
from dp_train.privacy.noise_check import NoiseObservation, normal_squares, violations
from dp_train.privacy.plan import PrivacyPlan, Unit
from dp_train.privacy.rounding import rounded_up
from dp_train.privacy.sampling import FALSE_ALARM


@dataclass(frozen=True, slots=True, kw_only=True)
class EpsilonClaim:
    """What may be said of a run's ε.

    Attributes:
      private: False for the non-private baseline, which has no ε.
      withheld: why there is no ε to show; empty if what ran is what was planned. Free of private numbers.
      spent: ε of the run; None where it is withheld or there is none. Read it by `unwrap`.
      delta: δ.
      unit: whose data the ε is about.
      steps: how many steps ran. planned_steps: how many were to; `spent` is for all of them once the first one ran.
      in_ledger: whether a ledger had reserved the run before its first step.
      elsewhere: how many runs under other principal keys trained the model before. Their people may be these people.
      earlier: JSON of the event of each run on the same people that trained the same model before; `spent` is of all.
      fixed_seed: whether a user chose the seed.
      unknown_start: whether nobody said where the weights came from that the run began with.
      untried: whether the engine was not tried on the model before it read anything private (`engines.self_check`).
    """

    private: bool
    withheld: tuple[str, ...]
    spent: float | None
    delta: float
    unit: Unit
    steps: int
    in_ledger: bool = False
    earlier: tuple[str, ...] = ()
    elsewhere: int = 0
    fixed_seed: bool = False
    planned_steps: int | None = None
    unknown_start: bool = False
    untried: bool = False

    def __post_init__(self) -> None:
        if (self.spent is not None) != (self.private and not self.withheld):
            raise EpsilonWithheld("claim: an ε stands with reasons against it; expected an ε or reasons, not both")

    def unwrap(self) -> float:
        """The ε that was spent.

        Raises:
          EpsilonWithheld: the run is not private, or differs from its plan; the reasons are named.
        """
        if self.spent is None:
            raise EpsilonWithheld(f"ε of this run: {self.describe()}; do not publish a guarantee for it")
        return self.spent

    def describe(self) -> str:
        """One line that can stand in a report: the claim with its limits, or why there is none."""
        if self.withheld:
            return f"claim withheld: {'; '.join(self.withheld)}"
        if self.spent is None:
            return "no privacy"
        per, limits = {
            Unit.USER: ("per person", "fixed meeting graph"),
            Unit.EXAMPLE: ("per example", "not per person: who owns several examples is protected less"),
        }[self.unit]
        covers = "the model of this run alone"
        if self.earlier:
            covers = f"its model, which {len(self.earlier) + 1} runs on these people trained, and no other"
        said = [limits, f"covers {covers}"]
        if self.elsewhere:
            said.append(f"{self.elsewhere} runs on other populations trained its weights before, and are not in this ε")
        if not self.in_ledger:
            said.append("not in a ledger")
        if self.planned_steps is not None and 0 < self.steps < self.planned_steps:
            said.append(f"stopped after {self.steps} of {self.planned_steps} steps, charged in full")
        if self.unknown_start:
            said.append("start weights of unknown origin")
        if self.untried:
            said.append("its engine was not tried on this model first")
        if self.fixed_seed:
            said.append("the seed was chosen: holds only while it is secret")
        said.append("not hardened against floating-point or timing attacks")
        return f"ε={rounded_up(self.spent)}, δ={self.delta:g} {per} ({'; '.join(said)})"


class RunMonitor:
    """Records each release and compares it with the plan.

    Guarantee: `claim` gives an ε only if the recorded steps are 0, 1, 2, … without a gap or a repeat and at most
    `plan.steps`, each had one noise draw of std σ·C, the planned clip and divisor, and the batch sizes can be
    Poisson draws at the planned rate. It charges the whole plan once a step ran: when to stop was chosen while looking.

    Where an engine looked at what its noise did (`privacy.noise_check`), that has to follow the planned law as
    well, and no sum may be larger than its units' clipped gradients can make it. What was found outside the engine
    (`depart`) withholds the claim for good, also of a run that resumes.

    Reasons name the plan's public numbers only. That a claim is withheld is itself a private bit where a wrong
    sampler is the reason; for a correct run it happens with probability at most 2e-9: `sampling.FALSE_ALARM` for the
    batch sizes, and as much for the noise.
    """

    def __init__(self, plan: PrivacyPlan) -> None:
        self._plan = plan
        # 0 · inf has no value: without noise the std is 0 whatever the clip.
        self._noise_std = plan.calibrated_noise_multiplier * plan.clip_norm if plan.private else 0.0
        self._mechanism = plan.mechanism
        self._next_step = 0
        self._draws: list[tuple[int, ...]] = []  # units, and what the mechanism observed beside their number
        self._departures: list[str] = []
        self._unnoised: str | None = None
        self._squares: list[float] = []  # of the noise in each tensor, over all steps, and how many there were
        self._counts: list[int] = []

    def record(
        self,
        step: int,
        *,
        units_drawn: int,
        noise_draws: int,
        noise_std: float,
        clip_norm: float,
        divisor: float,
        noise_bands: int = 1,
        observed: tuple[int, ...] = (),
        loss_noise_std: float = 0.0,
        noise_seen: NoiseObservation | None = None,
    ) -> None:
        """Note what one release did. Never raises on a difference: the run goes on, and its ε is withheld.

        Args:
          step: index of the release, from 0.
          units_drawn: how many units the sampler gave; private.
          noise_draws: how many times noise was added to the sum.
          noise_std: std of that noise, before the division.
          clip_norm: bound of one unit's gradient that was used.
          divisor: what the noisy sum was divided by.
          noise_bands: over how many steps the noise was correlated; `noise_std` is that of the independent noise in it.
          observed: what `Mechanism.observe` said of the draw; private.
          loss_noise_std: std of the noise on the released sum of losses; 0 where none was released.
          noise_seen: what became of random elements when noise was added; private. None where nobody looked.
        """
        plan = self._plan
        if step < self._next_step:
            self.depart("a step was released more than once")
        elif step > self._next_step:
            self.depart("a step is missing")
        if step >= plan.steps:
            self.depart(f"more steps ran than the planned {plan.steps}")
        self._next_step = max(self._next_step, step + 1)
        self._draws.append((int(units_drawn), *(int(value) for value in observed)))
        if divisor != plan.expected_units:
            self.depart(f"the sum was not divided by expected_units={plan.expected_units}")
        if not plan.private:
            return
        if noise_seen is not None:
            self._look(step, int(units_drawn), noise_seen)
        if noise_draws != 1:
            self.depart("noise was not drawn exactly once a step")
        if noise_bands > self._mechanism.noise.bands:
            self.depart(f"the noise was correlated over more than bands={self._mechanism.noise.bands} steps")
        if not math.isclose(noise_std, self._noise_std, rel_tol=1e-6):
            self.depart(f"the noise std was not σ·C={self._noise_std:g}")
        if not math.isclose(loss_noise_std, plan.loss_noise_std, rel_tol=1e-6):
            self.depart(f"the noise std of the training curve was not {plan.loss_noise_std:g}")
        if not math.isclose(clip_norm, plan.clip_norm, rel_tol=1e-6):
            self.depart(f"gradients were not clipped to clip_norm={plan.clip_norm:g}")

    def depart(self, reason: str) -> None:
        """Withhold the claim for something that was found outside the record, as `training.watch` does.

        Args:
          reason: of public facts alone; it stands where the ε would have stood.
        """
        if reason not in self._departures:
            self._departures.append(reason)

    @property
    def departures(self) -> tuple[str, ...]:
        """The reasons so far, of public facts alone."""
        return tuple(self._departures)

    def begin_with(self, unnoised: str) -> None:
        """Note the digest of what no noise reaches, as a run starts; when it resumes, compare it.

        Args:
          unnoised: of buffers and frozen tensors.
        """
        if self._unnoised is not None and self._unnoised != unnoised:
            self.depart("buffers or frozen tensors are not those that the run began with")
        self._unnoised = self._unnoised or unnoised

    def claim(self, num_units: int) -> EpsilonClaim:
        """What may be said of the steps recorded so far.

        Args:
          num_units: how many units the sampler drew from. Private, and in no part of the answer.
        """
        plan = self._plan
        reasons = list(self._departures)
        if plan.private:
            reasons += self._mechanism.violations(self._draws, num_units)
        share = FALSE_ALARM / 2 / max(len(self._counts), 1)
        pairs = zip(self._squares, self._counts, strict=True)
        if not all(normal_squares(total, count, false_alarm=share) for total, count in pairs):
            reasons.append("the noise of a tensor is not of the planned size")
        spent = plan.epsilon(steps=plan.charged(len(self._draws))) if plan.private and not reasons else None
        return EpsilonClaim(
            private=plan.private,
            withheld=tuple(reasons),
            spent=spent,
            delta=plan.delta,
            unit=plan.unit,
            steps=len(self._draws),
            planned_steps=plan.steps,
        )

    def state_dict(self) -> dict[str, Any]:
        """JSON values for a checkpoint. Private: it holds the realised batch sizes."""
        return {
            "plan": self._plan.digest,
            "next_step": self._next_step,
            "draws": [list(draw) for draw in self._draws],
            "departures": list(self._departures),
            "unnoised": self._unnoised,
            "noise_squares": list(self._squares),
            "noise_counts": list(self._counts),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`.

        Raises:
          CheckpointError: the state was recorded under another plan.
        """
        if state["plan"] != self._plan.digest:
            raise CheckpointError(
                "monitor: the checkpoint was written under another privacy plan; resume with the plan of the checkpoint"
            )
        self._next_step = int(state["next_step"])
        self._draws = [tuple(int(value) for value in draw) for draw in state["draws"]]
        self._departures = [str(reason) for reason in state["departures"]]
        self._unnoised = state.get("unnoised")
        self._squares = [float(total) for total in state.get("noise_squares", ())]
        self._counts = [int(count) for count in state.get("noise_counts", ())]

    def _look(self, step: int, units: int, seen: NoiseObservation) -> None:
        """Hold what was seen of a step's noise against its law, and add it up by tensor."""
        alarm = FALSE_ALARM / 2 / self._plan.steps
        for reason in violations(self._plan, step, units, seen, false_alarm=alarm):
            self.depart(reason)
        if not self._mechanism.noise.independent:
            return  # what two steps add is not independent there, so that squares do not add up to a known law
        if not self._counts:
            self._squares, self._counts = [0.0] * len(seen.counts), [0] * len(seen.counts)
        self._squares = [total + new for total, new in zip(self._squares, seen.squares, strict=True)]
        self._counts = [total + new for total, new in zip(self._counts, seen.counts, strict=True)]
