"""Shadow runs: the recipe once more, with canaries among its people, for a lower bound on its ε from one run.

1. a fair coin for each canary; those that are in become units beside the company's, through the real gate;
2. a copy of the model trains on them with the recipe's own trainer, with seeds of its own, and is thrown away;
3. white box: the canaries' coordinates, read where the optimizer reads them, are scored by the mechanism's likelihood
   ratio; where units take turns, by someone who knows whose turn each step is, as the claim is accounted;
   black box: canary people are scored by how far their loss fell from the starting point;
4. what was guessed right bounds ε (`bounds`).

What leaves. White-box scores are of coordinates that canaries alone move: they are the same function of coins and
noise whoever the company is, so nothing about people is in them. Black-box scores are of a model that trained on the
company: they are as private as it, and what is published of them is a release.
"""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from numpy.typing import NDArray
from torch import nn

from dp_train.audit.bank import BankedModel, BankedTask, BankWatch
from dp_train.audit.bounds import LowerBound, f_dp, steinke, tightest
from dp_train.audit.canaries import CanaryKind, CanaryPeople, DiracCanaries, draw_coins
from dp_train.audit.exposure import Exposure, exposure_of
from dp_train.audit.guesses import planned_guesses
from dp_train.audit.scores import canary_contributions, loss_difference, mechanism_scores, seen_noise
from dp_train.conversations import Example
from dp_train.engines.base import Clipping
from dp_train.errors import ConfigError, DataError
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.sampling import dealt
from dp_train.privacy.trade_off import Claim
from dp_train.privacy.units import Units
from dp_train.tasks.base import Task
from dp_train.training.callbacks import Result
from dp_train.training.charge import Charge
from dp_train.training.method import Setup
from dp_train.training.opening import open_run
from dp_train.training.seeds import Seeds
from dp_train.training.trainer import Trainer

_PLANNED, _VIOLATED, _ANY = 0.8, 0.1, 0.1
"""How the bounds of a white-box run share what they may err together: by the family with the count for a run as
planned, by the family with the count for a run with half the noise, and for any (ε, δ) mechanism."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OneRun:
    """What one shadow run showed.

    Attributes:
      scores: (m,) higher where a canary looks included. included: (m,) bool, the coins.
      bounds: by every method, each at a confidence of its own. seconds: that the shadow run took.
      result: of the shadow run, whose claim says whether it went as planned.
    """

    scores: NDArray[np.float64]
    included: NDArray[np.bool_]
    bounds: tuple[LowerBound, ...]
    seconds: float
    result: Result

    @property
    def bound(self) -> LowerBound:
        """The largest bound, at the confidence that all hold together: what a report shows."""
        return tightest(self.bounds)


def white_box(
    trainer: Trainer,
    company: Units | None = None,
    *,
    canaries: int = 40_000,
    confidence: float = 0.95,
    plan: PrivacyPlan | None = None,
    seed: int | None = None,
) -> OneRun:
    """Bound ε by Dirac canaries in a shadow run of a trainer's recipe.

    Nothing of `trainer` changes: a copy of its model trains, without its checkpoint and callbacks, unledgered.

    Args:
      trainer: of the recipe, before its `fit`: the model stands at the starting point.
      company: people who train along, so that rows, lengths and microbatches are the ordinary ones; canaries alone if
        None, which is quick and sees no fault that company brings. Real people may be in it: see the head of the file.
      canaries: m; in a bank of coordinates of their own, about half of them in. What a bound costs is the canaries that
        a step draws, and what it gains is the rare ones that were drawn often: few steps at a low rate need many.
      confidence: of `OneRun.bound`.
      plan: whose claim the bound is of; the trainer's if None.
      seed: of coins, and fixed seeds of the shadow run, for tests; fresh ones if None.

    Raises:
      ConfigError: the plan is without privacy, or there are too few canaries. PlanError: the company's units lie in a
        table. ModelError: as `Trainer.fit`.
    """
    started = time.monotonic()
    setup = trainer.setup
    claimed = setup.plan if plan is None else plan
    if not setup.plan.private:
        raise ConfigError("audit: the plan is without privacy; expected one that adds noise, for canaries to look at")
    dirac = DiracCanaries(count=canaries)
    included = draw_coins(canaries, seed=seed)
    purpose = setup.task.purpose if company is None else company.purpose
    most = canaries * canary_contributions(setup.plan)
    units = together(company, dirac.units(included, setup.plan, purpose), setup.plan, most=most)
    shadow, seeds = Shadow.of(setup, dirac), _seeds(seed)
    turns = shadow.turns(units, seeds, dirac, seed=seed)
    result = shadow.run(units, seeds)
    observed, amplitude = shadow.watch.observed, shadow.amplitude
    noise = seen_noise(observed, claimed)
    scores = mechanism_scores(observed, claimed, amplitude=amplitude, noise_multiplier=noise, turns=turns)
    bounds = white_box_bounds(scores, included, claimed, confidence=confidence, amplitude=amplitude)
    return OneRun(scores=scores, included=included, bounds=bounds, seconds=time.monotonic() - started, result=result)


def black_box(
    trainer: Trainer,
    company: Units,
    people: CanaryPeople,
    *,
    confidence: float = 0.95,
    seed: int | None = None,
) -> OneRun:
    """Bound ε by canary people in a shadow run of a trainer's recipe, from losses alone.

    A canary's score is the mean loss of its rows at the starting point minus that after training. Guesses are a grid
    of counts, for no law of losses is known.

    Args:
      trainer: of the recipe, before its `fit`: the model stands at the starting point. Nothing of it changes.
      company: the people of the recipe.
      people: canaries and what they write; about half of them are in.
      confidence: of `OneRun.bound`. seed: as of `white_box`.

    Raises:
      ConfigError: there are too few canaries, the task makes no examples of them, or one of them is more units than
        the claim is about. PlanError, ModelError: as `white_box`.
    """
    started = time.monotonic()
    setup = trainer.setup
    included = draw_coins(people.count, seed=seed)
    most = _units_at_most(people, setup, company)
    canaries = people.units(included, setup.plan, setup.task, company.purpose)
    units = together(company, canaries, setup.plan, most=most)
    rows = people.examples(setup.task)
    before = unit_losses(setup.model, setup.task, rows)
    shadow = Shadow.of(setup, None)
    result = shadow.run(units, _seeds(seed))
    scores = loss_difference(before, unit_losses(shadow.trained, setup.task, rows))
    bounds: tuple[LowerBound, ...] = ()
    if setup.plan.private:
        bounds = black_box_bounds(scores, included, setup.plan, confidence=confidence)
    return OneRun(scores=scores, included=included, bounds=bounds, seconds=time.monotonic() - started, result=result)


def exposure_run(
    trainer: Trainer,
    company: Units,
    candidates: Sequence[str],
    *,
    secret: int,
    rows: int | None = None,
    seed: int | None = None,
) -> Exposure:
    """Train a shadow run in which one more person keeps writing one phrase, and rank it among what it might have been.

    Ranked by how far the loss of a message fell from the starting point, each candidate without any context.

    Args:
      trainer: as of `black_box`; without privacy, too, which is what to compare with.
      company: the people of the recipe.
      candidates: phrases alike; `secret` is the index of the one that is written, drawn at random by the caller.
      rows: how often; as many rows as the plan lets a person have if None. seed: as of `white_box`.

    Raises:
      ConfigError, PlanError, ModelError: as `black_box`. DataError: there is no such candidate.
    """
    setup = trainer.setup
    people = CanaryPeople(
        kind=CanaryKind.HIGH_PERPLEXITY, texts=tuple(candidates), rows=rows or setup.plan.rows_per_unit
    )
    first = [own[:1] for own in people.examples(setup.task)]
    included = np.arange(people.count) == secret
    if not included.any():
        raise DataError(f"exposure: secret={secret} of {people.count} candidates; expected an index among them")
    writer = people.units(included, setup.plan, setup.task, company.purpose)
    units = together(company, writer, setup.plan, most=len(writer))
    before = unit_losses(setup.model, setup.task, first)
    shadow = Shadow.of(setup, None)
    shadow.run(units, _seeds(seed))
    return exposure_of(unit_losses(shadow.trained, setup.task, first) - before, secret)


def unit_losses(
    model: nn.Module, task: Task, units: Sequence[Sequence[Example]], *, rows: int = 64
) -> NDArray[np.float64]:
    """(units,) mean loss of each unit's rows, without dropout: what a person's membership is judged by.

    Args:
      rows: in one pass, more or less; a unit is never split.
    """
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    losses = np.empty(len(units))
    order = sorted(range(len(units)), key=lambda index: max(len(one.prompt + one.target) for one in units[index]))
    try:
        with torch.no_grad():
            chunk: list[int] = []
            for position, index in enumerate(order):
                chunk.append(index)
                if sum(len(units[one]) for one in chunk) >= rows or position + 1 == len(order):
                    encoded = [task.encode(example) for one in chunk for example in units[one]]
                    inputs = {name: value.to(device) for name, value in task.collate(encoded).items()}
                    found = task.row_losses(model, inputs).double().cpu().numpy()
                    ends = np.cumsum([len(units[one]) for one in chunk])
                    for one, own in zip(chunk, np.split(found, ends[:-1]), strict=True):
                        losses[one] = own.mean()
                    chunk = []
    finally:
        model.train(training)
    return losses


@dataclass(frozen=True, kw_only=True, eq=False)
class Shadow:
    """A trainer on a copy of the model, and what is read of it; without a bank the model as it is.

    Attributes:
      trained: the copy. amplitude: what is left of a canary's gradient after the clip, ÷ clip norm.
    """

    trainer: Trainer
    trained: nn.Module
    amplitude: float
    watch: BankWatch

    @classmethod
    def of(cls, setup: Setup, dirac: DiracCanaries | None) -> Shadow:
        """Copy the model, put it beside a bank where there are Dirac canaries, and keep all else of the recipe."""
        # Together, for a scaling knows the parameters of its model.
        model, scaling = copy.deepcopy((setup.model, setup.method.scaling))
        banked = BankedModel(model, 1 if dirac is None else dirac.count)
        plan = setup.plan
        watch = BankWatch(setup.optimizer, banked.bank, scale=plan.expected_units / plan.clip_norm)
        trainer = Trainer(
            model if dirac is None else banked,
            setup.task if dirac is None else BankedTask(setup.task, dirac, clip_norm=plan.clip_norm),
            plan,
            optimizer=setup.optimizer if dirac is None else watch,
            method=replace(setup.method, scaling=scaling, trial=f"{setup.method.trial} shadow"),
            execution=replace(setup.execution, checkpoint=None, callbacks=()),
        )
        tensors = sum(parameter.requires_grad for parameter in banked.parameters())
        per_layer = setup.method.clipping is Clipping.PER_LAYER
        return cls(trainer=trainer, trained=model, amplitude=tensors**-0.5 if per_layer else 1.0, watch=watch)

    def run(self, units: Units, seeds: Seeds) -> Result:
        """Train on `units`; the seeds of the recipe's own run are not touched."""
        return self.trainer.fit(units, seeds=seeds)

    def turns(
        self, units: Units, seeds: Seeds, dirac: DiracCanaries, *, seed: int | None = None
    ) -> NDArray[np.int64] | None:
        """(m,) which group each canary is in, in a run on `units` under `seeds`; None where units take no turns.

        A canary that is out has no unit and is given a fair die of its own, so that groups say nothing of who is in.
        The claim is accounted group by group, as for a reader who knows them (`privacy.mechanisms.banded`).
        """
        count = self.trainer.plan.mechanism.draw_law.groups
        if count == 1:
            return None
        coins = open_run(self.trainer.setup, units, Charge(None), seeds).coins
        groups = np.random.default_rng(None if seed is None else [seed, 1]).integers(count, size=dirac.count)
        for group, members in enumerate(dealt(coins, len(units), count)):
            for unit in members.tolist():
                coordinate = dirac.coordinate(units[unit][0])
                if coordinate is not None:
                    groups[coordinate] = group
        return groups


def _seeds(seed: int | None) -> Seeds:
    return Seeds.fresh() if seed is None else Seeds.fixed_for_test(seed)


def _units_at_most(people: CanaryPeople, setup: Setup, company: Units) -> int:
    """How many units canary people are if all of them are in.

    Raises:
      ConfigError: one of them is more units than the plan's claim is about, so that a bound could exceed a true claim.
    """
    every = people.units(np.ones(people.count, dtype=np.bool_), setup.plan, setup.task, company.purpose)
    most = max(Counter(unit[0].example_id.split("/")[0] for unit in every).values(), default=0)
    allowed = canary_contributions(setup.plan)
    if most > allowed:
        raise ConfigError(
            f"audit: a canary is {most} units, and the claim is about {allowed}; expected canary people of rows=1"
        )
    return len(every)


def together(company: Units | None, canaries: Units, plan: PrivacyPlan, *, most: int) -> Units:
    """The company, cut where the plan declares how many people there can be at most, and the canaries.

    Args:
      most: units of canaries if all were in. The company leaves them that much room whoever is in: were it cut by who
        is, a canary more would be a person of the company less, and no neighbour of the claim.
    """
    if company is None:
        return canaries
    if plan.population is not None:
        company = company.first(max(0, plan.population - most))
    return company.joined(canaries)


def white_box_bounds(
    scores: npt.ArrayLike,
    included: npt.ArrayLike,
    plan: PrivacyPlan,
    *,
    confidence: float = 0.95,
    amplitude: float = 1.0,
) -> tuple[LowerBound, ...]:
    """Bound ε by likelihood ratios, by every method, so that all bounds together hold at `confidence`.

    The numbers of guesses follow from the plan (`planned_guesses`), so nothing is chosen by who turned out right.

    Args:
      scores: of `mechanism_scores`, 0 where in and out are equally likely. included: (m,) bool.
      amplitude: as of `scores.sampled_gaussian_scores`.
    """
    counts = planned_guesses(plan, np.size(scores), amplitude=amplitude)
    err, claim = 1 - confidence, Claim.of(plan)
    return (
        f_dp(scores, included, claim=claim, confidence=1 - _PLANNED * err, guesses=counts.planned, centre=0.0),
        f_dp(scores, included, claim=claim, confidence=1 - _VIOLATED * err, guesses=counts.violated, centre=0.0),
        steinke(
            scores,
            included,
            delta=plan.delta,
            confidence=1 - _ANY * err,
            guesses=counts.planned,
            centre=0.0,
        ),
    )


def black_box_bounds(
    scores: npt.ArrayLike, included: npt.ArrayLike, plan: PrivacyPlan, *, confidence: float = 0.95
) -> tuple[LowerBound, ...]:
    """Bound ε by scores of no known law, by both one-run methods, so that both together hold at `confidence`."""
    half = 1 - (1 - confidence) / 2
    return (
        f_dp(scores, included, claim=Claim.of(plan), confidence=half),
        steinke(scores, included, delta=plan.delta, confidence=half),
    )


__all__ = ["OneRun", "black_box", "black_box_bounds", "exposure_run", "unit_losses", "white_box", "white_box_bounds"]
