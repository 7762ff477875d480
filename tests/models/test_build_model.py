"""From-config models: seeded, generating, storable, and clippable layer by layer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedTokenizerFast

from dp_train.errors import ModelError
from dp_train.models.build import TINY, TINY_SEQ2SEQ, Architecture, ModelSpec, build_model

CLIPPABLE = (nn.Linear, nn.Embedding, nn.LayerNorm)


def test_equal_seeds_give_equal_weights_and_leave_the_random_state(
    spec: ModelSpec, tokenizer: PreTrainedTokenizerFast
) -> None:
    before = torch.get_rng_state()
    first, second, other = (build_model(spec, tokenizer, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_stored_model_computes_the_same(spec: ModelSpec, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    model = build_model(spec, tokenizer, seed=0).eval()
    model.save_pretrained(tmp_path)
    decoder = spec.architecture is Architecture.DECODER
    loaded = (AutoModelForCausalLM if decoder else AutoModelForSeq2SeqLM).from_pretrained(tmp_path).eval()
    inputs = {"input_ids": torch.arange(12).view(2, 6)}
    if not decoder:
        inputs["decoder_input_ids"] = torch.arange(8).view(2, 4)
    assert torch.equal(model(**inputs).logits, loaded(**inputs).logits)


def test_model_generates(spec: ModelSpec, tokenizer: PreTrainedTokenizerFast) -> None:
    model = build_model(spec, tokenizer, seed=0)
    written = model.generate(torch.tensor([[1, 50, 60]]), max_new_tokens=4, do_sample=False)
    assert written.shape[0] == 1
    assert written.max() < len(tokenizer)


def test_every_trained_layer_has_a_per_sample_rule(spec: ModelSpec, tokenizer: PreTrainedTokenizerFast) -> None:
    model = build_model(spec, tokenizer, seed=0)
    for module in model.modules():
        if any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
            assert isinstance(module, CLIPPABLE), type(module).__name__


def test_every_trained_tensor_gets_a_gradient(spec: ModelSpec, tokenizer: PreTrainedTokenizerFast) -> None:
    model = build_model(spec, tokenizer, seed=0)
    ids = torch.tensor([[1, 40, 50, 60]])
    model(input_ids=ids, labels=ids).loss.backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without


def test_untied_decoder_has_an_output_layer_of_its_own(tokenizer: PreTrainedTokenizerFast) -> None:
    spec = ModelSpec(architecture=Architecture.DECODER, layers=1, width=16, heads=2, positions=64)
    sizes = [build_model(spec.replace(tied=tied), tokenizer, seed=0).num_parameters() for tied in (True, False)]
    assert sizes[1] - sizes[0] == len(tokenizer) * 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 0}, "layers=0; expected at least 1"),
        ({"width": 18}, "width=18; expected a multiple of 2 × heads = 4"),
        ({"heads": 0}, "heads=0"),
        ({"positions": 2}, "positions=2"),
        ({"dropout": 1.0}, r"dropout=1.0; expected a share in \[0, 1\)"),
        ({"architecture": Architecture.ENCODER_DECODER, "tied": False}, "tied=False"),
    ],
)
def test_impossible_spec_is_refused(change: dict[str, object], message: str) -> None:
    spec = ModelSpec(architecture=Architecture.DECODER, layers=1, width=16, heads=2, positions=64)
    with pytest.raises(ModelError, match=message):
        spec.replace(**change)


def test_tokenizer_without_an_end_is_refused(spec: ModelSpec) -> None:
    from tokenizers import Tokenizer, models

    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), pad_token="<pad>", bos_token="<s>")
    with pytest.raises(ModelError, match="no eos_token"):
        build_model(spec, bare, seed=0)


def test_presets_are_small(tokenizer: PreTrainedTokenizerFast) -> None:
    for preset in (TINY, TINY_SEQ2SEQ):
        assert build_model(preset, tokenizer, seed=0).num_parameters() < 2_000_000
        assert preset.describe()["architecture"] == preset.architecture.value
