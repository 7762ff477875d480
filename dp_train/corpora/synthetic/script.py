"""A conversation with the truth about it: what was settled in it and what was let slip."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from dp_train.conversations import Conversation
from dp_train.corpora.synthetic.slips import SecretKind


class RunResult(Enum):
    """How a topic of a meeting ended; each is a section of `lexicon.Style`."""

    DECIDED = "decided"
    TASKED = "tasked"
    PARKED = "parked"
    STATED = "stated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """What was said about one topic, word for word as in transcript and summary.

    A decision and a task belong to DECIDED, a task alone to TASKED, a reason to PARKED and a state to
    STATED; what does not belong is empty.
    """

    outcome: RunResult
    subject: str
    decision: str = ""
    owner_id: str = ""
    owner: str = ""
    task: str = ""
    due: str = ""
    reason: str = ""
    state: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slip:
    """Personal data or a personal fact in the text of a turn."""

    turn: int
    person_id: str
    kind: SecretKind
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A conversation, the topics of it where it is a meeting, and the slips in it."""

    conversation: Conversation
    topics: tuple[Topic, ...] = ()
    slips: tuple[Slip, ...] = ()
