"""What of one conversation may pass: all of it, a part, or nothing (docs/consent.md, Decisions 7; docs/gate.md)."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dp_train.consent.decisions import Reason
from dp_train.consent.echoes import Echoes
from dp_train.consent.events import Purpose
from dp_train.consent.names import FullNames, NameIndex
from dp_train.consent.snapshot import ConsentSnapshot
from dp_train.conversations import ContentKind, Conversation, Turn

_SILENT = frozenset(
    {
        Reason.GRANTED,
        Reason.NO_RECORD,
        Reason.EXPIRED,
        Reason.NOT_DECIDED,
        Reason.OLD_NOTICE,
        Reason.OUTSIDE_DATA_WINDOW,
        Reason.PROCESSING_NOT_COVERED,
        Reason.ORGANISATION_DENIES,
        Reason.ORGANISATION_OUTSIDE_DATA_WINDOW,
        Reason.MINOR_WITHOUT_GUARDIAN,
        Reason.AGE_UNKNOWN,
        Reason.GUEST,
        Reason.POLICY_DENIES,
    }
)
"""Reasons that are no person's no; whatever else there is, or comes, is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """What passed of a conversation, None for nothing; why each other turn did not; how often each reason denied.

    `removed` counts each turn once, under the first of these reasons: that of its author's answer; another person's
    no (OTHER_PERSON_DENIES); that too much else was gone (TOO_MUCH_REMOVED).
    """

    conversation: Conversation | None
    removed: Mapping[Reason, int]
    denials: Mapping[Reason, int]

    @property
    def turns_removed(self) -> int:
        """How many turns did not pass, or passed empty."""
        return sum(self.removed.values())


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

    def refuses(self, person_id: str, kinds: Iterable[ContentKind]) -> bool:
        """Whether the person said no to one of the kinds: not merely has not said yes."""
        return any(self.reason(person_id, kind) not in _SILENT for kind in kinds)

    def removed(self, turns: Iterable[Turn], *, otherwise: Reason) -> Counter[Reason]:
        """Why each of these turns went: its author's answer, or `otherwise` where the author agreed."""
        reasons = (self.reason(turn.person_id, turn.kind) for turn in turns)
        return Counter(otherwise if reason is Reason.GRANTED else reason for reason in reasons)

    def denials(self, asked: Iterable[tuple[str, ContentKind]]) -> list[Reason]:
        """The reasons of those who do not agree."""
        reasons = [self.reason(person_id, kind) for person_id, kind in asked]
        return [reason for reason in reasons if reason is not Reason.GRANTED]


def ask_everyone(
    conversation: Conversation, snapshot: ConsentSnapshot, purpose: Purpose, directory: FullNames | None = None
) -> Passage:
    """All of the conversation, if everyone who speaks, writes or shares in it agreed; else nothing.

    A conversation without turns does not pass, for nobody can be asked about its summary. People who are only named or
    invited need not agree, but an explicit no of theirs counts: where a turn or the summary names a person on the
    roster, or in the directory, who gave one, all of it is withheld. Its place stays, with every text empty: that
    a person was named is content, and may not move which other meetings are selected.
    """
    answers = _Answers(conversation, snapshot, purpose)
    asked = dict.fromkeys((turn.person_id, turn.kind) for turn in conversation.turns)
    denials: Counter[Reason] = Counter(answers.denials(asked))
    if not asked:
        denials[Reason.MALFORMED] += 1
    if denials:
        removed = answers.removed(conversation.turns, otherwise=Reason.OTHER_PERSON_DENIES)
        return Passage(conversation=None, removed=removed, denials=denials)
    texts = [turn.text for turn in conversation.turns] + [conversation.summary or ""]
    kinds = frozenset(kind for _, kind in asked)
    refused = {person: name for person, name in conversation.roster.items() if answers.refuses(person, kinds)}
    spoken_about = _Named(NameIndex(refused) if refused else None, directory, answers, kinds)
    mentioned = {person for turn in conversation.turns for person in turn.mentions}
    if not any(answers.refuses(person, kinds) for person in mentioned) and not any(map(spoken_about, texts)):
        return Passage(conversation=conversation, removed={}, denials={})
    emptied = sum(bool(turn.text) for turn in conversation.turns)
    return Passage(
        conversation=dataclasses.replace(
            conversation,
            turns=tuple(map(_withheld, conversation.turns)),
            summary=None if conversation.summary is None else "",
        ),
        removed={Reason.OTHER_PERSON_DENIES: emptied} if emptied else {},
        denials={Reason.OTHER_PERSON_DENIES: 1},
    )


def admit(
    conversation: Conversation,
    snapshot: ConsentSnapshot,
    purpose: Purpose,
    max_removed_share: float,
    *,
    directory: FullNames | None = None,
    own_words: bool = False,
) -> Passage:
    """The conversation without what belongs to, repeats, or names a person who did not agree.

    **Left out**, by the graph alone (see `gate`): turns of who did not agree to the kind of the turn, and turns that
    quote, by their `quotes` link, one that is left out. Nothing passes when that is more than `max_removed_share` of
    the turns, or all; with `own_words`, where rows will hold their author's words alone, when it is all. The links of
    what stays are renumbered; a reply to a turn that is left out loses its link.

    **Withheld**, for what they say (they stay in their place, empty):

    - turns that repeat a turn of who did not agree, without a link (`Echoes`);
    - turns that name a person who did not agree, by a mention or in the text (`NameIndex.occurs_in`), or by full name
      a person of the directory with an explicit no. What they say about a person stays personal without the name;
    - answers: replies to a question of a person who did not agree, and, where a person who may be named did not agree,
      short replies that do not say whom they are about ("yes, she did"), for it may have stood in the question;
    - turns that quote, by their link, one that is withheld: its author owns them too;
    - all that an author wrote in the conversation, when more than `max_removed_share` of it names or repeats.

    When anything was left out or withheld the summary goes too. Those on the roster who agreed to no kind that is left
    go as well; their seats stay empty (`Conversation.public_order`).
    """
    answers = _Answers(conversation, snapshot, purpose)
    if conversation.turns and directory is None and _nobody_denies(conversation, answers):
        return Passage(conversation=conversation, removed={}, denials={})
    turns = conversation.turns
    asked = dict.fromkeys((turn.person_id, turn.kind) for turn in turns)
    denials: Counter[Reason] = Counter(answers.denials(asked))
    places: dict[int, int] = {}  # old index → new index of the turns that stay
    for index, turn in enumerate(turns):
        if answers.allows(turn.person_id, turn.kind):
            if turn.quotes is not None and turn.quotes not in places:
                denials[Reason.OTHER_PERSON_DENIES] += 1
            else:
                places[index] = len(places)
    gone = [turn for index, turn in enumerate(turns) if index not in places]
    removed = answers.removed(gone, otherwise=Reason.OTHER_PERSON_DENIES)
    if not places or (not own_words and len(gone) > max_removed_share * len(turns)):
        denials[Reason.TOO_MUCH_REMOVED if turns else Reason.MALFORMED] += 1
        removed[Reason.TOO_MUCH_REMOVED] += len(places)
        return Passage(conversation=None, removed=+removed, denials=denials)
    found = _to_withhold(conversation, places, answers, directory)
    withheld = _with_quotes(conversation, places, _with_much(conversation, places, found, max_removed_share))
    denials[Reason.OTHER_PERSON_DENIES] += len(withheld)
    removed[Reason.OTHER_PERSON_DENIES] += len(found)
    removed[Reason.TOO_MUCH_REMOVED] += len(withheld) - len(found)
    return Passage(
        conversation=_rest(conversation, places, withheld, answers),
        removed=+removed,
        denials=+denials,
    )


def _to_withhold(
    conversation: Conversation,
    places: Mapping[int, int],
    answers: _Answers,
    directory: FullNames | None,
) -> set[int]:
    """Indices of the turns that stay and may say nothing, for what they say themselves.

    Guarantee, `_with_much` and `_with_quotes` included: whether a turn is among them depends on its author's own turns,
    on turns of people who did not agree, on the graph, and, for a turn with a `quotes` link, on those whom it quotes,
    who own it.
    """
    named: dict[ContentKind, _Named] = {}
    echoes, questions = Echoes(), set()
    found: set[int] = set()
    for index, turn in enumerate(conversation.turns):
        if index not in places:
            if not answers.allows(turn.person_id, turn.kind):  # words of who agreed decide about nobody else's
                echoes.add(turn.text)
                if _QUESTION.search(turn.text):
                    questions.add(index)
            continue
        if not turn.text and not turn.mentions:
            continue
        if turn.kind not in named:
            index_ = _denied_names(conversation, answers, turn.kind)
            named[turn.kind] = _Named(index_, directory, answers, frozenset({turn.kind}))
        names = named[turn.kind]
        answers_other = turn.reply_to is not None and (conversation.turns[turn.reply_to].person_id != turn.person_id)
        if (
            not all(answers.allows(person_id, turn.kind) for person_id in turn.mentions)
            or names(turn.text)
            or echoes.repeated_in(turn.text)
            or (turn.reply_to in questions)
            or (answers_other and names.roster and says_of_nobody(turn.text))
        ):
            found.add(index)
    return found


def _with_much(conversation: Conversation, places: Mapping[int, int], found: set[int], share: float) -> set[int]:
    """The found turns, and all of who has too many of them."""
    if not found:
        return found
    said = Counter(conversation.turns[index].person_id for index in places if conversation.turns[index].text)
    held = Counter(conversation.turns[index].person_id for index in found)
    much = {person for person, count in held.items() if count > share * said[person]}
    return found | {
        index for index in places if conversation.turns[index].person_id in much and conversation.turns[index].text
    }


def _with_quotes(conversation: Conversation, places: Mapping[int, int], found: set[int]) -> set[int]:
    """The found turns, and what quotes them by a link, quotes of quotes included."""
    for index in places:  # rising
        turn = conversation.turns[index]
        if turn.quotes in found and turn.text:
            found = found | {index}
    return found


def _withheld(turn: Turn) -> Turn:
    return dataclasses.replace(turn, text="", mentions=())


class _Named:
    """Whether a text names a person who did not agree: on the roster, or in the directory with an explicit no."""

    def __init__(
        self, roster: NameIndex | None, directory: FullNames | None, answers: _Answers, kinds: frozenset[ContentKind]
    ) -> None:
        self.roster, self._directory, self._answers, self._kinds = roster, directory, answers, kinds

    def __call__(self, text: str) -> bool:
        if self.roster is not None and self.roster.occurs_in(text):
            return True
        if self._directory is None:
            return False
        return any(self._answers.refuses(person, self._kinds) for person in self._directory.people_in(text))


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


def _rest(conversation: Conversation, places: Mapping[int, int], withheld: set[int], answers: _Answers) -> Conversation:
    """The turns that stay, with their links among themselves."""
    turns = tuple(
        _relinked(_withheld(conversation.turns[index]) if index in withheld else conversation.turns[index], places)
        for index in places
    )
    kinds = {turn.kind for turn in turns}
    roster = {
        person_id: name
        for person_id, name in conversation.roster.items()
        if any(answers.allows(person_id, kind) for kind in kinds)
    }
    whole = len(turns) == len(conversation.turns) and not withheld
    return dataclasses.replace(
        conversation,
        turns=turns,
        roster=roster,
        guests=frozenset(),  # a guest never agrees, so none is left
        summary=conversation.summary if whole else None,
        as_came=conversation.public_order.only(list(places), roster.keys() | {turn.person_id for turn in turns}),
    )


def _relinked(turn: Turn, places: Mapping[int, int]) -> Turn:
    if turn.reply_to is None and turn.quotes is None:
        return turn
    reply_to = None if turn.reply_to is None else places.get(turn.reply_to)
    quotes = None if turn.quotes is None else places[turn.quotes]  # what quotes a turn that is gone is gone too
    return dataclasses.replace(turn, reply_to=reply_to, quotes=quotes)


_QUESTION = re.compile(r"[?？؟;՞።]\s*(?:[\"'”’)»」』]|\Z|\s)|吗|ですか|ますか")
_OF_SOMEBODY = re.compile(
    r"\b(?:he|she|him|his|hers?|they|them|yes|yeah|yep|no|nope|er|sie|ihn|ihm|ihr|ja|nein|il|elle|lui|oui|non|él|ella"
    r"|sí|ele|ela|sim|não|lui|lei|sì|он|она|его|её|ей|ему|да|нет)\b|彼|她|他|はい|いいえ",
    re.IGNORECASE,
)
_BARE = 8  # words: a longer answer stands on its own


def says_of_nobody(text: str) -> bool:
    """Whether a reply leaves it to the question whom it is about: "yes, she did"."""
    return len(text.split()) <= _BARE and _OF_SOMEBODY.search(text) is not None
