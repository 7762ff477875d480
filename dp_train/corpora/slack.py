"""The export of a Slack workspace: a folder with `users.json` and a folder a channel, in which a file holds a day.

    dp-train train task=chat_compose corpus=slack corpus.private=EXPORT consent.events=PATH consent.key=PATH

1. Messages of people are kept; those of bots, joins, topics and other events are not, nor lines that quote (`> …`),
   which are another person's words.
2. Replies under a message are one conversation with it, however long the pauses; the rest of a channel is cut into
   conversations as `corpus.chat` says. Messages of one person that follow each other are one turn, as it says as well.
3. The roster of a conversation are those who write in it and, of a channel that lists at most 16 people, all of them,
   with both of their names; who wrote where and who is of a channel is the graph, which the guarantee takes as fixed.
   No word changes it: a person whom one message alone mentions has no seat, for that would number the others anew, and
   have their name found in what others say.
   `<@U1>` becomes the name of that person where they have a seat, else "@U1", which anonymisation finds by the mention.
4. A person is a Slack id. Who is not of the workspace (shared channels) or is not listed is a guest: they cannot have
   consented.

An export says who wrote what, and nothing about who agreed: that is `consent.events`, or the consent store.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

from dp_train.conversations import ContentKind, Conversation, ConversationKind, Corpus, Turn
from dp_train.corpora.adapters.chat import Message, Threading, without_quotes
from dp_train.corpora.files import Files
from dp_train.corpora.readers import FileCorpus
from dp_train.corpora.spec import ChatConfig
from dp_train.errors import DataError

_SAID = (None, "thread_broadcast", "me_message", "file_share")
"""Subtypes of messages in which a person says something; all others are events."""
_MARKED = re.compile(r"<([@#!]?)([^<>|]*)(?:\|([^<>]*))?>")
_QUOTE = re.compile(r"^\s*&gt;", re.MULTILINE)
_LISTINGS = ("channels.json", "groups.json", "mpims.json", "dms.json")
_SMALL_ROOM = 16
"""In a channel of so many people everyone has a seat. In a large one the names of all would be half of all words."""
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackSpec(Files):
    """An export a population. `org` is the organisation whose consent counts as well; None is the workspace's id."""

    chat: ChatConfig
    org: str | None = None

    def read(self, path: Path) -> Corpus:
        rule = partial(
            Threading,
            join=timedelta(minutes=self.chat.join_minutes),
            max_turns=self.chat.max_turns,
            evaluation_from=_NEVER,  # another export, of other people
        )
        channel = rule(silence=timedelta(minutes=self.chat.silence_minutes))
        return read_slack(path, channel=channel, thread=rule(silence=timedelta.max), org=self.org)


def read_slack(path: Path, *, channel: Threading, thread: Threading, org: str | None = None) -> FileCorpus:
    """A corpus of an export, one channel in memory at a time.

    Args:
      channel: how the messages of a channel become conversations. thread: how those under a message do.

    Raises:
      DataError: the folder is no export. Messages are looked at when they are read.
    """
    if not (path / "users.json").is_file():
        raise DataError(
            f"slack: users.json is not in {path}; expected the folder of an unpacked export, which also has a folder "
            "a channel"
        )

    def read(folder: Path) -> Iterator[Conversation]:
        people = _People.of(_objects(folder / "users.json"), org)
        members = dict(_small_rooms(folder))
        for room in sorted(each for each in folder.iterdir() if each.is_dir()):
            rows = [row for day in sorted(room.glob("*.json")) for row in _messages(day, people)]
            flow = sorted((one for one, under in rows if not under), key=lambda one: one.sent_at)
            under = sorted((one for one, under in rows if under), key=lambda one: (one.room, one.sent_at))
            seated = members.get(room.name, ())
            for turns in (*channel.threads(flow), *thread.threads(under)):
                yield people.conversation(turns, seated)

    return FileCorpus(path, read)


@dataclass(frozen=True, slots=True)
class _People:
    """Who is listed: id → both of their names; those of the workspace; bots; the organisation."""

    names: Mapping[str, str]
    shown: Mapping[str, str]
    members: frozenset[str]
    bots: frozenset[str]
    org: str

    @classmethod
    def of(cls, rows: list[tuple[str, dict[str, Any]]], org: str | None) -> _People:
        users = {_text(where, row, "id"): row for where, row in rows}
        teams = Counter(str(row.get("team_id", "")) for row in users.values())
        home = teams.most_common(1)[0][0] if teams else ""
        profiles = {user: row.get("profile") or {} for user, row in users.items()}
        both = {
            user: [
                str(profiles[user].get("real_name") or row.get("real_name") or row.get("name") or user),
                str(profiles[user].get("display_name") or ""),
            ]
            for user, row in users.items()
        }
        return cls(
            names={user: " ".join(dict.fromkeys(filter(None, found))) for user, found in both.items()},
            shown={user: found[1] or found[0] for user, found in both.items()},
            members=frozenset(user for user, row in users.items() if str(row.get("team_id", "")) == home),
            bots=frozenset(user for user, row in users.items() if row.get("is_bot") or user == "USLACKBOT"),
            org=org or home or "slack",
        )

    def conversation(self, turns: list[Message], members: Sequence[str]) -> Conversation:
        """The conversation of these turns in a channel of these members; its roster follows from both alone."""
        seats = dict.fromkeys((*(turn.person_id for turn in turns), *(one for one in members if one not in self.bots)))
        said = [self._plain(turn.text, seats) for turn in turns]
        return Conversation(
            conversation_id=f"slack-{turns[0].message_id}",
            org_id=self.org,
            created_at=turns[0].sent_at,
            kind=ConversationKind.THREAD,
            turns=tuple(
                Turn(person_id=turn.person_id, text=text, kind=ContentKind.CHAT, mentions=called)
                for turn, (text, called) in zip(turns, said, strict=True)
            ),
            roster={person: self.names.get(person, person) for person in seats},
            guests=frozenset(seats) - self.members,
        )

    def _plain(self, text: str, seats: Container[str]) -> tuple[str, tuple[str, ...]]:
        """Text as it is read in Slack, and whom it mentions; who has no seat stays an id."""
        called: dict[str, None] = {}

        def shown(found: re.Match[str]) -> str:
            sign, target, label = found.groups()
            if sign == "@":
                called[target] = None
                return f"@{self.shown.get(target, target) if target in seats else target}"
            if sign == "!":
                return f"@{label or target.partition('^')[0]}".replace("@@", "@")
            return f"#{label or target}" if sign == "#" else target

        return unescape(_MARKED.sub(shown, text)), tuple(called)


def _small_rooms(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """(folder of the channel, its members) of those that list few enough; an export lists what it holds."""
    for listing in map(folder.joinpath, _LISTINGS):
        for where, row in _objects(listing) if listing.is_file() else ():
            members = row.get("members", [])
            if not (isinstance(members, list) and all(isinstance(one, str) for one in members)):
                raise DataError(f"{where}: members is no list of ids; expected a file of a Slack export")
            if len(members) <= _SMALL_ROOM:
                yield from ((str(row[name]), members) for name in ("name", "id") if row.get(name))


def _messages(day: Path, people: _People) -> Iterator[tuple[Message, bool]]:
    """What people say in a day of a channel, and whether it stands under a message; Slack marks both ends of that."""
    channel = hashlib.sha256(day.parent.name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    for where, row in _objects(day):
        if row.get("type") != "message" or row.get("subtype") not in _SAID or row.get("bot_id"):
            continue
        person = row.get("user")
        if not isinstance(person, str) or not person or person in people.bots:  # no person's: it cannot be protected
            continue
        text = without_quotes(_QUOTE.sub(">", _text(where, row, "text")))
        moment, under = _text(where, row, "ts"), row.get("thread_ts")
        yield (
            Message(
                message_id=f"{channel}-{moment}",
                room=f"{channel}-{under}" if under else channel,
                sent_at=_time(where, moment),
                person_id=person,
                nick=people.shown.get(person, person),
                text=text,
            ),
            bool(under),
        )


def _objects(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """(where it stands, object) of every object in a file."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        rows = None
    if not isinstance(rows, list):
        raise DataError(f"{path.name}: not an array of JSON; expected a file of a Slack export, unpack it anew")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(f"{path.name} entry {number}: not an object; expected a file of a Slack export")
    return [(f"{path.name} entry {number}", row) for number, row in enumerate(rows, start=1)]


def _text(where: str, row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise DataError(f"{where}: {name} is missing or not text; expected a file of a Slack export")
    return value


def _time(where: str, text: str) -> datetime:
    seconds, _, micro = text.partition(".")
    try:
        return datetime.fromtimestamp(int(seconds), UTC).replace(microsecond=int((micro or "0")[:6]))
    except (ValueError, OverflowError, OSError):
        raise DataError(f"{where}: ts is not a time; expected seconds since 1970, as 1355517523.000005") from None
