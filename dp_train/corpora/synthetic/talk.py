"""How a meeting is talked through: who speaks next, and what leads a topic to its outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from dp_train.conversations import ContentKind, Turn
from dp_train.corpora.synthetic.dice import Dice
from dp_train.corpora.synthetic.lexicon import Frames, Matter
from dp_train.corpora.synthetic.people import Person
from dp_train.corpora.synthetic.phrasing import Fill, address, due_date, plain, spoken
from dp_train.corpora.synthetic.script import RunResult, Slip, Topic
from dp_train.corpora.synthetic.slips import SecretKind, let_slip

Voice = Callable[[str, Dice, Person], str]

_CORE_WORDS = {RunResult.DECIDED: 66, RunResult.TASKED: 42, RunResult.PARKED: 38, RunResult.STATED: 26}
"""About how many words the opening and the outcome of a topic take by themselves."""


class Room:
    """Who is in a meeting, who has spoken, and what was said so far."""

    def __init__(
        self, dice: Dice, frames: Frames, people: list[Person], absent: Person | None, created_at: datetime
    ) -> None:
        self.dice = dice
        self.frames = frames
        self.people = people
        self.chair = people[0]
        self.absent = absent
        self.created_at = created_at
        self.turns: list[Turn] = []
        self.words = 0
        self._called = address(people if absent is None else [*people, absent])
        self._decks: dict[tuple[str, ...], Iterator[str]] = {}
        self._typed = iter(dice.order(frames.chat))
        self._shown = iter(dice.order(frames.share))
        self._silent = dice.order(people[1:])
        self._last: Person | None = None
        self._absent_named = False

    def say(
        self,
        person: Person,
        text: str,
        *,
        voice: Voice = spoken,
        mention: Person | None = None,
        kind: ContentKind = ContentKind.TRANSCRIPT,
    ) -> None:
        """`person` says `text`, in the same turn if nobody spoke in between."""
        going_on = person is self._last and kind is self.turns[-1].kind
        text = (plain if going_on else voice)(text, self.dice, person)
        mentions: tuple[str, ...] = () if mention is None else (mention.person_id,)
        self._absent_named |= mention is not None and mention is self.absent
        self.words += text.count(" ") + 1
        if going_on:
            last = self.turns.pop()
            text, mentions = f"{last.text} {text}", last.mentions + mentions
        self.turns.append(Turn(person_id=person.person_id, text=text, kind=kind, mentions=mentions))
        self._last = person
        self._silent = [silent for silent in self._silent if silent is not person]

    def phrase(self, phrases: tuple[str, ...]) -> str:
        """One of `phrases`; the same again only when all were said."""
        deck = self._decks.get(phrases)
        phrase = next(deck, None) if deck is not None else None
        if phrase is None:
            deck = self._decks[phrases] = iter(self.dice.order(phrases))
            phrase = next(deck)
        return phrase

    def called(self, person: Person) -> str:
        """How the others call `person`."""
        return self._called[person.person_id]

    def other(self) -> Person:
        """Another person than the last speaker, who has not spoken yet if there is one."""
        if self._silent:
            return self._silent[-1]
        return self.dice.pick([person for person in self.people if person is not self._last])

    def member(self) -> Person:
        """Another person than the chair."""
        person = self.other()
        return person if person is not self.chair else self.dice.pick(self.people[1:])

    def welcome(self) -> None:
        if self.dice.chance(0.6):
            self.say(self.chair, self.phrase(self.frames.hello), voice=plain)

    def part(self) -> None:
        """Everybody has said something by the end."""
        while self._silent:
            self.say(self._silent[-1], self.phrase(self.frames.agree))
        if self.dice.chance(0.5):
            self.say(self.chair, self.phrase(self.frames.close), voice=plain)

    def digress(self, fill: Fill) -> None:
        remark, reply = self.dice.pick(self.frames.digressions)
        self.say(self.other(), remark.format_map(fill), voice=plain)
        self.say(self.other(), reply.format_map(fill), voice=plain)

    def type_aside(self) -> None:
        """A person types something beside the talk; never the same thing twice."""
        typed = next(self._typed, None)
        if typed is not None:
            self.say(self.other(), typed, voice=plain, kind=ContentKind.CHAT)

    def show(self, fill: Fill) -> None:
        """A person shares a screen; never with the same words twice."""
        shown = next(self._shown, None)
        if shown is not None:
            self.say(self.other(), shown.format_map(fill), voice=plain, kind=ContentKind.SCREEN_SHARE)

    def let_slip(self, kind: SecretKind) -> Slip:
        """A person says more than they should."""
        person = self.other()
        text, value = let_slip(self.dice, kind, person)
        self.say(person, f"by the way, {text}" if self.dice.chance(0.5) else text, voice=plain)
        return Slip(turn=len(self.turns) - 1, person_id=person.person_id, kind=kind, value=value)

    def roster(self) -> dict[str, str]:
        """Everyone who spoke or was talked about."""
        named = [*self.people, self.absent] if self.absent is not None and self._absent_named else self.people
        return {person.person_id: person.name for person in named}


class Discussion:
    """One topic, from its opening to its outcome.

    Args:
      fill: the slots of this topic.
      words: about how many words to spend on it.
    """

    def __init__(self, room: Room, matter: Matter, fill: Fill, *, words: float) -> None:
        self._room = room
        self._matter = matter
        self._fill = fill
        self._words = words
        fill["s"] = self._text(room.dice.pick(matter.subjects))

    def run(self, outcome: RunResult, *, first: bool) -> Topic:
        """Talk until the outcome is reached; answers what it is."""
        room, frames = self._room, self._room.frames
        budget = self._words - _CORE_WORDS[outcome]
        if outcome is RunResult.STATED:
            return self._stated(budget)
        room.say(room.chair, self._text(room.phrase(frames.first if first else frames.next)))
        if outcome is RunResult.PARKED:
            return self._parked(budget)
        self._fact()
        if outcome is RunResult.TASKED:
            self._discuss(budget)
            return self._tasked(outcome, decision="")
        return self._decided(budget)

    def _decided(self, budget: float) -> Topic:
        room, dice, frames = self._room, self._room.dice, self._room.frames
        decision = self._text(dice.pick(self._matter.decisions))
        self._discuss(budget, instead_of=decision)
        self._propose(decision)
        if dice.chance(0.3):
            objection, answer = dice.pick(frames.objections)
            room.say(room.other(), objection)
            room.say(room.other(), answer)
        else:
            room.say(room.other(), room.phrase(frames.agree))
        room.say(room.chair, room.phrase(frames.decide).format(decision=decision), voice=plain)
        return self._tasked(RunResult.DECIDED, decision=decision)

    def _tasked(self, outcome: RunResult, *, decision: str) -> Topic:
        """A person is asked, or offers, to do something by a date."""
        room, dice, frames = self._room, self._room.dice, self._room.frames
        task = self._text(dice.pick(self._matter.tasks))
        due = due_date(dice, room.created_at)
        asked = dice.chance(0.55)
        owner = room.chair if not asked and dice.chance(0.2) else room.member()
        called = room.called(owner)
        if asked:
            request = room.phrase(frames.assign).format(owner=called, task=task, due=due)
            room.say(room.chair, request, mention=owner)
            consent = room.phrase(frames.accept).format(assent=dice.pick(owner.assents), due=due)
            room.say(owner, consent, voice=plain)
        else:
            room.say(owner, room.phrase(frames.volunteer).format(task=task, due=due))
            if owner is not room.chair and dice.chance(0.7):
                room.say(room.chair, room.phrase(frames.thank).format(owner=called), voice=plain, mention=owner)
        return Topic(
            outcome=outcome,
            subject=self._fill["s"],
            decision=decision,
            owner_id=owner.person_id,
            owner=called,
            task=task,
            due=due,
        )

    def _parked(self, budget: float) -> Topic:
        room, frames = self._room, self._room.frames
        self._concern()
        self._discuss(budget)
        reason = self._fill["reason"] = self._text(room.dice.pick(self._matter.reasons))
        room.say(room.chair, self._text(room.phrase(frames.park)))
        room.say(room.other(), room.phrase(frames.agree))
        return Topic(outcome=RunResult.PARKED, subject=self._fill["s"], reason=reason)

    def _stated(self, budget: float) -> Topic:
        room, frames = self._room, self._room.frames
        state = self._fill["state"] = self._text(room.dice.pick(self._matter.states))
        room.say(room.chair, self._text(room.phrase(frames.ask_state)))
        room.say(room.member(), self._text(room.phrase(frames.tell_state)))
        self._discuss(budget)
        room.say(room.other(), room.phrase(frames.react))
        return Topic(outcome=RunResult.STATED, subject=self._fill["s"], state=state)

    def _discuss(self, budget: float, *, instead_of: str = "") -> None:
        """Facts, worries and declined proposals until about `budget` more words are said."""
        room, dice, frames = self._room, self._room.dice, self._room.frames
        until = room.words + budget - 5  # what is said last goes beyond by half a sentence
        while room.words < until:
            move = dice.below(20)
            if move < 8:
                self._fact()
            elif move < 13:
                self._concern()
                if dice.chance(0.4):
                    room.say(room.other(), room.phrase(frames.answer))
            elif move < 17:
                alternative = self._text(room.phrase(self._matter.decisions))
                if alternative != instead_of:
                    self._propose(alternative)
                    room.say(room.other(), room.phrase(frames.decline))
            elif move < 18:
                if room.absent is not None:
                    text = room.phrase(frames.absent).format(absent=room.called(room.absent))
                    room.say(room.other(), text, mention=room.absent)
            elif move < 19:
                room.type_aside()
            else:
                room.show(self._fill)

    def _fact(self) -> None:
        room = self._room
        self._fill["fact"] = self._text(room.phrase(self._matter.facts))
        room.say(room.other(), self._text(room.phrase(room.frames.fact)))

    def _concern(self) -> None:
        room = self._room
        self._fill["concern"] = self._text(room.phrase(self._matter.concerns))
        room.say(room.other(), self._text(room.phrase(room.frames.concern)))

    def _propose(self, decision: str) -> None:
        room = self._room
        room.say(room.other(), room.phrase(room.frames.propose).format(decision=decision))

    def _text(self, phrase: str) -> str:
        return phrase.format_map(self._fill) if "{" in phrase else phrase
