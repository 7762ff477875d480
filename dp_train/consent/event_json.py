"""Consent events as JSON: the jsonl files of `read_events` and `write_events`, and the terms that the store keeps.

Field by field: what a value has to look like (`_PARSERS`), and what is said of one that does not, by the name of the
field and never by its content.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from enum import Enum
from functools import lru_cache
from itertools import repeat
from pathlib import Path
from typing import Any, TypeVar

from dp_train.atomic import whole_file
from dp_train.consent.events import (
    NOBODYS,
    AgeBand,
    CollectionMethod,
    ConsentEvent,
    EntityRole,
    EventState,
    LawfulBasis,
    PiiType,
    Processing,
    Purpose,
)
from dp_train.conversations import ContentKind
from dp_train.errors import DataError


def read_events(path: str | os.PathLike[str]) -> Iterator[ConsentEvent]:
    """Yield the events of a jsonl file, one object a line, as a stream.

    Enums are written by value, times as ISO 8601 with an offset, sets as arrays; fields with a
    default may be left out, unknown fields may not be added.

    Raises:
      DataError: the file cannot be read, or a row is not an event; names the row, never its content.
    """
    try:
        with Path(path).open(encoding="utf-8") as lines:
            for row, line in enumerate(lines, start=1):
                if line.strip():
                    yield _parse_row(line, row)
    except OSError as error:
        raise DataError(f"consent events {path}: {error.strerror}; expected a readable jsonl file") from error
    except UnicodeDecodeError as error:
        raise DataError(f"consent events {path}: not UTF-8; save the file as UTF-8") from error


def write_events(events: Iterable[ConsentEvent], path: str | os.PathLike[str]) -> None:
    """Write events as jsonl that `read_events` reads back equal; whole or not at all.

    Raises:
      DataError: the file cannot be written.
    """
    target = Path(path)
    try:
        with whole_file(target, mode=0o600) as out:
            for event in events:
                out.write((json.dumps(to_json(event), ensure_ascii=False, separators=(",", ":")) + "\n").encode())
    except OSError as error:
        raise DataError(f"consent events {path}: {error.strerror}; choose a folder that can be written") from error


_DEFAULTS = {
    field.name: field.default for field in dataclasses.fields(ConsentEvent) if field.default is not dataclasses.MISSING
}
FIELDS = tuple(field.name for field in dataclasses.fields(ConsentEvent))
_REQUIRED = tuple(name for name in FIELDS if name not in _DEFAULTS)


def to_json(event: ConsentEvent) -> dict[str, Any]:
    """An event as plain values: fields that differ from their default, as JSON values."""
    return plain_values((name, getattr(event, name)) for name in FIELDS)


def plain_values(fields: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Fields of an event as JSON values, without those at their default."""
    row: dict[str, Any] = {}
    for name, value in fields:
        if name in _DEFAULTS and value == _DEFAULTS[name]:
            continue
        if isinstance(value, Enum):
            value = value.value
        elif isinstance(value, datetime):
            value = value.isoformat()
        elif isinstance(value, frozenset):
            value = sorted(member.value for member in value)
        row[name] = value
    return row


E = TypeVar("E", bound=Enum)


class _FieldError(ValueError):
    """Says what a value should have been; the reader adds row and field."""


def _one(kind: type[E]) -> Callable[[Any], E]:
    def parse(value: Any) -> E:
        try:
            return kind(value)
        except (ValueError, TypeError):
            raise _FieldError(f"one of {', '.join(str(member.value) for member in kind)}") from None

    return parse


def _several(kind: type[E]) -> Callable[[Any], frozenset[E]]:
    def parse(value: Any) -> frozenset[E]:
        if not isinstance(value, list):
            raise _FieldError("an array")
        return frozenset(_one(kind)(member) for member in value)

    return parse


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _FieldError("a string")
    return value


def _optional_text(value: Any) -> str | None:
    return None if value is None else _text(value)


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _FieldError("a whole number")
    return value


def _time(value: Any) -> datetime:
    try:
        return value if isinstance(value, datetime) else datetime.fromisoformat(_text(value))
    except ValueError:
        raise _FieldError("a time in ISO 8601 with an offset") from None


def _optional_time(value: Any) -> datetime | None:
    return None if value is None else _time(value)


_SETS_OF: dict[str, Callable[[Any], Any]] = {
    "purpose": _several(Purpose),
    "content_kind": _several(ContentKind),
    "processing": _several(Processing),
    "pii_type": _several(PiiType),
}
_PARSERS: dict[str, Callable[[Any], Any]] = {
    **_SETS_OF,
    "pii_principal_id": _optional_text,
    "entity_id": _optional_text,
    "seq": _integer,
    "notice_version": _integer,
    "entity_role": _one(EntityRole),
    "event_state": _one(EventState),
    "lawful_basis": _one(LawfulBasis),
    "age_band": _one(AgeBand),
    "collection_method": lambda value: None if value is None else _one(CollectionMethod)(value),
    "event_time": _time,
    "recorded_time": _time,
    "data_from": _optional_time,
    "data_to": _optional_time,
    "expires_at": _optional_time,
}


def words_of(name: str) -> str:
    """What a field of a row may hold, for people."""
    kinds: dict[str, type[Enum]] = {
        "entity_role": EntityRole,
        "event_state": EventState,
        "lawful_basis": LawfulBasis,
        "age_band": AgeBand,
        "collection_method": CollectionMethod,
        "purpose": Purpose,
        "content_kind": ContentKind,
        "processing": Processing,
        "pii_type": PiiType,
    }
    if name in kinds:
        several = "one or more of " if _PARSERS[name] in _SETS_OF.values() else ""
        words = (member.value for member in kinds[name] if member not in (EventState.RESOLVED, *NOBODYS))
        return several + ", ".join(map(str, words))
    if name in ("seq", "notice_version"):
        return "a whole number"
    if _PARSERS.get(name) in (_time, _optional_time):
        return "a time in ISO 8601 with an offset: 2025-01-31T12:00:00+00:00"
    return "the pseudonym, 64 hex digits" if name in ("pii_principal_id", "entity_id") else "text"


TERMS = (
    "schema_version",
    "entity_role",
    "purpose",
    "processing",
    "content_kind",
    "pii_type",
    "notice_id",
    "notice_version",
    "notice_sha256",
    "language",
    "jurisdiction",
    "lawful_basis",
    "event_state",
    "collection_method",
    "withdrawal_method",
    "age_band",
    "operator",
    "reason",
)
"""The fields that say what was decided; the others say by whom, where, when and on what evidence."""

_OWN: tuple[tuple[str, Callable[[Any], Any]], ...] = tuple(
    (name, _PARSERS.get(name, _text)) for name in FIELDS if name not in TERMS
)
_SETS = tuple(TERMS.index(name) for name in ("purpose", "processing", "content_kind", "pii_type"))
_KNOWN = frozenset(FIELDS)
_ABSENT = object()


def parse_event(values: object) -> ConsentEvent:
    """The event of a row of plain values, as `to_json` gives them; times may be `datetime` as well.

    Raises:
      DataError: the row is not an event; says which field, never what it holds.
    """
    if not isinstance(values, dict):
        raise DataError("not a JSON object; expected one object a line")
    if not values.keys() <= _KNOWN:
        unknown = len(values.keys() - _KNOWN)
        raise DataError(f"{unknown} unknown field(s); expected {', '.join(FIELDS)}")
    for name in _REQUIRED:
        if name not in values:
            raise DataError(f"{name} is missing; every event needs it")
    said = [*map(values.get, TERMS, repeat(_ABSENT))]
    key = said.copy()
    for place in _SETS:
        if type(said[place]) is list:
            key[place] = tuple(said[place])
    try:
        parsed = dict(_parsed_terms(tuple(key), tuple(map(type, said))))
    except TypeError:  # what has no hash, as an array in an array, is refused by name
        parsed = _terms_of(said)
    name = ""
    try:
        for name, parse in _OWN:
            if name in values:
                parsed[name] = parse(values[name])
    except _FieldError as error:
        raise DataError(f"{name} cannot be read; expected {error}") from None
    try:
        return ConsentEvent(**parsed)
    except DataError as error:
        raise DataError(str(error).removeprefix("consent event: ")) from None


@lru_cache(maxsize=4_096)
def _parsed_terms(said: tuple[Any, ...], kinds: tuple[type, ...]) -> dict[str, Any]:
    """Terms as typed values, once for the many events that share them; types are named, for True equals 1."""
    return _terms_of([list(each) if kind is list else each for each, kind in zip(said, kinds, strict=True)])


def _terms_of(said: Iterable[Any]) -> dict[str, Any]:
    return {name: _parsed(name, each) for name, each in zip(TERMS, said, strict=True) if each is not _ABSENT}


def _parsed(name: str, value: Any) -> Any:
    parse: Callable[[Any], Any] = _PARSERS.get(name, _text)
    try:
        return parse(value)
    except _FieldError as error:
        raise DataError(f"{name} cannot be read; expected {error}") from None


def event_from(values: Mapping[str, Any], terms: Mapping[str, Any]) -> ConsentEvent:
    """An event from fields that are typed already and terms as JSON has them."""
    parsed = dict(values)
    for name, value in terms.items():
        parse: Callable[[Any], Any] = _PARSERS.get(name, _text)
        parsed[name] = parse(value)
    return ConsentEvent(**parsed)


def _parse_row(line: str, row: int) -> ConsentEvent:
    try:
        values = json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        raise DataError(f"consent events, row {row}: not JSON; expected one JSON object a line") from None
    try:
        return parse_event(values)
    except DataError as error:
        raise DataError(f"consent events, row {row}: {error}") from None
