"""Takes people and identifiers out of conversations: roster names first, then patterns.

A person becomes the same surrogate, "[P1]", "[P2]", … throughout one conversation, summary included, and
never across conversations. What is not covered: most nicknames, typing errors, two letters that are a
common abbreviation as initials, readings of names in Chinese and Japanese, names of people who are neither
on the roster nor mentioned with "@", addresses, job titles, and anything that identifies by what it tells.
Anonymised text is still personal data; the ε of the run is what protects it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dp_train.anonymize.patterns import REGIONS, TOKENS, PatternSpan, find_patterns
from dp_train.consent.name_forms import fold
from dp_train.consent.names import NameIndex, is_free
from dp_train.conversations import Conversation

PEOPLE = 16
"""So many people of one conversation have a surrogate that is one token for the model."""

Finder = Callable[[str], list[PatternSpan]]
"""Where identifiers stand in a text, and what replaces each."""

SURROGATES: tuple[str, ...] = (*(f"[P{number}]" for number in range(1, PEOPLE + 1)), *TOKENS)
"""Every surrogate that a tokenizer should make one token. The 17th person's "[P17]" is made of several."""


# Before the name: nothing that makes it an address or a path. After it: no call, no dot that makes it a decorator.
_MENTION = re.compile(r"(?<![\w@./\]<`])@([^\W_][\w\-]{0,38}\w)(?![\w@(]|\.\w)")
_NOT_PEOPLE_TEXT = """
    all channel charset everyone extend font-face group here import include keyframes media mixin override page
    param property return room staticmethod supports team throws todo type
    """
_NOT_PEOPLE = frozenset(_NOT_PEOPLE_TEXT.split())
_SURROGATE = re.compile(r"\[P\d+\]|" + "|".join(map(re.escape, TOKENS)))


@dataclass(frozen=True, kw_only=True)
class Anonymizer:
    """A function from conversation to conversation, for `ConsentedCorpus.redact`.

    Guarantee: id, people, links, kinds and the number of turns stay; every name form that
    `dp_train.consent.names.NameIndex` knows of a roster name, and every pattern of `dp_train.anonymize.patterns`, is
    replaced, in the turns and in the summary. Doing it twice changes nothing more. The roster of the result
    maps every person to a surrogate. Nothing is logged; between calls only the forms of the
    last few thousand people's names are kept in memory, and no text.

    People are numbered by first appearance: as speaker, then as mentioned, then on the roster.
    When a name belongs to several people, the one whom the turn mentions is meant, else the first.
    "@somebody" who is not on the roster gets the next free surrogate: in chat that is a person too.

    Attributes:
      names: replace roster names. patterns: replace e-mail addresses, numbers and secrets.
      finders: more functions from text to spans, such as `presidio_finder()`; names and patterns come first.
    """

    names: bool = True
    patterns: bool = True
    finders: tuple[Finder, ...] = ()

    def __call__(self, conversation: Conversation) -> Conversation:
        """The conversation with its text, its summary and its roster replaced."""
        surrogates = _surrogates(conversation) if self.names else {}
        # In the order of the surrogates, so that of two people with one name the first is meant.
        known = {person_id: conversation.roster.get(person_id, "") for person_id in surrogates}
        index = NameIndex(known)
        strangers: dict[str, str] = {}
        turns = []
        for turn in conversation.turns:
            text = self._replaced(turn.text, index, surrogates, strangers, hints=turn.mentions)
            turns.append(turn if text is turn.text else dataclasses.replace(turn, text=text))
        summary = conversation.summary
        if summary is not None:
            summary = self._replaced(summary, index, surrogates, strangers, declarative=True)
        roster = surrogates if self.names else conversation.roster
        return dataclasses.replace(conversation, turns=tuple(turns), summary=summary, roster=roster)

    def describe(self) -> dict[str, Any]:
        """The public settings as plain JSON values."""
        return {
            "names": self.names,
            "patterns": list(TOKENS) if self.patterns else [],
            "phone_regions": list(REGIONS) if self.patterns else [],
            "finders": [finder.__name__ for finder in self.finders],
        }

    def _replaced(
        self,
        text: str,
        index: NameIndex,
        surrogates: Mapping[str, str],
        strangers: dict[str, str],
        *,
        hints: Collection[str] = (),
        declarative: bool = False,
    ) -> str:
        """The text when nothing more is found: what one surrogate set free may be a pattern of its own."""
        while edits := self._edits(text, index, surrogates, strangers, hints, declarative):
            parts, end = [], 0
            for start, stop, token in edits:
                parts += [text[end:start], token]
                end = stop
            text = "".join([*parts, text[end:]])
        return text

    def _edits(
        self,
        text: str,
        index: NameIndex,
        surrogates: Mapping[str, str],
        strangers: dict[str, str],
        hints: Collection[str],
        declarative: bool,
    ) -> list[tuple[int, int, str]]:
        """(start, end, surrogate) of all that is found, left to right; never part of a surrogate."""
        covered = [match.span() for match in _SURROGATE.finditer(text)] if "[" in text else []
        patterns = find_patterns(text, covered) if self.patterns else []
        edits = [(span.start, span.end, span.token) for span in patterns]
        if self.names:
            taken = _taken(covered, edits) if edits else covered
            names = index.find(text, hints=hints, covered=taken, declarative=declarative)
            edits += [(span.start, span.end, surrogates[span.person_id]) for span in names]
            if "@" in text:
                edits += _strangers(text, _taken(covered, edits), strangers, len(surrogates))
        for finder in self.finders:
            for span in finder(text):
                if span.start < span.end and is_free(_taken(covered, edits), span.start, span.end):
                    edits.append((span.start, span.end, span.token))
        return sorted(edits)


def _taken(covered: Sequence[tuple[int, int]], edits: Sequence[tuple[int, int, str]]) -> list[tuple[int, int]]:
    return sorted([*covered, *((start, end) for start, end, _ in edits)])


def _strangers(
    text: str, taken: Sequence[tuple[int, int]], strangers: dict[str, str], people: int
) -> Iterator[tuple[int, int, str]]:
    """Mentions of people who are not on the roster; who is new is added to `strangers`."""
    for match in _MENTION.finditer(text):
        handle = fold(match[1])
        if handle not in _NOT_PEOPLE and is_free(taken, *match.span()):
            yield *match.span(), strangers.setdefault(handle, f"[P{people + len(strangers) + 1}]")


def _surrogates(conversation: Conversation) -> dict[str, str]:
    """Person id → surrogate, by first appearance."""
    speakers = (turn.person_id for turn in conversation.turns)
    mentioned = (person_id for turn in conversation.turns for person_id in turn.mentions)
    ordered = dict.fromkeys((*speakers, *mentioned, *conversation.roster))
    return {person_id: f"[P{number}]" for number, person_id in enumerate(ordered, start=1)}
