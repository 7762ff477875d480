"""The parts of a configuration that say what is scored, on whom settings are chosen, and what runs are compared."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from dp_train.expect import expect
from dp_train.models.spec import Trainable
from dp_train.runs.names import TuneOn
from dp_train.settled import settled


@settled
@dataclass(kw_only=True)
class EvaluationConfig:
    """Scores and samples, from the evaluation population alone."""

    examples: int = 200
    """Most examples that are scored: a seeded sample over people, see `tasks.evaluation_people`."""
    per_person: int = 8
    """Most examples of one person among them, so that no few of them are the score."""
    seed: int = 0
    """A public number that chooses the sample, and who is in which group of `tune_on`."""
    tune_on: TuneOn = TuneOn.SPLIT
    """On whom sweeps and trade-offs choose settings: `split` keeps `tune_share` of the evaluation people for that, and
    reports the others; `public` takes published text; `reported` the people who are reported, which is said."""
    tune_share: float = 0.2
    """Of `split`: share of the evaluation people that settings are chosen on."""
    tune_examples: int = 64
    """Most examples that settings are chosen on."""
    curve_examples: int = 32
    """Of the reported, how many are scored while a run trains, for its curve; 0 for no curve."""
    samples: int = 2
    """How many generated texts are shown beside their references."""
    overlap_examples: int = 32
    """How many generated texts are compared with the training text, for a private statistic; 0 for none."""

    def __post_init__(self) -> None:
        for name in ("examples", "per_person", "tune_examples"):
            expect(self, f"evaluation.{name}", getattr(self, name) >= 1, "at least 1")
        for name in ("curve_examples", "samples", "overlap_examples"):
            expect(self, f"evaluation.{name}", getattr(self, name) >= 0, "at least 0")
        expect(self, "evaluation.tune_share", 0 < self.tune_share <= 0.5, "a share in (0, 0.5]")


@settled
@dataclass(kw_only=True)
class TunedConfig:
    """A rate that was chosen among several before, and for how many steps; it is no evidence about other ones."""

    learning_rate: float | None = None
    """The rate that was best; null where none was looked for."""
    steps: int | None = None
    """For how many steps of the baseline."""


@settled
@dataclass(kw_only=True)
class NoneConfig:
    """The baseline `none`: the same loop, sampling and bounds as the private runs, without clip and noise."""

    learning_rates: list[float] = field(default_factory=list)
    """Rates that are tried, of which the tuning people choose one; empty is the rate that the optimizer takes without
    privacy, alone."""
    tuned: TunedConfig = field(default_factory=TunedConfig)
    """What an earlier study chose, for a single rate."""

    def __post_init__(self) -> None:
        _expect_rates(self, "tradeoff.none", self.learning_rates)


@settled
@dataclass(kw_only=True)
class BestConfig:
    """The baseline `best`: what the same consented text would give without privacy, at the same compute.

    All examples with no bound on a person, in shuffled passes of small batches, AdamW at a rate and schedule of its
    own, and as many rows in all as the private run takes at most: steps × expected_units × rows_per_unit.
    """

    rows: int = 8
    """Rows of a step."""
    trainable: Trainable | None = None
    """What is trained: `all`, or `lora`; null is adapters on every layer where the recipe trains adapters, else `all`.
    Nothing is frozen: the recipe freezes what noise would drown."""
    learning_rates: list[float] = field(default_factory=lambda: [3e-4, 1e-3, 3e-3])
    """Rates that are tried, of which the tuning people choose one."""
    weight_decay: float = 0.0
    """Of AdamW: share of each weight that is taken off, times the rate."""
    warmup: float = 0.1
    """Share of the steps over which the rate rises; then it falls to 0."""
    tuned: TunedConfig = field(default_factory=TunedConfig)
    """What an earlier study chose, for a single rate."""

    def __post_init__(self) -> None:
        expect(self, "tradeoff.best.rows", self.rows >= 1, "at least 1")
        expect(self, "tradeoff.best.learning_rates", len(self.learning_rates) > 0, "at least one rate")
        _expect_rates(self, "tradeoff.best", self.learning_rates)
        expect(self, "tradeoff.best.weight_decay", self.weight_decay >= 0, "at least 0")
        expect(self, "tradeoff.best.warmup", 0 <= self.warmup <= 1, "a share in [0, 1]")


@settled
@dataclass(kw_only=True)
class TradeoffConfig:
    """What `dp-train tradeoff` runs: each ε, `repeats` times with fresh seeds, and the baselines."""

    epsilons: list[float] = field(default_factory=lambda: [1.0, 8.0])
    """Each ε that is trained at."""
    repeats: int = 1
    """How many runs there are at each ε, with fresh seeds."""
    non_private: bool = True
    """Whether both baselines without privacy, `none` and `best`, are among them."""
    none: NoneConfig = field(default_factory=NoneConfig)
    """What noise and clip cost is read off it."""
    best: BestConfig = field(default_factory=BestConfig)
    """What privacy costs in all is read off it: shares of a gain are of its gain."""

    def __post_init__(self) -> None:
        expect(self, "tradeoff.epsilons", len(self.epsilons) > 0, "at least one ε, such as [1,8]")
        expect(self, "tradeoff.epsilons", all(0 < e < math.inf for e in self.epsilons), "numbers > 0")
        expect(
            self,
            "tradeoff.epsilons",
            len(set(self.epsilons)) == len(self.epsilons),
            "each ε once; tradeoff.repeats repeats them",
        )
        expect(self, "tradeoff.repeats", self.repeats >= 1, "at least 1")


@settled
@dataclass(kw_only=True)
class StudyConfig:
    """How the trials of a sweep or trade-off run."""

    workers: int | None = None
    """How many trials run at once, each in a process of its own; null means as many as fit cores and memory."""

    def __post_init__(self) -> None:
        expect(self, "study.workers", self.workers is None or self.workers >= 1, "at least 1, or null")


def _expect_rates(config: object, key: str, rates: list[float]) -> None:
    whole = all(0 < rate < math.inf for rate in rates) and len(set(rates)) == len(rates)
    expect(config, f"{key}.learning_rates", whole, "different rates > 0")


__all__ = ["BestConfig", "EvaluationConfig", "NoneConfig", "StudyConfig", "TradeoffConfig", "TunedConfig"]
