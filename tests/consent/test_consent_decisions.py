"""The decisions of docs/consent.md, one after the other."""

import dataclasses
from datetime import datetime
from typing import Any

import pytest
from records import AS_OF, CHAT, COMPANY, COMPOSE, KEY, ORG, SUMMARY, TRANSCRIPT, day, event, reason, registry, renewal

from dp_train.consent.decisions import DECISIONS, Decision, Reason
from dp_train.consent.events import (
    AgeBand,
    CollectionMethod,
    EntityRole,
    EventState,
    LawfulBasis,
    Processing,
    Purpose,
)
from dp_train.errors import ConsentError

GIVEN, RENEWED, REFUSED, WITHDRAWN = EventState.GIVEN, EventState.RENEWED, EventState.REFUSED, EventState.WITHDRAWN
MINOR = AgeBand.FROM_13_TO_15
GUARDIAN = {"entity_role": EntityRole.GUARDIAN, "age_band": MINOR}


def test_a_grant_allows_what_it_names_and_nothing_else() -> None:
    grant = event("ann", purpose=frozenset({COMPOSE}), content_kind=frozenset({CHAT}))
    assert reason(grant) is Reason.GRANTED
    assert reason(grant, kind=TRANSCRIPT) is Reason.NO_RECORD
    assert reason(grant, purpose=SUMMARY) is Reason.NO_RECORD
    assert reason(event("bob")) is Reason.NO_RECORD
    assert reason() is Reason.NO_RECORD


def test_a_decision_allows_exactly_when_its_reason_is_granted() -> None:
    assert [reason for reason, decision in DECISIONS.items() if decision.allowed] == [Reason.GRANTED]
    with pytest.raises(ValueError, match="only granted allows"):
        Decision(True, Reason.REFUSED)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (EventState.REFUSED, Reason.REFUSED),
        (EventState.WITHDRAWN, Reason.WITHDRAWN),
        (EventState.REVOKED, Reason.REVOKED),
        (EventState.EXPIRED, Reason.EXPIRED),
        (EventState.INVALIDATED, Reason.INVALIDATED),
        (EventState.REQUESTED, Reason.NOT_DECIDED),
        (EventState.DEFERRED, Reason.NOT_DECIDED),
        (EventState.UNKNOWN, Reason.NOT_DECIDED),
    ],
)
def test_every_state_but_the_two_grants_denies_with_its_reason(state: EventState, expected: Reason) -> None:
    assert not state.grants
    assert reason(event("ann"), event("ann", state, 1)) is expected


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": "99"},
        {"purpose": frozenset()},
        {"content_kind": frozenset()},
        {"notice_id": ""},
        {"notice_version": 0},
        {"lawful_basis": LawfulBasis.LEGITIMATE_INTERESTS},
        {"entity_role": EntityRole.CONTROLLER},
        {"expires_at": day(0)},
        {"data_from": day(9), "data_to": day(8)},
    ],
)
def test_a_malformed_grant_denies_even_after_a_sound_one(change: dict[str, Any]) -> None:
    assert reason(event("ann"), event("ann", when=1, **change)) is Reason.MALFORMED
    assert reason(event("ann"), event("ann", when=1, **change), event("ann", when=2)) is Reason.GRANTED


def test_a_denial_that_names_nothing_denies_everything() -> None:
    nothing: dict[str, Any] = {"purpose": frozenset(), "content_kind": frozenset()}
    for purpose in Purpose:
        assert reason(event("ann"), event("ann", WITHDRAWN, 1, **nothing), purpose=purpose) is Reason.WITHDRAWN


def test_an_event_from_the_future_denies_from_when_it_was_recorded() -> None:
    early = event("ann", when=80, recorded_time=day(10))
    assert reason(event("ann"), early) is Reason.FUTURE_EVENT
    assert reason(event("ann"), early, as_of=9, created=5) is Reason.GRANTED
    assert reason(event("ann"), event("ann", when=4000, recorded_time=day(10))) is Reason.FUTURE_EVENT


def test_the_latest_event_time_wins_however_late_it_was_recorded() -> None:
    late = event("ann", WITHDRAWN, 5, recorded_time=day(90))
    assert reason(event("ann"), late, event("ann", when=4)) is Reason.WITHDRAWN
    assert reason(event("ann"), late, event("ann", when=6)) is Reason.WITHDRAWN  # a sync that knew nothing of it
    assert reason(event("ann"), late, renewal("ann", 6)) is Reason.GRANTED


def test_at_one_time_the_more_restrictive_state_wins_then_the_sequence() -> None:
    assert reason(event("ann", seq=9), event("ann", REFUSED, seq=1)) is Reason.REFUSED
    assert reason(event("ann", REFUSED, seq=1), event("ann", WITHDRAWN, seq=2)) is Reason.WITHDRAWN
    assert reason(event("ann", REFUSED, seq=2), event("ann", WITHDRAWN, seq=1)) is Reason.REFUSED


def test_each_purpose_and_kind_is_decided_by_its_own_latest_event() -> None:
    events = [event("ann"), event("ann", WITHDRAWN, 1, purpose=frozenset({COMPOSE}), content_kind=frozenset({CHAT}))]
    assert reason(*events) is Reason.WITHDRAWN
    assert reason(*events, kind=TRANSCRIPT) is Reason.GRANTED
    assert reason(*events, purpose=SUMMARY) is Reason.GRANTED


def test_what_was_known_when_is_reproduced() -> None:
    events = [event("ann"), event("ann", WITHDRAWN, 5, recorded_time=day(60))]
    assert reason(*events, created=2, as_of=30, known_at=day(59)) is Reason.GRANTED
    assert reason(*events, created=2, as_of=30, known_at=day(60)) is Reason.WITHDRAWN
    assert reason(*events, created=2, as_of=4) is Reason.GRANTED


def test_after_a_material_change_only_a_renewed_consent_allows() -> None:
    old = event("ann", notice_version=1)
    assert reason(old) is Reason.OLD_NOTICE
    assert reason(old, event("ann", GIVEN, 1)) is Reason.OLD_NOTICE
    assert reason(old, event("ann", RENEWED, 1, notice_version=1)) is Reason.OLD_NOTICE
    assert reason(old, event("ann", RENEWED, 1)) is Reason.GRANTED
    assert reason(old, event("ann", RENEWED, 1, notice_version=3)) is Reason.GRANTED


def test_a_first_consent_under_the_changed_notice_is_nothing_old() -> None:
    assert reason(event("ann")) is Reason.GRANTED
    assert reason(event("ann", REFUSED, notice_version=1), event("ann", when=1)) is Reason.GRANTED


def test_a_notice_without_material_change_keeps_its_consents() -> None:
    assert reason(event("ann", notice_id="other", notice_version=1)) is Reason.GRANTED


@pytest.mark.parametrize(("created", "expected"), [(9.9, False), (10, True), (20, True), (20.1, False)])
def test_a_grant_covers_its_data_window_ends_included(created: float, expected: bool) -> None:
    grant = event("ann", data_from=day(10), data_to=day(20))
    wanted = Reason.GRANTED if expected else Reason.OUTSIDE_DATA_WINDOW
    assert reason(grant, created=created) is wanted


def test_a_grant_is_not_retroactive_unless_it_says_so() -> None:
    assert reason(event("ann", when=60)) is Reason.OUTSIDE_DATA_WINDOW
    assert reason(event("ann", when=60, data_from=day(0))) is Reason.GRANTED


def test_content_that_is_younger_than_the_question_is_denied() -> None:
    assert reason(event("ann"), created=100) is Reason.GRANTED
    assert reason(event("ann"), created=100.1) is Reason.OUTSIDE_DATA_WINDOW


def test_a_grant_expires_at_its_time() -> None:
    assert reason(event("ann", expires_at=day(100.1))) is Reason.GRANTED
    assert reason(event("ann", expires_at=day(100))) is Reason.EXPIRED


def test_a_grant_that_names_processing_has_to_name_what_the_purpose_needs() -> None:
    assert reason(event("ann", processing=frozenset({Processing.TRAIN}))) is Reason.GRANTED
    stored = event("ann", processing=frozenset({Processing.STORE}))
    assert reason(stored) is Reason.PROCESSING_NOT_COVERED
    assert reason(stored, purpose=Purpose.PUBLISH) is Reason.PROCESSING_NOT_COVERED
    assert reason(stored, purpose=Purpose.PROVIDE_FEATURE) is Reason.GRANTED


def test_an_organisation_without_a_record_denies() -> None:
    assert reason(event("ann"), company=None) is Reason.ORGANISATION_DENIES
    assert reason(event("ann"), org_id="elsewhere") is Reason.ORGANISATION_DENIES


@pytest.mark.parametrize(
    "company",
    [
        event(None, REFUSED),
        event(None, purpose=frozenset({SUMMARY})),
        event(None, expires_at=day(60)),
        event(None, when=4000, recorded_time=day(1)),
    ],
)
def test_an_organisation_can_deny_what_a_person_granted(company: Any) -> None:
    assert reason(event("ann"), company=company) is Reason.ORGANISATION_DENIES


@pytest.mark.parametrize("company", [event(None, when=60), event(None, when=0, data_to=day(40))])
def test_an_organisations_grant_that_does_not_reach_the_data_is_reported_as_that(company: Any) -> None:
    assert reason(event("ann"), company=company) is Reason.ORGANISATION_OUTSIDE_DATA_WINDOW
    assert reason(event("ann", REFUSED), company=company) is Reason.REFUSED


def test_an_organisation_cannot_grant_for_a_person() -> None:
    admin: dict[str, Any] = {"entity_role": EntityRole.ORG_ADMIN}
    assert reason() is Reason.NO_RECORD
    assert reason(event("ann", **admin)) is Reason.NO_RECORD
    assert reason(event("ann", REFUSED), event("ann", when=1, **admin)) is Reason.REFUSED


def test_an_organisations_denial_of_a_person_stands_until_it_lifts_it() -> None:
    admin: dict[str, Any] = {"entity_role": EntityRole.ORG_ADMIN}
    denied = [event("ann"), event("ann", REFUSED, 1, **admin), event("ann", when=2)]
    assert reason(*denied) is Reason.ORGANISATION_DENIES
    assert reason(*denied, event("ann", when=3, org_id="elsewhere", **admin)) is Reason.ORGANISATION_DENIES
    assert reason(*denied, event("ann", when=3, **admin)) is Reason.GRANTED


def test_without_an_organisation_the_person_alone_answers() -> None:
    assert reason(event("ann"), company=None, org_id=None) is Reason.GRANTED
    assert reason(event("ann", REFUSED), company=None, org_id=None) is Reason.REFUSED


def test_a_minor_needs_a_guardian_and_may_still_refuse() -> None:
    own = event("ann", age_band=MINOR)
    assert reason(own) is Reason.MINOR_WITHOUT_GUARDIAN
    assert reason(own, event("ann", when=1, **GUARDIAN)) is Reason.GRANTED
    assert reason(event("ann", when=1, **GUARDIAN)) is Reason.GRANTED
    assert reason(event("ann", when=1, **GUARDIAN), event("ann", WITHDRAWN, 2, age_band=MINOR)) is Reason.WITHDRAWN


def test_a_guardians_withdrawal_outlasts_the_minors_own_grant() -> None:
    given, withdrawn = event("ann", when=1, **GUARDIAN), event("ann", WITHDRAWN, 2, **GUARDIAN)
    assert reason(given, withdrawn) is Reason.WITHDRAWN
    assert reason(given, withdrawn, event("ann", when=3, age_band=MINOR)) is Reason.WITHDRAWN
    assert reason(given, withdrawn, renewal("ann", 3, age_band=MINOR)) is Reason.MINOR_WITHOUT_GUARDIAN


def test_a_guardians_grant_counts_for_its_purposes_window_and_time_only() -> None:
    own = event("ann", RENEWED, 2, age_band=MINOR)
    for change in (
        {"purpose": frozenset({SUMMARY})},
        {"expires_at": day(60)},
        {"notice_version": 1},
    ):
        assert reason(own, event("ann", when=1, **GUARDIAN, **change)) is Reason.MINOR_WITHOUT_GUARDIAN
    assert reason(own, event("ann", when=1, data_to=day(40), **GUARDIAN)) is Reason.OUTSIDE_DATA_WINDOW


def test_at_sixteen_consent_is_ones_own() -> None:
    assert reason(event("ann", age_band=AgeBand.FROM_16_TO_17)) is Reason.GRANTED
    guardian = event("ann", entity_role=EntityRole.GUARDIAN, age_band=AgeBand.FROM_16_TO_17)
    assert reason(guardian) is Reason.NO_RECORD
    assert reason(event("ann"), event("ann", REFUSED, 1, entity_role=EntityRole.GUARDIAN)) is Reason.REFUSED


def test_an_unknown_age_denies_where_age_matters() -> None:
    ageless = event("ann", age_band=AgeBand.UNKNOWN)
    assert reason(ageless) is Reason.AGE_UNKNOWN
    assert reason(ageless, purpose=Purpose.PUBLISH) is Reason.AGE_UNKNOWN
    assert reason(ageless, purpose=Purpose.PROVIDE_FEATURE) is Reason.GRANTED


def test_the_latest_age_counts_and_the_youngest_at_a_tie() -> None:
    minor, adult = event("ann", age_band=MINOR), event("ann", age_band=AgeBand.ADULT, record_id="r")
    assert reason(minor, adult) is Reason.MINOR_WITHOUT_GUARDIAN
    assert reason(minor, event("ann", when=1)) is Reason.GRANTED
    assert reason(event("ann"), event("ann", when=1, age_band=AgeBand.UNKNOWN)) is Reason.GRANTED


def test_a_flawed_event_can_make_a_minor_and_never_an_adult() -> None:
    flawed: dict[str, Any] = {"schema_version": "99", "purpose": frozenset({SUMMARY})}
    minor = event("ann", when=1, age_band=MINOR)
    assert reason(minor, event("ann", when=2, age_band=AgeBand.ADULT, **flawed)) is Reason.MINOR_WITHOUT_GUARDIAN
    assert reason(event("ann"), event("ann", when=2, age_band=MINOR, **flawed)) is Reason.MINOR_WITHOUT_GUARDIAN


def test_a_gpc_signal_denies_whatever_its_state_says_until_the_person_renews() -> None:
    signal = event("ann", when=1, collection_method=CollectionMethod.GPC_SIGNAL)
    assert reason(signal) is Reason.GPC_SIGNAL
    assert reason(event("ann"), signal) is Reason.GPC_SIGNAL
    assert reason(event("ann"), signal, event("ann", when=2)) is Reason.GPC_SIGNAL
    assert reason(event("ann"), signal, renewal("ann", 2)) is Reason.GRANTED


def test_copies_of_an_event_that_contradict_each_other_all_deny() -> None:
    grant = event("ann", when=1, record_id="r")
    changed = dataclasses.replace(grant, data_from=day(-500))
    assert reason(grant, changed) is Reason.MALFORMED
    again = dataclasses.replace(grant, recorded_time=day(50), seq=7)
    assert reason(grant, again) is Reason.GRANTED
    assert reason(event("ann", REFUSED, 0.5), grant, again, known_at=day(20)) is Reason.GRANTED


def test_a_second_delivery_does_not_make_an_event_from_the_future_sound() -> None:
    early = event("ann", when=20, recorded_time=day(10), record_id="r")
    assert reason(early, dataclasses.replace(early, recorded_time=day(30))) is Reason.FUTURE_EVENT


def test_the_registry_asks_for_times_with_a_zone() -> None:
    with pytest.raises(ConsentError, match="no time zone"):
        registry([COMPANY]).snapshot(as_of=datetime(2024, 1, 1))
    with pytest.raises(ConsentError, match="no time zone"):
        reason(event("ann"), known_at=datetime(2024, 1, 1))


def test_pseudonyms_of_another_key_are_unknown_people() -> None:
    other = dataclasses.replace(KEY, secret=b"another key of more than 32 bytes!!!")
    stranger = event("ann", pii_principal_id=other.pseudonym("ann"))
    decision = registry([COMPANY, stranger]).decide(
        "ann", purpose=COMPOSE, kind=CHAT, created_at=day(50), as_of=AS_OF, org_id=ORG
    )
    assert decision == Decision(False, Reason.NO_RECORD)
