"""Several rows beside each other in one sequence of a decoder, none of which sees another.

    <s> prompt <marker> target │ <s> prompt <marker> target │ padding      input_ids, position_ids, segments  (B, T)
                └ predicts ────┘             └ predicts ────┘              predicting, labels, label_weights  (B, S)

Positions begin anew with each row, attention stays within it (a mask over pairs of columns), and a row's first
label is predicted from its own marker. The end token predicts nothing, so it is a label alone. Logits are computed
at the columns that predict something and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dp_train.errors import ModelError
from dp_train.tasks.base import Row
from dp_train.tasks.sequences import IGNORE, Sequences, evaluating, pad_rows, token_losses

_SEGMENTS = "segments"
_PADDING = -1
_FULL, _SLIDING = "full_attention", "sliding_attention"
_AGREEMENT = 1e-4
_ROUNDING = 16.0


def share_sequences(columns: Sequence[int], *, length: int) -> list[list[int]]:
    """Rows spread over as few sequences of at most `length` columns as longest-first filling finds, evenly.

    Even sequences need little padding beside each other; filled to the brim one after the other, the last is short
    (chat of eight messages a person: 1.35 columns a token at 128 columns, and 1.05 when even). A row that is longer
    than `length` makes every sequence that much longer, no more. Deterministic.

    Args:
      columns: what each row takes (`row_columns`).

    Returns:
      The rows of each sequence, by their index.
    """
    length = max(length, *columns)
    longest_first = sorted(range(len(columns)), key=lambda row: columns[row], reverse=True)
    count = -(-sum(columns) // length)
    while True:
        sequences: list[list[int]] = [[] for _ in range(count)]
        filled = [0] * count
        for row in longest_first:
            place = filled.index(min(filled))
            sequences[place].append(row)
            filled[place] += columns[row]
        if max(filled) <= length:  # at the latest with a sequence a row
            return sequences
        count += 1


def row_columns(row: Row) -> int:
    """Columns that a row takes in a packed sequence: its last token predicts nothing."""
    return len(row.input_ids) - 1


@dataclass(frozen=True, slots=True)
class PackedSequences:
    """Lays out rows of `sequences` beside each other and takes their losses."""

    sequences: Sequences

    def collate(self, packed: Sequence[Sequence[Row]], weights: Sequence[Sequence[float]]) -> dict[str, Tensor]:
        """Pad sequences of rows as the head of this file shows.

        Args:
          packed: the rows of each sequence. weights: what each row's loss counts in its sequence's loss.
        """
        laid = [_lay_out(rows, row_weights) for rows, row_weights in zip(packed, weights, strict=True)]
        labels = pad_rows([one.labels for one in laid], IGNORE, left=False)
        label_weights = torch.zeros(labels.shape)
        for into, one in zip(label_weights, laid, strict=True):
            into[: len(one.label_weights)] = torch.tensor(one.label_weights)
        return {
            "input_ids": pad_rows([one.ids for one in laid], self.sequences.tokenizer.pad_token_id, left=False),
            "position_ids": pad_rows([one.positions for one in laid], 0, left=False),
            _SEGMENTS: pad_rows([one.segments for one in laid], _PADDING, left=False),
            "predicting": pad_rows([one.predicting for one in laid], 0, left=False),
            "labels": labels,
            "label_weights": label_weights,
        }

    def row_losses(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """(B,) weighted sums of the mean token losses of each sequence's rows, float32.

        Inputs of `Sequences.collate` are passed on to `Sequences.row_losses`.

        Guarantee: a row's loss is a function of that row alone, for models that passed `check`.

        Raises:
          ModelError: a row is longer than the model's positions, or the model gives logits elsewhere.
        """
        if _SEGMENTS not in inputs:
            return self.sequences.row_losses(model, inputs)
        labels = inputs["labels"]
        self.sequences.check_length(model, int(inputs["position_ids"].max()) + 1)
        logits: Tensor = model(
            input_ids=inputs["input_ids"],
            attention_mask=_attention_mask(model, inputs[_SEGMENTS]),
            position_ids=inputs["position_ids"],
            logits_to_keep=inputs["predicting"],
            use_cache=False,
        ).logits
        if logits.shape[:-1] != labels.shape:
            raise _cannot_pack(model, "does not give logits at chosen columns of each sequence alone")
        return (token_losses(logits, labels) * inputs["label_weights"]).sum(1)

    def check(self, model: nn.Module) -> None:
        """Hold losses of rows that share a sequence against those of the same rows alone, and with other neighbours.

        Raises:
          ModelError: the model cannot keep rows apart: it has an encoder, no attention mask over pairs of columns,
            or lets them through all the same.
        """
        if not self.sequences.one_sequence:
            raise _cannot_pack(model, "is an encoder–decoder")
        first, second, third = self._probe_rows()
        packed = [(first, second), (first, second), (third, second), (second, third)]
        weights = [(1.0, 0.0), (0.0, 1.0), (0.0, 1.0), (1.0, 0.0)]
        device = next(model.parameters()).device
        together, apart = (
            {name: tensor.to(device) for name, tensor in inputs.items()}
            for inputs in (self.collate(packed, weights), self.sequences.collate([first, second]))
        )
        with evaluating(model):
            alone = self.sequences.row_losses(model, apart)
            try:
                found = self.row_losses(model, together)
            except (TypeError, AttributeError, ValueError, RuntimeError) as error:  # whatever its forward pass expects
                raise _cannot_pack(model, "takes no attention mask over pairs of columns") from error
        rounding = _ROUNDING * max(torch.finfo(parameter.dtype).eps for parameter in model.parameters())
        if torch.is_autocast_enabled(device.type):
            rounding = max(rounding, _ROUNDING * torch.finfo(torch.get_autocast_dtype(device.type)).eps)
        allowed = max(_AGREEMENT, rounding) * (1 + alone.abs())
        if not bool(((found - alone[[0, 1, 1, 1]]).abs() <= allowed[[0, 1, 1, 1]]).all()):
            raise _cannot_pack(model, "lets rows of one sequence see each other")

    def _probe_rows(self) -> list[Row]:
        """Three short rows of unlike tokens."""
        ids = sorted(set(range(len(self.sequences.tokenizer))) - set(self.sequences.tokenizer.all_special_ids))
        lengths = ((2, 2), (1, 3), (3, 1))
        starts = (0, len(ids) // 3, 2 * len(ids) // 3)
        return [
            self.sequences.row(ids[start : start + prompt], ids[start + prompt : start + prompt + target])
            for start, (prompt, target) in zip(starts, lengths, strict=True)
        ]


class _Layout(NamedTuple):
    """One sequence before padding: its columns, then its labels."""

    ids: tuple[int, ...]
    positions: tuple[int, ...]
    segments: tuple[int, ...]
    predicting: tuple[int, ...]
    labels: tuple[int, ...]
    label_weights: tuple[float, ...]


def _lay_out(rows: Sequence[Row], weights: Sequence[float]) -> _Layout:
    ids: list[int] = []
    positions: list[int] = []
    segments: list[int] = []
    predicting: list[int] = []
    labels: list[int] = []
    label_weights: list[float] = []
    for segment, (row, weight) in enumerate(zip(rows, weights, strict=True)):
        columns = row_columns(row)
        tail = [label for label in row.labels if label != IGNORE]
        ids += row.input_ids[:columns]
        positions += range(columns)
        segments += [segment] * columns
        predicting += range(len(ids) - len(tail), len(ids))
        labels += tail
        label_weights += [weight / max(1, len(tail))] * len(tail)
    return _Layout(
        tuple(ids), tuple(positions), tuple(segments), tuple(predicting), tuple(labels), tuple(label_weights)
    )


def _attention_mask(model: nn.Module, segments: Tensor) -> Tensor | dict[str, Tensor]:
    """(B, 1, T, T): each column sees its own row up to itself; padding sees padding, so that no softmax is empty.

    transformers takes a mask over pairs as it is, so a layer's window has to be in it: where a model has layers of
    both kinds, each kind gets a mask by its name.
    """
    config: Any = model.config
    if hasattr(config, "get_text_config"):
        config = config.get_text_config(decoder=True)
    implementation = getattr(config, "_attn_implementation", None)
    if implementation not in ("sdpa", "eager"):
        raise _cannot_pack(model, f"computes attention by {implementation}, not sdpa or eager")
    kinds, window = set(getattr(config, "layer_types", None) or ()), getattr(config, "sliding_window", None)
    if kinds - {_FULL, _SLIDING} or (_SLIDING in kinds and window is None):
        raise _cannot_pack(model, f"has layers of the kind {', '.join(sorted(kinds - {_FULL}))}")
    columns = torch.arange(segments.shape[1], device=segments.device)
    back = columns[:, None] - columns  # in a row columns are positions
    seen = ((segments[:, :, None] == segments[:, None, :]) & (back >= 0))[:, None]
    near = seen if window is None else seen & (back < window)

    def of_kind(mask: Tensor) -> Tensor:
        if implementation == "sdpa":
            return mask
        dtype = next(parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, torch.finfo(dtype).min)

    if not kinds:
        return of_kind(near)
    return {_FULL: of_kind(seen), _SLIDING: of_kind(near)} if _SLIDING in kinds else of_kind(seen)


def _cannot_pack(model: nn.Module, why: str) -> ModelError:
    return ModelError(f"model: {type(model).__name__} {why}, so rows cannot share a sequence; set trainer.pack=false")
