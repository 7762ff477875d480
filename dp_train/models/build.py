"""Small models of transformers, made from a few numbers; nothing is fetched from a hub.

The decoder is a GPT-NeoX and the encoder–decoder a Pegasus (a BART with norms before the blocks and
fixed sinusoids for positions). Both consist of `nn.Linear`, `nn.Embedding` and `nn.LayerNorm` only, and
no trainable tensor of theirs is broadcast over the batch, as GPT-2's position embeddings and T5's
relative biases are: every layer has a known per-sample gradient. Positions of the decoder are rotary, over
the whole head.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    GPTNeoXConfig,
    PegasusConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from dp_train.errors import ModelError
from dp_train.models.spec import Architecture as Architecture
from dp_train.models.weights import declare_origin


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """What a from-config model is made of.

    Attributes:
      layers: blocks; of an encoder–decoder, in the encoder and again in the decoder.
      width: size of the hidden state, a multiple of 2 × `heads`.
      heads: attention heads.
      positions: longest sequence the model is made for, in tokens.
      dropout: share of activations dropped in training. 0 by default: noise regularises already, and
        a private run sees each row a few times.
      tied: the output layer is the embedding. An encoder–decoder is always tied.
    """

    architecture: Architecture
    layers: int
    width: int
    heads: int
    positions: int
    dropout: float = 0.0
    tied: bool = True

    def __post_init__(self) -> None:
        def check(ok: bool, name: str, expected: str) -> None:
            if not ok:
                raise ModelError(f"model: {name}={getattr(self, name)!r}; expected {expected}")

        check(self.layers >= 1, "layers", "at least 1")
        check(self.heads >= 1, "heads", "at least 1")
        check(
            self.width >= 1 and self.heads >= 1 and self.width % (2 * self.heads) == 0,
            "width",
            f"a multiple of 2 × heads = {2 * self.heads}",
        )
        check(self.positions >= 8, "positions", "at least 8 tokens")
        check(0 <= self.dropout < 1, "dropout", "a share in [0, 1)")
        check(
            self.tied or self.architecture is Architecture.DECODER,
            "tied",
            "true: an encoder–decoder shares one embedding between encoder, decoder and output",
        )

    def replace(self, **changes: Any) -> ModelSpec:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def describe(self) -> dict[str, Any]:
        """The fields as plain JSON values, for cards and for the digest of a starting point."""
        return {**dataclasses.asdict(self), "architecture": self.architecture.value}


TINY = ModelSpec(architecture=Architecture.DECODER, layers=2, width=64, heads=4, positions=512)
"""Decoder for the demo and for tests of whole runs: 0.23 M parameters with a vocabulary of 2048."""

TINY_SEQ2SEQ = ModelSpec(architecture=Architecture.ENCODER_DECODER, layers=2, width=64, heads=4, positions=512)
"""Encoder–decoder of the same width: 1.3 M parameters with a vocabulary of 2048."""


def build_model(spec: ModelSpec, tokenizer: PreTrainedTokenizerFast, *, seed: int) -> PreTrainedModel:
    """A model with fresh weights, on the CPU, in float32, as large as the tokenizer's vocabulary.

    Guarantee: equal arguments give equal weights; the caller's random state is left as it was.

    Raises:
      ModelError: the tokenizer lacks a padding, beginning or end token.
    """
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    for name, value in ids.items():
        if value is None:
            raise ModelError(f"model: tokenizer has no {name.removesuffix('_id')}; give one from train_tokenizer")
    shared: dict[str, Any] = {"vocab_size": len(tokenizer), **ids}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's alone: fork_rng restores no other
        if spec.architecture is Architecture.DECODER:
            model = AutoModelForCausalLM.from_config(_decoder(spec, shared))  # type: ignore[no-untyped-call]
        else:
            model = AutoModelForSeq2SeqLM.from_config(_encoder_decoder(spec, shared))  # type: ignore[no-untyped-call]
    assert isinstance(model, PreTrainedModel)
    declare_origin(model)
    return model


def positions_of(config: Any) -> int | None:
    """Longest sequence that a model with this configuration of transformers takes; None where it sets no limit."""
    if hasattr(config, "get_text_config"):
        config = config.get_text_config(decoder=True)
    sides = ("max_position_embeddings", "max_encoder_position_embeddings", "max_decoder_position_embeddings")
    found = [value for side in sides if isinstance(value := getattr(config, side, None), int)]
    return min(found, default=None)


def _decoder(spec: ModelSpec, shared: dict[str, Any]) -> GPTNeoXConfig:
    return GPTNeoXConfig(
        num_hidden_layers=spec.layers,
        hidden_size=spec.width,
        intermediate_size=4 * spec.width,
        num_attention_heads=spec.heads,
        max_position_embeddings=spec.positions,
        hidden_dropout=spec.dropout,
        attention_dropout=spec.dropout,
        use_parallel_residual=False,
        # NeoX rotates a quarter of each head by default, which is made for heads of 64 and more.
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 1.0},
        tie_word_embeddings=spec.tied,
        **shared,
    )


def _encoder_decoder(spec: ModelSpec, shared: dict[str, Any]) -> PegasusConfig:
    return PegasusConfig(
        encoder_layers=spec.layers,
        decoder_layers=spec.layers,
        d_model=spec.width,
        encoder_ffn_dim=4 * spec.width,
        decoder_ffn_dim=4 * spec.width,
        encoder_attention_heads=spec.heads,
        decoder_attention_heads=spec.heads,
        max_position_embeddings=spec.positions,
        dropout=spec.dropout,
        attention_dropout=spec.dropout,
        activation_dropout=spec.dropout,
        scale_embedding=True,
        tie_word_embeddings=spec.tied,
        decoder_start_token_id=shared["bos_token_id"],
        forced_eos_token_id=None,
        **shared,
    )
