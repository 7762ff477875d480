"""Rows that do not know of each other, and padding that nobody notices."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, PreTrainedTokenizerFast

from dp_train.errors import ModelError
from dp_train.models.build import Architecture
from dp_train.models.tokenizer import SUMMARY
from dp_train.tasks.base import Row
from dp_train.tasks.sequences import IGNORE, Sequences, evaluating, token_losses


@pytest.fixture(scope="session")
def sequences(tokenizer: PreTrainedTokenizerFast, architecture: Architecture) -> Sequences:
    return Sequences(tokenizer, architecture, SUMMARY)


def rows(sequences: Sequences) -> list[Row]:
    lengths = [(3, 5), (17, 2), (0, 9), (8, 1)]
    generator = torch.Generator().manual_seed(0)
    return [
        sequences.row(*(torch.randint(20, 320, (n,), generator=generator).tolist() for n in pair)) for pair in lengths
    ]


def test_prompt_teaches_nothing(tokenizer: PreTrainedTokenizerFast) -> None:
    row = Sequences(tokenizer, Architecture.DECODER, SUMMARY).row([30, 31], [40, 41])
    marker = tokenizer.convert_tokens_to_ids(SUMMARY)
    assert row.input_ids == (tokenizer.bos_token_id, 30, 31, marker, 40, 41, tokenizer.eos_token_id)
    assert row.labels == (IGNORE,) * 4 + (40, 41, tokenizer.eos_token_id)


def test_encoder_reads_the_prompt_and_the_decoder_writes_the_target(tokenizer: PreTrainedTokenizerFast) -> None:
    row = Sequences(tokenizer, Architecture.ENCODER_DECODER, SUMMARY).row([30], [40])
    assert row.input_ids == (tokenizer.bos_token_id, 30, tokenizer.convert_tokens_to_ids(SUMMARY))
    assert row.labels == (40, tokenizer.eos_token_id)


def test_padding_changes_no_row(sequences: Sequences, model: PreTrainedModel) -> None:
    together = sequences.row_losses(model, sequences.collate(rows(sequences)))
    alone = torch.cat([sequences.row_losses(model, sequences.collate([row])) for row in rows(sequences)])
    assert together.dtype is torch.float32
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_changing_one_row_leaves_the_others(sequences: Sequences, model: PreTrainedModel) -> None:
    before = rows(sequences)
    after = [sequences.row([99] * 20, [77] * 11), *before[1:]]
    a, b = (sequences.row_losses(model, sequences.collate(batch)).detach() for batch in (before, after))
    assert abs(float(a[0] - b[0])) > 1e-3
    torch.testing.assert_close(a[1:], b[1:], rtol=1e-5, atol=1e-5)


def test_gradient_of_one_row_is_finite_and_its_own(sequences: Sequences, model: PreTrainedModel) -> None:
    def gradient(batch: list[Row], index: int) -> torch.Tensor:
        losses = sequences.row_losses(model, sequences.collate(batch))
        grads = torch.autograd.grad(losses[index], [p for p in model.parameters() if p.requires_grad])
        return torch.cat([grad.flatten() for grad in grads])

    batch = rows(sequences)
    together, alone = gradient(batch, 1), gradient([batch[1]], 0)
    assert torch.isfinite(together).all()
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4 * float(alone.abs().max()))


def test_loss_is_the_mean_over_the_rows_own_labels(sequences: Sequences, model: PreTrainedModel) -> None:
    batch = rows(sequences)
    nats = sequences.negative_log_likelihoods(model, batch)
    with evaluating(model):
        losses = sequences.row_losses(model, sequences.collate(batch)).tolist()
    labels = [sum(label != IGNORE for label in row.labels) for row in batch]
    assert labels == [6, 3, 10, 2]
    assert [n / count for n, count in zip(nats, labels, strict=True)] == pytest.approx(losses, rel=1e-5)


def test_loss_is_what_transformers_computes(sequences: Sequences, model: PreTrainedModel) -> None:
    row = rows(sequences)[0]
    theirs = model(input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([row.labels])).loss
    ours = sequences.row_losses(model, sequences.collate([row]))
    torch.testing.assert_close(ours[0], theirs, rtol=1e-5, atol=1e-5)


def test_low_precision_logits_give_float32_losses() -> None:
    losses = token_losses(torch.zeros(1, 2, 8, dtype=torch.bfloat16), torch.tensor([[3, IGNORE]]))
    assert losses.dtype is torch.float32
    assert losses[0].tolist() == pytest.approx([2.0794415, 0.0])  # ln 8


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=6))
def test_batched_generation_equals_one_at_a_time(
    sequences: Sequences, model: PreTrainedModel, lengths: list[int]
) -> None:
    heads = [sequences.head([20 + (7 * i) % 300 for i in range(number, 2 * number)]) for number in lengths]
    together = sequences.generate(model, heads, max_new_tokens=5)
    for head, generated in zip(heads, together, strict=True):
        alone = sequences.generate(model, [head], max_new_tokens=5)[0]
        assert generated.ids == alone.ids
        assert generated.probabilities == pytest.approx(alone.probabilities, rel=1e-3)


def test_what_is_written_already_is_gone_on_from(sequences: Sequences, model: PreTrainedModel) -> None:
    heads = [sequences.head(range(30, 30 + number)) for number in (2, 9, 4)]
    whole = sequences.generate(model, heads, max_new_tokens=6)
    begun = [one.ids[:cut] for one, cut in zip(whole, (1, 3, 2), strict=True)]
    rest = sequences.generate(model, heads, written=begun, max_new_tokens=3)
    for one, first, then in zip(whole, begun, rest, strict=True):
        assert (*first, *then.ids) == one.ids[: len(first) + len(then.ids)]


def test_generation_ends_where_the_model_does(sequences: Sequences, model: PreTrainedModel) -> None:
    eos = sequences.tokenizer.eos_token_id
    bias = torch.zeros(len(sequences.tokenizer))
    bias[eos] = 1e6
    handle = model.get_output_embeddings().register_forward_hook(lambda module, args, output: output + bias)
    generated = sequences.generate(model, [sequences.head([30]), sequences.head([31, 32])], max_new_tokens=4)
    handle.remove()
    assert [(one.ids, one.ended) for one in generated] == [((), True)] * 2


def test_evaluating_restores_the_mode(model: PreTrainedModel) -> None:
    model.train()
    with evaluating(model):
        assert not model.training
        assert not torch.is_grad_enabled()
    assert model.training


def test_rows_longer_than_the_positions_are_refused(sequences: Sequences, model: PreTrainedModel) -> None:
    inputs = sequences.collate([sequences.row([30] * 200, [31])])
    with pytest.raises(ModelError, match="160 positions; lower the task's max_length"):
        sequences.row_losses(model, inputs)


def test_each_row_brings_its_own_positions(tokenizer: PreTrainedTokenizerFast) -> None:
    """GPT-2 broadcasts its default positions over the batch, and then its `wpe` has no row's gradient."""
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer), n_positions=64, n_embd=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2
        )
    )
    seen: list[torch.Size] = []
    model.transformer.wpe.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    sequences = Sequences(tokenizer, Architecture.DECODER, SUMMARY)
    batch = rows(sequences)
    together = sequences.row_losses(model.eval(), sequences.collate(batch))
    assert seen[0][0] == len(batch)
    alone = torch.cat([sequences.row_losses(model, sequences.collate([row])) for row in batch])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_tokenizer_without_the_marker_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ModelError, match="has no token <minutes>"):
        Sequences(tokenizer, Architecture.DECODER, "<minutes>")
