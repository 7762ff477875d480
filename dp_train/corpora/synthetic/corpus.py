"""The synthetic corpus: a population of any size, read as a stream in the memory of 200 people.

1. A population is cut into blocks of 200 people, each with its companies of 8 to 62 people.
2. Each block has its own meetings and threads, called by everyone in turn; who joins is heavy-tailed.
3. Conversation `j` of a block is a function of (seed, population, block, j): there is no state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass

from dp_train.consent.events import ConsentEvent
from dp_train.consent.principals import PrincipalKey
from dp_train.conversations import Conversation, ConversationKind
from dp_train.corpora.synthetic.dice import Dice, cumulative_weights
from dp_train.corpora.synthetic.history import ConsentCase, cases, consent_events
from dp_train.corpora.synthetic.meetings import write_meeting
from dp_train.corpora.synthetic.people import BLOCK, Block, Person, Population, build_block, build_person
from dp_train.corpora.synthetic.phrasing import day_and_time
from dp_train.corpora.synthetic.script import Script
from dp_train.corpora.synthetic.slips import PATTERNS, SecretKind
from dp_train.corpora.synthetic.threads import write_thread
from dp_train.errors import ConfigError

_MEETING_SIZES = (2, 3, 4, 5, 6, 7, 8)
_MEETING_SIZE_SHARES = (0.38, 0.28, 0.15, 0.08, 0.05, 0.035, 0.025)
_THREAD_SIZES = (2, 3, 4, 5)
_THREAD_SIZE_SHARES = (0.35, 0.4, 0.17, 0.08)
_MEETING_SIZE_WEIGHTS = cumulative_weights(_MEETING_SIZE_SHARES)
_THREAD_SIZE_WEIGHTS = cumulative_weights(_THREAD_SIZE_SHARES)
_MEAN_MEETING = sum(size * share for size, share in zip(_MEETING_SIZES, _MEETING_SIZE_SHARES, strict=True))
_MEAN_THREAD = sum(size * share for size, share in zip(_THREAD_SIZES, _THREAD_SIZE_SHARES, strict=True))

# Every so many-th conversation of a block: a pattern, a personal fact; a guest in every so many-th meeting.
_PATTERN_EVERY, _PATTERN_AT = 9, 4
_FACT_EVERY, _FACT_AT = 17, 5
_GUEST_EVERY, _GUEST_AT = 60, 17
_MAX_WORDS = 5000


@dataclass(frozen=True, slots=True)
class SyntheticCorpus:
    """Meetings, chat threads and consent of an invented population; a `Corpus`.

    Guarantee: equal arguments give equal conversations, in the same order at every call, on every
    machine. Reading needs the memory of one block, whatever `people` is. Of two corpora that differ
    in `people` alone, the smaller one is the beginning of the larger one if it is a multiple of 200.
    `kinds` leaves conversations out and changes none.

    Args:
      people: how many have an account, at least 2. A person left alone in the last block has nobody
        to talk to.
      population: who they are and how they talk; populations have no id in common.
      seed: a public number; another one gives other people *under the same ids*.
      meetings_per_person: mean number of meetings that a person is in.
      threads_per_person: mean number of chat threads that a person is in, at about 1.6 messages each.
      meeting_words: about how many words are said in a meeting, 40 to 5000; to come to one decision takes
        some 80 in any case. A summary has up to eight topics.
      kinds: which conversations to yield.

    Raises:
      ConfigError: a number is out of range.
    """

    people: int
    population: Population
    _: KW_ONLY
    seed: int = 0
    meetings_per_person: float = 3.0
    threads_per_person: float = 6.0
    meeting_words: int = 105
    kinds: tuple[ConversationKind, ...] = (ConversationKind.MEETING, ConversationKind.THREAD)

    def __post_init__(self) -> None:
        def check(ok: bool, name: str, expected: str) -> None:
            if not ok:
                raise ConfigError(f"synthetic corpus: {name}={getattr(self, name)}; expected {expected}")

        check(self.people >= 2, "people", "at least 2, who can talk to each other")
        for name in ("meetings_per_person", "threads_per_person"):
            check(0 <= getattr(self, name) <= 1000, name, "a number from 0 to 1000")
        check(40 <= self.meeting_words <= _MAX_WORDS, "meeting_words", f"40 to {_MAX_WORDS}")

    @property
    def name(self) -> str:
        return f"synthetic-{self.population.value}-{self.people}"

    def conversations(self) -> Iterator[Conversation]:
        """Yield block after block, in each the meetings before the threads."""
        return (script.conversation for script in self.scripts())

    def scripts(self) -> Iterator[Script]:
        """The same conversations, each with the truth about it: topics, personal data, personal facts."""
        for block in self._blocks():
            if ConversationKind.MEETING in self.kinds:
                for number in range(self._meetings(len(block.people))):
                    yield self._meeting(block, number)
            if ConversationKind.THREAD in self.kinds:
                for number in range(self._threads(len(block.people))):
                    yield self._thread(block, number)

    def consent_events(self, key: PrincipalKey) -> Iterator[ConsentEvent]:
        """Everything that was decided about the population, as a stream; guests have decided nothing.

        Decisions are meant under `history.RULES`, as of `history.HISTORY_END` or later.
        """
        seq = 0
        for block in self._blocks():
            for event in consent_events(self.seed, self.population, block, key, seq):
                yield event
                seq = event.seq + 1

    def census(self) -> Iterator[tuple[Person, ConsentCase]]:
        """Everyone who has an account, with the case of their consent."""
        for block in self._blocks():
            case_of = cases(self.seed, self.population, block)
            for person in block.people:
                yield person, case_of[person.index]

    def cases(self) -> dict[ConsentCase, int]:
        """How many people there are of each case; for GUEST, in how many meetings there is one."""
        counts = Counter(case for _, case in self.census())
        if self.population is Population.PRIVATE:
            for size in self._block_sizes():
                counts[ConsentCase.GUEST] += len(range(self._meetings(size))[_GUEST_AT::_GUEST_EVERY])
        return {case: counts[case] for case in ConsentCase if counts[case]}

    def person(self, index: int) -> Person:
        """Person `index`, by itself."""
        if not 0 <= index < self.people:
            raise ConfigError(f"synthetic corpus: person {index}; expected 0 to {self.people - 1}")
        size = min(BLOCK, self.people - index // BLOCK * BLOCK)
        block = build_block(self.seed, self.population, index // BLOCK, size)
        return next(person for person in block.people if person.index == index)

    def describe(self) -> dict[str, str | int | float]:
        """Public facts: what the corpus was asked to be, and how many conversations that makes."""
        meetings = threads = 0
        for size in self._block_sizes():
            meetings += self._meetings(size)
            threads += self._threads(size)
        return {
            "corpus": self.name,
            "population": self.population.value,
            "people": self.people,
            "seed": self.seed,
            "meetings": meetings if ConversationKind.MEETING in self.kinds else 0,
            "threads": threads if ConversationKind.THREAD in self.kinds else 0,
            "meetings_per_person": self.meetings_per_person,
            "threads_per_person": self.threads_per_person,
            "meeting_words": self.meeting_words,
        }

    def _block_sizes(self) -> Iterator[int]:
        """People of each block: 200, and fewer in the last."""
        return (min(BLOCK, self.people - first) for first in range(0, self.people, BLOCK))

    def _blocks(self) -> Iterator[Block]:
        for number, size in enumerate(self._block_sizes()):
            yield build_block(self.seed, self.population, number, size)

    def _meetings(self, people: int) -> int:
        """Meetings of a block of so many people."""
        return _count(self.meetings_per_person, people, _MEAN_MEETING)

    def _threads(self, people: int) -> int:
        """Threads of a block of so many people."""
        return _count(self.threads_per_person, people, _MEAN_THREAD)

    def _meeting(self, block: Block, number: int) -> Script:
        seed, population = self.seed, self.population
        dice = Dice(seed, population.value, "meeting", block.number, number)
        people, absent = _gather(dice, block, number, _MEETING_SIZES[dice.weighted(_MEETING_SIZE_WEIGHTS)])
        guests: list[Person] = []
        if population is Population.PRIVATE and number % _GUEST_EVERY == _GUEST_AT:
            index = block.number * 1000 + number // _GUEST_EVERY
            guests = [build_person(seed, population, index, people[0].company, guest=True)]
        return write_meeting(
            dice,
            conversation_id=f"{population.prefix}-meeting-{block.number:05d}-{number:05d}",
            people=people,
            guests=guests,
            absent=absent,
            slip=_slip(number),
            created_at=day_and_time(dice),
            words=self.meeting_words,
        )

    def _thread(self, block: Block, number: int) -> Script:
        population = self.population
        dice = Dice(self.seed, population.value, "thread", block.number, number)
        people, absent = _gather(dice, block, number, _THREAD_SIZES[dice.weighted(_THREAD_SIZE_WEIGHTS)])
        return write_thread(
            dice,
            conversation_id=f"{population.prefix}-thread-{block.number:05d}-{number:05d}",
            people=people,
            absent=absent,
            slip=_slip(number),
            created_at=day_and_time(dice),
        )


def _count(per_person: float, people: int, mean_size: float) -> int:
    """Conversations of a block in which each of `people` is in `per_person` on average."""
    return round(per_person * people / mean_size) if people > 1 else 0


def _gather(dice: Dice, block: Block, number: int, size: int) -> tuple[list[Person], Person | None]:
    """Who takes part in conversation `number`, its host first, and perhaps a colleague who does not."""
    host = block.hosts[number % len(block.hosts)]
    team = block.team_of[host.index]
    people = team.gather(dice, host, size)
    absent = dice.pick(team.members) if dice.chance(0.4) else None
    return people, None if any(absent is person for person in people) else absent


def _slip(number: int) -> SecretKind | None:
    """What a person lets slip in conversation `number` of a block."""
    if number % _PATTERN_EVERY == _PATTERN_AT:
        return PATTERNS[number // _PATTERN_EVERY % len(PATTERNS)]
    return SecretKind.PERSONAL_FACT if number % _FACT_EVERY == _FACT_AT else None
