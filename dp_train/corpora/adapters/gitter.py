"""Gitter: rooms of freeCodeCamp's chat, 2014 to 2016, `messages.jsonl.gz` (BSD-3-Clause, gitter-history).

One message a line: `room`, `sent_at`, `user_id`, `username`, `message_id`, `text`; the messages of a room stand
together in the order of time.

A person is a `user_id`, or all that an alias file says are one; what they are called may change and names nobody.
Who has several accounts that no alias file knows counts as several people, and is protected as each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from dp_train.conversations import Conversation
from dp_train.corpora.adapters.benchmark import BenchmarkCorpus
from dp_train.corpora.adapters.chat import Message, Threading, conversations_of, without_quotes
from dp_train.corpora.adapters.language import Language, rooms_in
from dp_train.corpora.adapters.rows import open_folder, read_rows, time_of
from dp_train.corpora.adapters.split import PeopleSplit, pseudonym
from dp_train.corpora.synthetic import Population
from dp_train.errors import DataError

SOURCE = "gitter"
FILE = "messages.jsonl.gz"
BOTS = ("camperbot",)
THREADING = Threading(
    join=timedelta(minutes=3),
    silence=timedelta(minutes=30),
    max_turns=40,
    evaluation_from=datetime(2016, 7, 1, tzinfo=UTC),
)
_FIELDS = dict.fromkeys(("room", "sent_at", "user_id", "username", "message_id", "text"), str)


@dataclass(frozen=True, kw_only=True)
class Gitter:
    """The corpus in a folder, and how it is cut into populations and threads.

    Attributes:
      aliases: user id or nick → person, see `split.read_aliases`.
      bots: nicks whose messages are left out.
      language: leaves out rooms in other languages, by what its PUBLIC people wrote; None keeps all.

    Raises:
      DataError: the folder does not hold the corpus. Rows are looked at when they are read.
    """

    folder: Path
    aliases: Mapping[str, str] = field(default_factory=dict)
    bots: frozenset[str] = frozenset(BOTS)
    threading: Threading = THREADING
    split: PeopleSplit = field(default_factory=PeopleSplit)
    language: Language | None = None

    def __post_init__(self) -> None:
        open_folder(self.folder, FILE)

    def corpus(self, population: Population) -> BenchmarkCorpus:
        """One of the three populations."""

        def read() -> Iterator[Conversation]:
            messages = self.messages()
            if self.language is not None:
                messages = (message for message in messages if message.room in self._rooms)
            threads = self.threading.threads(messages)
            yield from conversations_of(threads, SOURCE, population, self.split, self.threading)

        return BenchmarkCorpus(SOURCE, population, read)

    @cached_property
    def _rooms(self) -> frozenset[str]:
        """Rooms in the language; names alone, so a frozen value may keep them."""
        assert self.language is not None
        public = (message for message in self.messages() if self.split(message.person_id) is Population.PUBLIC)
        return rooms_in(self.language, ((message.room, message.text) for message in public))

    def messages(self) -> Iterator[Message]:
        """Messages of people, with words of their own, in the file's order; four have no author and are left out.

        Raises:
          DataError: a row is not a message, or out of order; names the row.
        """
        people: dict[str, str] = {}
        rooms: set[str] = set()
        room, before = None, datetime.min.replace(tzinfo=UTC)
        for where, row in read_rows(self.folder / FILE, _FIELDS):
            sent_at = time_of(where, row["sent_at"])
            if row["room"] != room:
                room = row["room"]
                if room in rooms:
                    raise DataError(f"{where}: its room came before; expected the messages of a room together")
                rooms.add(room)
            elif sent_at < before:
                raise DataError(f"{where}: older than the row before; expected a room in the order of time")
            before = sent_at
            account, nick = row["user_id"], row["username"]
            if not row["message_id"]:
                raise DataError(f"{where}: message_id is empty; every message needs one")
            text = without_quotes(_unquoted(row["text"]))
            if not account or nick in self.bots:  # what belongs to no person cannot be protected
                continue
            if account not in people:
                person = self.aliases.get(account, self.aliases.get(nick, account))
                people[account] = pseudonym(SOURCE, person)
            yield Message(
                message_id=row["message_id"],
                room=row["room"],
                sent_at=sent_at,
                person_id=people[account],
                nick=nick,
                text=text,
            )


def _unquoted(text: str) -> str:
    """The text without what the table that it once stood in put around it."""
    text = text.strip()
    if len(text) > 1 and text.startswith('"') and text.endswith('"'):
        return text[1:-1].replace('""', '"')
    return text
