"""A meeting's transcript in, its summary out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from torch import nn
from transformers import PreTrainedTokenizerFast

from dp_train.consent.events import Purpose
from dp_train.consent.gate import ConsentedCorpus, ConsentedExamples
from dp_train.conversations import Conversation, Example
from dp_train.errors import ConfigError
from dp_train.models.build import Architecture
from dp_train.models.tokenizer import SUMMARY
from dp_train.tasks.base import Row, Sample
from dp_train.tasks.baselines import lead, longest
from dp_train.tasks.examples import meeting_examples
from dp_train.tasks.faithfulness import faithfulness
from dp_train.tasks.intervals import count_people, interval_over_people
from dp_train.tasks.metrics import Scores, degenerate_shares
from dp_train.tasks.rouge import NAMES, rouge, rouge_each
from dp_train.tasks.sequence_task import SequenceTask, beside_references

_MIN_ROOM = 8
_HEAD_SHARE = 3  # one third of what fits is the meeting's beginning


class MeetingSummary(SequenceTask):
    """Summaries of meetings that have a reference summary.

    The prompt is one line a turn, "name: text", where the name is the one on the roster: after
    `dp_train.anonymize` a surrogate. Everyone in the meeting owns the example, for the summary may
    tell what anyone said.

    What does not fit is cut from the *middle* of the transcript, by whole turns: meetings open with what
    they are about and close with decisions and action items. A summary is never cut to make room.

    Args:
      max_length: most tokens of transcript and summary together (of each, for an encoder–decoder).
      max_new_tokens: longest summary that is generated; the room that is kept for it.
      name, examples: of a task whose targets are something else about meetings; a target tells what anyone said.
      baseline_turns: how many turns the rules that models are compared with take for a summary.

    Raises:
      ConfigError: the lengths leave no room for a transcript.
    """

    purpose = Purpose.TRAIN_MEETING_SUMMARY
    metric = "rougeL"
    higher_is_better = True

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        architecture: Architecture,
        *,
        max_length: int = 384,
        max_new_tokens: int = 64,
        name: str = "meeting_summary",
        examples: Callable[[Conversation], Iterable[Example]] = meeting_examples,
        baseline_turns: int = 3,
    ) -> None:
        self.name = name
        self._examples = examples
        self._baseline_turns = baseline_turns
        if max_new_tokens < 1:
            raise ConfigError(f"{name}: max_new_tokens={max_new_tokens}; expected at least 1")
        self._target_room = 0 if architecture is Architecture.ENCODER_DECODER else max_new_tokens
        if max_length - self._target_room < _MIN_ROOM:
            raise ConfigError(
                f"{name}: max_length={max_length} with max_new_tokens={max_new_tokens} leaves no room for a "
                "transcript; raise max_length"
            )
        self.max_length = max_length
        self.max_new_tokens = max_new_tokens
        super().__init__(tokenizer, architecture, SUMMARY)

    def examples(self, corpus: ConsentedCorpus) -> ConsentedExamples:
        """One example a meeting that has a summary; each belongs to all who are in the meeting."""
        return corpus.examples(self._examples)

    def encode(self, example: Example) -> Row:
        """Summary whole, transcript cut in the middle.

        Up to `max_new_tokens` the summary's length does not change the prompt, which is then the one that
        is generated from. A longer summary takes the transcript's room, down to none; only one that is
        longer than `max_length` by itself is cut.
        """
        target = self._ids(example.target)
        room = self.max_length - self._sequences.frame
        target, ended = target[:room], len(target) < room
        if self._sequences.one_sequence:
            room = max(0, room - max(self.max_new_tokens, len(target) + ended))
        return self._sequences.row(self._prompt(example.prompt, room), target, ended=ended)

    def evaluate(
        self, model: nn.Module, examples: Sequence[Example], *, scores: Scores = Scores.ALL
    ) -> dict[str, float]:
        """ROUGE and `faithfulness` of greedy summaries, and `loss`: nats per token of the references.

        `rougeL_low` and `rougeL_high`, and so of each ROUGE, are a 95 % interval over the `people` whose meetings were
        scored (`tasks.intervals`); `empty`, `one_word` and `repeating` are shares of outputs that are no summary.

        Cost: one pass over the prompts and at most `max_new_tokens` steps, 64 meetings at a time.
        """
        outputs = self.generate(model, [example.prompt for example in examples])
        if scores is Scores.PRIMARY:
            return {self.metric: rouge(outputs, [example.target for example in examples])[self.metric]}
        return {
            **self._scores(outputs, examples),
            "loss": self._token_loss(model, [self.encode(example) for example in examples]),
        }

    def baselines(self, examples: Sequence[Example], *, public: Sequence[Example] = ()) -> dict[str, dict[str, float]]:
        """Scores of the first turns and of the longest ones, by the same measures.

        Args:
          public: not used here; other tasks count words in it.
        """
        count = self._baseline_turns
        return {
            f"{name}_{count}": self._scores(
                [choose(example.prompt.split("\n"), count) for example in examples], examples
            )
            for name, choose in (("lead", lead), ("longest", longest))
        }

    def samples(self, model: nn.Module, examples: Sequence[Example], count: int) -> list[Sample]:
        """Summaries of the first `count` examples beside their references."""
        chosen = examples[:count]
        return beside_references(chosen, self.generate(model, [example.prompt for example in chosen]))

    def generate(self, model: nn.Module, prompts: Sequence[str]) -> list[str]:
        """Greedy summaries of transcripts, one "name: text" line a turn."""
        room = self.max_length - self._sequences.frame - self._target_room
        heads = [self._sequences.head(self._prompt(prompt, room)) for prompt in prompts]
        generated = self._sequences.generate(model, heads, max_new_tokens=self.max_new_tokens)
        return [self._sequences.decode(one.ids).strip() for one in generated]

    def _scores(self, outputs: Sequence[str], examples: Sequence[Example]) -> dict[str, float]:
        references = [example.target for example in examples]
        each, owners = rouge_each(outputs, references), [example.owners for example in examples]
        found: dict[str, float] = {}
        for name in NAMES:
            values = [scores[name] for scores in each]
            ends = interval_over_people(values, [1.0] * len(values), owners)
            found |= {name: sum(values) / len(values), f"{name}_low": ends.low, f"{name}_high": ends.high}
        return {
            **found,
            "people": float(count_people(examples)),
            **degenerate_shares(outputs),
            **faithfulness(outputs, [example.prompt for example in examples], references),
        }

    def _prompt(self, transcript: str, room: int) -> list[int]:
        """Tokens of the first and the last turns, at most `room` of them."""
        lines = [self._ids(line) for line in self._lines(transcript)]
        if sum(map(len, lines)) <= room:
            return [token for line in lines for token in line]
        first = _whole_lines(lines, room // _HEAD_SHARE)
        used = sum(map(len, lines[:first]))
        last = _whole_lines(lines[:first:-1], room - used)
        kept = lines[:first] + (lines[-last:] if last else [])
        if not kept:  # one turn longer than everything: its beginning
            return lines[0][:room]
        return [token for line in kept for token in line]

    def _lines(self, transcript: str) -> list[str]:
        """Lines, each but the first with the break before it: tokens of the whole are those of its lines."""
        first, *rest = transcript.split("\n")
        return [first, *(self._sequences.line_break + line for line in rest)]


def _whole_lines(lines: Sequence[Sequence[int]], room: int) -> int:
    """How many of the first lines fit."""
    for number, line in enumerate(lines):
        room -= len(line)
        if room < 0:
            return number
    return len(lines)
