"""Units come from consented examples alone, and nobody owns more of them than was promised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from dp_train.consent.events import AgeBand, ConsentEvent, EntityRole, EventState, Purpose
from dp_train.consent.gate import ConsentedExamples, ConsentPolicy, gate
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.registry import ConsentRegistry
from dp_train.conversations import ContentKind, Conversation, ConversationKind, Example, Turn
from dp_train.errors import ConsentError, PlanError
from dp_train.privacy.plan import NeighboringRelation, PrivacyPlan, Unit
from dp_train.privacy.units import OwnersShare, SelectionReport, Units, build_units

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = PrincipalKey(b"k" * 32)
PURPOSE = Purpose.TRAIN_CHAT_COMPOSE
PLAN = PrivacyPlan(sample_rate=0.1, expected_units=4, steps=10, delta=1e-5)


@dataclass(frozen=True)
class Threads:
    """One thread for each string of people, one letter a person."""

    people: list[str]
    name: str = field(default="threads")

    def conversations(self) -> Iterator[Conversation]:
        for index, letters in enumerate(self.people):
            yield Conversation(
                conversation_id=f"c{index:03d}",
                org_id="org",
                created_at=NOW - timedelta(days=1),
                kind=ConversationKind.THREAD,
                turns=tuple(Turn(person_id=letter, text="hello", kind=ContentKind.CHAT) for letter in letters),
            )


def event(seq: int, person: str | None) -> ConsentEvent:
    return ConsentEvent(
        record_id=f"r{seq}",
        seq=seq,
        pii_principal_id=KEY.pseudonym(person) if person else None,
        org_id="org",
        entity_role=EntityRole.SELF if person else EntityRole.ORG_ADMIN,
        purpose=frozenset({PURPOSE}),
        content_kind=frozenset({ContentKind.CHAT}),
        event_state=EventState.GIVEN,
        event_time=NOW - timedelta(days=30),
        recorded_time=NOW - timedelta(days=30),
        notice_id="notice",
        notice_version=1,
        age_band=AgeBand.ADULT,
    )


def as_one_example(conversation: Conversation) -> Iterator[Example]:
    yield Example(
        example_id=f"{conversation.conversation_id}/0", prompt="hello", target="hello", owners=conversation.people
    )


def consented(*people: str) -> ConsentedExamples:
    everyone = sorted(set("".join(people)))
    registry = ConsentRegistry([event(seq, person) for seq, person in enumerate([None, *everyone])], key=KEY)
    snapshot = registry.snapshot(as_of=NOW)
    return gate(Threads(list(people)), snapshot, ConsentPolicy(purpose=PURPOSE)).examples(as_one_example)


def ids(units: Units) -> list[list[str]]:
    return [[example.example_id for example in unit] for unit in units]


def test_one_owner_each_makes_one_unit_a_person() -> None:
    units = build_units(consented("a", "b", "a", "a", "b", "c"), unit=Unit.USER, rows_per_unit=2)
    assert [{owner for example in unit for owner in example.owners} for unit in units] == [{"a"}, {"b"}, {"c"}]
    assert [len(unit) for unit in units] == [2, 2, 1]
    assert (units.max_contributions, units.rows_per_unit) == (1, 2)


def test_several_owners_make_units_of_which_nobody_owns_more_than_k() -> None:
    units = build_units(consented("ab", "bc", "ca", "abc", "a", "a"), unit=Unit.USER, max_contributions=2)
    owned = Counter(owner for unit in units for example in unit for owner in example.owners)
    assert max(owned.values()) == 2
    assert all(len(unit) == 1 for unit in units)
    assert (units.max_contributions, units.rows_per_unit) == (2, 1)


def test_one_shared_example_is_enough_to_bound_everybody() -> None:
    units = build_units(consented("a", "a", "ab"), unit=Unit.USER, rows_per_unit=5)
    assert ids(units) == [["c000/0"]]


def test_per_example_every_example_is_a_unit() -> None:
    units = build_units(consented("ab", "a", "a"), unit=Unit.EXAMPLE, max_contributions=1, rows_per_unit=7)
    assert ids(units) == [["c000/0"], ["c001/0"], ["c002/0"]]
    assert (units.max_contributions, units.rows_per_unit) == (1, 1)


def test_no_examples_make_no_units() -> None:
    units = build_units(consented(), unit=Unit.USER)
    assert len(units) == 0
    assert units.selection.examples_share == units.selection.people_share == 0


def test_units_carry_the_root_and_purpose_of_their_consent() -> None:
    examples = consented("a", "b")
    units = build_units(examples, unit=Unit.USER)
    assert (units.consent_root, units.purpose, units.unit) == (examples.root, PURPOSE, Unit.USER)


def test_the_report_counts_what_the_bound_kept() -> None:
    report = build_units(consented("ab", "ac", "bc", "d"), unit=Unit.USER).selection
    assert report == SelectionReport(
        examples_seen=4,
        examples_kept=2,
        people_seen=4,
        people_kept=3,
        most_possible=2,
        by_owners=(OwnersShare(owners=1, seen=1, kept=1), OwnersShare(owners=2, seen=3, kept=1)),
    )
    assert (report.examples_share, report.people_share, report.share_of_possible) == (0.5, 0.75, 1)


def test_a_report_may_print_shares_and_never_counts() -> None:
    many = SelectionReport(examples_seen=2345, examples_kept=777, people_seen=1357, people_kept=1111)
    assert many.public_facts(NeighboringRelation.REPLACE_SPECIAL) == {
        "examples kept, %": 33,
        "people kept, %": 82,
        "leans to": None,
    }
    few = SelectionReport(examples_seen=2345, examples_kept=777, people_seen=99, people_kept=90)
    assert few.public_facts(NeighboringRelation.REPLACE_SPECIAL) == {
        "examples kept, %": None,
        "people kept, %": None,
        "leans to": None,
    }


def test_the_report_says_that_small_meetings_are_kept_more_often() -> None:
    assert (
        build_units(consented("abc", "ab"), unit=Unit.USER).selection.public_facts(NeighboringRelation.REPLACE_SPECIAL)[
            "leans to"
        ]
        is not None
    )
    assert (
        build_units(consented("abc", "abd"), unit=Unit.USER).selection.public_facts(
            NeighboringRelation.REPLACE_SPECIAL
        )["leans to"]
        is None
    )


def test_examples_without_consent_make_no_units() -> None:
    bare = [Example(example_id="e", prompt="hello", target="hello", owners=frozenset("a"))]
    with pytest.raises(ConsentError, match="no consent"):
        build_units(bare, unit=Unit.USER)  # type: ignore[arg-type]


def test_units_cannot_be_made_by_hand() -> None:
    report = SelectionReport(examples_seen=0, examples_kept=0, people_seen=0, people_kept=0)
    for seal in (None, object()):
        with pytest.raises(ConsentError, match="made by hand"):
            Units(
                [],
                unit=Unit.USER,
                max_contributions=1,
                rows_per_unit=1,
                consent_root="0" * 64,
                population="p",
                purpose=PURPOSE,
                selection=report,
                seal=seal,
            )


def test_printing_units_tells_no_private_number() -> None:
    units = build_units(consented(*"abcdefghijk"), unit=Unit.USER)
    assert repr(units) == f"Units(unit=user, consent_root={units.consent_root[:12]})"


def test_units_that_the_plan_does_not_cover_are_refused() -> None:
    single = build_units(consented("a", "a"), unit=Unit.USER, rows_per_unit=2)
    shared = build_units(consented("ab", "ac"), unit=Unit.USER, max_contributions=2)
    single.check(PLAN.replace(rows_per_unit=2))
    shared.check(PLAN.replace(max_contributions=2, rows_per_unit=8))
    with pytest.raises(PlanError, match="rows_per_unit=2; the plan allows 1"):
        single.check(PLAN)
    with pytest.raises(PlanError, match="max_contributions=2; the plan allows 1"):
        shared.check(PLAN)
    with pytest.raises(PlanError, match="built per user; the plan is per example"):
        single.check(PLAN.replace(unit=Unit.EXAMPLE))


@pytest.mark.parametrize("bound", ["max_contributions", "rows_per_unit"])
def test_bounds_below_one_are_refused_whether_or_not_they_are_used(bound: str) -> None:
    for people in (["a"], ["ab"]):
        with pytest.raises(PlanError, match=f"{bound}=0"):
            build_units(consented(*people), unit=Unit.USER, **{bound: 0})


def test_shares_are_told_only_where_who_is_there_is_public() -> None:
    """One heavy writer takes the share of examples kept from 100 to 38 %: add/remove protects that person."""
    facts = build_units(consented("abc", "abd"), unit=Unit.USER).selection
    assert facts.public_facts(NeighboringRelation.ADD_OR_REMOVE_ONE) == {}
