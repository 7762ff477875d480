"""Pretrained models of transformers, from a folder on this machine or by the id of a hub.

Causal models (GPT-2, Llama, Qwen, Gemma, SmolLM …) and encoder–decoders (T5, BART …) alike. What a
model was pretrained on is not covered by the ε of any run: a person whose words are in it, is in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import constants
from tokenizers import normalizers
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)
from transformers.utils import logging

from dp_train.errors import ModelError
from dp_train.models.build import Architecture, positions_of

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_DROPOUTS = (
    *("dropout", "attention_dropout", "activation_dropout", "hidden_dropout", "dropout_rate"),
    *("resid_pdrop", "embd_pdrop", "attn_pdrop", "classifier_dropout"),
)
_PROBE = "When do we ship? On the first Friday of May."


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretrained:
    """Where a pretrained model lies and what it is. Made by `find_pretrained`."""

    source: str
    architecture: Architecture
    layers: int
    width: int
    positions: int | None
    """Longest sequence; None where the model sets no limit (T5)."""
    dtype: torch.dtype = torch.float32
    """Of the weights in its files. Training is in float32; what is exported has this type again."""

    def describe(self) -> dict[str, Any]:
        """The fields as plain JSON values, for cards and for the digest of a starting point."""
        return {
            "pretrained": self.source,
            "architecture": self.architecture.value,
            "layers": self.layers,
            "width": self.width,
        }


def find_pretrained(source: str) -> Pretrained:
    """What kind of model lies at `source`; reads its configuration and no weights.

    Args:
      source: a folder that `save_pretrained` wrote (config.json, weights, tokenizer), or an id on a hub.

    Raises:
      ModelError: there is no such model, the hub cannot be reached, or nothing in it writes text.
    """
    config = _config(source)
    _expect_writer(source, config)
    if _is_folder(source):
        _expect_files(source, "weights", "model.safetensors", "*.safetensors", "*.safetensors.index.json", "*.bin")
    return Pretrained(
        source=str(Path(source).absolute()) if _is_folder(source) else source,
        architecture=Architecture.ENCODER_DECODER if config.is_encoder_decoder else Architecture.DECODER,
        layers=config.get_text_config(decoder=True).num_hidden_layers,
        width=config.get_text_config(decoder=True).hidden_size,
        positions=positions_of(config),
        dtype=getattr(config, "dtype", None) or torch.float32,
    )


def _expect_writer(source: str, config: PreTrainedConfig) -> None:
    """Raise unless the folder holds a model that writes text, and say what it holds else."""
    kinds = [*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items(), *MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.items()]
    writers = {name for kind, names in kinds if kind == config.model_type for name in _each(names)}
    stored = set(config.architectures or writers)
    if writers and stored & writers:
        return
    name = next(iter(sorted(stored)), config.model_type)
    raise ModelError(
        f"model {source}: holds a {name}, which {_does(name, config)}; expected a model that writes text, such as "
        f"{next(iter(sorted(writers)), 'GPT2LMHeadModel')}"
    )


def _expect_files(folder: str, what: str, expected: str, *patterns: str) -> None:
    if not any(True for pattern in patterns for _ in Path(folder).glob(pattern)):
        raise ModelError(
            f"model {folder}: the folder holds no {what}; expected {expected} beside config.json, as save_pretrained "
            f"of the {'tokenizer' if what == 'tokenizer' else 'model'} writes it"
        )


def _does(name: str, config: PreTrainedConfig) -> str:
    """What a class of transformers is for, in words."""
    if not hasattr(config.get_text_config(), "vocab_size"):
        return "reads no text"
    if "Classification" in name or name.endswith(("MultipleChoice", "QuestionAnswering")):
        return "gives classes or places and writes no text"
    if name.endswith(("Model", "Encoder", "EncoderModel")):
        return "has no output layer for words"
    return "reads text and writes none"


def _each(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def load_pretrained(found: Pretrained, tokenizer: PreTrainedTokenizerFast, *, dropout: float = 0.0) -> PreTrainedModel:
    """The model with its weights, on the CPU, in float32.

    Generation is left to the task: limits and forced tokens that came with the model are dropped.

    Args:
      tokenizer: of `load_pretrained_tokenizer`, to which padding and end of the model are set.
      dropout: in place of the model's own: noise regularises already.

    Raises:
      ModelError: the weights cannot be read, or do not go with the tokenizer.
    """
    config = _config(found.source)
    for name in _DROPOUTS:
        if isinstance(getattr(config, name, None), float):
            setattr(config, name, dropout)
    kind = AutoModelForSeq2SeqLM if found.architecture is Architecture.ENCODER_DECODER else AutoModelForCausalLM
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # of reading a file
    try:
        with torch.random.fork_rng(devices=[]):
            loaded: Any = kind.from_pretrained(
                found.source,
                config=config,
                dtype=torch.float32,
                local_files_only=_is_folder(found.source),
                output_loading_info=True,
            )
    except Exception as error:
        raise _unreadable(found.source, error) from error
    model, info = loaded
    assert isinstance(model, PreTrainedModel)
    _freeze_what_reads_no_text(model)
    for module in model.modules():
        if "SinusoidalPositionalEmbedding" in type(module).__name__:  # a formula, which reading a file makes trainable
            module.requires_grad_(False)
    if info["missing_keys"]:
        raise ModelError(
            f"model {found.source}: {len(info['missing_keys'])} weights of {type(model).__name__} are not in it and "
            "would be random; expected a folder that save_pretrained of that class wrote"
        )
    embedding: Any = model.get_input_embeddings()
    rows = embedding.weight.shape[0]
    if len(tokenizer) > rows:
        raise ModelError(
            f"model {found.source}: its tokenizer has {len(tokenizer)} tokens and its embedding {rows} rows; give the "
            "folder of one model with its own tokenizer"
        )
    if found.architecture is Architecture.ENCODER_DECODER and model.config.decoder_start_token_id is None:
        # Some say it beside the configuration alone; where nothing is said (mBART), a text begins after an end token.
        said = getattr(model.generation_config, "decoder_start_token_id", None)
        model.config.decoder_start_token_id = tokenizer.eos_token_id if said is None else said
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=getattr(model.config, "decoder_start_token_id", None),
    )
    return model


def _freeze_what_reads_no_text(model: PreTrainedModel) -> None:
    """Of a model that also sees or hears (Gemma 3), train what reads and writes text: nothing else gets a gradient."""
    if model.config.get_text_config() is model.config or model.config.is_encoder_decoder:
        return
    reads: nn.Module = model.get_decoder()  # type: ignore[no-untyped-call]
    writes: nn.Module = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    kept = {id(parameter) for part in (reads, writes) for parameter in part.parameters()}
    for parameter in model.parameters():
        if id(parameter) not in kept:
            parameter.requires_grad_(False)


def load_pretrained_tokenizer(source: str) -> PreTrainedTokenizerFast:
    """The model's own tokenizer; its padding token is its end token where it has none (labels never see it).

    Control tokens cannot be typed: a text that spells one becomes its characters.

    Raises:
      ModelError: there is none, it is not a fast one, it makes no token of a text, or it has none for a text's end.
    """
    if _is_folder(source):
        _expect_files(source, "tokenizer", "tokenizer.json", "tokenizer*", "*.model", "vocab.*")
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=_is_folder(source))
    except Exception as error:
        raise _unreadable(source, error) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ModelError(
            f"model {source}: its tokenizer is {type(tokenizer).__name__}; expected one with a tokenizer.json"
        )
    if tokenizer.eos_token_id is None:
        raise ModelError(f"model {source}: its tokenizer names no end token; set eos_token in tokenizer_config.json")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.split_special_tokens = True
    ids = tokenizer.encode(_PROBE, add_special_tokens=False)
    if not set(ids) - {tokenizer.unk_token_id}:
        raise ModelError(
            f"model {source}: its tokenizer makes no token of a text, as one without a vocabulary does; expected the "
            "model's own tokenizer files in that folder"
        )
    _break_typed(tokenizer)
    return tokenizer


def _break_typed(tokenizer: PreTrainedTokenizerFast) -> None:
    """Where control tokens are pieces of the vocabulary (T5), a text that spells one loses its look by a space."""
    typed = [
        token
        for token in tokenizer.all_special_tokens
        if tokenizer.convert_tokens_to_ids(token) != tokenizer.unk_token_id
        and tokenizer.convert_tokens_to_ids(token) in tokenizer.encode(f"a {token} a", add_special_tokens=False)
    ]
    if typed:
        backend = tokenizer.backend_tokenizer
        broken = [normalizers.Replace(token, f"{token[0]} {token[1:]}") for token in typed]
        backend.normalizer = normalizers.Sequence([*broken, *([backend.normalizer] if backend.normalizer else [])])


def _config(source: str) -> PreTrainedConfig:
    if _is_folder(source) and not (Path(source) / "config.json").is_file():
        raise ModelError(f"model {source}: the folder holds no config.json; give one that save_pretrained wrote")
    try:
        config = AutoConfig.from_pretrained(source, local_files_only=_is_folder(source))
    except Exception as error:
        raise _unreadable(source, error) from error
    return config  # type: ignore[no-any-return]


def _is_folder(source: str) -> bool:
    return Path(source).is_dir()


def _unreadable(source: str, error: Exception) -> ModelError:
    """One line for what transformers says in many."""
    if _is_folder(source):
        return ModelError(
            f"model {source}: transformers cannot read it ({type(error).__name__}); expected a folder that "
            "save_pretrained wrote, with its tokenizer"
        )
    if constants.HF_HUB_OFFLINE:
        return ModelError(
            f"model {source}: no such folder, not among what this machine has fetched before, and the hub is not asked "
            "while HF_HUB_OFFLINE is set, as dp-train does unless it is set to 0; say HF_HUB_OFFLINE=0 to fetch it"
        )
    return ModelError(
        f"model {source}: no such folder, and no hub gave it ({type(error).__name__}); expected a folder with "
        "config.json, weights and tokenizer, or a hub id and a network"
    )
