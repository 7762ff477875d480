"""Suggestions while a message is typed: the rest of the word at hand and what may follow it, within a keystroke."""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dp_train.anonymize import SURROGATES
from dp_train.tasks.sequences import evaluating
from dp_train.tasks.suggestions import Place, Suggester

_WORDS = 3
_TOKENS = 8


class Typing:
    """Greedy suggestions for one message at a time; keeps between calls what the model has read of it.

    The finished words of a draft are read once, into the model's key–value cache; a letter more only narrows what
    the next token may be: one that begins with the letters of the unfinished word. So a suggestion takes at most 8
    steps of one token, and one for a word that has been finished or that no token begins with.

    Limits: letters that the tokenizer spells by parts of a character (an emoji, say) get no suggestion before
    the space behind them. At most 3 words are suggested, and finished ones alone. A suggestion ends before a
    surrogate: nobody types "[P1]".

    Args:
      suggester: of the task; says what fits.
      end: the place behind the words of a draft, given what stands before the message.
    """

    def __init__(self, suggester: Suggester, model: nn.Module, end: Callable[[list[str], str], Place]) -> None:
        self._sequences = suggester.sequences
        self._suggester = suggester
        self._vocabulary = suggester.vocabulary
        self._model = model
        self._end = end
        order = sorted(range(len(self._vocabulary.texts)), key=lambda token: self._vocabulary.texts[token])
        self._sorted = [self._vocabulary.texts[token] for token in order]
        self._tokens = torch.tensor(order)
        self._read: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
        self._cache: Any = None
        self._logits = torch.empty(0)
        self._encoded: Any = None

    def suggest(self, text: str, earlier: str = "") -> str:
        """What may follow `text`, to be put behind it as it is; empty where nothing is suggested.

        Args:
          text: the message so far; it may end within a word.
          earlier: what stands before the message, as `ChatCompose.examples` writes prompts.
        """
        if not text.strip():
            return ""  # whoever has typed nothing wants nothing
        words = text.split()
        unfinished = "" if text[-1].isspace() else words.pop()
        place = self._end(words, earlier)
        # A space belongs to the word behind it, also where it has been typed already.
        typed = unfinished if place.index == 0 and not self._vocabulary.prefixed else f" {unfinished}"
        with evaluating(self._model) as model, torch.inference_mode():
            self._read_on(model, *self._suggester.context(place))
            return self._written(model, typed)

    def _written(self, model: Any, typed: str) -> str:
        """Finished words behind `typed`, which the first tokens take up."""
        texts, end_token = self._vocabulary.texts, self._sequences.tokenizer.eos_token_id
        cache, logits = copy.deepcopy(self._cache), self._logits
        spelled, left = self._spelled(typed)
        allowed: Tensor | None = self._beginning_with(left)
        if not left:  # spelled by parts of a character
            return ""
        if spelled:
            logits = self._step(model, spelled, cache)
        words: list[str] = []
        word = ""
        for _ in range(_TOKENS):
            token = int(logits.argmax() if allowed is None else allowed[logits[allowed].argmax()])
            text = "" if token == end_token or token >= len(texts) else texts[token]
            over = not text or "\n" in text or text.strip() in SURROGATES
            if over or (allowed is None and text[0] == " "):
                words.append(word)
                word = ""
            if over or len(words) == _WORDS:
                break
            word += text[len(left) :] if allowed is not None else text
            allowed = None
            logits = self._step(model, (token,), cache)
        return "".join(words).rstrip()

    def _spelled(self, typed: str) -> tuple[tuple[int, ...], str]:
        """The longest tokens of `typed` until some token begins with what is left, and that; "" if none ever does."""
        tokens: list[int] = []
        left = typed
        while left and not len(self._beginning_with(left)):
            found = (self._exactly(left[:length]) for length in range(len(left) - 1, 0, -1))
            token = next((one for one in found if one is not None), None)
            if token is None:
                return (), ""
            tokens.append(token)
            left = left[len(self._vocabulary.texts[token]) :]
        return tuple(tokens), left

    def _beginning_with(self, left: str) -> Tensor:
        low, high = (bisect_left(self._sorted, edge) for edge in (left, left + chr(0x10FFFF)))
        return self._tokens[low:high]

    def _exactly(self, text: str) -> int | None:
        index = bisect_left(self._sorted, text)
        return int(self._tokens[index]) if index < len(self._sorted) and self._sorted[index] == text else None

    def _read_on(self, model: Any, head: tuple[int, ...], written: tuple[int, ...]) -> None:
        """Bring cache and logits to the end of what is written, from where they are if that is a beginning of it."""
        if self._cache is None or self._read[0] != head or self._read[1] != written[: len(self._read[1])]:
            from transformers import DynamicCache, EncoderDecoderCache

            self._cache = DynamicCache(config=model.config)
            rest = head + written
            if not self._sequences.one_sequence:
                self._encoded = model.get_encoder()(input_ids=torch.tensor([head], device=model.device))
                self._cache = EncoderDecoderCache(self._cache, DynamicCache(config=model.config))
                rest = (model.config.decoder_start_token_id, *written)
        else:
            rest = written[len(self._read[1]) :]
        if rest:
            self._read = ((), ())  # until it has been read
            self._logits = self._step(model, rest, self._cache)
        self._read = (head, written)

    def _step(self, model: Any, tokens: tuple[int, ...], cache: Any) -> Tensor:
        """(vocabulary,) float32 logits of what follows `tokens`, which the cache then holds."""
        ids = torch.tensor([tokens], device=model.device)
        if self._sequences.one_sequence:
            logits = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        else:
            logits = model(
                encoder_outputs=self._encoded, decoder_input_ids=ids, past_key_values=cache, use_cache=True
            ).logits
        row: Tensor = logits[0, -1].float().cpu()
        return row


__all__ = ["Typing"]
