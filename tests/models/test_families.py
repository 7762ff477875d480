"""Pretrained folders of every common kind train, are shipped and write, by the path of a user and at the defaults.

Each family is trained in full on chat and with adapters on meetings: what a task gives a model, and where adapters go,
is the same code for all families of an architecture. One decoder and one encoder–decoder get the other two pairs.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from test_pretrained import byte_level, pieces
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from dp_train.cli.load_config import compose
from dp_train.models.export import load_export
from dp_train.runs import prepare as preparing
from dp_train.runs.folder import RunFolder
from dp_train.runs.populations import Populations, populations
from dp_train.runs.prepare import make_trainer, prepare
from dp_train.runs.recipe import Recipe, recipe_values
from dp_train.runs.scoring import export
from dp_train.runs.starting import make_model
from dp_train.training.batches import Packing
from dp_train.training.callbacks import RunStatus

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
WINDOW = {"sliding_window": 8}
HEADS = {"head_dim": 8}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
BART: dict[str, Any] = {
    **{f"{side}_{what}": 2 for side in ("encoder", "decoder") for what in ("layers", "attention_heads")},
    **{f"{side}_ffn_dim": 24 for side in ("encoder", "decoder")},
    "d_model": 16,
    "max_position_embeddings": 128,
}
SEES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}

Family = tuple[str, dict[str, Any]]
DECODERS: dict[str, Family] = {
    "gpt2": ("GPT2", {"n_positions": 128, "n_embd": 16, "n_layer": 2, "n_head": 2}),
    "llama": ("Llama", SIZES),
    "qwen2": ("Qwen2", SIZES),
    "qwen3": ("Qwen3", {**SIZES, **HEADS}),
    "gemma": ("Gemma", {**SIZES, **HEADS}),
    "gemma2": ("Gemma2", {**SIZES, **HEADS, **WINDOW}),
    "gemma3": ("Gemma3", {**SIZES, **HEADS, **WINDOW}),
    "mistral": ("Mistral", {**SIZES, **WINDOW}),
    "opt": ("OPT", {**SIZES, "ffn_dim": 24, "word_embed_proj_dim": 16, "max_position_embeddings": 128}),
    "olmo": ("Olmo", SIZES),
    "olmo2": ("Olmo2", SIZES),
    "granite": ("Granite", SIZES),
    "phi": ("Phi", SIZES),
    "phi3": ("Phi3", {**SIZES, **WINDOW}),
}
ENCODER_DECODERS: dict[str, Family] = {
    "t5": ("T5", T5),
    "flan_t5": ("T5", {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "long_t5": ("LongT5", {**T5, "local_radius": 3}),
    "long_t5_global": (
        "LongT5",
        {**T5, "local_radius": 3, "global_block_size": 4, "encoder_attention_type": "transient-global"},
    ),
    "bart": ("Bart", BART),
    "pegasus": ("Pegasus", BART),
    "mbart": ("MBart", BART),
    "led": (
        "LED",
        {
            **{name: value for name, value in BART.items() if name != "max_position_embeddings"},
            "attention_window": 8,
            "max_encoder_position_embeddings": 128,
            "max_decoder_position_embeddings": 128,
        },
    ),
}
FAMILIES = DECODERS | ENCODER_DECODERS
PAIRS = [
    (family, task, what) for family in FAMILIES for task, what in (("chat_compose", "all"), ("meeting_summary", "lora"))
]
PAIRS += [
    (family, task, what)
    for family in ("llama", "bart")
    for task, what in (("chat_compose", "lora"), ("meeting_summary", "all"))
]

SMALL = (
    *("corpus.people=40", "corpus.public_people=20", "corpus.evaluation_people=20", "corpus.tables=null"),
    *("task.max_length=48", "task.max_new_tokens=4", "evaluation.examples=2", "evaluation.overlap_examples=0"),
    *("trainer.steps=2", "trainer.population=null", "trainer.sample_rate=0.1", "trainer.expected_units=4"),
    *("tracking=off", "start=none"),
)


def build(family: str, size: int) -> PreTrainedModel:
    """A model of random weights, with more rows of embedding than tokens, as many published ones have."""
    name, values = FAMILIES[family]
    ids = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    ends = "ForConditionalGeneration" if family in ENCODER_DECODERS else "ForCausalLM"
    config = {"GPT2": "GPT2Config", "Gemma3": "Gemma3TextConfig"}.get(name, f"{name}Config")
    model = {"GPT2": "GPT2LMHeadModel"}.get(name, f"{name}{ends}")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = getattr(transformers, model)(getattr(transformers, config)(vocab_size=size + 3, **{**ids, **values}))
    assert isinstance(made, PreTrainedModel)
    return made


def spelled(family: str) -> PreTrainedTokenizerFast:
    return pieces() if "t5" in family or family == "pegasus" else byte_level()


def save(family: str, folder: Path) -> Path:
    tokenizer = spelled(family)
    build(family, len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def _people_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The gate passes the same people for every model of a task."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(preparing, "populations", lambda recipe, moment: people_of(recipe.task.name, recipe, moment))


@cache
def _kept() -> dict[str, Populations]:
    return {}


def people_of(task: str, recipe: Recipe, moment: Any) -> Populations:
    if task not in _kept():
        _kept()[task] = populations(recipe, moment)
    return _kept()[task]


@pytest.mark.parametrize(("family", "task", "what"), PAIRS)
def test_a_folder_of_the_family_trains_and_ships_at_the_defaults(
    tmp_path: Path, family: str, task: str, what: str
) -> None:
    folder = save(family, tmp_path / "base")
    recipe = compose([f"task={task}", "model=pretrained", f"model.path={folder}", f"model.trainable={what}", *SMALL])[0]
    parts = prepare(recipe)
    model, _ = make_model(recipe, parts.data)
    before = {name: tensor.clone() for name, tensor in model.named_parameters() if tensor.requires_grad}
    trainer = make_trainer(recipe, model, parts.data.task, parts.plan)
    result = trainer.fit(parts.data.units)
    assert result.status is RunStatus.FINISHED
    assert result.epsilon.withheld == ()
    assert not result.epsilon.untried
    assert trainer.setup.method.packing is (Packing.WITHIN_UNITS if family in DECODERS else Packing.NONE)
    after = dict(model.named_parameters())
    assert all(not torch.equal(tensor, after[name]) for name, tensor in before.items())
    run = RunFolder.create(tmp_path / "run", recipe_values(recipe), ())
    shipped = export(parts, model, run)
    assert type(shipped) is type(model)
    assert isinstance(parts.data.task.generate(shipped, ["can you look"])[0], str)  # type: ignore[attr-defined]
    assert isinstance(load_export(run.model), PreTrainedModel)
