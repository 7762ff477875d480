"""What is trained, and that the model stays itself."""

from __future__ import annotations

import sys

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from dp_train.errors import ModelError
from dp_train.models.build import ModelSpec, build_model
from dp_train.models.trainable import Lora, Trainable, count_parameters, select_trainable


def trained(model: torch.nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_all_trains_what_the_model_does_not_freeze(spec: ModelSpec, tokenizer: PreTrainedTokenizerFast) -> None:
    model = build_model(spec, tokenizer, seed=0)
    before = trained(model)
    count = select_trainable(model, Trainable.ALL)
    assert trained(model) == before
    assert not [name for name in before if "position" in name]  # sinusoids are no parameters to learn
    assert count == count_parameters(model)


def test_norms_and_biases_are_vectors_only(spec: ModelSpec, tokenizer: PreTrainedTokenizerFast) -> None:
    model = build_model(spec, tokenizer, seed=0)
    count = select_trainable(model, Trainable.NORMS_AND_BIASES)
    assert all(parameter.dim() == 1 for parameter in model.parameters() if parameter.requires_grad)
    assert 0 < count.trainable < count.total / 4


def test_last_layers_are_the_blocks_next_to_the_output(spec: ModelSpec, tokenizer: PreTrainedTokenizerFast) -> None:
    model = build_model(spec, tokenizer, seed=0)
    one = select_trainable(model, Trainable.LAST_LAYERS, layers=1)
    names = trained(model)
    assert names
    assert all(".layers.1." in name or "norm" in name for name in names)
    assert all("encoder." not in name or "decoder." in name for name in names)
    two = select_trainable(build_model(spec, tokenizer, seed=0), Trainable.LAST_LAYERS, layers=2)
    assert one.trainable < two.trainable < two.total


@pytest.mark.parametrize("layers", [0, 3])
def test_impossible_number_of_layers_is_refused(
    spec: ModelSpec, tokenizer: PreTrainedTokenizerFast, layers: int
) -> None:
    with pytest.raises(ModelError, match=f"layers={layers}; expected 1 to 2"):
        select_trainable(build_model(spec, tokenizer, seed=0), Trainable.LAST_LAYERS, layers=layers)


def test_fresh_adapters_change_nothing_and_are_seeded(spec: ModelSpec, tokenizer: PreTrainedTokenizerFast) -> None:
    plain, first, second = (build_model(spec, tokenizer, seed=0) for _ in range(3))
    before = torch.get_rng_state()
    count = select_trainable(first, Trainable.LORA, lora=Lora(rank=2, seed=1))
    select_trainable(second, Trainable.LORA, lora=Lora(rank=2, seed=1))
    assert torch.equal(torch.get_rng_state(), before)
    assert type(first) is type(plain)
    assert all("lora_" in name for name in trained(first))
    assert 0 < count.trainable < count.total / 4
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    ids = torch.tensor([[1, 40, 50]])
    inputs = {"input_ids": ids, "decoder_input_ids": ids} if plain.config.is_encoder_decoder else {"input_ids": ids}
    assert torch.equal(first(**inputs).logits, plain(**inputs).logits)
    assert first.generate(ids, max_new_tokens=2, do_sample=False).shape[0] == 1


def test_lora_without_peft_says_what_to_install(
    spec: ModelSpec, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModelError, match=r"pip install 'dp_train\[peft\]'"):
        select_trainable(build_model(spec, tokenizer, seed=0), Trainable.LORA)


def test_lora_with_its_first_matrix_frozen_trains_the_second_alone(
    spec: ModelSpec, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model(spec, tokenizer, seed=0)
    select_trainable(model, Trainable.LORA, lora=Lora(rank=2, freeze_a=True))
    assert trained(model)
    assert all(".lora_B." in name for name in trained(model))


def test_lora_of_no_rank_is_refused() -> None:
    with pytest.raises(ModelError, match="rank=0"):
        Lora(rank=0)


def test_lora_goes_where_it_is_told(spec: ModelSpec, tokenizer: PreTrainedTokenizerFast) -> None:
    model = build_model(spec, tokenizer, seed=0)
    target = "q_proj" if model.config.is_encoder_decoder else "dense"
    select_trainable(model, Trainable.LORA, lora=Lora(rank=2, alpha=3, targets=(target,)))
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in trained(model)} == {target}
    with pytest.raises(ModelError, match="name no layer"):
        select_trainable(build_model(spec, tokenizer, seed=0), Trainable.LORA, lora=Lora(targets=("nowhere",)))


@pytest.mark.parametrize("which", [Trainable.ALL, Trainable.LORA])
def test_frozen_embeddings_and_first_blocks_are_not_trained(
    spec: ModelSpec, tokenizer: PreTrainedTokenizerFast, which: Trainable
) -> None:
    model = build_model(spec, tokenizer, seed=0)
    select_trainable(model, which, freeze_embeddings=True, freeze_layers=1)
    names = trained(model)
    assert any(".layers.1." in name for name in names)
    assert not [name for name in names if ".layers.0." in name or "embed" in name]


def test_more_frozen_blocks_than_there_are_is_refused(spec: ModelSpec, tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ModelError, match="freeze_layers=3; expected 0 to 2"):
        select_trainable(build_model(spec, tokenizer, seed=0), Trainable.ALL, freeze_layers=3)


def test_nothing_to_train_is_refused(spec: ModelSpec, tokenizer: PreTrainedTokenizerFast) -> None:
    model = build_model(spec, tokenizer, seed=0).requires_grad_(False)
    with pytest.raises(ModelError, match="selects no parameter"):
        select_trainable(model, Trainable.ALL)
