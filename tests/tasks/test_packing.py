"""Rows that share a sequence and do not know it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from dp_train.errors import ModelError
from dp_train.models.build import Architecture, ModelSpec, build_model
from dp_train.models.tokenizer import MESSAGE
from dp_train.tasks.base import Row
from dp_train.tasks.packing import PackedSequences, row_columns, share_sequences
from dp_train.tasks.sequences import IGNORE, Sequences

LENGTHS = [(3, 5), (17, 2), (0, 9), (8, 1), (2, 2)]


def _neox(vocabulary: int, attention: str) -> PreTrainedModel:
    config = transformers.GPTNeoXConfig(
        vocab_size=vocabulary, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2
    )
    return transformers.GPTNeoXForCausalLM._from_config(config, attn_implementation=attention)


def _gpt2(vocabulary: int, attention: str) -> PreTrainedModel:
    config = transformers.GPT2Config(
        vocab_size=vocabulary, n_positions=24, n_embd=32, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2
    )
    return transformers.GPT2LMHeadModel._from_config(config, attn_implementation=attention)


def _llama(vocabulary: int, attention: str, window: int | None = None) -> PreTrainedModel:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    if window is not None:
        mistral = transformers.MistralConfig(
            vocab_size=vocabulary, sliding_window=window, num_key_value_heads=1, **sizes
        )
        return transformers.MistralForCausalLM._from_config(mistral, attn_implementation=attention)
    config = transformers.LlamaConfig(vocab_size=vocabulary, num_key_value_heads=1, **sizes)
    return transformers.LlamaForCausalLM._from_config(config, attn_implementation=attention)


Build = Callable[[int, str], PreTrainedModel]
decoders = pytest.mark.parametrize("build", [_neox, _gpt2, _llama])
attentions = pytest.mark.parametrize("attention", ["sdpa", "eager"])


@pytest.fixture(scope="module")
def packed(tokenizer: PreTrainedTokenizerFast) -> PackedSequences:
    return PackedSequences(Sequences(tokenizer, Architecture.DECODER, MESSAGE))


def make(build: Build, packed: PackedSequences, attention: str = "sdpa") -> PreTrainedModel:
    """Large random weights: what a row reads changes its loss a lot."""
    torch.manual_seed(5)
    model = build(len(packed.sequences.tokenizer), attention).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8)
    return model


def rows(packed: PackedSequences, seed: int = 0) -> list[Row]:
    generator = torch.Generator().manual_seed(seed)
    return [
        packed.sequences.row(*(torch.randint(20, 320, (n,), generator=generator).tolist() for n in pair))
        for pair in LENGTHS
    ]


def losses_of_each(model: PreTrainedModel, packed: PackedSequences, beside: list[Row]) -> Tensor:
    """(rows,): the same sequence once a row, in which that row alone counts."""
    one_hot = torch.eye(len(beside)).tolist()
    return packed.row_losses(model, packed.collate([beside] * len(beside), one_hot)).detach()


@decoders
@attentions
def test_rows_that_share_a_sequence_have_the_losses_that_they_have_alone(
    packed: PackedSequences, build: Build, attention: str
) -> None:
    model, beside = make(build, packed, attention), rows(packed)
    alone = torch.cat([packed.sequences.row_losses(model, packed.sequences.collate([row])) for row in beside])
    torch.testing.assert_close(losses_of_each(model, packed, beside), alone.detach(), rtol=1e-5, atol=1e-5)


@decoders
@attentions
@pytest.mark.parametrize("changed", range(len(LENGTHS)))
def test_changing_one_row_leaves_its_neighbours(
    packed: PackedSequences, build: Build, attention: str, changed: int
) -> None:
    model, before = make(build, packed, attention), rows(packed)
    after = [*before]
    after[changed] = rows(packed, seed=1)[changed]
    moved = (losses_of_each(model, packed, before) - losses_of_each(model, packed, after)).abs()
    assert moved[changed] > 1e-3
    moved[changed] = 0
    assert float(moved.max()) == 0


@decoders
def test_no_gradient_crosses_rows(packed: PackedSequences, build: Build) -> None:
    model, beside = make(build, packed), rows(packed)
    inputs = packed.collate([beside], [[0.0, 1.0, 0.0, 0.0, 0.0]])
    embedded: list[Tensor] = []

    def keep(module: torch.nn.Module, args: object, output: Tensor) -> None:
        output.retain_grad()
        embedded.append(output)

    model.get_input_embeddings().register_forward_hook(keep)
    packed.row_losses(model, inputs).sum().backward()
    assert embedded[0].grad is not None
    reached = embedded[0].grad[0].abs().sum(1) > 0
    assert torch.equal(reached, inputs["segments"][0] == 1)


def test_layout_holds_each_row_once_and_predicts_from_its_own_marker(packed: PackedSequences) -> None:
    inputs = packed.collate([rows(packed)[:2], rows(packed)[2:]], [[1.0, 2.0], [1.0, 1.0, 1.0]])
    marker = packed.sequences.tokenizer.convert_tokens_to_ids(MESSAGE)
    for sequence, own in enumerate([rows(packed)[:2], rows(packed)[2:]]):
        for segment, row in enumerate(own):
            columns = (inputs["segments"][sequence] == segment).nonzero().flatten()
            assert inputs["input_ids"][sequence, columns].tolist() == list(row.input_ids[:-1])
            assert inputs["position_ids"][sequence, columns].tolist() == list(range(row_columns(row)))
            mine = torch.isin(inputs["predicting"][sequence], columns) & (inputs["labels"][sequence] != IGNORE)
            assert inputs["labels"][sequence, mine].tolist() == [label for label in row.labels if label != IGNORE]
            assert inputs["input_ids"][sequence, inputs["predicting"][sequence, mine][0]] == marker
    assert inputs["label_weights"].sum(1).tolist() == pytest.approx([3.0, 3.0])


@given(columns=st.lists(st.integers(1, 60), min_size=1, max_size=20), length=st.integers(1, 80))
def test_every_row_is_in_one_sequence_and_none_is_too_long(columns: list[int], length: int) -> None:
    sequences = share_sequences(columns, length=length)
    assert sorted(row for sequence in sequences for row in sequence) == list(range(len(columns)))
    filled = [sum(columns[row] for row in sequence) for sequence in sequences]
    assert min(filled) > 0
    assert max(filled) <= max(length, *columns)
    assert len(sequences) <= 2 * -(-sum(columns) // max(length, *columns))


@decoders
@attentions
def test_models_that_keep_rows_apart_are_let_through(packed: PackedSequences, build: Build, attention: str) -> None:
    model = build(len(packed.sequences.tokenizer), attention)
    model.train()
    packed.check(model)
    packed.check(model.bfloat16())
    assert model.training


def test_a_model_that_ignores_masks_is_refused(packed: PackedSequences) -> None:
    class Forgetful(transformers.GPTNeoXForCausalLM):
        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **named: object) -> object:
            # Without any mask, transformers finds rows by their positions, and keeps them apart.
            return super().forward(input_ids, attention_mask=torch.ones_like(input_ids), **named)

    whole = _neox(len(packed.sequences.tokenizer), "sdpa")
    model = Forgetful(whole.config)
    model.load_state_dict(whole.state_dict())
    with pytest.raises(ModelError, match=r"Forgetful lets rows .* see each other.*trainer\.pack=false"):
        packed.check(model)


def test_a_mask_that_is_only_causal_is_found(packed: PackedSequences, monkeypatch: pytest.MonkeyPatch) -> None:
    def causal(model: object, segments: Tensor) -> Tensor:
        width = segments.shape[1]
        return torch.ones(len(segments), 1, width, width, dtype=torch.bool).tril()

    monkeypatch.setattr("dp_train.tasks.packing._attention_mask", causal)
    with pytest.raises(ModelError, match="see each other"):
        packed.check(_neox(len(packed.sequences.tokenizer), "sdpa"))


def test_positions_that_do_not_begin_anew_are_found(packed: PackedSequences) -> None:
    class Counting(transformers.GPT2LMHeadModel):
        def forward(self, *args: object, position_ids: Tensor | None = None, **named: object) -> object:
            return super().forward(*args, **named)

    model = Counting(_gpt2(len(packed.sequences.tokenizer), "sdpa").config)
    with pytest.raises(ModelError, match="see each other"):
        packed.check(model)


def _mistral(vocabulary: int, attention: str) -> PreTrainedModel:
    return _llama(vocabulary, attention, window=5)


def _gemma(vocabulary: int, attention: str) -> PreTrainedModel:
    """Layers of both kinds: one sees all of a row, the other its last five columns."""
    config = transformers.Gemma3TextConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        sliding_window=5,
        layer_types=["sliding_attention", "full_attention"],
    )
    return transformers.Gemma3ForCausalLM._from_config(config, attn_implementation=attention)


@pytest.mark.parametrize("build", [_mistral, _gemma])
@attentions
def test_windows_reach_as_far_back_as_they_do_alone(packed: PackedSequences, build: Build, attention: str) -> None:
    model, beside = make(build, packed, attention), rows(packed)
    packed.check(model)
    alone = torch.cat([packed.sequences.row_losses(model, packed.sequences.collate([row])) for row in beside])
    torch.testing.assert_close(losses_of_each(model, packed, beside), alone.detach(), rtol=1e-5, atol=1e-5)
    model.config.sliding_window = 20  # of the mask that is made here; without a window rows are other rows
    for layer in model.modules():
        if hasattr(layer, "sliding_window"):
            layer.sliding_window = 20
    assert not torch.allclose(losses_of_each(model, packed, beside), alone, rtol=1e-3)


def test_layers_of_an_unknown_kind_are_refused(packed: PackedSequences) -> None:
    model = _gemma(len(packed.sequences.tokenizer), "sdpa")
    model.config.layer_types = ["chunked_attention", "full_attention"]
    with pytest.raises(ModelError, match=r"has layers of the kind chunked_attention.*trainer\.pack=false"):
        packed.row_losses(model, packed.collate([rows(packed)], [[1.0] * len(LENGTHS)]))


def test_a_model_without_attention_masks_is_refused(packed: PackedSequences) -> None:
    config = transformers.MambaConfig(
        vocab_size=len(packed.sequences.tokenizer), hidden_size=16, num_hidden_layers=1, state_size=4
    )
    with pytest.raises(ModelError, match="MambaForCausalLM"):
        packed.check(transformers.MambaForCausalLM(config))


def test_an_encoder_decoder_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    spec = ModelSpec(architecture=Architecture.ENCODER_DECODER, layers=1, width=16, heads=2, positions=64)
    packed = PackedSequences(Sequences(tokenizer, Architecture.ENCODER_DECODER, MESSAGE))
    with pytest.raises(ModelError, match=r"encoder–decoder.*trainer\.pack=false"):
        packed.check(build_model(spec, tokenizer, seed=0))


def test_a_row_longer_than_the_positions_is_refused_and_a_long_sequence_is_not(packed: PackedSequences) -> None:
    model = make(_gpt2, packed)
    short = [packed.sequences.row([30] * 10, [31] * 4)] * 3  # 45 columns, and the model has 24 positions
    assert torch.isfinite(packed.row_losses(model, packed.collate([short], [[1.0] * 3]))).all()
    with pytest.raises(ModelError, match="24 positions; lower the task's max_length"):
        packed.row_losses(model, packed.collate([[packed.sequences.row([30] * 30, [31])]], [[1.0]]))
