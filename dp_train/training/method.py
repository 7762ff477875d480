"""The two small values of a trainer: what moves a gradient, and what only moves the speed or safety of the process."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dp_train.engines.base import AnyEngine, Clipping, EngineName
from dp_train.engines.noise import NoiseKind
from dp_train.engines.scaling import Scaling
from dp_train.errors import ConfigError, ModelError, PlanError
from dp_train.privacy.plan import PrivacyPlan
from dp_train.tasks.base import PacksRows, Row, Task
from dp_train.training.batches import Packing
from dp_train.training.callbacks import Callback, check_callbacks
from dp_train.training.checkpoint import CheckpointFolder
from dp_train.training.optimizers import OptimizerFactory, Schedule, constant


@dataclass(frozen=True, kw_only=True)
class Method:
    """How a run learns: every field moves a gradient, is part of the run's identity, and cannot change on resume.

    Attributes:
      engine: how clipped sums are formed. Without privacy there is one engine, whatever this says.
      clipping: how a unit is bounded by the plan's clip norm; its sensitivity, and so the ε, is the same for all.
      packing: which rows share a sequence; changes speed and rounding. Decoders only.
      schedule: factor on the learning rate by step.
      average: decay of a moving average of the weights, which is what `fit` leaves in the model and what callbacks
        see; None leaves the last step's weights.
      scaling: public factors on gradients before the clip, undone after the noise. Ignored without privacy.
      autocast: type that layers compute in where autocast has them, e.g. `torch.bfloat16`; weights, norms, sums and
        noise stay float32, and so do scores. None computes in the weights' own type.
      by_token: whether each label of a step counts alike, in place of each unit. Without privacy alone.
      noise: where the noise comes from. SECURE noise cannot be drawn again, so its run cannot be resumed.
      recipe: digest of what model, task and units were made from, if they were made from a recipe.
      trial: which of several otherwise equal runs this is. Under one fixed seed it separates their coins and noise.
    """

    engine: AnyEngine = EngineName.BOOKKEEPING
    clipping: Clipping = Clipping.FLAT
    packing: Packing = Packing.NONE
    schedule: Schedule = constant
    average: float | None = None
    scaling: Scaling | None = None
    autocast: torch.dtype | None = None
    by_token: bool = False
    noise: NoiseKind = NoiseKind.SEEDED
    recipe: str = ""
    trial: str = ""

    def __post_init__(self) -> None:
        for name, kind, called in (
            ("engine", AnyEngine, "EngineName"),
            ("clipping", Clipping, "Clipping"),
            ("packing", Packing, "Packing"),
        ):
            if not isinstance(getattr(self, name), kind):
                raise ConfigError(f"trainer: {name}={getattr(self, name)!r}; expected one of {called}")
        if not isinstance(self.noise, NoiseKind):
            raise PlanError(
                f"trainer: noise is {_kind(self.noise)}; expected NoiseKind.SEEDED or NoiseKind.SECURE: a run makes "
                "its own noise, for whoever hands it in may know it"
            )


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a run is carried out: without dropout no field changes what is released, but for the rounding of a sum.

    Attributes:
      microbatch_rows: rows per forward pass where rows are not packed; bounds memory.
      microbatch_tokens: columns per forward pass where rows are packed, padding among them; bounds memory.
      checkpoint: where the private state goes; without it a run cannot be resumed.
      checkpoint_every: steps between checkpoints, ≥ 1.
      callbacks: hear of start, steps and end.
      together: whether a process that was started as one of several shares the run with the others. False trains in
        this process alone, such as a public starting point that one of them makes.
      wait_seconds: how long one process of a run on several waits for another before the run ends. Counts for whatever
        the first one does alone: callbacks, checkpoints.
      self_check: try the engine on public rows of this very model before anything private is read, see
        `engines.self_check`; about ten passes of a few short rows, and no bit changes. Ignored without privacy.
    """

    microbatch_rows: int = 64
    microbatch_tokens: int = 4096
    checkpoint: CheckpointFolder | None = None
    checkpoint_every: int = 50
    callbacks: Sequence[Callback] = ()
    together: bool = True
    wait_seconds: float = 1800.0
    self_check: bool = True

    def __post_init__(self) -> None:
        for name in ("microbatch_rows", "microbatch_tokens", "checkpoint_every"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ConfigError(f"trainer: {name}={value!r}; expected a whole number, at least 1")
        if not isinstance(self.wait_seconds, int | float) or not 0 < self.wait_seconds < math.inf:
            raise ConfigError(f"trainer: wait_seconds={self.wait_seconds!r}; expected a number of seconds, above 0")
        object.__setattr__(self, "callbacks", check_callbacks(self.callbacks))


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a trainer was made with, checked; every run of it reads this and changes nothing in it."""

    model: nn.Module
    task: Task
    plan: PrivacyPlan
    optimizer: OptimizerFactory
    method: Method = field(default_factory=Method)
    execution: Execution = field(default_factory=Execution)

    def __post_init__(self) -> None:
        for name, kind, remedy in (
            ("model", nn.Module, "a transformers model, or any module that the engine can clip"),
            ("plan", PrivacyPlan, "a PrivacyPlan"),
            ("method", Method, "a Method(engine=…, clipping=…, …)"),
            ("execution", Execution, "an Execution(microbatch_rows=…, checkpoint=…, …)"),
        ):
            if not isinstance(getattr(self, name), kind):
                raise ConfigError(f"trainer: {name} is {_kind(getattr(self, name))}; expected {remedy}")
        if not callable(getattr(self.task, "row_losses", None)):
            raise ConfigError(f"trainer: task is {_kind(self.task)}; expected a Task, with encode, collate, row_losses")
        if isinstance(self.optimizer, torch.optim.Optimizer) or not callable(self.optimizer):
            raise ConfigError(
                f"trainer: optimizer is {_kind(self.optimizer)}; expected a function that makes one from the trainable "
                "parameters; give adamw(lr=…), or lambda parameters: torch.optim.AdamW(parameters, lr=…)"
            )
        law = self.plan.mechanism.noise
        if not law.independent and self.method.noise is not NoiseKind.SEEDED:
            raise PlanError(
                f"trainer: bands={law.bands} and noise={self.method.noise.value}; correlated noise is made from "
                "seeds, so that a resumed run can make it again; use seeded noise, or set bands=1"
            )
        if self.method.by_token and (self.plan.private or self.method.packing is Packing.WITHIN_UNITS):
            raise PlanError(
                "trainer: by_token=True; expected False with privacy, where each unit counts alike, and within_units; "
                "a unit that writes more would count more"
            )
        if self.method.packing is not Packing.NONE:
            self._check_packing()

    def _check_packing(self) -> None:
        if self.method.packing is Packing.ACROSS_UNITS and self.plan.private:
            raise PlanError(
                "packing across_units: units that share a sequence cannot be clipped one by one, and the plan is "
                "private; use packing within_units"
            )
        if not isinstance(self.task, PacksRows):
            raise ModelError(f"task {self.task.name}: its rows cannot share a sequence; set trainer.pack=false")

    @property
    def engine(self) -> AnyEngine:
        """The engine that runs: the method's, or the baseline's without privacy."""
        return self.method.engine if self.plan.private else EngineName.NON_PRIVATE

    @property
    def scaling(self) -> Scaling | None:
        """The scaling that runs: none without privacy."""
        return self.method.scaling if self.plan.private else None

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def row_losses(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """(rows,) losses of the task, in the method's precision."""
        device = next(iter(inputs.values())).device.type
        with torch.autocast(device, dtype=self.method.autocast, enabled=self.method.autocast is not None):
            return self.task.row_losses(model, inputs)

    def lay_out(self, rows: Sequence[Row]) -> Mapping[str, Tensor]:
        """The rows of one unit, as they enter a model."""
        if self.method.packing is Packing.NONE:
            return self.task.collate(rows)
        assert isinstance(self.task, PacksRows)
        return self.task.collate_packed([rows], [[1.0] * len(rows)])

    def trainable(self) -> list[nn.Parameter]:
        """The parameters that are trained.

        Raises:
          ModelError: there is none.
        """
        found = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        if not found:
            raise ModelError("model: no trainable parameter; expected at least one with requires_grad")
        return found

    def make_optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """Call the factory.

        Raises:
          ConfigError: it makes something else.
        """
        made = self.optimizer(parameters)
        if not isinstance(made, torch.optim.Optimizer):
            raise ConfigError(f"trainer: optimizer made {_kind(made)}; expected a torch.optim.Optimizer")
        return made


def _kind(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
