"""The schema of a configuration: what may be written in `conf/`, in `experiments/` and on the command line.

Unknown keys and wrong types fail when Hydra composes; impossible values fail here, when the composed
tree becomes these objects. They stop at the door: nothing below `cli/` takes one of them.

`config_data` says what is learnt from whom, `config_learning` how and under which promise; here they become a run.

The classes cannot be frozen, since Hydra fills them in; nothing changes them after that.
Enums are written by name (`unit: USER`), as OmegaConf reads them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dp_train.errors import ConfigError
from dp_train.privacy.plan import Unit
from dp_train.runs.expect import expect
from dp_train.runs.names import CorpusSource, ModelSource, StartMode, TrackerName, TrainOn
from dp_train.runs.recipe_data import AnonymizeConfig, ConsentConfig, CorpusConfig, TaskConfig
from dp_train.runs.recipe_learning import (
    EngineConfig,
    ModelConfig,
    OptimizerConfig,
    PrivacyConfig,
    StartConfig,
    TrainerConfig,
)


@dataclass(kw_only=True)
class EvaluationConfig:
    """Scores and samples, from the evaluation population alone.

    Attributes:
      examples: that are scored. curve_examples: for the curve within a run. samples: that are shown.
      overlap_examples: whose generated text is held against the training text, for a private statistic; 0 for none.
    """

    examples: int = 200
    curve_examples: int = 32
    samples: int = 2
    overlap_examples: int = 32

    def __post_init__(self) -> None:
        expect(self, "evaluation.curve_examples", self.curve_examples >= 0, "at least 0")
        expect(self, "evaluation.examples", self.examples >= 1, "at least 1")
        expect(self, "evaluation.samples", self.samples >= 0, "at least 0")
        expect(self, "evaluation.overlap_examples", self.overlap_examples >= 0, "at least 0")


@dataclass(kw_only=True)
class TrackingConfig:
    """Where runs are recorded. Empty `uri` means MLFLOW_TRACKING_URI, else mlflow.db of the working folder."""

    name: TrackerName
    uri: str | None = None
    experiment: str | None = None
    log_private_statistics: bool = False


@dataclass(kw_only=True)
class StoreConfig:
    """The database of consent registry and ledger: sqlite:///PATH or postgresql://…

    Empty means DP_TRAIN_STORE, else dp_train.db of the working folder.
    """

    url: str | None = None


@dataclass(kw_only=True)
class TradeoffConfig:
    """What `dp-train tradeoff` runs: each ε, `repeats` times with fresh seeds, and the baselines."""

    epsilons: list[float] = field(default_factory=lambda: [1.0, 8.0])
    repeats: int = 1
    non_private: bool = True

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


@dataclass(kw_only=True)
class StudyConfig:
    """How the trials of a sweep or trade-off run.

    `workers` is how many run at once, each in a process of its own; empty means as many as fit cores and memory.
    """

    workers: int | None = None

    def __post_init__(self) -> None:
        expect(self, "study.workers", self.workers is None or self.workers >= 1, "at least 1, or null")


@dataclass(kw_only=True)
class Recipe:
    """A whole run. `ledger` reserves it before its first step; without, its card says that it is in no ledger.

    `question` and `hypothesis` are for people; `dry_run` prints σ, steps and ε and trains nothing.
    """

    task: TaskConfig
    corpus: CorpusConfig
    consent: ConsentConfig
    model: ModelConfig
    start: StartConfig
    privacy: PrivacyConfig
    engine: EngineConfig
    optimizer: OptimizerConfig
    trainer: TrainerConfig
    tracking: TrackingConfig
    anonymize: AnonymizeConfig = field(default_factory=AnonymizeConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    tradeoff: TradeoffConfig = field(default_factory=TradeoffConfig)
    study: StudyConfig = field(default_factory=StudyConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    ledger: bool = True
    question: str = ""
    hypothesis: str = ""
    dry_run: bool = False

    def __post_init__(self) -> None:
        if self.corpus.source.benchmark:
            # Records of consent are of customers, and never stand beside people who were not asked.
            expect(self.consent, "consent.events", self.consent.events is None, "null with a public corpus")
            expect(self.consent, "consent.store", not self.consent.store, "false with a public corpus")
        if self.corpus.source is CorpusSource.CRD3:
            expect(
                self.privacy,
                "privacy.unit",
                self.privacy.unit is Unit.EXAMPLE,
                "EXAMPLE with corpus=crd3: about eight people own nearly all of it, so nothing holds per person",
            )
        if self.start.mode is StartMode.AUTO:
            scratch = self.model.source is ModelSource.SCRATCH
            self.start.mode = StartMode.PUBLIC if scratch else StartMode.NONE
        if self.corpus.train_on is TrainOn.PUBLIC:
            self.ledger = False  # nobody's budget is touched


def recipe_of(values: Mapping[str, Any]) -> Recipe:
    """The recipe that a run folder's stored values are of.

    Raises:
      ConfigError: a key is unknown, or a value is impossible.
    """
    try:
        recipe = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Recipe), OmegaConf.create(dict(values))))
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"config: {' '.join(str(error).split(chr(10))[:1])}; expected the config.yaml of a run of this version"
        ) from error
    assert isinstance(recipe, Recipe)
    return recipe


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as plain values, as YAML has them; `recipe_of` reads them back."""
    values = OmegaConf.to_container(OmegaConf.structured(recipe), resolve=True, enum_to_str=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}
