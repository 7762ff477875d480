"""Next words from models that write parts of words: drafts, places in them, and what is suggested there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from dp_train.tasks.base import Row
from dp_train.tasks.metrics import MAX_CONTINUATION, Prediction
from dp_train.tasks.sequences import Generated, Sequences, evaluating

_ROWS = 64
_CANDIDATES = 3
_WORD_TOKENS = 5
_CONTINUATION_TOKENS = 12


@dataclass(frozen=True, slots=True)
class Draft:
    """A message in tokens, word by word, with the prompt before it.

    `spelled[i]` are the tokens of `words[i]`, the space before it included: byte-level BPE never joins
    over a space, so together they are the tokens of the message. `whole` says that nothing was cut.
    """

    prompt: tuple[int, ...]
    words: tuple[str, ...]
    spelled: tuple[tuple[int, ...], ...]
    whole: bool

    def ids(self, words: int) -> tuple[int, ...]:
        """Tokens of the first words."""
        return tuple(chain.from_iterable(self.spelled[:words]))

    def row(self, sequences: Sequences) -> Row:
        """The row that teaches the message, and its end where it is whole."""
        return sequences.row(self.prompt, self.ids(len(self.words)), ended=self.whole)


@dataclass(frozen=True, slots=True)
class Place:
    """Before word `index` of a message: its space has been typed, the word has not."""

    draft: Draft
    index: int

    @property
    def before(self) -> tuple[str, ...]:
        return self.draft.words[: self.index]

    @property
    def expected(self) -> tuple[str, ...]:
        return self.draft.words[self.index :]


def places(drafts: Sequence[Draft], *, limit: int) -> list[Place]:
    """Every place of every draft, thinned evenly to at most `limit`."""
    every = [Place(draft, index) for draft in drafts for index in range(len(draft.words))]
    if len(every) <= limit:
        return every
    return [every[math.floor(number * len(every) / limit)] for number in range(limit)]


class Suggester:
    """Suggests words with a model: the likeliest tokens that can begin a word, each continued greedily.

    Args:
      sequences: lays out rows for the model.
      max_length: most tokens that the model is given and writes; what does not fit is cut from the
        beginning.
    """

    def __init__(self, sequences: Sequences, *, max_length: int) -> None:
        self.sequences = sequences
        self._room = max_length - _CONTINUATION_TOKENS - 1
        self.vocabulary = Vocabulary.of(sequences.tokenizer)

    def predict(self, model: nn.Module, where: Sequence[Place]) -> list[Prediction]:
        """One prediction a place, in order.

        The first token is chosen among those that can stand there: after a typed space only a new word can.
        A word ends where the model writes white space or ends the message; one that takes more tokens
        than are generated (6, the first suggestion 13) is not suggested. `confidence` is the product of
        the probabilities of the word's tokens.
        """
        with evaluating(model) as model_:
            tokens, probabilities = self._first_tokens(model_, where)
            continued = self._continue(model_, where, tokens[:, 0].tolist(), _CONTINUATION_TOKENS)
            found: list[list[tuple[str, float]]] = []
            continuations = []
            for token, share, rest in zip(tokens[:, 0].tolist(), probabilities[:, 0].tolist(), continued, strict=True):
                words, confidence = self._words(token, share, rest)
                found.append([(words[0], confidence)] if words else [])
                continuations.append(tuple(words[:MAX_CONTINUATION]))
            for rank in range(1, _CANDIDATES):
                continued = self._continue(model_, where, tokens[:, rank].tolist(), _WORD_TOKENS)
                for number, rest in enumerate(continued):
                    words, confidence = self._words(int(tokens[number, rank]), float(probabilities[number, rank]), rest)
                    if words and all(words[0] != word for word, _ in found[number]):
                        found[number].append((words[0], confidence))
        return [
            Prediction(
                expected=place.expected,
                suggestions=tuple(word for word, _ in suggestions),
                confidence=suggestions[0][1] if suggestions else 0.0,
                continuation=continuation,
            )
            for place, suggestions, continuation in zip(where, found, continuations, strict=True)
        ]

    def continue_message(self, model: nn.Module, where: Sequence[Place]) -> list[str]:
        """Greedy text after each place, to the message's end or to 13 tokens, by finished words."""
        with evaluating(model) as model_:
            tokens, shares = self._first_tokens(model_, where)
            first = tokens[:, 0].tolist()
            continued = self._continue(model_, where, first, _CONTINUATION_TOKENS)
        return [
            " ".join(self._words(token, share, rest)[0])
            for token, share, rest in zip(first, shares[:, 0].tolist(), continued, strict=True)
        ]

    def _first_tokens(self, model: nn.Module, where: Sequence[Place]) -> tuple[Tensor, Tensor]:
        """(places, candidates) likeliest tokens that can begin a word at each place, and their shares."""
        drafts = list({id(place.draft): place.draft for place in where}.values())
        drafts.sort(key=lambda draft: len(draft.prompt) + len(draft.ids(len(draft.words))))
        by_draft: dict[int, list[int]] = {}
        for number, place in enumerate(where):
            by_draft.setdefault(id(place.draft), []).append(number)
        tokens = torch.empty(len(where), _CANDIDATES, dtype=torch.int64)
        shares = torch.empty(len(where), _CANDIDATES)
        for start in range(0, len(drafts), _ROWS):
            chunk = drafts[start : start + _ROWS]
            logits = self.sequences.logits(model, self.sequences.collate([d.row(self.sequences) for d in chunk]))
            for row, draft in enumerate(chunk):
                numbers = by_draft[id(draft)]
                columns = [len(draft.ids(where[number].index)) for number in numbers]
                allowed = torch.stack([self.vocabulary.beginnings(first=where[n].index == 0) for n in numbers])
                # A pretrained model may have more rows of embedding than its tokenizer has tokens.
                known = logits[row, columns, : allowed.shape[1]].float().cpu()
                scores = known.masked_fill(~allowed, -math.inf).softmax(-1)
                shares[numbers], tokens[numbers] = scores.topk(_CANDIDATES)
        return tokens, shares

    def _continue(
        self, model: nn.Module, where: Sequence[Place], first: Sequence[int], max_new_tokens: int
    ) -> list[Generated]:
        heads, written = [], []
        for place, token in zip(where, first, strict=True):
            head, begun = self.context(place)
            heads.append(head)
            written.append((*begun, token))
        return self.sequences.generate(model, heads, written=written, max_new_tokens=max_new_tokens)

    def context(self, place: Place) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What stands before a place, cut to leave room: the head of its prompt, and the message so far."""
        begun = _last(place.draft.ids(place.index), self._room - self.sequences.frame)
        return self.sequences.head(self._prompt(place.draft.prompt, len(begun))), begun

    def _prompt(self, prompt: tuple[int, ...], written: int) -> tuple[int, ...]:
        room = self._room - self.sequences.frame
        return _last(prompt, room - written if self.sequences.one_sequence else room)

    def _words(self, first: int, share: float, rest: Generated) -> tuple[list[str], float]:
        """Finished words, and the probability of the first of them."""
        text = self.sequences.decode((first, *rest.ids))
        words = text.split()
        if words and not rest.ended and not text[-1].isspace():
            words.pop()
        confidence = share
        begun = bool(self.sequences.decode((first,)).strip())
        for token, probability in zip(rest.ids, rest.probabilities, strict=True):
            if begun and self.vocabulary.is_spaced(token):
                break
            begun = True
            confidence *= probability
        return words, confidence


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What each token adds to a text that has begun.

    Decoded behind another token, since some tokenizers (T5, Llama 2) drop the space at the beginning of a text.
    Those put one before the first word of a text, too: `prefixed`.
    """

    texts: tuple[str, ...]
    prefixed: bool
    spaced: Tensor
    bare: Tensor

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast) -> Vocabulary:
        """Goes through the whole vocabulary."""
        first = tokenizer.encode("a", add_special_tokens=False)
        lead = len(tokenizer.decode(first, skip_special_tokens=True))
        whole = tokenizer.batch_decode([[*first, token] for token in range(len(tokenizer))], skip_special_tokens=True)
        texts = tuple(text[lead:] for text in whole)
        return cls(
            texts=texts,
            prefixed=tokenizer.decode([*first, *first], skip_special_tokens=True)[lead : lead + 1] == " ",
            spaced=torch.tensor([text[:1] == " " for text in texts]),
            bare=torch.tensor([bool(text) and not text[0].isspace() for text in texts]),
        )

    def beginnings(self, *, first: bool) -> Tensor:
        """(vocabulary,) which tokens can begin a word: the first of a message, or a later one."""
        return self.bare if first and not self.prefixed else self.spaced

    def is_spaced(self, token: int) -> bool:
        """Whether a token begins a new word; a model may have more rows of embedding than there are tokens."""
        return token < len(self.texts) and self.texts[token][:1] == " "


def _last(ids: tuple[int, ...], count: int) -> tuple[int, ...]:
    return ids[max(0, len(ids) - count) :] if count > 0 else ()
