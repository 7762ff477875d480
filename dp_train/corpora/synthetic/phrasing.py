"""From phrases with slots to sentences in a person's own voice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from dp_train.corpora.synthetic.dice import Dice
from dp_train.corpora.synthetic.people import Person

FIRST_DAY = datetime(2025, 2, 3, tzinfo=UTC)
"""Monday of the week in which the first conversations take place."""
WEEKS = 44
"""Conversations take place within so many weeks."""

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip

# Drawn anew at every use, where the other slots keep their value for a whole topic.
_FRESH: Mapping[str, Sequence[str]] = {
    "n": ("two", "three", "four", "five", "six", "seven"),
    "num": ("twelve", "fifteen", "twenty", "thirty", "forty", "fifty", "sixty", "eighty"),
    "pct": tuple(f"{share} percent" for share in ("five", "ten", "fifteen", "twenty", "thirty", "forty", "sixty")),
    "money": tuple(f"{amount} dollars" for amount in ("80", "150", "200", "300", "450", "600", "900", "2000")),
    "day": DAYS,
    "month": MONTHS,
    "time": ("8:30", "nine", "9:30", "ten", "10:30", "noon", "two", "2:30", "three", "four", "5:30", "six"),
}


class Fill(dict[str, str]):
    """Values of the slots while one topic is talked about.

    Args:
      slots: the company's own words; one of them is drawn at first use and kept.
    """

    def __init__(self, dice: Dice, slots: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self._dice = dice
        self._slots = slots

    def __missing__(self, slot: str) -> str:
        fresh = _FRESH.get(slot)
        if fresh is not None:
            return self._dice.pick(fresh)
        value = self._dice.pick(self._slots[slot])
        self[slot] = value
        return value


def day_and_time(dice: Dice) -> datetime:
    """When a conversation begins: a working day of the covered weeks, UTC."""
    days = 7 * dice.below(WEEKS) + dice.below(5)
    return FIRST_DAY + timedelta(days=days, hours=dice.between(8, 16), minutes=5 * dice.below(12))


def due_date(dice: Dice, today: datetime) -> str:
    """A date after `today` as people say it, with its preposition."""
    if dice.chance(0.12):
        return dice.pick(("by tomorrow", "by the end of the week", "before the next meeting"))
    day = today + timedelta(days=dice.between(2, 25))
    if day.weekday() > 4:
        day += timedelta(days=2)
    if (day - today).days < 7:
        return dice.pick(("by ", "before ")) + DAYS[day.weekday()]
    if (day - today).days < 14 and dice.chance(0.5):
        return "by next " + DAYS[day.weekday()]
    return f"by {day.day} {MONTHS[day.month - 1]}"


def heading(subject: str) -> str:
    """The subject as the beginning of a line."""
    return subject[0].upper() + subject[1:]


def sentence(text: str) -> str:
    """With a capital at the beginning and a mark at the end."""
    return heading(text) + ("" if text[-1] in ".?!" else ".")


def plain(text: str, dice: Dice, person: Person) -> str:
    """As a sentence, without habits."""
    return sentence(text)


def spoken(text: str, dice: Dice, person: Person) -> str:
    """As `person` says it: sometimes with an opener, a filler, a tag or a pet phrase."""
    if dice.chance(0.35):
        text = _opened(text, dice.pick(person.openers))
    elif dice.chance(0.12):
        text = _opened(text, person.filler)
    if text[-1] != "?" and dice.chance(0.1):
        text = f"{text}, {dice.pick(person.tags)}"
    text = sentence(text)
    if dice.chance(0.05):
        text = f"{text} {sentence(dice.pick(person.pets))}"
    return text


def written(text: str, dice: Dice, person: Person) -> str:
    """As `person` types it in chat."""
    if dice.chance(0.15):
        text = _opened(text, dice.pick(person.openers))
    if person.proper:
        text = sentence(text)
    if dice.chance(0.06):
        text = f"{text.rstrip('.')}, {person.signoff}" if text[-1] != "?" else f"{text} {person.signoff}"
    elif dice.chance(0.05):
        text = f"{text} {dice.pick(person.pets)}" if text[-1] in ".?!" else f"{text}, {dice.pick(person.pets)}"
    if person.smiley is not None and dice.chance(0.3):
        text = f"{text} {person.smiley}"
    return text


def excerpt(text: str, words: int = 9) -> str:
    """The first words of a message, as a quotation of one line."""
    line = text.rsplit("\n", 1)[-1].split()
    return "> " + " ".join(line[:words]) + (" …" if len(line) > words else "")


def address(people: Sequence[Person]) -> dict[str, str]:
    """Person id → how the others call them: the given name, or the whole one where two share it."""
    given = [person.given for person in people]
    return {person.person_id: person.given if given.count(person.given) == 1 else person.name for person in people}


def _opened(text: str, opener: str) -> str:
    """With the opener in front, unless the text has one of its own."""
    return text if "," in text[:24] else f"{opener} {text}"
