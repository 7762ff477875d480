"""Tiny transformers from config and padded rows of several units, for the tests of every engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import peft
import torch
import transformers
from torch import Tensor, nn

from dp_train.engines.base import MicroBatch

VOCABULARY, PAD, LONGEST = 50, 0, 9


def _build(model_class: type[nn.Module], config: transformers.PretrainedConfig) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = model_class(config)
        for parameter in model.parameters():  # away from zero biases and unit norms, where mistakes can hide
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model.train()


def gpt2(*, tied: bool) -> nn.Module:
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=16,
        n_embd=16,
        n_layer=2,
        n_head=2,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=PAD,
        tie_word_embeddings=tied,
    )
    return _build(transformers.GPT2LMHeadModel, config)


def llama() -> nn.Module:
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        pad_token_id=PAD,
        bos_token_id=1,
        eos_token_id=1,
    )
    return _build(transformers.LlamaForCausalLM, config)


def t5(*, tied: bool = True) -> nn.Module:
    config = transformers.T5Config(
        vocab_size=VOCABULARY,
        d_model=16,
        d_kv=8,
        d_ff=24,
        num_layers=2,
        num_heads=2,
        relative_attention_num_buckets=6,
        relative_attention_max_distance=8,
        dropout_rate=0.0,
        pad_token_id=PAD,
        eos_token_id=1,
        decoder_start_token_id=PAD,
        tie_word_embeddings=tied,
    )
    return _build(transformers.T5ForConditionalGeneration, config)


def bart() -> nn.Module:
    config = transformers.BartConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=16,
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        dropout=0.0,
        scale_embedding=True,
        pad_token_id=PAD,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
        forced_eos_token_id=2,
    )
    return _build(transformers.BartForConditionalGeneration, config)


def neox(*, tied: bool = True) -> nn.Module:
    config = transformers.GPTNeoXConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        tie_word_embeddings=tied,
        pad_token_id=PAD,
        bos_token_id=1,
        eos_token_id=1,
    )
    return _build(transformers.GPTNeoXForCausalLM, config)


def pegasus() -> nn.Module:
    config = transformers.PegasusConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=16,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        dropout=0.0,
        activation_dropout=0.0,
        scale_embedding=True,
        pad_token_id=PAD,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        forced_eos_token_id=2,
    )
    return _build(transformers.PegasusForConditionalGeneration, config)


def lora(base: nn.Module, *targets: str) -> nn.Module:
    """Adapters alone are trained; B starts at zero, where A's gradient vanishes, so both are drawn anew."""
    convolution = "c_attn" in targets  # GPT-2's layers keep their weights transposed
    adapters = peft.LoraConfig(r=2, target_modules=list(targets), lora_dropout=0.0, fan_in_fan_out=convolution)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = peft.get_peft_model(base, adapters)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data.normal_(0.0, 0.3)
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "gpt2_tied": lambda: gpt2(tied=True),
    "gpt2_untied": lambda: gpt2(tied=False),
    "gpt2_lora": lambda: lora(gpt2(tied=True), "c_attn", "c_fc"),
    "neox": neox,
    "neox_untied": lambda: neox(tied=False),
    "llama": llama,
    "llama_lora": lambda: lora(llama(), "q_proj", "down_proj"),
    "t5": t5,
    "t5_untied": lambda: t5(tied=False),
    "t5_lora": lambda: lora(t5(), "q", "wo"),
    "bart": bart,
    "pegasus": pegasus,
}


def rows(count: int, *, seed: int = 0) -> dict[str, Tensor]:
    """Rows of unlike length, padded right. `scale` multiplies a row's loss, `offset` is added to the loss alone,
    `spoil` multiplies the gradient alone."""
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, LONGEST + 1, (count,), generator=random)
    ids = torch.randint(3, VOCABULARY, (count, LONGEST), generator=random)
    mask = torch.arange(LONGEST)[None, :] < lengths[:, None]
    return {
        "input_ids": ids.masked_fill(~mask, PAD),
        "attention_mask": mask.long(),
        "labels": ids.masked_fill(~mask, -100),
        "scale": torch.ones(count),
        "offset": torch.zeros(count),
        "spoil": torch.ones(count),
    }


def row_losses(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """(rows,) mean token loss over the row's own labels."""
    labels = inputs["labels"]
    tokens = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
    if model.config.is_encoder_decoder:
        targets = labels
        logits = model(**tokens, decoder_input_ids=model.prepare_decoder_input_ids_from_labels(labels)).logits
    else:
        targets = labels[:, 1:]
        logits = model(**tokens).logits[:, :-1]
    losses = nn.functional.cross_entropy(logits.transpose(1, 2), targets, ignore_index=-100, reduction="none")
    means = losses.sum(1) / (targets != -100).sum(1)
    return _Spoil.apply(means, inputs["spoil"]) * inputs["scale"] + inputs["offset"]


class _Spoil(torch.autograd.Function):
    """Identity forward; the gradient is multiplied: a row with a finite loss and a gradient that is not."""

    @staticmethod
    def forward(ctx, losses, factors):
        ctx.save_for_backward(factors)
        return losses.clone()

    @staticmethod
    def backward(ctx, gradient):
        (factors,) = ctx.saved_tensors
        return gradient * factors, None


def batch(inputs: Mapping[str, Tensor], units: Iterable[int]) -> MicroBatch:
    owner = torch.tensor(list(units), dtype=torch.int64)
    return MicroBatch(inputs=inputs, units=owner, num_units=int(owner.max()) + 1 if len(owner) else 0)


def select(whole: MicroBatch, chosen: Iterable[int]) -> MicroBatch:
    """The microbatch with only the chosen units, renumbered in their order."""
    chosen = list(chosen)
    found = [(row, chosen.index(unit)) for row, unit in enumerate(whole.units.tolist()) if unit in chosen]
    index = torch.tensor([row for row, _ in found], dtype=torch.int64)
    return MicroBatch(
        inputs={name: tensor[index] for name, tensor in whole.inputs.items()},
        units=torch.tensor([unit for _, unit in found], dtype=torch.int64),
        num_units=len(chosen),
    )


def trimmed(inputs: Mapping[str, Tensor], row: int) -> dict[str, Tensor]:
    """One row alone, without its padding."""
    length = int(inputs["attention_mask"][row].sum())
    return {
        name: tensor[row : row + 1, :length] if tensor.dim() > 1 else tensor[row : row + 1]
        for name, tensor in inputs.items()
    }
