"""What stands around a prompt: control tokens of our own vocabulary, or the words that a pretrained model knows.

A marker such as ``<summary>`` means nothing to a model that never saw it, and its embedding may be frozen.
So a pretrained model gets its chat template where it has one, else plain words.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast

from dp_train.errors import ModelError
from dp_train.models.build import Architecture
from dp_train.models.tokenizer import MESSAGE, SUMMARY

_INSTRUCTION = "Summarize this meeting in a few sentences.\n\n"
_HOLE = "\u241f"
_DATE = datetime(2024, 7, 26)
"""What templates that tell the model today's date are told."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Token ids before and after the prompt; what follows `after` is what the model writes."""

    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many tokens the frame adds to a prompt."""
        return len(self.before) + len(self.after)


def frame(tokenizer: PreTrainedTokenizerFast, architecture: Architecture, marker: str) -> Frame:
    """The frame of a task's prompts for a tokenizer; at least one token for a decoder.

    With a tokenizer of `train_tokenizer`: ``<s> prompt <marker>``. With another's:

    | model | summary | message |
    |---|---|---|
    | has a chat template | the user's turn asks for it, the assistant's begins | a user's turn begins |
    | decoder without | prompt, blank line, "Summary:" | beginning of text, prompt, new line |
    | encoder–decoder | what its tokenizer puts around a text (T5: after "summarize: ") | the same |

    Raises:
      ModelError: the tokenizer lacks a token that is needed.
    """
    missing = [name for name in ("pad", "eos") if getattr(tokenizer, f"{name}_token_id") is None]
    own = tokenizer.get_vocab().get(marker)
    if own is not None:
        missing += ["bos"] * (tokenizer.bos_token_id is None)
    if missing or marker not in (SUMMARY, MESSAGE):
        raise ModelError(
            f"tokenizer: has no token {', '.join(missing or [marker])}; give one from train_tokenizer, or a model's own"
        )
    if own is not None:
        return Frame((tokenizer.bos_token_id,), (own,))
    if architecture is Architecture.ENCODER_DECODER:
        return _encoded(tokenizer, marker)
    if tokenizer.chat_template is not None:
        return _chat(tokenizer, marker)
    begin = next(
        token
        for token in (tokenizer.bos_token_id, tokenizer.eos_token_id)  # GPT-2's and Qwen's end also begin
        if token is not None
    )
    return Frame((begin,), _ids(tokenizer, "\n\nSummary:\n" if marker == SUMMARY else "\n"))


def line_break(tokenizer: PreTrainedTokenizerFast) -> str:
    """What stands between two turns of a prompt: a new line, or a mark where the tokenizer drops new lines.

    T5's pieces take every white space for one, and a transcript would be one long line of nobody knows whose words.
    """
    spaced = _ids(tokenizer, "a a")
    for text in ("\n", " | ", " ; ", " / "):
        ids = _ids(tokenizer, f"a{text}a")
        if ids != spaced and (tokenizer.unk_token_id is None or tokenizer.unk_token_id not in ids):
            return text
    return "\n"


def _encoded(tokenizer: PreTrainedTokenizerFast, marker: str) -> Frame:
    text: Any = tokenizer.encode("a", add_special_tokens=False)
    whole: Any = tokenizer.encode("a", add_special_tokens=True)
    start = next(i for i in range(len(whole)) if whole[i : i + len(text)] == text)
    words = _ids(tokenizer, "summarize: ") if marker == SUMMARY and "t5" in _name(tokenizer) else ()
    after = tuple(whole[start + len(text) :])
    return Frame((*whole[:start], *words), after or (tokenizer.eos_token_id,))  # an empty prompt is a row, too


def _chat(tokenizer: PreTrainedTokenizerFast, marker: str) -> Frame:
    """What the chat template itself puts around a text: nothing of it is cut or put together by us."""
    if marker == SUMMARY:
        before, after = _rendered(tokenizer, _INSTRUCTION, reply=True)
        return Frame(_begun(tokenizer, before), _ids(tokenizer, after))
    # What people write stands in a user's turn.
    before, _ = _rendered(tokenizer, "", reply=False)
    return Frame(_begun(tokenizer, before), _ids(tokenizer, "\n"))


def _rendered(tokenizer: PreTrainedTokenizerFast, instruction: str, *, reply: bool) -> tuple[str, str]:
    """The template's text before and after a user's words, without a default system prompt where it can be left out.

    A template that writes today's date gets one date, or a run would go on under another frame than it began with.
    """
    user = {"role": "user", "content": instruction + _HOLE}
    found: list[tuple[str, str]] = []
    for turns in ([user], [{"role": "system", "content": ""}, user]):
        try:
            text = tokenizer.apply_chat_template(
                turns,
                tokenize=False,
                add_generation_prompt=reply,
                date_string=_DATE.strftime("%d %b %Y"),
                strftime_now=_DATE.strftime,
            )
        except TemplateError:  # templates that know no system prompt refuse one
            continue
        assert isinstance(text, str)
        before, hole, after = text.partition(_HOLE)
        if hole:
            found.append((before, after))
    if not found:
        raise ModelError("tokenizer: its chat template takes no single turn of a user; give a model with another one")
    return min(found, key=lambda parts: len(parts[0]))


def _begun(tokenizer: PreTrainedTokenizerFast, text: str) -> tuple[int, ...]:
    """Tokens of a frame's beginning, with the begin token where the tokenizer's own encoding has it."""
    ids = _ids(tokenizer, text)
    own: Any = tokenizer.encode("a", add_special_tokens=True)
    begin = tokenizer.bos_token_id
    return (begin, *ids) if begin is not None and own[0] == begin != (ids or (None,))[0] else ids


def _name(tokenizer: PreTrainedTokenizerFast) -> str:
    return type(tokenizer).__name__.lower()


def _ids(tokenizer: PreTrainedTokenizerFast, text: str) -> tuple[int, ...]:
    """Tokens of a text of ours, in which control tokens mean what they say."""
    split, tokenizer.split_special_tokens = tokenizer.split_special_tokens, False
    try:
        ids: Any = tokenizer.encode(text, add_special_tokens=False)
    finally:
        tokenizer.split_special_tokens = split
    return tuple(ids)
