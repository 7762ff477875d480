"""Prompt and target as model inputs, for a decoder and for an encoder–decoder; loss per row; generation.

Decoder, one row of a batch; prompts end in one column, so that only the last columns need logits:

    padding … <s> prompt <marker> │ target </s> … padding        input_ids  (rows, H + S)
                                  │ target </s> … −100           labels     (rows, S)

Encoder–decoder: `<s> prompt <marker>` enters the encoder and `target </s>` is what the decoder writes;
both are padded on the right. With a pretrained model's tokenizer `<s>` and `<marker>` are what
`dp_train.models.frames` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from dp_train.errors import ModelError
from dp_train.models.build import Architecture, positions_of
from dp_train.models.frames import Frame, frame, line_break
from dp_train.tasks.base import Row

IGNORE = -100
_EVALUATION_ROWS = 64
_LOGITS_BYTES = 256 * 2**20
"""Most that the logits of one chunk take while scores are computed; with their softmax it is three times as much."""


@dataclass(frozen=True, slots=True)
class Generated:
    """What a model wrote after one prompt: token ids without the end token, and each one's probability."""

    ids: tuple[int, ...]
    probabilities: tuple[float, ...]
    ended: bool
    """The model ended by itself, before the limit."""


@dataclass(frozen=True, slots=True)
class Sequences:
    """Lays out prompt and target tokens for one architecture and one task marker."""

    tokenizer: PreTrainedTokenizerFast
    architecture: Architecture
    marker: str

    around: Frame = field(init=False)
    line_break: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "around", frame(self.tokenizer, self.architecture, self.marker))
        object.__setattr__(self, "line_break", line_break(self.tokenizer))

    @property
    def one_sequence(self) -> bool:
        """Prompt and target share the model's positions."""
        return self.architecture is Architecture.DECODER

    @property
    def frame(self) -> int:
        """How many tokens `head` adds to a prompt."""
        return self.around.size

    def head(self, prompt: Sequence[int]) -> tuple[int, ...]:
        """What stands before the target: the beginning, the prompt and the marker."""
        return (*self.around.before, *prompt, *self.around.after)

    def row(self, prompt: Sequence[int], target: Sequence[int], *, ended: bool = True) -> Row:
        """The row that teaches `target`, and its end where it is whole."""
        head = self.head(prompt)
        tail = (*target, self.tokenizer.eos_token_id) if ended else tuple(target)
        if not self.one_sequence:
            return Row(input_ids=head, labels=tail)
        return Row(input_ids=head + tail, labels=(IGNORE,) * len(head) + tail)

    def collate(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Pad rows as the head of this file shows."""
        heads, tails = zip(*(self._split(row) for row in rows), strict=True)
        labels = pad_rows(tails, IGNORE, left=False)
        pad = self.tokenizer.pad_token_id
        if not self.one_sequence:
            input_ids = pad_rows(heads, pad, left=False)
            return {"input_ids": input_ids, "attention_mask": _mask(heads, left=False), "labels": labels}
        input_ids = torch.cat([pad_rows(heads, pad, left=True), pad_rows(tails, pad, left=False)], dim=1)
        attention_mask = torch.cat([_mask(heads, left=True), _mask(tails, left=False)], dim=1)
        # Each row brings its own positions: the model's default is one row of them, broadcast over the
        # batch, and a trainable position embedding then has no gradient of a single row.
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "position_ids": (attention_mask.cumsum(1) - 1).clamp_min(0),
            "labels": labels,
        }

    def row_losses(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """(rows,) mean negative log-likelihood of each row's own labels, float32.

        Guarantee: row r's loss is a function of row r alone; how far the others reach only adds padding.

        Raises:
          ModelError: rows are longer than the model's positions.
        """
        labels = inputs["labels"]  # (rows, S)
        self.check_length(model, self._longest(inputs))
        losses = token_losses(self._logits(model, inputs), labels)
        return losses.sum(1) / (labels != IGNORE).sum(1).clamp_min(1)

    def negative_log_likelihoods(self, model: nn.Module, rows: Sequence[Row]) -> list[float]:
        """Nats of each row's labels together, in order."""
        nats = [0.0] * len(rows)
        with evaluating(model) as model_:
            for chunk in _by_memory(rows, bytes_a_label=4 * len(self.tokenizer)):
                inputs = self.collate([rows[index] for index in chunk])
                losses = token_losses(self.logits(model_, inputs), inputs["labels"].to(model_.device)).sum(1)
                for index, value in zip(chunk, losses.tolist(), strict=True):
                    nats[index] = value
        return nats

    def logits(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """(rows, S, vocabulary): logits of each label of `collate`, whose tensors may be on another device."""
        device = next(model.parameters()).device
        return self._logits(model, {name: tensor.to(device) for name, tensor in inputs.items()})

    def _logits(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        labels = inputs["labels"]
        if not self.one_sequence:
            start = torch.full_like(labels[:, :1], _config(model).decoder_start_token_id)
            written = labels[:, :-1].masked_fill(labels[:, :-1] == IGNORE, self.tokenizer.pad_token_id)
            logits: Tensor = model(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                decoder_input_ids=torch.cat([start, written], dim=1),
                use_cache=False,
                **_reaches_all(model, inputs["input_ids"]),
            ).logits
            return logits
        logits = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            position_ids=inputs["position_ids"],
            logits_to_keep=labels.shape[1] + 1,
            use_cache=False,
        ).logits
        return logits[:, :-1]

    def generate(
        self,
        model: nn.Module,
        heads: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        written: Sequence[Sequence[int]] | None = None,
    ) -> list[Generated]:
        """Greedy continuations by transformers, in the order of `heads`; equal to one at a time.

        Args:
          heads: of `head`, one a prompt.
          written: what of each target is there already; nothing by default.
        """
        written = written if written is not None else [()] * len(heads)
        results: list[Generated | None] = [None] * len(heads)
        with evaluating(model) as model_:
            for chunk in self._chunks(heads, written):
                inputs, prefix = self._generation_inputs(
                    model_, [tuple(heads[index]) for index in chunk], [tuple(written[index]) for index in chunk]
                )
                for index, generated in zip(chunk, self._greedy(model_, inputs, prefix, max_new_tokens), strict=True):
                    results[index] = generated
        return [result for result in results if result is not None]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids, control tokens left out, surrogates kept."""
        text = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        assert isinstance(text, str)
        return text

    def _split(self, row: Row) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if not self.one_sequence:
            return row.input_ids, row.labels
        border = next((i for i, label in enumerate(row.labels) if label != IGNORE), len(row.labels))
        return row.input_ids[:border], row.input_ids[border:]

    def _longest(self, inputs: Mapping[str, Tensor]) -> int:
        """Positions that the longest row takes; padding takes none in a decoder."""
        if self.one_sequence:
            return int(inputs["position_ids"].max()) + 1
        return max(inputs["input_ids"].shape[1], inputs["labels"].shape[1])

    def check_length(self, model: nn.Module, length: int) -> None:
        positions = positions_of(_config(model))
        if positions is not None and length > positions:
            raise ModelError(
                f"rows: {length} tokens, the model has {positions} positions; lower the task's max_length or give "
                "the model more positions"
            )

    def _chunks(self, heads: Sequence[Sequence[int]], written: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Indices in batches of like length. What a decoder of its own has written is never padded."""

        def key(index: int) -> tuple[int, int]:
            if not self.one_sequence:
                return len(written[index]), len(heads[index])
            return 0, len(heads[index]) + len(written[index])

        chunk: list[int] = []
        for index in sorted(range(len(heads)), key=key):
            if chunk and (len(chunk) == _EVALUATION_ROWS or key(chunk[0])[0] != key(index)[0]):
                yield chunk
                chunk = []
            chunk.append(index)
        if chunk:
            yield chunk

    def _generation_inputs(
        self, model: PreTrainedModel, heads: Sequence[tuple[int, ...]], written: Sequence[tuple[int, ...]]
    ) -> tuple[dict[str, Tensor], int]:
        """Inputs of `generate` and how many columns of its answer stand before what it wrote."""
        pad = self.tokenizer.pad_token_id
        if not self.one_sequence:
            start = model.config.decoder_start_token_id
            begun = torch.tensor([[start, *ids] for ids in written])
            inputs = {
                "input_ids": pad_rows(heads, pad, left=False),
                "attention_mask": _mask(heads, left=False),
                "decoder_input_ids": begun,
            }
            return inputs | _reaches_all(model, inputs["input_ids"]), begun.shape[1]
        prompts = [head + ids for head, ids in zip(heads, written, strict=True)]
        input_ids = pad_rows(prompts, pad, left=True)
        return {"input_ids": input_ids, "attention_mask": _mask(prompts, left=True)}, input_ids.shape[1]

    def _greedy(
        self, model: PreTrainedModel, inputs: Mapping[str, Tensor], prefix: int, max_new_tokens: int
    ) -> Iterator[Generated]:
        confidence = _Confidence()
        ids: Tensor = model.generate(  # type: ignore[operator]  # transformers' mixin is untyped
            **{name: tensor.to(model.device) for name, tensor in inputs.items()},
            logits_processor=LogitsProcessorList([confidence]),
            generation_config=GenerationConfig(  # type: ignore[no-untyped-call]
                max_new_tokens=max_new_tokens,
                do_sample=False,
                num_beams=1,
                use_cache=True,
                pad_token_id=self.tokenizer.pad_token_id,
                bos_token_id=self.tokenizer.bos_token_id,
                eos_token_id=self.tokenizer.eos_token_id,
                decoder_start_token_id=getattr(model.config, "decoder_start_token_id", None),
            ),
        )[:, prefix:]  # (rows, new)
        probabilities = torch.stack(confidence.steps, dim=1)  # (rows, new)
        for row, row_probabilities in zip(ids.tolist(), probabilities.tolist(), strict=True):
            ended = self.tokenizer.eos_token_id in row
            length = row.index(self.tokenizer.eos_token_id) if ended else len(row)
            yield Generated(ids=tuple(row[:length]), probabilities=tuple(row_probabilities[:length]), ended=ended)


class _Confidence(LogitsProcessor):
    """Notes the probability of the greedy choice at every step; keeping all logits would take rows × vocabulary."""

    def __init__(self) -> None:
        self.steps: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.steps.append(scores.float().softmax(-1).amax(-1))
        return scores


def token_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """(rows, S) negative log-likelihood of each label, float32; 0 where there is none."""
    flat = nn.functional.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORE, reduction="none"
    )
    return flat.view(labels.shape)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[PreTrainedModel]:
    """The model without gradients and without dropout; as it was afterwards."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield model  # type: ignore[misc]  # any module with transformers' generate and config
    finally:
        model.train(training)


def _config(model: nn.Module) -> Any:
    return model.config


def _reaches_all(model: nn.Module, input_ids: Tensor) -> dict[str, Tensor]:
    """Of LED, whose tokens see their neighbours: the first one sees all, and is seen by all, as it was trained."""
    if getattr(_config(model), "model_type", None) != "led":
        return {}
    mask = torch.zeros_like(input_ids)
    mask[:, :1] = 1
    return {"global_attention_mask": mask}


def pad_rows(rows: Sequence[tuple[int, ...]], value: int, *, left: bool) -> Tensor:
    """(rows, longest) int64."""
    width = max((len(row) for row in rows), default=0)
    filled = [((value,) * (width - len(row)) + row) if left else (row + (value,) * (width - len(row))) for row in rows]
    return torch.tensor(filled, dtype=torch.int64).view(len(rows), width)


def _by_memory(rows: Sequence[Row], *, bytes_a_label: int) -> Iterator[list[int]]:
    """Indices of rows of like length, as many as have room for their logits at once; one at least."""
    chunk: list[int] = []
    longest = 0
    for index in sorted(range(len(rows)), key=lambda index: len(rows[index].input_ids)):
        longest = max(longest, len(rows[index].labels))
        if chunk and (len(chunk) + 1 > _EVALUATION_ROWS or (len(chunk) + 1) * longest * bytes_a_label > _LOGITS_BYTES):
            yield chunk
            chunk, longest = [], len(rows[index].labels)
        chunk.append(index)
    if chunk:
        yield chunk


def _mask(rows: Sequence[tuple[int, ...]], *, left: bool) -> Tensor:
    return pad_rows([(1,) * len(row) for row in rows], 0, left=left)
