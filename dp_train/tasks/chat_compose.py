"""A draft in, its continuation out: learnt from the messages that people wrote in chat."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from itertools import accumulate
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerFast

from dp_train.consent.events import Purpose
from dp_train.consent.gate import ConsentedCorpus, ConsentedExamples
from dp_train.conversations import Example
from dp_train.errors import ConfigError
from dp_train.models.build import Architecture
from dp_train.models.tokenizer import MESSAGE
from dp_train.tasks.base import Row, Sample
from dp_train.tasks.baselines import WordModel
from dp_train.tasks.examples import messages_of_author, messages_of_thread
from dp_train.tasks.intervals import count_people, interval_over_people
from dp_train.tasks.metrics import (
    MAX_CONTINUATION,
    Prediction,
    Scores,
    TriggerPoint,
    degenerate_shares,
    place_counts,
    suggestion_scores,
    trigger_curve,
    word_perplexity,
)
from dp_train.tasks.sequence_task import SequenceTask
from dp_train.tasks.spec import ContextKind as ContextKind
from dp_train.tasks.suggestions import Draft, Place, Suggester, places
from dp_train.tasks.typing import Typing

_MIN_LENGTH = 32
_SUGGESTIONS = 3
_BASELINES = {"unigram": 1, "trigram": 3}


class ChatCompose(SequenceTask):
    """Continuation of a person's own message.

    An example's target is one chat message. With `ContextKind.OWN` its prompt is what the same person
    wrote before in the thread, and the author is its only owner; messages that quote another person are
    left out, for they hold that person's words. With `ContextKind.THREAD` the prompt is the thread's last
    turns, "name: text" a line, and everyone whose words enter, by a quote too, owns the example.

    What does not fit is cut from the beginning of the prompt. A message that is longer than everything
    keeps the whole words that fit, and then does not teach where it ends.

    Args:
      max_length: most tokens of prompt and message together (of each, for an encoder–decoder).
      context: who owns an example.
      context_turns: how many earlier messages enter the prompt; 0 for none.
      trigger_rate: share of places at which `keystroke_savings` shows a suggestion.
      max_places: how many places suggestions are scored at; more are thinned evenly.

    Raises:
      ConfigError: a number is out of range.
    """

    name = "chat_compose"
    purpose = Purpose.TRAIN_CHAT_COMPOSE
    metric = "perplexity"
    higher_is_better = False

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        architecture: Architecture,
        *,
        max_length: int = 64,
        context: ContextKind = ContextKind.OWN,
        context_turns: int = 1,
        trigger_rate: float = 0.25,
        max_places: int = 400,
    ) -> None:
        def check(ok: bool, value: str, expected: str) -> None:
            if not ok:
                raise ConfigError(f"chat_compose: {value}; expected {expected}")

        check(max_length >= _MIN_LENGTH, f"max_length={max_length}", f"at least {_MIN_LENGTH} tokens")
        check(context_turns >= 0, f"context_turns={context_turns}", "0 or more")
        check(0 < trigger_rate <= 1, f"trigger_rate={trigger_rate}", "a share in (0, 1]")
        check(max_places >= 1, f"max_places={max_places}", "at least 1")
        self.max_length = max_length
        self.context = context
        self.context_turns = context_turns
        self.trigger_rate = trigger_rate
        self.max_places = max_places
        super().__init__(tokenizer, architecture, MESSAGE)

    def examples(self, corpus: ConsentedCorpus) -> ConsentedExamples:
        """One example a chat message of a thread."""
        of = messages_of_author if self.context is ContextKind.OWN else messages_of_thread
        return corpus.examples(partial(of, context_turns=self.context_turns))

    def encode(self, example: Example) -> Row:
        """Message whole where it fits, prompt cut from its beginning."""
        return self._draft(example).row(self._sequences)

    def evaluate(
        self, model: nn.Module, examples: Sequence[Example], *, scores: Scores = Scores.ALL
    ) -> dict[str, float]:
        """Perplexity per word, and with `Scores.ALL` what suggestions are worth (`suggestion_scores`).

        Cost: one pass over the messages; for suggestions another, and three short generations at each of
        at most `max_places` places.
        """
        if scores is Scores.ALL:
            return self.scores_and_curve(model, examples)[0]
        drafts = [self._draft(example) for example in examples]
        return {self.metric: _perplexity(sum(self._nats(model, drafts)), drafts)}

    def scores_and_curve(
        self, model: nn.Module, examples: Sequence[Example]
    ) -> tuple[dict[str, float], tuple[TriggerPoint, ...]]:
        """All scores of `evaluate`, and what suggestions are worth however many are shown (`trigger_curve`).

        `perplexity_low` and `perplexity_high`, and so of `top1` and `keystroke_savings`, are a 95 % interval over the
        `people` who wrote the messages; `empty`, `one_word` and `repeating` are shares of continuations that are none.
        """
        drafts = [self._draft(example) for example in examples]
        where = places(drafts, limit=self.max_places)
        predictions = self.suggester.predict(model, where)
        primary = self._sure(self._nats(model, drafts), drafts, examples)
        owners = _owners_of(where, drafts, examples)
        return {**primary, **self._suggested(predictions, owners)}, trigger_curve(predictions)

    def baselines(self, examples: Sequence[Example], *, public: Sequence[Example]) -> dict[str, dict[str, float]]:
        """Scores of word unigrams and trigrams, counted in the messages of `public`, at the same places.

        Args:
          public: examples of people who agreed to publication.
        """
        drafts = [self._draft(example) for example in examples]
        where = places(drafts, limit=self.max_places)
        values = {}
        for name, order in _BASELINES.items():
            model = WordModel((example.target for example in public), order=order)
            nats = [model.negative_log_likelihood(draft.words, ended=draft.whole) for draft in drafts]
            predictions = [_predict(model, place) for place in where]
            values[name] = {
                **self._sure(nats, drafts, examples),
                **self._suggested(predictions, _owners_of(where, drafts, examples)),
            }
        return values

    def samples(self, model: nn.Module, examples: Sequence[Example], count: int) -> list[Sample]:
        """The first half of each of the first `count` messages, and how the model goes on."""
        halves = [Place(draft, len(draft.words) // 2) for draft in map(self._draft, examples[:count])]
        return [
            Sample(prompt=" ".join(half.before), reference=" ".join(half.expected), output=output)
            for half, output in zip(halves, self._continuations(model, halves), strict=True)
        ]

    def generate(self, model: nn.Module, drafts: Sequence[str], *, earlier: Sequence[str] | None = None) -> list[str]:
        """How the model goes on after each draft; a draft ends with a whole word, its space typed.

        Args:
          earlier: what stands before each message, as `examples` writes prompts; nothing by default.
        """
        prompts = earlier if earlier is not None else [""] * len(drafts)
        ends = [self._end(text.split(), prompt) for text, prompt in zip(drafts, prompts, strict=True)]
        return self._continuations(model, ends)

    def typing(self, model: nn.Module) -> Typing:
        """Suggestions while a message is typed, letter by letter."""
        return Typing(self.suggester, model, self._end)

    @cached_property
    def suggester(self) -> Suggester:
        """Suggests words in the task's messages; made once, since it goes through the whole vocabulary."""
        return Suggester(self._sequences, max_length=self.max_length)

    def _sure(self, nats: Sequence[float], drafts: Sequence[Draft], examples: Sequence[Example]) -> dict[str, float]:
        """Perplexity, its interval over people, and how many they are."""
        ends = interval_over_people(
            nats,
            [float(len(draft.words) + draft.whole) for draft in drafts],
            [example.owners for example in examples],
            score=lambda mean: word_perplexity(mean, words=1, messages=0),
        )
        return {
            self.metric: _perplexity(sum(nats), drafts),
            f"{self.metric}_low": ends.low,
            f"{self.metric}_high": ends.high,
            "people": float(count_people(examples)),
        }

    def _suggested(self, predictions: Sequence[Prediction], owners: Sequence[frozenset[str]]) -> dict[str, float]:
        """What suggestions are worth, intervals over people, and shares of continuations that are no text."""
        found = suggestion_scores(predictions, trigger_rate=self.trigger_rate)
        counts = place_counts(predictions, trigger_rate=self.trigger_rate)
        top = interval_over_people([float(one.right) for one in counts], [1.0] * len(counts), owners)
        saved = interval_over_people([one.saved for one in counts], [one.letters for one in counts], owners)
        return {
            **found,
            "top1_low": top.low,
            "top1_high": top.high,
            "keystroke_savings_low": saved.low,
            "keystroke_savings_high": saved.high,
            **degenerate_shares([" ".join(prediction.continuation) for prediction in predictions]),
        }

    def _nats(self, model: nn.Module, drafts: Sequence[Draft]) -> list[float]:
        return self._sequences.negative_log_likelihoods(model, [draft.row(self._sequences) for draft in drafts])

    def _continuations(self, model: nn.Module, where: Sequence[Place]) -> list[str]:
        return self.suggester.continue_message(model, where)

    def _end(self, words: list[str], prompt: str) -> Place:
        """Behind the words of a draft; of a long one, the end says how to go on."""
        while words and sum(map(len, self._spell(words))) > self.max_length // 2:
            words = words[1:]
        draft = self._cut(prompt, words)
        return Place(draft, len(draft.words))

    def _draft(self, example: Example) -> Draft:
        return self._cut(example.prompt, example.target.split())

    def _cut(self, prompt: str, words: Sequence[str]) -> Draft:
        """The whole words that fit, and as much of the prompt's end as fits beside them."""
        spelled = self._spell(words)
        room = self.max_length - self._sequences.frame - 1  # the end token
        kept, taken = 0, 0
        while kept < len(words) and taken + len(spelled[kept]) <= room:
            taken += len(spelled[kept])
            kept += 1
        if words and not kept:  # one word longer than everything is cut itself
            spelled[0], kept, taken = spelled[0][:room], 1, room
        left = room - taken if self._sequences.one_sequence else room
        ids = self._tokenizer.encode(prompt.replace("\n", self._sequences.line_break), add_special_tokens=False)
        return Draft(
            prompt=tuple(ids[max(0, len(ids) - left) :]),
            words=tuple(words[:kept]),
            spelled=tuple(spelled[:kept]),
            whole=kept == len(words) and sum(map(len, spelled)) <= room,
        )

    def _spell(self, words: Sequence[str]) -> list[tuple[int, ...]]:
        """Tokens of each word, with the space before all but the first.

        The message is tokenised whole: not every pretrained tokenizer spells it as its words one by one. A token
        that reaches over a space belongs to the word in which it ends.
        """
        if not words:
            return []
        coded: Any = self._tokenizer(" ".join(words), add_special_tokens=False, return_offsets_mapping=True)
        ends = list(accumulate(len(word) + 1 for word in words))
        spelled: list[list[int]] = [[] for _ in words]
        word = 0
        for token, (_, end) in zip(coded["input_ids"], coded["offset_mapping"], strict=True):
            while end > ends[word] - 1 and word < len(words) - 1:
                word += 1
            spelled[word].append(token)
        return [tuple(ids) for ids in spelled]


def _owners_of(where: Sequence[Place], drafts: Sequence[Draft], examples: Sequence[Example]) -> list[frozenset[str]]:
    """Whose message each place is in."""
    owners = {id(draft): example.owners for draft, example in zip(drafts, examples, strict=True)}
    return [owners[id(place.draft)] for place in where]


def _perplexity(nats: float, drafts: Sequence[Draft]) -> float:
    return word_perplexity(
        nats, words=sum(len(draft.words) for draft in drafts), messages=sum(draft.whole for draft in drafts)
    )


def _predict(model: WordModel, place: Place) -> Prediction:
    suggestions = model.suggest(place.before, _SUGGESTIONS)
    return Prediction(
        expected=place.expected,
        suggestions=tuple(word for word, _ in suggestions),
        confidence=suggestions[0][1] if suggestions else 0.0,
        continuation=model.continuation(place.before, MAX_CONTINUATION),
    )
