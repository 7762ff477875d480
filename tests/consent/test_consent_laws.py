"""Laws of the registry over arbitrary histories: nothing but a standing grant ever allows."""

import dataclasses
import random
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from records import AS_OF, CHAT, COMPANY, COMPOSE, KEY, ORG, SUMMARY, TRANSCRIPT, day, event, registry

from dp_train.consent.events import AgeBand, CollectionMethod, ConsentEvent, EntityRole, EventState, Purpose
from dp_train.conversations import ContentKind

PEOPLE = ("ann", "bob")
_TIMES = st.integers(0, 12)
SAYS = [state for state in EventState if state.decides]
"""States that say something about consent; the others are records of the store."""


@st.composite
def histories(draw: st.DrawFn, *, person: str | None = None, states: Any = SAYS, max_size: int = 7) -> Any:
    """Events of a few people on a few days: ties, late records, other ages, roles, notices and windows."""
    count = draw(st.integers(0, max_size))
    return [
        event(
            person or draw(st.sampled_from(PEOPLE)),
            draw(st.sampled_from(states)),
            when := draw(_TIMES),
            record_id=f"record-{draw(st.integers(0, 10**6))}-{number}",
            seq=draw(st.integers(0, 3)),
            recorded_time=day(when + draw(st.sampled_from((0, 0, 0, 3, 80, -2)))),
            entity_role=draw(st.sampled_from(EntityRole)),
            purpose=frozenset(draw(st.sets(st.sampled_from((COMPOSE, SUMMARY)), min_size=0 if number else 1))),
            content_kind=frozenset(draw(st.sets(st.sampled_from((CHAT, TRANSCRIPT)), min_size=1))),
            notice_version=draw(st.sampled_from((1, 2, 2))),
            age_band=draw(st.sampled_from((AgeBand.ADULT, AgeBand.FROM_13_TO_15, AgeBand.UNKNOWN))),
            data_to=draw(st.sampled_from((None, day(40)))),
            expires_at=draw(st.sampled_from((None, None, day(90)))),
            collection_method=draw(st.sampled_from((None, None, CollectionMethod.GPC_SIGNAL))),
        )
        for number in range(count)
    ]


def allowed(events: list[ConsentEvent], **asked: Any) -> set[tuple[str, Purpose, ContentKind]]:
    """All that is allowed about content of day 30, as of day 100."""
    store = registry([COMPANY, *events])
    question: dict[str, Any] = {"created_at": day(30), "as_of": AS_OF, "org_id": ORG}
    return {
        (person, purpose, kind)
        for person in PEOPLE
        for purpose in (COMPOSE, SUMMARY)
        for kind in (CHAT, TRANSCRIPT)
        if store.decide(person, purpose=purpose, kind=kind, **question | asked).allowed
    }


@given(histories(), st.randoms(use_true_random=False))
def test_neither_order_nor_repeated_delivery_changes_a_decision(
    events: list[ConsentEvent], chance: random.Random
) -> None:
    again = (
        [
            dataclasses.replace(
                copy, seq=copy.seq + 5, recorded_time=max(copy.recorded_time, copy.event_time) + (day(3) - day(0))
            )
            for copy in chance.choices(events, k=3)
            if events
        ]
        if events
        else []
    )
    shuffled = [*events, *again, COMPANY]
    chance.shuffle(shuffled)
    assert allowed(shuffled) == allowed(events)
    one, other = (registry(history).snapshot(as_of=AS_OF) for history in ([COMPANY, *events], shuffled))
    assert one.root == other.root


@given(histories(), histories(states=[state for state in SAYS if not state.grants]))
def test_no_event_that_denies_ever_allows(events: list[ConsentEvent], denials: list[ConsentEvent]) -> None:
    denials = [
        dataclasses.replace(denial, record_id=f"denial-{number}", age_band=AgeBand.UNKNOWN)
        for number, denial in enumerate(denials)
    ]
    assert allowed([*events, *denials]) <= allowed(events)


@given(histories(), st.integers(0, 20), st.sampled_from((None, CollectionMethod.GPC_SIGNAL)))
def test_nothing_that_happened_before_a_denial_lifts_it(
    events: list[ConsentEvent], recorded: int, method: CollectionMethod | None
) -> None:
    denial = event(
        "ann", EventState.WITHDRAWN, 13, recorded_time=day(13 + recorded), record_id="last", collection_method=method
    )
    assert not {cell for cell in allowed([*events, denial]) if cell[0] == "ann"}


@given(histories(), histories(person="ann", states=[EventState.GIVEN, EventState.RENEWED]))
def test_a_copy_that_contradicts_its_original_never_allows(
    events: list[ConsentEvent], forged: list[ConsentEvent]
) -> None:
    copies = [
        dataclasses.replace(forgery, record_id=original.record_id, pii_principal_id=original.pii_principal_id)
        for original, forgery in zip(events, forged, strict=False)
    ]
    assert allowed([*events, *copies]) <= allowed(events)


@given(histories())
def test_what_is_allowed_has_a_standing_grant(events: list[ConsentEvent]) -> None:
    for person, purpose, kind in allowed(events):
        about = [
            one
            for one in events
            if one.pii_principal_id == KEY.pseudonym(person)
            and one.entity_role in (EntityRole.SELF, EntityRole.GUARDIAN)
            and (not one.purpose or purpose in one.purpose)
            and kind in one.content_kind
        ]
        latest = max(one.event_time for one in about)
        last = [one for one in about if one.event_time == latest]
        assert last
        for one in last:
            assert one.event_state.grants
            assert one.recorded_time >= one.event_time
            assert one.collection_method is not CollectionMethod.GPC_SIGNAL
        assert any(one.notice_version == 2 and purpose in one.purpose and one.expires_at != day(90) for one in last)


@given(histories(), st.integers(0, 100))
def test_an_earlier_snapshot_is_reproduced_from_the_later_registry(events: list[ConsentEvent], known: int) -> None:
    then = [one for one in [COMPANY, *events] if one.recorded_time <= day(known)]
    at = day(min(known, 50))
    before = registry(then).snapshot(as_of=at)
    after = registry([COMPANY, *events]).snapshot(as_of=at, known_at=day(known))
    assert before.root == after.root
    assert registry([COMPANY, *events]).snapshot(as_of=at, known_at=before.known_at).root == before.root


@example(events=[], created=0)
@given(histories(), st.integers(0, 120))
def test_snapshot_and_registry_give_the_same_answers(events: list[ConsentEvent], created: int) -> None:
    store = registry([COMPANY, *events])
    frozen = store.snapshot(as_of=AS_OF)
    for person in PEOPLE:
        for purpose in Purpose:
            for kind in (CHAT, TRANSCRIPT, ContentKind.AUDIO):
                asked: dict[str, Any] = {"purpose": purpose, "kind": kind, "created_at": day(created), "org_id": ORG}
                assert frozen.decide(person, **asked) == store.decide(person, as_of=AS_OF, **asked)
