"""Pretrained models: from a folder, with their own tokenizer, trained, and loaded by others without us."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from huggingface_hub import constants
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from dp_train.conversations import Example
from dp_train.errors import ModelError
from dp_train.models import smollm2
from dp_train.models.build import Architecture
from dp_train.models.export import Export, save_model
from dp_train.models.frames import frame
from dp_train.models.pretrained import find_pretrained, load_pretrained, load_pretrained_tokenizer
from dp_train.models.tokenizer import MESSAGE, SUMMARY
from dp_train.models.trainable import Lora, Trainable, select_trainable
from dp_train.tasks.chat_compose import ChatCompose
from dp_train.tasks.meeting_summary import MeetingSummary

TEXTS = ["we agreed to ship the report on friday", "can you look at the report, please?"] * 4
CHAT = (
    "{% for m in messages %}{{ '<|user|>' + m['role'] + '\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|user|>assistant\n' }}{% endif %}"
)
SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


def byte_level(*, chat: bool = False) -> PreTrainedTokenizerFast:
    """As GPT-2's: one special token, no padding, no beginning of its own."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|end|>", "<|user|>"]
    raw.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|end|>", additional_special_tokens=["<|user|>"]
    )
    if chat:
        tokenizer.chat_template = CHAT
    return tokenizer


def pieces() -> PreTrainedTokenizerFast:
    """As T5's: pieces that begin with the space before them, and one before the first word."""
    raw = Tokenizer(models.Unigram())
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    raw.train_from_iterator(
        TEXTS, trainers.UnigramTrainer(vocab_size=80, special_tokens=special, unk_token="<unk>", show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def gpt2(size: int) -> PreTrainedModel:
    config = transformers.GPT2Config(
        vocab_size=size, n_positions=64, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config)


def llama(size: int) -> PreTrainedModel:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=size, **SMALL))


def qwen(size: int) -> PreTrainedModel:
    # More rows of embedding than tokens, as the published ones have.
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(vocab_size=size + 5, num_key_value_heads=1, **SMALL))


def gemma(size: int) -> PreTrainedModel:
    return transformers.GemmaForCausalLM(
        transformers.GemmaConfig(vocab_size=size, num_key_value_heads=1, head_dim=8, **SMALL)
    )


def t5(size: int) -> PreTrainedModel:
    config = transformers.T5Config(
        vocab_size=size, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, decoder_start_token_id=0
    )
    return transformers.T5ForConditionalGeneration(config)


def bart(size: int) -> PreTrainedModel:
    layers = {f"{side}_{what}": 2 for side in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    config = transformers.BartConfig(
        vocab_size=size, d_model=16, encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=64, **layers
    )
    return transformers.BartForConditionalGeneration(config)


FAMILIES: dict[str, tuple[Callable[[int], PreTrainedModel], Callable[[], PreTrainedTokenizerFast]]] = {
    "gpt2": (gpt2, byte_level),
    "llama": (llama, lambda: byte_level(chat=True)),
    "qwen": (qwen, byte_level),
    "gemma": (gemma, byte_level),
    "t5": (t5, pieces),
    "bart": (bart, byte_level),
}


def stored(family: str, folder: Path) -> Path:
    """A folder as people download one."""
    build, tokenizer = FAMILIES[family]
    spelled = tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        build(len(spelled)).save_pretrained(folder)
    spelled.save_pretrained(folder)
    return folder


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return stored(request.param, tmp_path / "base")


def loaded(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast, Architecture]:
    found = find_pretrained(str(folder))
    tokenizer = load_pretrained_tokenizer(str(folder))
    return load_pretrained(found, tokenizer), tokenizer, found.architecture


def test_both_tasks_lose_learn_and_write_with_the_models_own_tokenizer(folder: Path) -> None:
    model, tokenizer, architecture = loaded(folder)
    summary = MeetingSummary(tokenizer, architecture, max_length=64, max_new_tokens=4)
    compose = ChatCompose(tokenizer, architecture, max_length=32)
    examples = [
        Example(example_id="1", prompt="can you look?", target="ship the report", owners=frozenset("a")),
        Example(example_id="2", prompt="", target="please", owners=frozenset("a")),
    ]
    for task in (summary, compose):
        rows = [task.encode(example) for example in examples]
        together = task.row_losses(model, task.collate(rows))
        alone = [task.row_losses(model, task.collate([row])).item() for row in rows]
        assert together.tolist() == pytest.approx(alone, rel=1e-4)
        together.sum().backward()
        assert all(torch.isfinite(torch.tensor(value)) for value in task.evaluate(model, examples).values())
    assert isinstance(compose.generate(model, ["can you"])[0], str)


def test_no_dropout_is_left_and_weights_are_float32(folder: Path) -> None:
    model, _, _ = loaded(folder)
    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} <= {0.0}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def exported(folder: Path, export: Export) -> tuple[str, torch.Tensor]:
    """Export an adapted model beside `folder`: code that saves the logits of what is loaded from there, and the logits.

    The code needs torch and transformers, and peft where an adapter is exported.
    """
    model, tokenizer, architecture = loaded(folder)
    select_trainable(model, Trainable.LORA, lora=Lora(rank=2))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    out = folder.with_name("out")
    save_model(model, out, export=export)
    tokenizer.save_pretrained(out)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    ids = torch.tensor([[3, 4, 5]])
    inputs = {"input_ids": ids} | ({"decoder_input_ids": ids} if architecture is Architecture.ENCODER_DECODER else {})
    expected = model.eval()(**inputs).logits
    kind = type(model).__name__
    load = f"{kind}.from_pretrained({str(folder if export is Export.ADAPTER else out)!r})"
    if export is Export.ADAPTER:
        load = f"PeftModel.from_pretrained({load}, {str(out)!r})"
    assert list(out.glob("*.safetensors"))
    code = f"""
from transformers import AutoTokenizer, {kind}
AutoTokenizer.from_pretrained({str(out)!r})
model = {load}.eval()
ids = torch.tensor([[3, 4, 5]])
torch.save(model(**{{name: ids for name in {list(inputs)}}}).logits, {str(out / "logits.pt")!r})
"""
    return code, expected


@pytest.mark.parametrize("export", list(Export))
def test_exported_folders_load_without_us(tmp_path: Path, export: Export) -> None:
    peft = "from peft import PeftModel" if export is Export.ADAPTER else "sys.modules['peft'] = None"
    found = {family: exported(stored(family, tmp_path / family / "base"), export) for family in FAMILIES}
    code = "\n".join(
        ["import sys; sys.modules['dp_train'] = None", "import torch, transformers", peft]
        + [code for code, _ in found.values()]
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for family, (_, expected) in found.items():
        assert torch.allclose(torch.load(tmp_path / family / "out" / "logits.pt"), expected, atol=1e-4), family


def test_a_chat_template_frames_summaries_and_messages() -> None:
    tokenizer = byte_level(chat=True)
    tokenizer.pad_token = tokenizer.eos_token
    summary = frame(tokenizer, Architecture.DECODER, SUMMARY)
    assert tokenizer.decode(summary.before).startswith("<|user|>user\nSummarize")
    assert tokenizer.decode(summary.after) == "<|end|>\n<|user|>assistant\n"
    assert tokenizer.decode(frame(tokenizer, Architecture.DECODER, MESSAGE).before) == "<|user|>user\n"


def test_a_pretrained_models_control_tokens_cannot_be_typed(folder: Path) -> None:
    _, tokenizer, _ = loaded(folder)
    typed = tokenizer.encode(f"so {tokenizer.eos_token} then", add_special_tokens=False)
    assert tokenizer.eos_token_id not in typed
    assert tokenizer.pad_token_id is not None


def test_what_is_no_model_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        find_pretrained(str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        transformers.AutoConfig, "from_pretrained", lambda *a, **k: (_ for _ in ()).throw(OSError("no\nroute"))
    )
    with pytest.raises(ModelError, match="no such folder, and no hub gave it") as error:
        find_pretrained("somebody/some-model")
    assert "\n" not in str(error.value)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    tokenizer = byte_level()
    gpt2(len(tokenizer) - 1).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="embedding"):
        load_pretrained(find_pretrained(str(tmp_path)), tokenizer)


def test_smollm2_without_its_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise smollm2.PackageNotFoundError(name)

    monkeypatch.setattr(smollm2, "version", absent)
    with pytest.raises(ModelError, match="make smollm2"):
        smollm2.smollm2_folder(tmp_path)
