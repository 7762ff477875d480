"""Kantara receipts in and out: what they cannot say exactly counts for less, never for more."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import AS_OF, CHAT, COMPANY, COMPOSE, KEY, ORG, RULES, TRANSCRIPT, day, event

from dp_train.cli.main import main
from dp_train.consent.decisions import Reason
from dp_train.consent.event_json import parse_event
from dp_train.consent.events import ConsentEvent, EventState, Purpose
from dp_train.consent.imports import import_events
from dp_train.consent.kantara import event_fields, read_controller, receipt_of
from dp_train.consent.registry import ConsentRegistry
from dp_train.consent.store import ConsentStore
from dp_train.conversations import ContentKind
from dp_train.errors import ConfigError, DataError
from dp_train.store.database import Database

CONTROLLER = {
    "piiController": "Example Meetings",
    "contact": "the privacy officer",
    "address": {"addressCountry": "IE"},
    "email": "privacy@example.org",
    "phone": "+353 1 5550100",
}
AGE = event("ann", when=0.5, purpose=frozenset({Purpose.PROVIDE_FEATURE}), record_id="age")


def again(one: ConsentEvent) -> ConsentEvent:
    """The event that the receipt of an event tells of, after a journey as JSON."""
    receipt = json.loads(json.dumps(receipt_of(one, CONTROLLER)))
    fields = {name: value for name, value in event_fields(receipt, received=day(60)).items() if value is not None}
    return parse_event({"seq": 0, **fields})


def changed(path: str, value: Any) -> dict[str, Any]:
    """A sound receipt with one thing in it changed."""
    receipt = receipt_of(event("ann"), CONTROLLER)
    assert receipt is not None
    inside: Any = receipt
    *way, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    for part in way:
        inside = inside[part]
    inside[last] = value
    return receipt


def test_a_receipt_says_what_the_grant_says() -> None:
    grant = event("ann", when=3, content_kind=frozenset({CHAT, TRANSCRIPT}), purpose=frozenset({COMPOSE}))
    found = again(grant)
    same = ("record_id", "pii_principal_id", "org_id", "purpose", "content_kind", "event_time", "notice_id")
    assert [getattr(found, name) for name in same] == [getattr(grant, name) for name in same]
    assert found.notice_version == 2
    assert found.data_from > found.event_time  # type: ignore[operator]


@pytest.mark.parametrize("state", [state for state in EventState if not state.grants])
def test_only_a_grant_has_a_receipt(state: EventState) -> None:
    assert receipt_of(event("ann", state), CONTROLLER) is None
    assert receipt_of(COMPANY, CONTROLLER) is None


_TIMES = st.integers(0, 40_000_000).map(lambda tenths: tenths / 8_640_000 * 10)  # to a tenth of a second and less


@given(
    _TIMES,
    st.sets(st.sampled_from(Purpose), min_size=1),
    st.sets(st.sampled_from(ContentKind), min_size=1),
    st.one_of(st.none(), _TIMES),
    _TIMES,
    _TIMES,
)
def test_a_receipt_never_allows_what_its_grant_does_not(
    when: float, purposes: set[Purpose], kinds: set[ContentKind], end: float | None, left: float, created: float
) -> None:
    grant = event(
        "ann",
        when=when,
        purpose=frozenset(purposes),
        content_kind=frozenset(kinds),
        expires_at=None if end is None else day(end),
        record_id="grant",
    )
    rest = [COMPANY, AGE, event("ann", EventState.WITHDRAWN, left, purpose=frozenset({COMPOSE}))]
    before, after = (ConsentRegistry([one, *rest], rules=RULES, key=KEY) for one in (grant, again(grant)))
    for purpose in Purpose:
        for kind in ContentKind:
            asked: Any = {"purpose": purpose, "kind": kind, "created_at": day(created), "as_of": AS_OF, "org_id": ORG}
            assert before.decide("ann", **asked).allowed or not after.decide("ann", **asked).allowed


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("version", "KI-CR-v1.0.0", "version is another one"),
        ("consentTimestamp", "yesterday", "consentTimestamp"),
        ("consentTimestamp", True, "consentTimestamp"),
        ("policyUrl", "", "policyUrl"),
        ("policyUrl", "features#version=two", "policyUrl"),
        ("piiPrincipalId", "", "piiPrincipalId"),
        ("services", "all of them", "services cannot be read"),
        ("services/0/purposes", [], "no explicit consent"),
        ("services/0/purposes/0/piiCategory", "chat", "piiCategory"),
        ("services/0/purposes/0/piiCategory", ["chat"], "purposes differ"),
        ("services/0/purposes/0/termination", "Subscription end date + 1 year", "termination"),
        ("services/0/purposes/0/termination", "2024-05-01T00:00:00", "termination"),
    ],
)
def test_what_cannot_be_read_is_refused_without_its_content(path: str, value: Any, why: str) -> None:
    with pytest.raises(DataError, match=why) as refused:
        event_fields(changed(path, value), received=day(60))
    assert "Subscription" not in str(refused.value)


def test_implied_consent_and_other_purposes_grant_nothing() -> None:
    grant = event("ann", purpose=frozenset({COMPOSE, Purpose.PROVIDE_FEATURE}))
    receipt = receipt_of(grant, CONTROLLER)
    assert receipt is not None
    entries = receipt["services"][0]["purposes"]
    compose = next(entry for entry in entries if entry["purpose"] == COMPOSE.value)
    compose["consentType"] = "IMPLICIT"
    entries.append({**entries[0], "purpose": "To market services"})
    assert event_fields(receipt, received=day(60))["purpose"] == [Purpose.PROVIDE_FEATURE.value]


def test_receipts_are_imported_once_and_under_the_pseudonym(tmp_path: Path) -> None:
    receipt = changed("piiPrincipalId", "ann")
    path = tmp_path / "receipts.jsonl"
    path.write_text(
        json.dumps(receipt) + "\n" + json.dumps({**receipt, "version": "2", "piiPrincipalId": "bob"}) + "\n"
    )
    store = ConsentStore(Database(f"sqlite:///{tmp_path / 'store.db'}"))
    store.append(COMPANY)
    first = import_events(store, path, tmp_path / "bad", key=KEY)
    assert (first.new, first.held) == (1, 1)
    assert import_events(store, path, tmp_path / "bad", key=KEY).same == 1
    asked: Any = {"as_of": AS_OF, "rules": RULES, "key": KEY}
    reason = store.snapshot(**asked).decide("ann", COMPOSE, CHAT, day(50), ORG).reason
    assert reason is Reason.AGE_UNKNOWN  # a receipt knows no age
    store.append(AGE)
    assert store.snapshot(**asked).decide("ann", COMPOSE, CHAT, day(50), ORG).allowed
    store.database.close()


def test_export_writes_the_receipts_of_one_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DP_TRAIN_STORE", raising=False)
    store = ConsentStore(Database(f"sqlite:///{tmp_path / 'dp_train.db'}"))
    for one in (COMPANY, event("ann"), event("ann", EventState.WITHDRAWN, 3), event("bob")):
        store.append(one)
    store.database.close()
    Path("p.key").write_text(KEY.secret.hex())
    Path("p.key").chmod(0o600)
    Path("controller.yaml").write_text(json.dumps(CONTROLLER))
    words = ["consent", "export", "--receipts", "controller.yaml", "--person", "ann", "--key", "p.key"]
    assert main([*words, "receipts.jsonl"]) == 0
    (receipt,) = map(json.loads, Path("receipts.jsonl").read_text().splitlines())
    assert receipt == receipt_of(event("ann"), CONTROLLER)
    assert main([*words, "receipts.jsonl"]) == 2  # it is there already
    # Into the store that it came from it brings nothing.
    assert main(["consent", "import", "receipts.jsonl"]) == 0
    store = ConsentStore(Database(f"sqlite:///{tmp_path / 'dp_train.db'}"))
    assert store.head().seq == 4
    store.database.close()


def test_a_controller_that_lacks_something_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "controller.yaml"
    path.write_text("piiController: Example Meetings\n")
    with pytest.raises(ConfigError, match="phone"):
        read_controller(path)
