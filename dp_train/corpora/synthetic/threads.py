"""Team chat: short threads with replies, mentions and quoted text."""

from __future__ import annotations

from datetime import datetime

from dp_train.conversations import ContentKind, Conversation, ConversationKind, Turn
from dp_train.corpora.synthetic.dice import Dice, cumulative_weights
from dp_train.corpora.synthetic.people import Person
from dp_train.corpora.synthetic.phrasing import Fill, address, due_date, excerpt, written
from dp_train.corpora.synthetic.script import Script, Slip
from dp_train.corpora.synthetic.slips import SecretKind, let_slip

_LENGTHS = (3, 4, 5, 6, 7, 8)
_LENGTH_WEIGHTS = cumulative_weights((0.2, 0.25, 0.22, 0.15, 0.1, 0.08))
_QUOTE = 0.12
_CALL = 0.08


def write_thread(
    dice: Dice,
    *,
    conversation_id: str,
    people: list[Person],
    absent: Person | None,
    slip: SecretKind | None,
    created_at: datetime,
) -> Script:
    """A chat thread that the first of `people` starts.

    Args:
      absent: a colleague who does not write but may be mentioned.
      slip: what a person lets slip in it, if anything.
    """
    thread = _Thread(dice, people, absent, created_at)
    length = _LENGTHS[dice.weighted(_LENGTH_WEIGHTS)]
    slips = thread.run(length, slip)
    return Script(
        conversation=Conversation(
            conversation_id=conversation_id,
            org_id=people[0].company.org_id,
            created_at=created_at,
            kind=ConversationKind.THREAD,
            turns=tuple(thread.turns),
            roster=thread.roster(),
        ),
        slips=slips,
    )


class _Thread:
    """The messages so far, and the words of the matter they are about."""

    def __init__(self, dice: Dice, people: list[Person], absent: Person | None, created_at: datetime) -> None:
        self.turns: list[Turn] = []
        self._dice = dice
        self._register = people[0].company.register
        self._people = people
        self._known = people if absent is None else [*people, absent]
        self._called = address(self._known)
        self._fill = Fill(dice, people[0].company.slots)
        self._matter = dice.pick(people[0].company.matters)
        self._created_at = created_at
        for slot, phrases in (
            ("s", self._matter.subjects),
            ("decision", self._matter.decisions),
            ("task", self._matter.tasks),
            ("state", self._matter.states),
            ("reason", self._matter.reasons),
        ):
            self._fill[slot] = dice.pick(phrases).format_map(self._fill)
        self._fill["due"] = due_date(dice, created_at)
        self._decks = {
            "fact": iter(dice.order(self._matter.facts)),
            "concern": iter(dice.order(self._matter.concerns)),
            "question": iter(dice.order(self._matter.questions)),
        }

    def run(self, length: int, slip: SecretKind | None) -> tuple[Slip, ...]:
        """Write about `length` messages; answers what was let slip in them."""
        dice, people = self._dice, self._people
        for step in dice.pick(self._register.flows):
            if len(self.turns) < length and step.by < len(people):
                self._write(people[step.by], dice.pick(self._sayable(people[step.by], step.say)))
        slips: list[Slip] = []
        if slip is not None:
            person = self._next()
            text, value = let_slip(dice, slip, person)
            slips.append(Slip(turn=len(self.turns), person_id=person.person_id, kind=slip, value=value))
            self.turns.append(self._turn(person, text, ()))
        said: set[str] = set()
        while len(self.turns) < length:
            person = self._next()
            reaction = dice.pick(self._sayable(person, self._register.reactions))
            if reaction not in said:
                said.add(reaction)
                self._write(person, reaction)
        return tuple(slips)

    def roster(self) -> dict[str, str]:
        seen = {person_id for turn in self.turns for person_id in (turn.person_id, *turn.mentions)}
        return {person.person_id: person.name for person in self._known if person.person_id in seen}

    def _next(self) -> Person:
        last = self.turns[-1].person_id
        return self._dice.pick([person for person in self._people if person.person_id != last])

    def _third(self, person: Person) -> list[Person]:
        """Whom `person` may talk about: neither oneself nor the author of the last message."""
        last = self.turns[-1].person_id if self.turns else ""
        return [other for other in self._known if other is not person and other.person_id != last]

    def _sayable(self, person: Person, phrases: tuple[str, ...]) -> list[str]:
        """Phrases that need nobody else, and the others where there is a person."""
        return [phrase for phrase in phrases if "{x}" not in phrase or self._third(person)]

    def _write(self, person: Person, phrase: str) -> None:
        dice, fill = self._dice, self._fill
        mentions: list[str] = []
        for slot, deck in self._decks.items():
            if f"{{{slot}}}" in phrase:
                fill[slot] = next(deck).format_map(fill)
        if "{mention}" in phrase:
            other = self._people[1] if self._people[1] is not person else self._people[0]
            fill["mention"] = "@" + self._called[other.person_id]
            mentions.append(other.person_id)
        if "{x}" in phrase:
            other = dice.pick(self._third(person))
            fill["x"] = self._called[other.person_id]
            mentions.append(other.person_id)
        self.turns.append(self._turn(person, written(phrase.format_map(fill), dice, person), tuple(mentions)))

    def _turn(self, person: Person, text: str, mentions: tuple[str, ...]) -> Turn:
        """The message as a reply to the one before, now and then with a quotation of it."""
        previous = len(self.turns) - 1
        if previous < 0:
            return Turn(person_id=person.person_id, text=text, kind=ContentKind.CHAT, mentions=mentions)
        target = previous if self._dice.chance(0.8) else self._dice.below(len(self.turns))
        quoted = self.turns[target]
        strange = quoted.person_id not in (person.person_id, *mentions)
        if strange and text[0] != "@" and self._dice.chance(_CALL):
            text, mentions = f"@{self._called[quoted.person_id]} {text}", (*mentions, quoted.person_id)
        if quoted.person_id == person.person_id or not self._dice.chance(_QUOTE):
            return Turn(
                person_id=person.person_id, text=text, kind=ContentKind.CHAT, mentions=mentions, reply_to=target
            )
        line = excerpt(quoted.text)
        named = tuple(
            person_id
            for person_id in quoted.mentions
            if person_id not in mentions and self._called.get(person_id, "\n") in line
        )
        return Turn(
            person_id=person.person_id,
            text=f"{line}\n{text}",
            kind=ContentKind.CHAT,
            mentions=mentions + named,
            reply_to=target,
            quotes=target,
        )
