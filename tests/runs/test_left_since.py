"""From when on a person has left a run's purpose: the date that `consent overdue` counts from."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from dp_train.consent.events import CollectionMethod, ConsentEvent, EntityRole, EventState, Purpose
from dp_train.runs import person

NOW = datetime(2026, 6, 1, tzinfo=UTC)
CHAT, MEETINGS = Purpose.TRAIN_CHAT_COMPOSE, Purpose.TRAIN_MEETING_SUMMARY
GIVEN, RENEWED, REFUSED, WITHDRAWN, HELD, RESOLVED = (
    EventState.GIVEN,
    EventState.RENEWED,
    EventState.REFUSED,
    EventState.WITHDRAWN,
    EventState.HELD,
    EventState.RESOLVED,
)
Said = tuple[EventState, int]


class Store:
    """A store of one person's events, each a state and how many days ago."""

    def __init__(self, said: list[Said], purpose: Purpose) -> None:
        self.said, self.purpose = said, purpose

    def same_person(self, pseudonym: str) -> set[str]:
        return {pseudonym}

    def events(self, *, pseudonym: str) -> Iterator[ConsentEvent]:
        for number, (state, days) in enumerate(self.said):
            yield ConsentEvent(
                record_id=f"r{number}",
                seq=number,
                pii_principal_id=pseudonym,
                org_id="org",
                entity_role=EntityRole.SELF,
                purpose=frozenset({self.purpose}),
                content_kind=frozenset(),
                event_state=state,
                event_time=NOW - timedelta(days=days),
                recorded_time=NOW - timedelta(days=days),
                collection_method=CollectionMethod.FORM if state is RENEWED else CollectionMethod.API,
                expires_at=None,
            )


@pytest.mark.parametrize(
    ("said", "days"),
    [
        ([(GIVEN, 90), (WITHDRAWN, 30)], 30),
        ([(GIVEN, 90), (WITHDRAWN, 30), (WITHDRAWN, 2)], 30),
        ([(GIVEN, 90), (WITHDRAWN, 30), (GIVEN, 10), (WITHDRAWN, 2)], 30),  # no sync lifts a lasting no
        ([(GIVEN, 90), (WITHDRAWN, 30), (RENEWED, 10), (WITHDRAWN, 2)], 2),
        ([(REFUSED, 90), (GIVEN, 30), (WITHDRAWN, 2)], 2),
        ([(GIVEN, 90), (HELD, 30), (RESOLVED, 20), (WITHDRAWN, 2)], 2),
        ([(GIVEN, 90), (HELD, 30), (WITHDRAWN, 2)], 30),
        ([(GIVEN, 90)], None),
    ],
)
def test_a_repeated_no_moves_no_date_and_only_a_lifted_one_ends(said: list[Said], days: int | None) -> None:
    found = person._left_since(Store(said, CHAT), "00" * 32, CHAT, NOW)  # type: ignore[arg-type]
    assert found == (None if days is None else NOW - timedelta(days=days))


def test_a_no_to_another_purpose_has_no_date_here() -> None:
    said = [(GIVEN, 90), (WITHDRAWN, 30)]
    assert person._left_since(Store(said, MEETINGS), "00" * 32, CHAT, NOW) is None  # type: ignore[arg-type]
