"""A whole task from its examples: prompt in, target out. What a task of one's own is built from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from torch import nn
from transformers import PreTrainedTokenizerFast

from dp_train.consent.events import Purpose
from dp_train.consent.gate import ConsentedCorpus, ConsentedExamples
from dp_train.conversations import Conversation, Example
from dp_train.errors import ConfigError
from dp_train.models.spec import Architecture
from dp_train.models.tokenizer import MESSAGE
from dp_train.tasks.base import Row, Sample
from dp_train.tasks.metrics import Scores
from dp_train.tasks.sequence_task import SequenceTask, beside_references

Score = Callable[[Sequence[str], Sequence[str]], Mapping[str, float]]
"""(outputs, references) → scores by name."""


class PromptedTask(SequenceTask):
    """Teaches a model to write each example's target after its prompt; a `Task` whose rows can share a sequence.

    What does not fit is cut from the end of the target, then from the beginning of the prompt. `evaluate` gives `loss`,
    nats per token of the references, and what `score` finds in greedy outputs.

    Args:
      name: of the task. purpose, examples: of its spec.
      metric: name of the primary score: `loss`, or one that `score` gives. higher_is_better: of that score.
      max_length: most tokens of prompt and target together (of each, for an encoder–decoder).
      max_new_tokens: longest output that is generated.
      score: of outputs and references; none if not given.
      marker: which frame stands around prompts, see `models.frames`.

    Raises:
      ConfigError: there is no room for a prompt.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        architecture: Architecture,
        *,
        name: str,
        purpose: Purpose,
        examples: Callable[[Conversation], Iterable[Example]],
        metric: str = "loss",
        higher_is_better: bool = False,
        max_length: int = 64,
        max_new_tokens: int = 16,
        score: Score | None = None,
        marker: str = MESSAGE,
    ) -> None:
        self.name = name
        self.purpose = purpose
        self.metric = metric
        self.higher_is_better = higher_is_better
        self._examples = examples
        self._score = score
        self._max_length = max_length
        self._max_new_tokens = max_new_tokens
        super().__init__(tokenizer, architecture, marker)
        if self._prompt_room(max_new_tokens) < 1:
            raise ConfigError(
                f"{name}: max_length={max_length} with max_new_tokens={max_new_tokens} leaves no room for a prompt; "
                "raise max_length"
            )

    def examples(self, corpus: ConsentedCorpus) -> ConsentedExamples:
        return corpus.examples(self._examples)

    def encode(self, example: Example) -> Row:
        target = self._ids(example.target)
        room = self._max_length - self._sequences.frame - 1  # the end token
        target, ended = target[:room], len(target) <= room
        return self._sequences.row(self._prompt(example.prompt, len(target)), target, ended=ended)

    def evaluate(
        self, model: nn.Module, examples: Sequence[Example], *, scores: Scores = Scores.ALL
    ) -> dict[str, float]:
        found: dict[str, float] = {}
        if self._score is not None and (scores is Scores.ALL or self.metric != "loss"):
            outputs = self.generate(model, [example.prompt for example in examples])
            found |= self._score(outputs, [example.target for example in examples])
        if scores is Scores.ALL or self.metric == "loss":
            found["loss"] = self._token_loss(model, [self.encode(example) for example in examples])
        return found if scores is Scores.ALL else {self.metric: found[self.metric]}

    def samples(self, model: nn.Module, examples: Sequence[Example], count: int) -> list[Sample]:
        chosen = examples[:count]
        return beside_references(chosen, self.generate(model, [example.prompt for example in chosen]))

    def generate(self, model: nn.Module, prompts: Sequence[str]) -> list[str]:
        """Greedy outputs after prompts."""
        heads = [self._sequences.head(self._prompt(prompt, self._max_new_tokens)) for prompt in prompts]
        written = self._sequences.generate(model, heads, max_new_tokens=self._max_new_tokens)
        return [self._sequences.decode(one.ids).strip() for one in written]

    def _prompt_room(self, target: int) -> int:
        beside = target if self._sequences.one_sequence else 0
        return self._max_length - self._sequences.frame - 1 - beside

    def _prompt(self, text: str, target: int) -> list[int]:
        """The last tokens of a prompt that fit beside a target of so many."""
        ids = self._ids(text)
        return ids[max(0, len(ids) - max(0, self._prompt_room(target))) :]
