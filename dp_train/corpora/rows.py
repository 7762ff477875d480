"""A conversation as a row of plain values, and back: what jsonl and parquet files hold.

Values are checked once, here. An error says what is wrong with a row and what was expected, never what
the row says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar

from dp_train.conversations import ContentKind, Conversation, ConversationKind, Turn
from dp_train.errors import DataError

REQUIRED = ("conversation_id", "org_id", "created_at", "kind", "turns")
FIELDS = (*REQUIRED, "roster", "guests", "summary")
TURN_REQUIRED = ("person_id", "text")
TURN_FIELDS = (*TURN_REQUIRED, "content_kind", "mentions", "reply_to", "quotes")

DEFAULT_KIND = {
    ConversationKind.MEETING: ContentKind.TRANSCRIPT,
    ConversationKind.THREAD: ContentKind.CHAT,
}
"""What a turn is that does not say so."""

E = TypeVar("E", bound=Enum)


def to_row(conversation: Conversation) -> dict[str, Any]:
    """The row of a conversation; what has its default value is left out."""
    row: dict[str, Any] = {
        "conversation_id": conversation.conversation_id,
        "org_id": conversation.org_id,
        "created_at": conversation.created_at.isoformat(),
        "kind": conversation.kind.value,
        "turns": [_turn_row(turn) for turn in conversation.turns],
        "roster": dict(conversation.roster),
    }
    if conversation.guests:
        row["guests"] = sorted(conversation.guests)
    if conversation.summary is not None:
        row["summary"] = conversation.summary
    return row


def from_row(row: object) -> Conversation:
    """The conversation of a row; what is null counts as left out.

    Raises:
      DataError: the row is not a conversation.
    """
    values = _record(row, "row", FIELDS, REQUIRED)
    kind = _enum(ConversationKind, values["kind"], "kind")
    turns = _list(values["turns"], "turns")
    try:
        return Conversation(
            conversation_id=_id(values["conversation_id"], "conversation_id"),
            org_id=_id(values["org_id"], "org_id"),
            created_at=_time(values["created_at"], "created_at"),
            kind=kind,
            turns=tuple(_turn(turn, f"turn {index}", DEFAULT_KIND[kind]) for index, turn in enumerate(turns)),
            roster=_roster(values.get("roster")),
            guests=frozenset(_id(guest, "guests") for guest in _list(values.get("guests"), "guests")),
            summary=_text(values["summary"], "summary") if "summary" in values else None,
        )
    except DataError as error:
        raise DataError(str(error).removeprefix("conversation: ")) from None


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{name} is not text; expected a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(f"{name} is not valid Unicode; expected text without lone surrogates") from None
    return value


def _id(value: object, name: str) -> str:
    text = _text(value, name)
    if not text:
        raise DataError(f"{name} is empty; expected an id")
    return text


def _time(value: object, name: str) -> datetime:
    try:
        time = value if isinstance(value, datetime) else datetime.fromisoformat(_text(value, name))
    except ValueError:
        raise DataError(f"{name} is not a time; write it as ISO 8601 with an offset") from None
    if time.tzinfo is None:
        raise DataError(f"{name} has no time zone; write it as ISO 8601 with an offset")
    return time


def _enum(kind: type[E], value: object, name: str) -> E:
    try:
        return kind(value)
    except ValueError:
        raise DataError(f"{name} is unknown; expected one of {', '.join(member.value for member in kind)}") from None


def _link(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise DataError(f"{name} is not a whole number; expected the position of an earlier turn, from 0")
    return value


def _turn_row(turn: Turn) -> dict[str, Any]:
    row: dict[str, Any] = {"person_id": turn.person_id, "text": turn.text, "content_kind": turn.kind.value}
    if turn.mentions:
        row["mentions"] = list(turn.mentions)
    if turn.reply_to is not None:
        row["reply_to"] = turn.reply_to
    if turn.quotes is not None:
        row["quotes"] = turn.quotes
    return row


def _turn(row: object, name: str, kind: ContentKind) -> Turn:
    values = _record(row, name, TURN_FIELDS, ())
    if not values.get("person_id"):
        raise DataError(f"{name} has no speaker; every turn needs a person_id")
    if "text" not in values:
        raise DataError(f"{name} has no text; every turn needs one")
    return Turn(
        person_id=_id(values["person_id"], f"{name}: person_id"),
        text=_text(values["text"], f"{name}: text"),
        kind=_enum(ContentKind, values.get("content_kind", kind), f"{name}: content_kind"),
        mentions=tuple(
            _id(person, f"{name}: mentions") for person in _list(values.get("mentions"), f"{name}: mentions")
        ),
        reply_to=_optional(values.get("reply_to"), f"{name}: reply_to", _link),
        quotes=_optional(values.get("quotes"), f"{name}: quotes", _link),
    )


def _roster(value: object) -> dict[str, str]:
    """A mapping, or a list of {person_id, name} as parquet has it."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return {_id(person, "roster"): _text(name, "roster") for person, name in value.items()}
    records = [
        _record(entry, "roster", ("person_id", "name"), ("person_id", "name")) for entry in _list(value, "roster")
    ]
    return {_id(entry["person_id"], "roster"): _text(entry["name"], "roster") for entry in records}


def _record(row: object, name: str, fields: tuple[str, ...], required: tuple[str, ...]) -> dict[str, Any]:
    """The values that are there, of fields that are known."""
    if not isinstance(row, Mapping):
        raise DataError(f"{name} is not an object; expected one with {', '.join(fields)}")
    unknown = sum(field not in fields for field in row)
    if unknown:
        # A misspelt "summary" that is passed over would be a summary lost.
        raise DataError(f"{name} has {unknown} unknown field(s); expected {', '.join(fields)}")
    values = {field: value for field, value in row.items() if value is not None}
    for field in required:
        if field not in values:
            raise DataError(f"{field} is missing; every {name} needs {', '.join(required)}")
    return values


def _list(value: object, name: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise DataError(f"{name} is not a list; expected an array")
    return value


T = TypeVar("T")


def _optional(value: object, name: str, read: Callable[[object, str], T]) -> T | None:
    return None if value is None else read(value, name)
