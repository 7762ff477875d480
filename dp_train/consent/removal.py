"""What of one conversation may pass: all of it, a part, or nothing (CONSENT.md §Decisions 8)."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dp_train.consent.decisions import Reason
from dp_train.consent.events import Purpose
from dp_train.consent.name_forms import words
from dp_train.consent.names import NameIndex
from dp_train.consent.snapshot import ConsentSnapshot
from dp_train.conversations import ContentKind, Conversation, Turn

RUN_OF_WORDS = 6
"""So many words in a row, shared with an earlier turn that was left out, are a quotation of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """What passed of a conversation, None for nothing, and how often each reason denied."""

    conversation: Conversation | None
    denials: Mapping[Reason, int]


class _Answers:
    """The snapshot's answers about one conversation, each question asked once."""

    def __init__(self, conversation: Conversation, snapshot: ConsentSnapshot, purpose: Purpose) -> None:
        self._guests = conversation.guests
        self._says = snapshot.about(purpose, conversation.created_at, conversation.org_id)
        self._known: dict[tuple[str, ContentKind], Reason] = {}

    def reason(self, person_id: str, kind: ContentKind) -> Reason:
        known = self._known.get((person_id, kind))
        if known is None:
            said = Reason.GUEST if person_id in self._guests else self._says(person_id, kind)
            known = self._known[person_id, kind] = said
        return known

    def allows(self, person_id: str, kind: ContentKind) -> bool:
        return self.reason(person_id, kind) is Reason.GRANTED

    def denials(self, asked: Iterable[tuple[str, ContentKind]]) -> list[Reason]:
        """The reasons of those who do not agree."""
        reasons = [self.reason(person_id, kind) for person_id, kind in asked]
        return [reason for reason in reasons if reason is not Reason.GRANTED]


def ask_everyone(conversation: Conversation, snapshot: ConsentSnapshot, purpose: Purpose) -> Passage:
    """All of the conversation, if everyone who speaks, writes or shares in it agreed; else nothing.

    People who are only named or invited are not asked: none of their words are in it. A conversation without turns
    does not pass, for nobody can be asked about its summary.
    """
    answers = _Answers(conversation, snapshot, purpose)
    asked = dict.fromkeys((turn.person_id, turn.kind) for turn in conversation.turns)
    denials: Counter[Reason] = Counter(answers.denials(asked))
    if not asked:
        denials[Reason.MALFORMED] += 1
    return Passage(conversation=None if denials else conversation, denials=denials)


def admit(conversation: Conversation, snapshot: ConsentSnapshot, purpose: Purpose, max_removed_share: float) -> Passage:
    """The conversation without what belongs to, repeats, or names somebody who did not agree.

    Left out are:

    - turns of who did not agree to the kind of the turn;
    - turns that quote a turn that is left out, by their `quotes` link, or by repeating later on
      `RUN_OF_WORDS` words of it in a row, or all of a shorter turn of three words or more;
    - turns that name somebody who did not agree, by a mention or in the text (`NameIndex.occurs_in`).
      They are dropped, not redacted: what they say about a person stays personal without the name.

    The links of what stays are renumbered; a reply to a turn that is left out keeps its text and loses
    its link. When anything was left out the summary goes too, and so do those on the roster who agreed
    to no kind that is left. Nothing passes when more than `max_removed_share` of the turns is left out, or all.
    """
    answers = _Answers(conversation, snapshot, purpose)
    if conversation.turns and _nobody_denies(conversation, answers):
        return Passage(conversation=conversation, denials={})
    asked = dict.fromkeys((turn.person_id, turn.kind) for turn in conversation.turns)
    denials: Counter[Reason] = Counter(answers.denials(asked))
    indices: dict[ContentKind, NameIndex | None] = {}
    echoes = Echoes()
    places: dict[int, int] = {}  # old index → new index of the turns that stay
    for index, turn in enumerate(conversation.turns):
        if not answers.allows(turn.person_id, turn.kind):
            echoes.add(turn.text)
            continue
        if turn.kind not in indices:
            indices[turn.kind] = _denied_names(conversation, answers, turn.kind)
        names = indices[turn.kind]
        if (
            (turn.quotes is not None and turn.quotes not in places)
            or not all(answers.allows(person_id, turn.kind) for person_id in turn.mentions)
            or (names is not None and names.occurs_in(turn.text))
            or echoes.repeated_in(turn.text)
        ):
            denials[Reason.OTHER_PERSON_DENIES] += 1
            echoes.add(turn.text)
            continue
        places[index] = len(places)
    total = len(conversation.turns)
    if not places or total - len(places) > max_removed_share * total:
        denials[Reason.TOO_MUCH_REMOVED if total else Reason.MALFORMED] += 1
        return Passage(conversation=None, denials=denials)
    return Passage(conversation=_rest(conversation, places, answers), denials=denials)


def _nobody_denies(conversation: Conversation, answers: _Answers) -> bool:
    """Whether all who speak, are mentioned, are on the roster or are guests agree to all kinds that there are."""
    people = {*conversation.roster, *conversation.guests}
    kinds = set()
    for turn in conversation.turns:
        kinds.add(turn.kind)
        people.add(turn.person_id)
        if turn.mentions:
            people.update(turn.mentions)
    return all(answers.allows(person_id, kind) for kind in kinds for person_id in people)


def _denied_names(conversation: Conversation, answers: _Answers, kind: ContentKind) -> NameIndex | None:
    """Names, and ids, of all in the conversation who did not agree to a kind of content."""
    people = [*conversation.roster, *conversation.guests, *(turn.person_id for turn in conversation.turns)]
    denied = {
        person_id: conversation.roster.get(person_id, "")
        for person_id in dict.fromkeys(people)
        if not answers.allows(person_id, kind)
    }
    return NameIndex(denied) if denied else None


def _rest(conversation: Conversation, places: Mapping[int, int], answers: _Answers) -> Conversation:
    """The turns that stay, with their links among themselves."""
    whole = len(places) == len(conversation.turns)
    turns = conversation.turns if whole else tuple(_relinked(conversation.turns[index], places) for index in places)
    kinds = {turn.kind for turn in turns}
    roster = {
        person_id: name
        for person_id, name in conversation.roster.items()
        if any(answers.allows(person_id, kind) for kind in kinds)
    }
    return dataclasses.replace(
        conversation,
        turns=turns,
        roster=roster,
        guests=frozenset(),  # a guest never agrees, so none is left
        summary=conversation.summary if whole else None,
    )


def _relinked(turn: Turn, places: Mapping[int, int]) -> Turn:
    reply_to = None if turn.reply_to is None else places.get(turn.reply_to)
    quotes = None if turn.quotes is None else places[turn.quotes]  # what quotes a turn that is gone is gone too
    return dataclasses.replace(turn, reply_to=reply_to, quotes=quotes)


class Echoes:
    """Runs of words of turns that were left out, to know them again where no link says so."""

    def __init__(self) -> None:
        self._runs: set[tuple[str, ...]] = set()
        self._lengths: set[int] = set()

    def add(self, text: str) -> None:
        said = words(text)
        length = min(len(said), RUN_OF_WORDS)
        if length >= 3:
            self._lengths.add(length)
            self._runs.update(_runs(said, length))

    def repeated_in(self, text: str) -> bool:
        if not self._runs:
            return False
        said = words(text)
        return any(not self._runs.isdisjoint(_runs(said, length)) for length in self._lengths)


def _runs(said: list[str], length: int) -> set[tuple[str, ...]]:
    return {tuple(said[start : start + length]) for start in range(len(said) - length + 1)}
