"""What a task is: examples from consented conversations, rows for the model, losses and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from torch import Tensor, nn

from dp_train.consent.events import Purpose
from dp_train.conversations import Example
from dp_train.tasks.metrics import Scores

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from dp_train.consent.gate import ConsentedCorpus, ConsentedExamples


@dataclass(frozen=True, slots=True)
class Row:
    """One tokenised example. For a decoder `input_ids` and `labels` have one length and labels of the
    prompt are −100; for an encoder–decoder `labels` are the target's ids."""

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """A generated output beside its reference, from the publishable evaluation population only."""

    prompt: str
    reference: str
    output: str


class Task(Protocol):
    """Everything the trainer and the reports need to know about a kind of work."""

    @property
    def name(self) -> str: ...

    @property
    def purpose(self) -> Purpose:
        """What people must have agreed to for their words to be trained on."""
        ...

    @property
    def metric(self) -> str:
        """Name of the primary score among those that `evaluate` gives."""
        ...

    @property
    def higher_is_better(self) -> bool: ...

    def examples(self, corpus: ConsentedCorpus) -> ConsentedExamples: ...

    def encode(self, example: Example) -> Row:
        """Tokenise, cut to the model's length; deterministic."""
        ...

    def collate(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Pad rows to the model's inputs, labels included, rows first."""
        ...

    def row_losses(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """(rows,) mean token loss of each row, over the row's own labels alone."""
        ...

    def evaluate(
        self, model: nn.Module, examples: Sequence[Example], *, scores: Scores = Scores.ALL
    ) -> dict[str, float]:
        """Scores on examples whose people agreed to publication: all of them, or the primary one alone."""
        ...

    def samples(self, model: nn.Module, examples: Sequence[Example], count: int) -> list[Sample]: ...


@runtime_checkable
class HasBaselines(Protocol):
    """A task that simple rules can be scored at, too; a trade-off then shows them beside the models."""

    def baselines(self, examples: Sequence[Example], *, public: Sequence[Example]) -> dict[str, dict[str, float]]:
        """Scores by the name of the rule; `public` are examples of people who agreed to publication."""
        ...


@runtime_checkable
class WritesText(Protocol):
    """A task that shows what a model writes."""

    def generate(self, model: nn.Module, prompts: Sequence[str], /) -> list[str]:
        """What the model writes after each prompt."""
        ...


@runtime_checkable
class HasTokenizer(Protocol):
    """A task whose rows are tokens; the tokenizer goes with the model."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast: ...


@runtime_checkable
class PacksRows(Protocol):
    """A task whose rows can share a sequence; `row_losses` then takes what `collate_packed` gives."""

    def collate_packed(self, packed: Sequence[Sequence[Row]], weights: Sequence[Sequence[float]]) -> dict[str, Tensor]:
        """Sequences of rows as the model's inputs, sequences first.

        A sequence's loss is the sum of its rows' losses times their weights. Guarantee: no row's loss depends on
        another row, for a model that `check_packing` lets through.

        Args:
          packed: the rows of each sequence. weights: what each row's loss counts.
        """
        ...

    def check_packing(self, model: nn.Module) -> None:
        """Try on the model whether rows stay apart.

        Raises:
          ModelError: they do not, or the model cannot take them.
        """
        ...
