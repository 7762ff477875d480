"""Laws of the consent history: every case of docs/consent.md is in it and is decided as it says."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp_train.consent.decisions import Reason
from dp_train.consent.events import ConsentEvent, Purpose
from dp_train.consent.gate import ConsentPolicy, gate
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.registry import ConsentRegistry
from dp_train.consent.snapshot import ConsentSnapshot
from dp_train.conversations import ContentKind, ConversationKind
from dp_train.corpora.synthetic import HISTORY_END, RULES, ConsentCase, Population, SyntheticCorpus
from dp_train.corpora.synthetic.people import Person

KEY = PrincipalKey(bytes(range(32)))
SPRING, AUTUMN = datetime(2025, 4, 1, tzinfo=UTC), datetime(2025, 10, 1, tzinfo=UTC)

# What a meeting of spring says about each case.
DECIDED = {
    ConsentCase.GRANTED: Reason.GRANTED,
    ConsentCase.RENEWED: Reason.GRANTED,
    ConsentCase.GRANTED_AGAIN: Reason.GRANTED,
    ConsentCase.SIXTEEN: Reason.GRANTED,
    ConsentCase.MINOR_WITH_GUARDIAN: Reason.GRANTED,
    ConsentCase.REFUSED: Reason.REFUSED,
    ConsentCase.WITHDRAWN: Reason.WITHDRAWN,
    ConsentCase.WITHDRAWN_LATE: Reason.WITHDRAWN,
    ConsentCase.EXPIRED: Reason.EXPIRED,
    ConsentCase.OLD_NOTICE: Reason.OLD_NOTICE,
    ConsentCase.MINOR_WITHOUT_GUARDIAN: Reason.MINOR_WITHOUT_GUARDIAN,
    ConsentCase.GUARDIAN_WITHDREW: Reason.WITHDRAWN,
    ConsentCase.AGE_UNKNOWN: Reason.AGE_UNKNOWN,
    ConsentCase.NO_EVENTS: Reason.NO_RECORD,
    ConsentCase.NOT_DECIDED: Reason.NOT_DECIDED,
    ConsentCase.FUTURE_EVENT: Reason.FUTURE_EVENT,
    ConsentCase.SAME_TIME: Reason.REFUSED,
    ConsentCase.INVALIDATED: Reason.INVALIDATED,
    ConsentCase.GPC_SIGNAL: Reason.GPC_SIGNAL,
    ConsentCase.FIRST_HALF_ONLY: Reason.GRANTED,
    ConsentCase.TRANSCRIPTS_ONLY: Reason.GRANTED,
    ConsentCase.CHAT_ONLY: Reason.NO_RECORD,
    ConsentCase.ORGANISATION_DENIES: Reason.ORGANISATION_DENIES,
}


@cache
def registry(population: Population, people: int) -> ConsentRegistry:
    return ConsentRegistry(SyntheticCorpus(people, population).consent_events(KEY), rules=RULES, key=KEY)


def snapshot(population: Population, people: int) -> ConsentSnapshot:
    return registry(population, people).snapshot(as_of=HISTORY_END)


@cache
def people_of(case: ConsentCase) -> list[Person]:
    return [person for person, found in SyntheticCorpus(400, Population.PRIVATE).census() if found is case]


def reason(
    person: Person,
    *,
    kind: ContentKind = ContentKind.TRANSCRIPT,
    purpose: Purpose = Purpose.TRAIN_MEETING_SUMMARY,
    created_at: datetime = SPRING,
    known_at: datetime | None = None,
) -> Reason:
    return (
        registry(Population.PRIVATE, 400)
        .decide(
            person.person_id,
            purpose=purpose,
            kind=kind,
            created_at=created_at,
            as_of=known_at or HISTORY_END,
            known_at=known_at,
            org_id=person.company.org_id,
        )
        .reason
    )


@settings(max_examples=8, deadline=None)
@given(st.integers(200, 1500), st.integers(0, 2**32))
def test_every_case_appears_from_200_people_on(people: int, seed: int) -> None:
    counts = SyntheticCorpus(people, Population.PRIVATE, seed=seed).cases()
    assert set(counts) == set(ConsentCase)
    assert sum(counts.values()) - counts[ConsentCase.GUEST] == people


@pytest.mark.parametrize("case", DECIDED, ids=lambda case: case.value)
def test_each_case_is_decided_as_it_says(case: ConsentCase) -> None:
    assert {reason(person) for person in people_of(case)} == {DECIDED[case]}


def test_cases_of_one_content_kind_or_one_time_are_denied_elsewhere() -> None:
    chat = {"kind": ContentKind.CHAT, "purpose": Purpose.TRAIN_CHAT_COMPOSE}
    assert reason(people_of(ConsentCase.CHAT_ONLY)[0], **chat) is Reason.GRANTED  # type: ignore[arg-type]
    assert reason(people_of(ConsentCase.TRANSCRIPTS_ONLY)[0], **chat) is Reason.NO_RECORD  # type: ignore[arg-type]
    assert reason(people_of(ConsentCase.FIRST_HALF_ONLY)[0], created_at=AUTUMN) is Reason.OUTSIDE_DATA_WINDOW


def test_a_late_withdrawal_was_not_known_in_september() -> None:
    for person in people_of(ConsentCase.WITHDRAWN_LATE):
        assert reason(person, known_at=datetime(2025, 9, 1, tzinfo=UTC)) is Reason.GRANTED
        assert reason(person) is Reason.WITHDRAWN


def test_four_people_in_five_are_allowed_and_most_meetings_of_three_pass() -> None:
    corpus = SyntheticCorpus(1000, Population.PRIVATE, kinds=(ConversationKind.MEETING,))
    decided = snapshot(Population.PRIVATE, 1000)
    allowed = sum(
        decided.decide(
            person.person_id,
            purpose=Purpose.TRAIN_MEETING_SUMMARY,
            kind=ContentKind.TRANSCRIPT,
            created_at=SPRING,
            org_id=person.company.org_id,
        ).allowed
        for person, _ in corpus.census()
    )
    assert 0.76 < allowed / 1000 < 0.84
    consented = gate(corpus, decided, ConsentPolicy(purpose=Purpose.TRAIN_MEETING_SUMMARY))
    kept = Counter(len(conversation.people) for conversation in consented.conversations())
    seen = Counter(len(conversation.people) for conversation in corpus.conversations())
    assert kept[3] > 0.5 * seen[3]
    assert not any(conversation.guests for conversation in consented.conversations())


@pytest.mark.parametrize("population", [Population.PUBLIC, Population.EVALUATION])
def test_published_populations_pass_whole(population: Population) -> None:
    corpus = SyntheticCorpus(250, population)
    consented = gate(corpus, snapshot(population, 250), ConsentPolicy(purpose=Purpose.PUBLISH))
    assert list(consented.conversations()) == list(corpus.conversations())
    assert SyntheticCorpus(250, population).cases() == {ConsentCase.GRANTED: 250}


def test_nobody_is_trained_on_who_agreed_to_publication_alone() -> None:
    corpus = SyntheticCorpus(250, Population.EVALUATION)
    consented = gate(corpus, snapshot(Population.EVALUATION, 250), ConsentPolicy(purpose=Purpose.TRAIN_MEETING_SUMMARY))
    assert list(consented.conversations()) == []


def test_events_name_nobody_and_are_numbered_in_order() -> None:
    corpus = SyntheticCorpus(450, Population.PRIVATE)
    events: list[ConsentEvent] = list(corpus.consent_events(KEY))
    assert [event.seq for event in events] == list(range(len(events)))
    assert len({event.record_id for event in events}) == len(events)
    told = "".join(map(repr, events))
    assert not any(person.person_id in told or person.name in told for person, _ in corpus.census())


def test_another_key_gives_other_pseudonyms_and_the_same_decisions() -> None:
    corpus = SyntheticCorpus(200, Population.PRIVATE)
    other = PrincipalKey(bytes(range(1, 33)))
    one, two = list(corpus.consent_events(KEY)), list(corpus.consent_events(other))
    assert [event.event_state for event in one] == [event.event_state for event in two]
    named = [(a.pii_principal_id, b.pii_principal_id) for a, b in zip(one, two, strict=True) if a.pii_principal_id]
    assert all(a != b for a, b in named)
