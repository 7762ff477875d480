"""Meetings: two to eight people talk through topics, decide, take tasks on, and digress.

The summary is put together from what was settled, in the words in which it was said.
"""

from __future__ import annotations

import math
from datetime import datetime

from dp_train.conversations import Conversation, ConversationKind
from dp_train.corpora.synthetic.dice import Dice, cumulative_weights
from dp_train.corpora.synthetic.lexicon import Style
from dp_train.corpora.synthetic.people import Person
from dp_train.corpora.synthetic.phrasing import Fill, heading, sentence
from dp_train.corpora.synthetic.script import RunResult, Script, Topic
from dp_train.corpora.synthetic.slips import SecretKind
from dp_train.corpora.synthetic.talk import Discussion, Room

MAX_TOPICS = 8

_TOPIC_WORDS = 74
_FRAME_WORDS = 18
"""About how many words greeting, digression and parting take."""
_DECIDED_FIRST = 0.85
_DIGRESS = 0.3
_OTHER_OUTCOMES = (RunResult.PARKED, RunResult.STATED, RunResult.TASKED, RunResult.DECIDED)
_OTHER_WEIGHTS = cumulative_weights((0.34, 0.38, 0.18, 0.1))


def write_meeting(
    dice: Dice,
    *,
    conversation_id: str,
    people: list[Person],
    guests: list[Person],
    absent: Person | None,
    slip: SecretKind | None,
    created_at: datetime,
    words: int,
) -> Script:
    """A meeting that the first of `people` calls.

    Args:
      guests: join in without an account.
      absent: a colleague who is not there and may be talked about.
      slip: what a person lets slip in it, if anything.
      words: about how many words are said; the summary grows with the topics, of which there are
        at most MAX_TOPICS.
    """
    company = people[0].company
    room = Room(dice, company.register.frames, people + guests, absent, created_at)
    count = min(MAX_TOPICS, max(1, round(words / _TOPIC_WORDS * math.exp(0.25 * dice.normal()))))
    matters = dice.some(company.matters, count)
    # Somewhere a decision is made: without one a short meeting would soon have been held before.
    decided = 0 if dice.chance(_DECIDED_FIRST) else count - 1
    aside = dice.below(count) if dice.chance(_DIGRESS) else -1
    topics: list[Topic] = []
    room.welcome()
    for position in range(count):
        fill = Fill(dice, company.slots)
        discussion = Discussion(room, matters[position % len(matters)], fill, words=(words - _FRAME_WORDS) / count)
        outcome = RunResult.DECIDED if position == decided else _OTHER_OUTCOMES[dice.weighted(_OTHER_WEIGHTS)]
        topics.append(discussion.run(outcome, first=position == 0))
        if position == aside:
            room.digress(fill)
    slips = () if slip is None else (room.let_slip(slip),)
    room.part()
    return Script(
        conversation=Conversation(
            conversation_id=conversation_id,
            org_id=company.org_id,
            created_at=created_at,
            kind=ConversationKind.MEETING,
            turns=tuple(room.turns),
            roster=room.roster(),
            guests=frozenset(guest.person_id for guest in guests),
            summary=summarise(topics, people[0].minutes, dice),
        ),
        topics=tuple(topics),
        slips=slips,
    )


def summarise(topics: list[Topic], style: Style, dice: Dice) -> str:
    """Minutes of the topics in their order, in one style."""
    frames = {
        RunResult.DECIDED: style.decided,
        RunResult.TASKED: style.tasked,
        RunResult.PARKED: style.parked,
        RunResult.STATED: style.stated,
    }
    return " ".join(
        sentence(
            dice.pick(frames[topic.outcome]).format(
                s=topic.subject,
                S=heading(topic.subject),
                decision=topic.decision,
                owner=topic.owner,
                task=topic.task,
                due=topic.due,
                reason=topic.reason,
                state=topic.state,
            )
        )
        for topic in topics
    )
