"""What is exported is what was trained, whatever was adapted, tied or rounded, and whoever loads it from anywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from test_pretrained import FAMILIES, byte_level, gpt2
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from dp_train.errors import ModelError
from dp_train.models.build import Architecture, ModelSpec, build_model
from dp_train.models.export import Export, load_export, ship
from dp_train.models.pretrained import find_pretrained, load_pretrained, load_pretrained_tokenizer
from dp_train.models.trainable import Lora, Trainable, select_trainable

IDS = torch.tensor([[3, 4, 5, 6]])


def logits(model: torch.nn.Module) -> torch.Tensor:
    config = model.config
    inputs = {"input_ids": IDS, **({"decoder_input_ids": IDS} if config.is_encoder_decoder else {})}  # type: ignore[union-attr]
    with torch.no_grad():
        return model.eval()(**inputs).logits  # type: ignore[no-any-return]


def stored(folder: Path, family: str, dtype: torch.dtype) -> Path:
    build, tokenizer = FAMILIES[family]
    spelled = tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build(len(spelled))
    torch.nn.Module.to(model, dtype)
    model.save_pretrained(folder)
    spelled.save_pretrained(folder)
    return folder


def trained(source: Path | str, targets: tuple[str, ...]) -> PreTrainedModel:
    """The model with adapters that are far from nothing."""
    model = load_pretrained(find_pretrained(str(source)), load_pretrained_tokenizer(str(source)))
    if targets == ("embedding",):
        embedding = model.get_input_embeddings()
        targets = (next(name.rpartition(".")[2] for name, module in model.named_modules() if module is embedding),)
    select_trainable(model, Trainable.LORA, lora=Lora(rank=2, targets=targets))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3)
    return model


@pytest.mark.filterwarnings("ignore")  # peft's and transformers' words about shared weights
@pytest.mark.parametrize("export", list(Export), ids=lambda export: export.value)
@pytest.mark.parametrize("targets", [(), ("lm_head",), ("embedding",)], ids=["linear", "output", "embedding"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_shipped_gives_the_logits_of_what_was_trained(
    family: str, targets: tuple[str, ...], export: Export, tmp_path: Path
) -> None:
    model = trained(stored(tmp_path / "base", family, torch.float32), targets)
    expected = logits(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    shipped = ship(model, tmp_path / "out", logits, export=export)
    assert torch.allclose(logits(shipped), expected, atol=1e-4)
    assert torch.allclose(logits(load_export(tmp_path / "out")), expected, atol=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    if export is Export.ADAPTER:
        task = json.loads((tmp_path / "out/adapter_config.json").read_text())["task_type"]
        assert task == ("SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("lora", [True, False])
def test_an_export_has_the_type_of_its_source_and_what_comes_back_is_what_lies_there(
    dtype: torch.dtype, lora: bool, tmp_path: Path
) -> None:
    source = stored(tmp_path / "base", "llama", dtype)
    found = find_pretrained(str(source))
    assert found.dtype is dtype
    model = trained(source, ()) if lora else load_pretrained(found, load_pretrained_tokenizer(str(source)))
    shipped = ship(model, tmp_path / "out", logits, dtype=found.dtype)
    as_stored = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert as_stored.dtype is dtype
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    for name, tensor in as_stored.state_dict().items():
        assert torch.equal(tensor.float(), shipped.state_dict()[name])


@pytest.mark.parametrize("loader", ["transformers", "peft"])
def test_adapters_trained_on_a_relative_folder_load_from_another_working_folder(
    loader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(tmp_path / "m", "gpt2", torch.float32)
    monkeypatch.chdir(tmp_path)
    model = trained("./m", ())
    ship(model, Path("out"), logits, export=Export.ADAPTER)
    (tmp_path / "elsewhere").mkdir()
    kind = {"transformers": "AutoModelForCausalLM", "peft": "AutoPeftModelForCausalLM"}[loader]
    code = f"""
import sys; sys.modules["dp_train"] = None
import torch
from {loader} import {kind}
model = {kind}.from_pretrained({str(tmp_path / "out")!r}).eval()
torch.save(model(input_ids=torch.tensor({IDS.tolist()})).logits, {str(tmp_path / "logits.pt")!r})
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path / "elsewhere")
    assert run.returncode == 0, run.stderr
    assert torch.allclose(torch.load(tmp_path / "logits.pt"), logits(model), atol=1e-4)


def test_adapters_alone_of_a_model_that_lies_nowhere_are_refused(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    spec = ModelSpec(architecture=Architecture.DECODER, layers=1, width=16, heads=2, positions=64)
    model = build_model(spec, tokenizer, seed=0)
    select_trainable(model, Trainable.LORA, lora=Lora(rank=2))
    with pytest.raises(ModelError, match=r"lies in no folder; set model\.export=merged"):
        ship(model, tmp_path / "out", logits, export=Export.ADAPTER)


def test_a_model_that_does_not_stay_itself_is_refused(tmp_path: Path) -> None:
    """Adapters whose base has changed since: it would load, and be another model."""
    source = stored(tmp_path / "base", "gpt2", torch.float32)
    model = trained(source, ())
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(1.1)
    with pytest.raises(ModelError, match="gives other logits than as it is trained"):
        ship(model, tmp_path / "out", logits, export=Export.ADAPTER)


def test_a_folder_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    tokenizer = byte_level()
    gpt2(len(tokenizer)).transformer.save_pretrained(tmp_path / "whole")
    llama = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=300, hidden_size=16, num_hidden_layers=1, intermediate_size=16, num_attention_heads=2
        )
    )
    llama.model.save_pretrained(tmp_path / "bare")
    config = json.loads((tmp_path / "bare/config.json").read_text())
    (tmp_path / "bare/config.json").write_text(json.dumps({**config, "architectures": ["LlamaForCausalLM"]}))
    with pytest.raises(ModelError, match="1 weights of LlamaForCausalLM are not in it and would be random"):
        load_pretrained(find_pretrained(str(tmp_path / "bare")), tokenizer)
    with pytest.raises(ModelError, match="of its weights are missing"):
        load_export(tmp_path / "bare")


SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=300, **SMALL)), "writes none"),
        (lambda: transformers.BertModel(transformers.BertConfig(vocab_size=300, **SMALL)), "no output layer"),
        (
            lambda: transformers.GPT2ForSequenceClassification(
                transformers.GPT2Config(vocab_size=300, n_embd=16, n_layer=1, n_head=2)
            ),
            "gives classes",
        ),
        (lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**SMALL)), "reads no text"),
        (lambda: transformers.ViTModel(transformers.ViTConfig(**SMALL)), "reads no text"),
    ],
    ids=["masked", "encoder", "classifier", "vision classifier", "vision"],
)
def test_a_model_that_writes_no_text_is_refused_for_what_it_is(model: object, reason: str, tmp_path: Path) -> None:
    made = model()  # type: ignore[operator]
    made.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=f"holds a {type(made).__name__}, which .*{reason}"):
        find_pretrained(str(tmp_path))


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    gpt2(300).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="tokenizer"):
        load_pretrained_tokenizer(str(tmp_path))
