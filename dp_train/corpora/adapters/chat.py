"""From a stream of chat messages to threads, each of one population.

1. Bots are dropped; so are lines that quote (`> …`), which are another person's words. A message without words stays,
   as a turn without any: were it left out, what one person wrote would join or cut the turns of others.
2. Messages of one person that follow each other in a room within `join` become one turn.
3. A room is cut into threads after `silence`, at `max_turns` turns, and at the time from which on people are evaluated.
4. Of each thread a population gets the turns of its own people. A turn that repeats some words in a row of a turn of
   another population in the thread, or names its author without an @, is left out as well: the roster, by which
   names are found later, holds the population's own people alone.

Which turns there are and where threads are cut depends on who wrote when, which the guarantee takes as fixed (who met
whom), and on whom a turn quotes and names, never on what it says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from dp_train.consent.echoes import Echoes
from dp_train.conversations import ContentKind, Conversation, ConversationKind, Turn
from dp_train.corpora.synthetic import Population
from dp_train.errors import ConfigError

_NAMED = re.compile(r"(?<![@\w-])[\w-]+")
"""What may be a nick; one with an @ before it is found without a roster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message as it stood in a room; `nick` is what its author was called."""

    message_id: str
    room: str
    sent_at: datetime
    person_id: str
    nick: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Threading:
    """How messages become threads.

    Attributes:
      join: messages of one person no further apart are one turn.
      silence: a longer pause of a room ends a thread.
      max_turns: so many turns at most.
      evaluation_from: threads of PRIVATE and PUBLIC people end before it, those of EVALUATION people begin with it.
    """

    join: timedelta
    silence: timedelta
    max_turns: int
    evaluation_from: datetime

    def __post_init__(self) -> None:
        if not timedelta(0) <= self.join <= self.silence:
            raise ConfigError(f"threads: join={self.join} and silence={self.silence}; expected 0 ≤ join ≤ silence")
        if self.max_turns < 1:
            raise ConfigError(f"threads: max_turns={self.max_turns}; expected at least 1")

    def threads(self, messages: Iterable[Message]) -> Iterator[list[Message]]:
        """Turns, as messages, of each thread; rooms stand together and are in the order of time."""
        thread: list[Message] = []
        last: Message | None = None
        for message in messages:
            if last is None or self._apart(last, message):
                if thread:
                    yield thread
                thread = [message]
            elif message.person_id == last.person_id and message.sent_at - last.sent_at <= self.join:
                thread[-1] = _joined(thread[-1], message)
            elif len(thread) == self.max_turns:
                yield thread
                thread = [message]
            else:
                thread.append(message)
            last = message
        if thread:
            yield thread

    def _apart(self, last: Message, message: Message) -> bool:
        return (
            message.room != last.room
            or message.sent_at - last.sent_at > self.silence
            or (last.sent_at < self.evaluation_from <= message.sent_at)
        )


def conversations_of(
    threads: Iterable[list[Message]],
    source: str,
    population: Population,
    population_of: Callable[[str], Population],
    threading: Threading,
) -> Iterator[Conversation]:
    """What a population has in each thread, where it has something."""
    later = population is Population.EVALUATION
    for thread in threads:
        if (thread[0].sent_at >= threading.evaluation_from) is not later:
            continue
        own = [message for message in thread if population_of(message.person_id) is population]
        if own and len(own) < len(thread):
            own = _apart_from_others(thread, own)
        if own:
            yield _conversation(source, own)


def without_quotes(text: str) -> str:
    """The text without the lines that Markdown marks as quoted."""
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith(">")).strip()


def _joined(first: Message, second: Message) -> Message:
    return Message(
        message_id=first.message_id,
        room=first.room,
        sent_at=first.sent_at,
        person_id=first.person_id,
        nick=first.nick,
        text="\n".join(filter(None, (first.text, second.text))),
    )


def _apart_from_others(thread: list[Message], own: list[Message]) -> list[Message]:
    """Those of `own` that neither repeat nor name the others of the thread, whoever wrote first."""
    ids = {message.message_id for message in own}
    echoes, names = Echoes(), set()
    for message in thread:
        if message.message_id not in ids:
            echoes.add(message.text)
            names.add(message.nick)
    return [
        message
        for message in own
        if names.isdisjoint(_NAMED.findall(message.text)) and not echoes.repeated_in(message.text)
    ]


def _conversation(source: str, turns: list[Message]) -> Conversation:
    names: dict[str, dict[str, None]] = {}
    for message in turns:
        names.setdefault(message.person_id, {})[message.nick] = None
    nicks = {nick: person for person, all_nicks in names.items() for nick in all_nicks}
    return Conversation(
        conversation_id=f"{source}-{turns[0].message_id}",
        org_id=source,
        created_at=turns[0].sent_at,
        kind=ConversationKind.THREAD,
        turns=tuple(
            Turn(
                person_id=message.person_id,
                text=message.text,
                kind=ContentKind.CHAT,
                mentions=_mentions(message, nicks),
            )
            for message in turns
        ),
        roster={person: " ".join(all_nicks) for person, all_nicks in names.items()},
    )


def _mentions(message: Message, nicks: dict[str, str]) -> tuple[str, ...]:
    """People of the conversation whom the text calls by @nick."""
    if "@" not in message.text:
        return ()
    called = (word.strip(".,:;!?()'\"") for word in message.text.split("@")[1:] for word in word.split()[:1])
    return tuple(sorted({nicks[nick] for nick in called if nick in nicks}))
