"""The model and the task of a shadow run: those of the recipe, beside a bank in which Dirac canaries live.

A canary's row is a short stand-in row of the task, whose own loss counts nothing, and the canary's coordinate of the
bank times a slope that every clip cuts. So whatever engine, clipping, packing and precision a recipe has, canaries go
its ordinary way: they are drawn, laid out, clipped, summed and noised as people are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dp_train.audit.canaries import DiracCanaries
from dp_train.consent.events import Purpose
from dp_train.consent.gate import ConsentedCorpus, ConsentedExamples
from dp_train.conversations import Example
from dp_train.tasks.base import PacksRows, Row, Sample, Task
from dp_train.tasks.metrics import Scores
from dp_train.training.optimizers import OptimizerFactory

_CANARY = "canary"
_STEEPNESS = 64.0
"""Norm of a canary's gradient ÷ clip norm before the clip; under automatic clipping 0.02 % of the clip norm is lost."""


class BankedModel(nn.Module):
    """A model beside a bank of canary coordinates.

    Args:
      model: trained in place. canaries: m; row 0 of the bank is everyone's who is no canary, and gets no gradient.
    """

    def __init__(self, model: nn.Module, canaries: int) -> None:
        super().__init__()
        self.model = model
        self.bank = nn.Embedding(canaries + 1, 1)
        nn.init.zeros_(self.bank.weight)
        self.bank.to(next(model.parameters()).device)


class BankedTask:
    """A task that also takes Dirac canaries; everyone else's rows and losses are the task's own.

    Args:
      task: of the recipe. canaries: which examples are canaries. clip_norm: C of the plan.
    """

    def __init__(self, task: Task, canaries: DiracCanaries, *, clip_norm: float) -> None:
        self.name = task.name
        self.slope = _STEEPNESS * max(clip_norm, 1.0)
        self._task = task
        self._canaries = canaries
        self._stand_in = task.encode(
            Example(example_id="stand-in", prompt="", target="a", owners=frozenset({"nobody"}))
        )

    @property
    def purpose(self) -> Purpose:
        """The task's, as all below that is not about canaries."""
        return self._task.purpose

    @property
    def metric(self) -> str:
        return self._task.metric

    @property
    def higher_is_better(self) -> bool:
        return self._task.higher_is_better

    def examples(self, corpus: ConsentedCorpus) -> ConsentedExamples:
        return self._task.examples(corpus)

    def evaluate(
        self, model: nn.Module, examples: Sequence[Example], *, scores: Scores = Scores.ALL
    ) -> dict[str, float]:
        return self._task.evaluate(_inner(model), examples, scores=scores)

    def samples(self, model: nn.Module, examples: Sequence[Example], count: int) -> list[Sample]:
        return self._task.samples(_inner(model), examples, count)

    def encode(self, example: Example) -> Row:
        """Negative ids, which no tokenizer gives, for a canary; the task's row for everyone else."""
        coordinate = self._canaries.coordinate(example)
        if coordinate is None:
            return self._task.encode(example)
        return Row(input_ids=(-1 - coordinate,) * 2, labels=())

    def collate(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """The task's inputs, and which canary each row is of: 1 … m, or 0 for none."""
        return {**self._task.collate([self._laid(row) for row in rows]), _CANARY: torch.tensor(list(map(_place, rows)))}

    def collate_packed(self, packed: Sequence[Sequence[Row]], weights: Sequence[Sequence[float]]) -> dict[str, Tensor]:
        """The same of sequences; a canary's row has one to itself, as it is a unit of one row."""
        assert isinstance(self._task, PacksRows)
        laid = [[self._laid(row) for row in rows] for rows in packed]
        return {
            **self._task.collate_packed(laid, weights),
            _CANARY: torch.tensor([_place(rows[0]) for rows in packed]),
        }

    def check_packing(self, model: nn.Module) -> None:
        """Try on the recipe's model whether rows stay apart."""
        assert isinstance(self._task, PacksRows)
        self._task.check_packing(_inner(model))

    def row_losses(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """(rows,) the task's loss, or slope × coordinate for a canary's row."""
        assert isinstance(model, BankedModel)
        places = inputs[_CANARY]
        losses = self._task.row_losses(model.model, {name: one for name, one in inputs.items() if name != _CANARY})
        coordinates: Tensor = model.bank(places[:, None]).flatten()
        return torch.where(places == 0, losses, self.slope * coordinates)

    def _laid(self, row: Row) -> Row:
        return self._stand_in if _place(row) else row


class BankWatch:
    """Reads the bank's noised sum where the optimizer reads it, once a step.

    Args:
      factory: of the recipe. bank: whose gradient is read. scale: expected units ÷ clip norm.
    """

    def __init__(self, factory: OptimizerFactory, bank: nn.Embedding, *, scale: float) -> None:
        self._factory = factory
        self._bank = bank
        self._scale = scale
        self._steps: list[Tensor] = []

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The recipe's optimizer, watched."""
        optimizer = self._factory(parameters)
        optimizer.register_step_pre_hook(self._before_step)
        return optimizer

    @property
    def observed(self) -> NDArray[np.float64]:
        """(steps, m) what each step's optimizer was given of the canaries' coordinates, in clip norms."""
        return torch.stack(self._steps).double().numpy()

    def _before_step(self, *_: object) -> None:
        gradient = self._bank.weight.grad
        assert gradient is not None
        self._steps.append(gradient.detach()[1:, 0].cpu() * self._scale)


def _place(row: Row) -> int:
    """Row of the bank: 1 … m for a canary, 0 for everyone else."""
    return max(0, -row.input_ids[0]) if row.input_ids else 0


def _inner(model: nn.Module) -> nn.Module:
    return model.model if isinstance(model, BankedModel) else model


__all__ = ["BankWatch", "BankedModel", "BankedTask"]
