"""A policy in YAML becomes rules, which can only deny; what it does not know is refused in one line."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import Run

from dp_train.cli.load_config import compose
from dp_train.consent.events import Purpose
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.registry import ConsentRegistry
from dp_train.consent.rules import ConsentRules, JurisdictionRule, Limits
from dp_train.conversations import ContentKind
from dp_train.corpora.synthetic import HISTORY_END, Population, SyntheticCorpus
from dp_train.runs.populations import rules
from dp_train.runs.recipe_data import DenyConfig, JurisdictionConfig

KEY = PrincipalKey(b"the key of the tests, not a secret")


def test_the_policy_of_the_repository_becomes_rules() -> None:
    config, _ = compose(["consent=policy"])
    found = rules(config)
    assert found.material_versions == {"conversation-features": 2}
    assert found.jurisdictions["DE"] == JurisdictionRule(valid_for=timedelta(days=730))
    assert found.jurisdictions["US-IL"].deny.kinds == {ContentKind.AUDIO, ContentKind.VIDEO}
    assert found.jurisdictions["unknown"].deny == Limits(purposes=frozenset({Purpose.PUBLISH}))
    assert Purpose.TRAIN_CHAT_COMPOSE in found.organisations["example-hospital"].purposes


@pytest.mark.parametrize(
    "text",
    [
        "jurisdictions:\n  DE: {valid: 3}",
        "jurisdiction:\n  DE: {valid_for_days: 3}",
        "jurisdictions:\n  DE: {}",
        "jurisdictions:\n  DE: {valid_for_days: 0}",
        "jurisdictions:\n  DE: {valid_for_days: long}",
        "jurisdictions:\n  NO: {valid_for_days: 3}",
        "organisations:\n  acme: {}",
        "organisations:\n  acme: {kinds: [SMELL]}",
        "organisations:\n  acme: {purpose: [PUBLISH]}",
        "material_versions:\n  features: 0",
        "organisations: [acme",
    ],
)
def test_what_a_policy_must_not_say_is_refused_in_one_line(text: str, folder: Path, cli: Run) -> None:
    (folder / "consent").mkdir()
    (folder / "consent" / "own.yaml").write_text(f"defaults: [default]\n{text}\n")
    ended = cli("validate", "consent=own")
    assert ended.code == 2
    assert ended.err.count("\n") == 1


_DENY = st.builds(
    Limits,
    purposes=st.frozensets(st.sampled_from(Purpose), max_size=2),
    kinds=st.frozensets(st.sampled_from(ContentKind), max_size=2),
)
_PEOPLE = SyntheticCorpus(84, Population.PRIVATE, seed=2)
_EVENTS = list(_PEOPLE.consent_events(KEY))
_IDS = [person.person_id for person, _ in _PEOPLE.census()]
_COMPANIES = sorted({event.org_id for event in _EVENTS})


def _allowed(chosen: ConsentRules) -> set[tuple[Any, ...]]:
    frozen = ConsentRegistry(_EVENTS, rules=chosen, key=KEY).snapshot(as_of=HISTORY_END)
    created = HISTORY_END - timedelta(days=90)
    return {
        (person, purpose, kind, company)
        for person in _IDS[:20]
        for purpose in (Purpose.TRAIN_CHAT_COMPOSE, Purpose.TRAIN_MEETING_SUMMARY)
        for kind in (ContentKind.CHAT, ContentKind.TRANSCRIPT)
        for company in _COMPANIES
        if frozen.decide(person, purpose, kind, created, company).allowed
    }


@settings(deadline=None, max_examples=25)
@given(
    st.dictionaries(st.sampled_from(("DE", "FR", "US", "US-CA", "unknown")), st.tuples(_DENY, st.integers(1, 900))),
    st.dictionaries(st.sampled_from(_COMPANIES), _DENY),
)
def test_no_policy_allows_what_people_did_not(places: dict[str, Any], companies: dict[str, Limits]) -> None:
    plain = ConsentRules(material_versions={"conversation-features": 2})
    policy = ConsentRules(
        material_versions=plain.material_versions,
        jurisdictions={
            name: JurisdictionRule(deny=deny, valid_for=timedelta(days=days)) for name, (deny, days) in places.items()
        },
        organisations=companies,
    )
    without, under = _allowed(plain), _allowed(policy)
    assert without
    assert under <= without
    for person, purpose, kind, company in under:
        denied = companies.get(company, Limits())
        named = bool(denied.purposes or denied.kinds)
        assert not (
            named and (not denied.purposes or purpose in denied.purposes) and (not denied.kinds or kind in denied.kinds)
        ), person


def test_a_rule_that_asks_for_nothing_is_noticed() -> None:
    assert DenyConfig().nothing
    assert not DenyConfig(kinds=[ContentKind.CHAT]).nothing
    assert JurisdictionConfig(valid_for_days=3).deny.nothing
