"""A recipe: what may be written in `conf/`, in `experiments/` and on the command line.

Each room owns the words of its part (`tasks.spec`, `corpora.spec`, `models.spec`, `engines.spec`,
`training.optimizer_spec`); `recipe_data` and `recipe_learning` hold those of consent, privacy and training; here they
become a run. Unknown keys and wrong types fail when Hydra composes; impossible values fail here, when the composed
tree becomes these objects. They stop at the door: nothing below `runs/` takes a whole one.

Nothing changes a recipe once it was made (`settled`); OmegaConf could not fill in frozen classes.
Enums are written in lower case (`unit: user`) and read in any.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dp_train.corpora.spec import CorpusConfig, TrainOn
from dp_train.engines.spec import EngineConfig
from dp_train.errors import ConfigError
from dp_train.expect import expect
from dp_train.models.published import carried
from dp_train.models.spec import ModelConfig
from dp_train.privacy.plan import Unit
from dp_train.runs.names import StartMode, TrackerName
from dp_train.runs.recipe_data import AnonymizeConfig, ConsentConfig
from dp_train.runs.recipe_learning import PrivacyConfig, StartConfig, TrainerConfig
from dp_train.settled import settled
from dp_train.tasks.spec import TaskConfig
from dp_train.training.optimizer_spec import OptimizerConfig


@settled
@dataclass(kw_only=True)
class EvaluationConfig:
    """Scores and samples, from the evaluation population alone."""

    examples: int = 200
    """Most examples that are scored."""
    curve_examples: int = 32
    """Of these, how many are scored while a run trains, for its curve; 0 for no curve."""
    samples: int = 2
    """How many generated texts are shown beside their references."""
    overlap_examples: int = 32
    """How many generated texts are compared with the training text, for a private statistic; 0 for none."""

    def __post_init__(self) -> None:
        expect(self, "evaluation.curve_examples", self.curve_examples >= 0, "at least 0")
        expect(self, "evaluation.examples", self.examples >= 1, "at least 1")
        expect(self, "evaluation.samples", self.samples >= 0, "at least 0")
        expect(self, "evaluation.overlap_examples", self.overlap_examples >= 0, "at least 0")


@settled
@dataclass(kw_only=True)
class TrackingConfig:
    """Where runs are recorded."""

    name: TrackerName
    """`mlflow`, or `off`."""
    uri: str | None = None
    """Tracking store; null means MLFLOW_TRACKING_URI, else mlflow.db of the working folder."""
    experiment: str | None = None
    """Name of the MLflow experiment; null means the task's name."""
    log_private_statistics: bool = False
    """Whether statistics that no ε covers leave the private folder for the tracking store."""


@settled
@dataclass(kw_only=True)
class StoreConfig:
    """The database of consent registry and ledger."""

    url: str | None = None
    """sqlite:///PATH or postgresql://…; null means DP_TRAIN_STORE, else dp_train.db of the working folder."""


@settled
@dataclass(kw_only=True)
class TradeoffConfig:
    """What `dp-train tradeoff` runs: each ε, `repeats` times with fresh seeds, and the baselines."""

    epsilons: list[float] = field(default_factory=lambda: [1.0, 8.0])
    """Each ε that is trained at."""
    repeats: int = 1
    """How many runs there are at each ε, with fresh seeds."""
    non_private: bool = True
    """Whether the same run without privacy is among them."""

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


@settled
@dataclass(kw_only=True)
class Recipe:
    """A whole run."""

    task: TaskConfig
    """What is learnt."""
    corpus: CorpusConfig
    """From whose conversations."""
    consent: ConsentConfig
    """Who agreed to what."""
    model: ModelConfig
    """What is trained."""
    start: StartConfig
    """The public starting point."""
    privacy: PrivacyConfig
    """What is promised to whom."""
    engine: EngineConfig
    """How clipped sums are formed."""
    optimizer: OptimizerConfig
    """How weights move."""
    trainer: TrainerConfig
    """Steps, sampling, and what changes speed alone."""
    tracking: TrackingConfig
    """Where the run is recorded."""
    anonymize: AnonymizeConfig = field(default_factory=AnonymizeConfig)
    """What is replaced before anything is learnt."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """What is scored."""
    tradeoff: TradeoffConfig = field(default_factory=TradeoffConfig)
    """What `dp-train tradeoff` runs."""
    study: StudyConfig = field(default_factory=StudyConfig)
    """How the trials of a sweep or a trade-off are run."""
    store: StoreConfig = field(default_factory=StoreConfig)
    """The database of consent and ledger."""
    ledger: bool = True
    """Whether the run is reserved before its first step; without, its card says that it is in no ledger."""
    question: str = ""
    """What the run is to answer; for people."""
    hypothesis: str = ""
    """What is expected; for people."""
    dry_run: bool = False
    """Whether to print σ, steps and ε, and to train nothing."""

    def __post_init__(self) -> None:
        if self.corpus.research_only:
            # Records of consent are of customers, and never stand beside people who were not asked.
            expect(self.consent, "consent.events", self.consent.events is None, "null with a public corpus")
            expect(self.consent, "consent.store", not self.consent.store, "false with a public corpus")
        if self.corpus.source == "crd3":
            expect(
                self.privacy,
                "privacy.unit",
                self.privacy.unit is Unit.EXAMPLE,
                "example with corpus=crd3: about eight people own nearly all of it, so nothing holds per person",
            )
        if self.start.mode is StartMode.AUTO:
            self.start = replace(self.start, mode=self._start())
        if self.start.mode is StartMode.PUBLISHED:
            scratch = self.model.source == "scratch"
            expect(self.start, "start.mode", scratch, "auto, public or none: model=pretrained is a start already")
        if self.corpus.train_on is TrainOn.PUBLIC:
            self.ledger = False  # no budget is touched

    def _start(self) -> StartMode:
        """What `start=auto` chooses: nothing for a pretrained model, what the package carries, else to train one."""
        if self.model.builder().pretrained:
            return StartMode.NONE
        scratch = self.model.source == "scratch"
        return StartMode.PUBLISHED if scratch and carried(self.task, self.model) else StartMode.PUBLIC


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
