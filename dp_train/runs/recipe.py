"""A recipe: what may be written in `conf/`, in `experiments/` and on the command line.

Each room owns the words of its part (`tasks.spec`, `corpora.spec`, `models.spec`, `engines.spec`,
`training.optimizer_spec`); `recipe_data`, `recipe_learning` and `recipe_study` hold those of consent, privacy, training
and comparison; here they become a run. Unknown keys and wrong types fail when Hydra composes; impossible values fail
here, when the composed tree becomes these objects. They stop at the door: nothing below `runs/` takes a whole one.

Nothing changes a recipe once it was made (`settled`); OmegaConf could not fill in frozen classes.
Enums are written in lower case (`unit: user`) and read in any.
"""

from __future__ import annotations

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
from dp_train.runs.names import PrivacyMode, StartMode, TrackerName, TuneOn
from dp_train.runs.recipe_data import AnonymizeConfig, ConsentConfig
from dp_train.runs.recipe_learning import PrivacyConfig, StartConfig, TrainerConfig
from dp_train.runs.recipe_study import EvaluationConfig, StudyConfig, TradeoffConfig
from dp_train.settled import settled
from dp_train.tasks.spec import TaskConfig
from dp_train.training.optimizer_spec import OptimizerConfig


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
        plain = self.privacy.mode is PrivacyMode.NONE
        coins = "false with privacy: the ε is that of people who are drawn by coins"
        expect(self.trainer, "trainer.shuffle", plain or not self.trainer.shuffle, coins)
        learnt = self.corpus.train_on is TrainOn.PUBLIC and self.evaluation.tune_on is TuneOn.PUBLIC
        apart = "split or reported with corpus.train_on=public, which learns from published text"
        expect(self.evaluation, "evaluation.tune_on", not learnt, apart)
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
