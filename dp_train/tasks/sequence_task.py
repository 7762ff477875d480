"""What tasks of prompt and target share: rows of tokens, padded or packed, their losses, outputs beside references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from dp_train.conversations import Example
from dp_train.models.spec import Architecture
from dp_train.tasks.base import Row, Sample
from dp_train.tasks.packing import PackedSequences
from dp_train.tasks.sequences import IGNORE, Sequences


class SequenceTask:
    """The part of a `Task` that follows from its rows being sequences of a tokenizer.

    Guarantee: a row's loss is that of its own tokens, whether or not it shares a sequence with other rows.

    Args:
      marker: which frame stands around prompts, see `models.frames`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, architecture: Architecture, marker: str) -> None:
        self._tokenizer = tokenizer
        self._sequences = Sequences(tokenizer, architecture, marker)
        self._packed = PackedSequences(self._sequences)

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """What texts are cut into tokens by."""
        return self._tokenizer

    def collate(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Pad rows to one batch."""
        return self._sequences.collate(rows)

    def collate_packed(self, packed: Sequence[Sequence[Row]], weights: Sequence[Sequence[float]]) -> dict[str, Tensor]:
        """Join the rows of each sequence; each row counts by its weight."""
        return self._packed.collate(packed, weights)

    def check_packing(self, model: nn.Module) -> None:
        """Raise ModelError unless the model keeps rows that share a sequence apart."""
        self._packed.check(model)

    def row_losses(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return one loss a row, of its target's tokens."""
        return self._packed.row_losses(model, inputs)

    def _token_loss(self, model: nn.Module, rows: Sequence[Row]) -> float:
        """Nats per token of the rows' targets."""
        tokens = sum(label != IGNORE for row in rows for label in row.labels)
        return sum(self._sequences.negative_log_likelihoods(model, rows)) / tokens

    def _ids(self, text: str) -> list[int]:
        ids = self._tokenizer.encode(text, add_special_tokens=False)
        assert isinstance(ids, list)
        return ids


def beside_references(examples: Sequence[Example], outputs: Sequence[str]) -> list[Sample]:
    """Return each example's output beside its prompt and its reference."""
    return [
        Sample(prompt=example.prompt, reference=example.target, output=output)
        for example, output in zip(examples, outputs, strict=True)
    ]
