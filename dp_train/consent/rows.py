"""A row of a file of consent → the event it is, or the hold that it makes: one schema for imports and for runs.

| of a row | what becomes of it |
|---|---|
| all can be read | the event |
| the person can be read, its meaning cannot | a hold that denies, for the purposes that could be read or all |
| the person cannot be read | nothing; the row is *unread*, and whoever reads the file stops or counts it |

Fields are those of `ConsentEvent`. Instead of `pii_principal_id` a row may have `person_id`, the person's own id: it
becomes the pseudonym here and is stored nowhere. `seq` may be left out. A row may also be a consent receipt
(`kantara`). A row of an organisation has the role org_admin, an `org_id`, and no person.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dp_train.consent.event_json import FIELDS, parse_event
from dp_train.consent.events import CollectionMethod, ConsentEvent, EntityRole, EventState, Purpose, is_pseudonym
from dp_train.consent.kantara import MARK, event_fields
from dp_train.consent.principals import PrincipalKey, normalised_id
from dp_train.consent.tables import check_terms, check_text, terms_text
from dp_train.errors import ConsentError, DataError

PERSON = "person_id"
COLUMNS = (PERSON, *FIELDS)
"""What a row may have."""

_PLAIN_NAME = re.compile(r"[A-Za-z][\w .-]{0,40}", re.ASCII)
_PURPOSES = {purpose.value: purpose for purpose in Purpose}


@dataclass(frozen=True, slots=True)
class Cells:
    """A row of a table that has not as many cells as the header, so that nobody knows which is which."""

    header: Sequence[str]
    cells: Sequence[str]


class Unparsed(DataError):
    """Bytes of a file that are no row, kept so that the same bytes are known when the file comes again."""

    def __init__(self, problem: str, raw: bytes) -> None:
        super().__init__(problem)
        self.raw = raw


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRow:
    """What a row is.

    Attributes:
      events: the event; the hold, or the holds where two people may be meant; none where whose it is cannot be read.
      problem: why it is no event; no content. None where it is one.
      person: the person's own id as it was spelt, where the row has it.
      is_copy: whether it is a receipt, which tells less of an event than the event did.
      content: of an unread row, what names it when it comes again; None where that is not known.
    """

    events: tuple[ConsentEvent, ...]
    problem: str | None = None
    person: str | None = None
    is_copy: bool = False
    content: bytes | None = None

    @property
    def is_unread(self) -> bool:
        """Whether nobody knows whose it is."""
        return not self.events


def read_row(values: object, key: PrincipalKey | None, *, received: datetime) -> ReadRow:
    """The event or the holds of a row; see the table above.

    Args:
      values: a mapping of plain values, `Cells`, or the DataError that says why it is neither.
      key: makes pseudonyms of `person_id`.
      received: when the file came; a hold counts from then on.

    Raises:
      ConsentError: the row has a `person_id`, and there is no key.
    """
    if isinstance(values, DataError):
        return ReadRow(events=(), problem=str(values), content=values.raw if isinstance(values, Unparsed) else None)
    if isinstance(values, Cells):
        return _of_cells(values, key, received)
    if not isinstance(values, dict):
        return ReadRow(
            events=(), problem="not a JSON object; expected one object a line", content=_content(repr(values))
        )
    person = values.get(PERSON)
    try:
        event = _event(dict(values), key, received)
        return ReadRow(events=(event,), person=person if type(person) is str else None, is_copy=MARK in values)
    except DataError as error:
        problem = str(error).removeprefix("consent event: ")
    who = _who(values, key)
    if who is None:
        return ReadRow(events=(), problem=problem, content=_content(_row_text(values)))
    return ReadRow(
        events=(_hold(who, _purposes(values), values, problem, received),),
        problem=problem,
        person=person if type(person) is str else None,
    )


def unknown_columns(names: Collection[object]) -> list[str]:
    """Columns that nothing here reads, as they may be shown."""
    return [_shown(name) for name in names if name not in COLUMNS]


def _event(given: dict[str, Any], key: PrincipalKey | None, received: datetime) -> ConsentEvent:
    if MARK in given:
        given = event_fields(given, received=received)
    unknown = unknown_columns(given)
    if unknown:
        raise DataError(f"unknown field {', '.join(unknown[:3])}; `dp-train consent schema` lists those that are known")
    given = {name: value for name, value in given.items() if value is not None}
    given.setdefault("seq", 0)
    person = given.pop(PERSON, None)
    if person is not None:
        if "pii_principal_id" in given:
            raise DataError("person_id and pii_principal_id are both given; expected one of them")
        if isinstance(person, str) and len(person) >= 4:
            text = "\n".join([value for value in given.values() if isinstance(value, str)])
            if person in text or normalised_id(person) in normalised_id(text):
                # It would stay in the chain after an erasure.
                raise DataError("another field holds the person's id; expected ids that do not name the person")
        given["pii_principal_id"] = _pseudonym(person, key)
    elif isinstance(given.get("pii_principal_id"), str):
        given["pii_principal_id"] = given["pii_principal_id"].strip().lower()
    else:
        given.setdefault("pii_principal_id", None)
    event = parse_event(given)
    if event.event_state in (EventState.RESOLVED, EventState.EXPUNGED):
        raise DataError("event_state is a word of the store alone; expected what a person or an organisation said")
    if event.event_state is EventState.ERASED and not (
        event.pii_principal_id is None
        and event.entity_role is EntityRole.CONTROLLER
        and is_pseudonym(event.evidence_ref)
    ):
        raise DataError("event_state is a word of the store alone; expected a tombstone as consent export writes it")
    if event.entity_id is not None and not is_pseudonym(event.entity_id):
        raise DataError("entity_id is not a pseudonym; expected the 64 hex digits of PrincipalKey.pseudonym")
    try:
        check_text(f"{event.record_id}{event.evidence_ref}{event.org_id}")
        check_terms(terms_text(event))
    except UnicodeEncodeError:
        raise DataError("a text holds a lone surrogate; expected plain Unicode") from None
    return event


def _pseudonym(person: object, key: PrincipalKey | None) -> str:
    if not isinstance(person, str) or not normalised_id(person):
        raise DataError("person_id is not text; expected a person's id")
    if key is None:
        raise ConsentError("consent: the file has person_id, and no key was given; give --key FILE")
    return key.pseudonym(person)


@dataclass(frozen=True, slots=True)
class _Who:
    """Whom an unreadable row is about: a person, or the organisation alone."""

    pseudonym: str | None
    org_id: str = ""


def _who(values: Mapping[str, Any], key: PrincipalKey | None) -> _Who | None:
    """Whom a row is about; None where that cannot be read, or it names two people."""
    found = set()
    person, pseudonym = values.get(PERSON), values.get("pii_principal_id")
    if MARK in values:
        pseudonym = values.get("piiPrincipalId")
        if isinstance(pseudonym, str) and not is_pseudonym(pseudonym.strip().lower()):
            person, pseudonym = pseudonym, None
    if isinstance(person, str) and normalised_id(person):
        found.add(_pseudonym(person, key))
    if isinstance(pseudonym, str):
        if not is_pseudonym(pseudonym.strip().lower()):
            return None
        found.add(pseudonym.strip().lower())
    if len(found) == 1:
        return _Who(found.pop())
    organisation = values.get("org_id")
    nobody = not found and person is None and pseudonym is None
    if nobody and values.get("entity_role") == EntityRole.ORG_ADMIN.value and _is_plain(organisation):
        return _Who(None, str(organisation))
    return None


def _of_cells(row: Cells, key: PrincipalKey | None, received: datetime) -> ReadRow:
    """Holds of whom a row with too many or too few cells may be about, counted from either end."""
    problem = f"{len(row.cells)} cells; expected {len(row.header)} as in the header"
    said: set[str] = set()
    for name in (PERSON, "pii_principal_id"):
        if name not in row.header:
            continue
        place = list(row.header).index(name)
        places = {place, len(row.cells) - (len(row.header) - place)}
        for cell in {row.cells[at] for at in places if 0 <= at < len(row.cells)}:
            if name == PERSON and normalised_id(cell):
                said.add(_pseudonym(cell, key))
            elif is_pseudonym(cell.strip().lower()):
                said.add(cell.strip().lower())
    holds = [_hold(_Who(each), frozenset(), row.cells, problem, received) for each in sorted(said)]
    return ReadRow(events=tuple(holds), problem=problem, content=None if holds else _content(_row_text(row.cells)))


def _hold(who: _Who, purposes: frozenset[Purpose], row: object, problem: str, received: datetime) -> ConsentEvent:
    """A no until an officer decides. Its id follows from the row, so that the same row again is the same hold."""
    digest = hashlib.sha256(_content(f"{who.pseudonym}\x00{who.org_id}\x00{_row_text(row)}"))
    return ConsentEvent(
        record_id=f"held-{digest.hexdigest()[:32]}",
        seq=0,
        pii_principal_id=who.pseudonym,
        org_id=who.org_id,
        entity_role=EntityRole.ORG_ADMIN if who.pseudonym is None else EntityRole.CONTROLLER,
        purpose=purposes,
        content_kind=frozenset(),
        event_state=EventState.HELD,
        event_time=received,
        recorded_time=received,
        collection_method=CollectionMethod.IMPORT,
        reason=problem.partition(";")[0],
    )


def _row_text(row: object) -> str:
    """A row as text that is the same whatever order its fields came in."""
    return repr(sorted(row.items(), key=lambda item: str(item[0])) if isinstance(row, dict) else row)


def _content(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _purposes(values: Mapping[str, Any]) -> frozenset[Purpose]:
    """Those that a row names, where each of them can be read; none, which means all, where one cannot."""
    said = values.get("purpose")
    if not isinstance(said, list) or not said or not all(isinstance(e, str) and e in _PURPOSES for e in said):
        return frozenset()
    return frozenset(_PURPOSES[each] for each in said)


def hold_for(event: ConsentEvent, problem: str, *, received: datetime | None = None) -> ConsentEvent:
    """The hold of an event that cannot be kept as it is."""
    who = _Who(event.pii_principal_id, event.org_id if event.pii_principal_id is None else "")
    content = (event.record_id, event.event_state.value, event.event_time.isoformat(), terms_text(event))
    return _hold(who, event.purpose, content, problem, received or datetime.now(UTC))


def _is_plain(text: object) -> bool:
    if not isinstance(text, str) or not text:
        return False
    try:
        check_text(text)
    except (DataError, UnicodeEncodeError):
        return False
    return True


def _shown(name: object) -> str:
    """A column's name, where it looks like one."""
    return name if isinstance(name, str) and _PLAIN_NAME.fullmatch(name) else "(a name that is no plain word)"
