"""Takes people and identifiers out of conversations: roster names first, then patterns.

A person with a seat in the conversation (on the roster, or speaking) becomes the same surrogate, "[P1]", "[P2]", …
throughout it, summary included, and never across conversations. What is not covered: most nicknames, typing errors,
two letters that are a common abbreviation as initials, readings of names in Chinese and Japanese, names of people who
are neither on the roster nor mentioned with "@", job titles, and anything that identifies by what it tells.
Anonymised text is still personal data; the ε of the run is what protects it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dp_train.anonymize.numbers import REGIONS
from dp_train.anonymize.patterns import TOKENS, PatternSpan, find_patterns
from dp_train.consent.name_letters import fold
from dp_train.consent.names import NameIndex, is_free
from dp_train.conversations import Conversation, ConversationKind, Turn

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
    maps every person to a surrogate. Nothing is logged. Between calls the forms of the
    last few thousand people's names are kept in memory, the last four texts, and some ten thousand words, so that
    they need not be looked at anew; nothing of it leaves the process.

    Guarantee: what a turn becomes depends on its own text and mentions and on public order
    (`Conversation.public_order`), and on no other turn. People are numbered by their seats: the roster's order and, in
    a meeting, then those who speak and are not on it. When a name belongs to several people, the one whom the turn
    mentions is meant, else the first. "@somebody" without a seat is a person too, and so is a mentioned id and, in a
    thread, an author who is not on the roster: they are numbered after the seats *within the turn* (the summary), so
    "[P7]" of two turns need not be one person where six have a seat. In a thread the id of who speaks and is not on the
    roster is therefore found where a turn mentions them, and in their own turns: else their leaving would change what
    others said.

    Attributes:
      names: replace roster names. patterns: replace e-mail addresses, numbers and secrets.
      finders: more functions from text to spans, such as `presidio_finder()`; names and patterns come first.
    """

    names: bool = True
    patterns: bool = True
    finders: tuple[Finder, ...] = ()

    def __call__(self, conversation: Conversation) -> Conversation:
        """The conversation with its text, its summary and its roster replaced."""
        order = conversation.public_order
        everyone = {person: f"[P{seat}]" for person, seat in order.seats.items()} if self.names else {}
        # In a meeting who spoke is fixed; in a thread a person may be gone, and renumbers no one.
        seats = order.size if conversation.kind is ConversationKind.MEETING else order.invited
        surrogates = {person: token for person, token in everyone.items() if order.seats[person] <= seats}
        # In the order of the seats, so that of two people with one name the first is meant.
        index = NameIndex({person: conversation.roster.get(person, "") for person in surrogates})
        brought: dict[tuple[str, ...], NameIndex] = {}
        turns = []
        for turn in conversation.turns:
            people = _People(index, surrogates, seats)
            if self.names and (turn.mentions or turn.person_id not in surrogates):
                people.bring((*turn.mentions, turn.person_id), turn.mentions, brought)
            text = self._replaced(turn.text, people)
            turns.append(turn if text is turn.text else _with_text(turn, text))
        summary = conversation.summary
        if summary is not None:
            summary = self._replaced(summary, _People(index, surrogates, seats), declarative=True)
        roster = everyone if self.names else conversation.roster
        as_came = order if order.size > order.invited else conversation.as_came  # the new roster invites no one
        return dataclasses.replace(conversation, turns=tuple(turns), summary=summary, roster=roster, as_came=as_came)

    def describe(self) -> dict[str, Any]:
        """The public settings as plain JSON values."""
        return {
            "names": self.names,
            "patterns": list(TOKENS) if self.patterns else [],
            "phone_regions": list(REGIONS) if self.patterns else [],
            "finders": [finder.__name__ for finder in self.finders],
        }

    def _replaced(self, text: str, people: _People, *, declarative: bool = False) -> str:
        """The text when nothing more is found: what one surrogate set free may be a pattern of its own."""
        while edits := self._edits(text, people, declarative):
            parts, end = [], 0
            for start, stop, token in edits:
                parts += [text[end:start], token]
                end = stop
            text = "".join([*parts, text[end:]])
        return text

    def _edits(self, text: str, people: _People, declarative: bool) -> list[tuple[int, int, str]]:
        """(start, end, surrogate) of all that is found, left to right; never part of a surrogate."""
        covered = [match.span() for match in _SURROGATE.finditer(text)] if "[" in text else []
        edits: list[tuple[int, int, str]] = [*find_patterns(text, covered)] if self.patterns else []
        if self.names:
            taken = _taken(covered, edits) if edits else covered
            edits += people.find(text, taken, declarative)
            if "@" in text:
                edits += people.strangers(text, _taken(covered, edits))
        for finder in self.finders:
            for span in finder(text):
                if span.start < span.end and is_free(_taken(covered, edits), span.start, span.end):
                    edits.append((span.start, span.end, span.token))
        return sorted(edits) if len(edits) > 1 else edits


def _with_text(turn: Turn, text: str) -> Turn:
    """The turn with another text; what `dataclasses.replace` gives, in a third of its time."""
    return Turn(
        person_id=turn.person_id,
        text=text,
        kind=turn.kind,
        mentions=turn.mentions,
        reply_to=turn.reply_to,
        quotes=turn.quotes,
    )


def _taken(covered: Sequence[tuple[int, int]], edits: Sequence[tuple[int, int, str]]) -> list[tuple[int, int]]:
    return sorted([*covered, *((start, end) for start, end, _ in edits)])


class _People:
    """Who may be named in one turn, or in the summary, and what each of them becomes there."""

    __slots__ = ("_index", "_mentions", "_others", "_seats", "_strangers", "_surrogates")

    def __init__(self, index: NameIndex, surrogates: Mapping[str, str], seats: int) -> None:
        self._index, self._surrogates, self._seats = index, surrogates, seats
        self._mentions: Sequence[str] = ()
        self._strangers: dict[str, str] = {}
        self._others: NameIndex | None = None

    def bring(self, people: Sequence[str], mentions: Sequence[str], made: dict[tuple[str, ...], NameIndex]) -> None:
        """Take along whom the turn mentions, and those whom it alone brings: known by their id, in this turn alone.

        Args:
          made: indices by their people, to be made once a conversation.
        """
        self._mentions = mentions
        others = tuple(person for person in dict.fromkeys(people) if person not in self._surrogates)
        if others:
            if others not in made:
                made[others] = NameIndex(dict.fromkeys(others, ""))
            self._others = made[others]

    def find(self, text: str, taken: Sequence[tuple[int, int]], declarative: bool) -> list[tuple[int, int, str]]:
        """Names of those who have a seat, and ids of those whom the turn mentions."""
        spans = self._index.find(text, hints=self._mentions, covered=taken, declarative=declarative)
        edits = [(span.start, span.end, self._surrogates[span.person_id]) for span in spans]
        if self._others is not None:
            others = self._others.find(text, hints=self._mentions, covered=_taken(taken, edits))
            edits += [(span.start, span.end, self._stranger(fold(span.person_id))) for span in others]
        return edits

    def strangers(self, text: str, taken: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, str]]:
        """Mentions, by @, of people who have no seat."""
        for match in _MENTION.finditer(text):
            handle = fold(match[1])
            if handle not in _NOT_PEOPLE and is_free(taken, *match.span()):
                yield *match.span(), self._stranger(handle)

    def _stranger(self, handle: str) -> str:
        return self._strangers.setdefault(handle, f"[P{self._seats + len(self._strangers) + 1}]")
