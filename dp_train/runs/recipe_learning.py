"""The parts of a configuration that say how is learnt, and under which promise."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dp_train.expect import expect
from dp_train.privacy.plan import Unit
from dp_train.runs.names import DeviceName, NoiseSourceName, PrecisionName, PrivacyMode, StartMode
from dp_train.settled import settled


@settled
@dataclass(kw_only=True)
class StartConfig:
    """The public starting point: a non-private run on published text, made once and kept in `cache`, or by others.

    `auto` means `none` for a pretrained model, which is one. For one from scratch it means `published` where the
    package carries a starting point for this task and model, and else `public`.
    """

    mode: StartMode
    """`public` trains a starting point on published text, `published` loads one that was trained so before, `none` has
    none; `auto` chooses by task and model."""
    name: str | None = None
    """Of `published`: a folder that `dp-train pretrain --to` wrote; null is the package's own for the task."""
    steps: int = 100
    """Steps of the starting point."""
    expected_units: int = 32
    """Mean number of published examples in a step."""
    learning_rate: float = 1e-3
    """Of AdamW, which every starting point is trained by."""
    warmup: float = 0.1
    """Share of the steps over which the rate rises."""
    cache: str = "runs/starting_points"
    """Folder of starting points, which runs of equal settings share."""

    def __post_init__(self) -> None:
        named = self.name is None or self.mode is StartMode.PUBLISHED
        expect(self, "start.name", named, "null; start=published takes a starting point by its name")
        expect(self, "start.steps", self.steps >= 1, "at least 1; start=none trains no starting point")
        expect(self, "start.expected_units", self.expected_units >= 1, "at least 1")
        expect(self, "start.learning_rate", self.learning_rate > 0, "a rate > 0")
        expect(self, "start.warmup", 0 <= self.warmup <= 1, "a share in [0, 1]")


@settled
@dataclass(kw_only=True)
class PrivacyConfig:
    """What is promised to whom: exactly one of `epsilon`, `noise_multiplier`, or `privacy=none`."""

    mode: PrivacyMode
    """`dp` clips and adds noise; `none` is the baseline, which runs through the same loop."""
    epsilon: float | None = None
    """ε to spend, for which the noise multiplier is found."""
    noise_multiplier: float | None = None
    """σ, std of the noise ÷ clip norm, from which ε follows."""
    delta: float = 1e-5
    """δ of the guarantee; below 1 ÷ the number of people."""
    clip_norm: float = 1.0
    """C, the most that one unit moves the sum of gradients of a step (L2)."""
    unit: Unit = Unit.USER
    """Whose data is protected: all of one person's (`user`), or one example's (`example`)."""
    max_contributions: int = 1
    """k, how many kept examples may have one person among their owners."""
    rows_per_unit: int = 1
    """G, how many rows of one person make a unit; they share one clip."""
    bands: int = 1
    """Over how many steps the noise is correlated, see `privacy.correlation`; 1 is independent noise."""
    epoch_steps: int | None = None
    """n lets everyone enter exactly once in n steps, in place of sampling, so that ε rests on no secret draw; then q is
    1 ÷ n. Dearer than sampling at small ε; with `bands` up to n cheaper where ε is near 8. null samples."""
    loss_noise_ratio: float | None = None
    """r releases a noisy training loss each step, as a part of the plan and its ε, with r times as much noise as
    gradients have: r=10 asks for 0.5 % more noise on them. null releases none."""
    loss_bound: float = 10.0
    """What a unit's loss is cut to before it enters that sum."""

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
        epoch = self.epoch_steps
        expect(self, "privacy.epoch_steps", epoch is None or epoch >= 1, "at least 1, or null for sampling")
        ratio = self.loss_noise_ratio
        expect(self, "privacy.loss_noise_ratio", ratio is None or 0 < ratio < math.inf, "a number > 0, or null")
        expect(self, "privacy.loss_bound", 0 < self.loss_bound < math.inf, "a number > 0")


@settled
@dataclass(kw_only=True)
class TrainerConfig:
    """Steps and sampling, private or not."""

    steps: int = 100
    """T, steps of the run."""
    expected_units: int = 64
    """B, the mean number of units in a step and the public divisor of their sum."""
    sample_rate: float | None = None
    """q, the probability with which a unit enters a step. Exactly one of `sample_rate` and `population`."""
    population: int | None = None
    """A *declared* public number of people, from which q = B ÷ population. Never counted from the data."""
    max_batch_units: int | None = None
    """A cap on the people of a step (truncated Poisson sampling), for speed; null for none. With it there may be no
    more people than `population`. A cap at the mean plus four standard deviations costs next to nothing. No Rényi
    filter knows it: with a budget, such a run is admitted first, or with others."""
    shuffle: bool = False
    """Without privacy alone: whether units come in shuffled passes, `expected_units` at a time, and not by coins, and
    each token counts alike, not each unit."""
    microbatch_rows: int = 64
    """Rows of a forward pass where rows are not packed; bounds memory. Sums are rounded otherwise,
    and with dropout other masks are drawn: it is then a part of what the run is, and cannot change on resume."""
    pack: bool | None = None
    """Whether several rows of a person share a sequence, which changes speed and nothing else; null packs where the
    model that is found keeps such rows apart, and the task can."""
    microbatch_tokens: int = 4096
    """Tokens of a forward pass where rows are packed, padding among them; bounds memory."""
    checkpoint_every: int = 50
    """Steps between checkpoints."""
    seed: int | None = None
    """null means secret and fresh. A number makes the run repeatable, and marks it: who knows it can take the noise
    away."""
    noise: NoiseSourceName = NoiseSourceName.SEEDED
    """Where the noise comes from: a secret seed (`seeded`), or the system's generator (`secure`)."""
    device: DeviceName = DeviceName.CPU
    """Where the model is trained: `cpu` or `cuda`."""
    precision: PrecisionName = PrecisionName.FLOAT32
    """What layers compute in, `float32` or `bf16`: quicker for models that are not tiny, on a GPU and on CPUs that have
    it. Weights, norms, sums and noise are float32 in both, and so are scores."""
    threads: int = 1
    """CPU threads; 0 leaves it to torch."""
    average: float | None = None
    """Decay of a moving average of the weights, which is what is kept and scored; null keeps the last step's."""
    self_check: bool = True
    """Whether the engine is tried on public rows of the very model before a private run draws anything."""

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
