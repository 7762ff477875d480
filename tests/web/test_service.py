"""What the consent service does for systems and for a person."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from serving import ADDRESS, BEARER, KEY, Clock, granted
from starlette.testclient import TestClient

from dp_train.consent.events import CollectionMethod, EntityRole, EventState, Purpose
from dp_train.consent.notices import keep
from dp_train.consent.signing import verified
from dp_train.web.pages import STYLE, STYLE_HASH
from dp_train.web.service import Service

COMPOSE = Purpose.TRAIN_CHAT_COMPOSE
SignIn = Callable[[str], None]


def says(service: Service, person: str) -> str:
    snapshot = service.store.snapshot(as_of=datetime.now(UTC), key=KEY)
    return str(snapshot.says(KEY.pseudonym(person), COMPOSE).value)


def row(**changes: object) -> dict[str, object]:
    when = datetime.now(UTC).isoformat()
    fields: dict[str, object] = {
        "record_id": "web-1",
        "person_id": "u-cy",
        "org_id": "acme",
        "entity_role": "self",
        "purpose": ["train_chat_compose"],
        "content_kind": ["chat"],
        "event_state": "ConsentGiven",
        "event_time": when,
        "recorded_time": when,
        "notice_id": "features",
        "notice_version": 1,
        "age_band": "adult",
    }
    return fields | changes


def csrf(page: str) -> str:
    found = re.search(r'name="form" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def test_events_come_in_as_an_array_or_as_lines_and_twice_changes_nothing(client: TestClient, service: Service) -> None:
    same = row()
    done = client.post("/events", json=[same], headers=BEARER)
    assert (done.status_code, done.json()["new"]) == (200, 1)
    again = client.post("/events", content=json.dumps(same) + "\n\n", headers=BEARER)
    assert (again.status_code, again.json()["same"]) == (200, 1)
    assert says(service, "u-cy") == "granted"


def test_an_event_whose_meaning_cannot_be_read_holds_its_person(client: TestClient, service: Service) -> None:
    done = client.post("/events", json=[row(person_id="ann", event_state="ConsentWithdrwan")], headers=BEARER)
    assert (done.status_code, done.json()["held"]) == (202, 1)
    assert KEY.pseudonym("ann") in service.store.held()
    assert says(service, "ann") != "granted"


def test_an_event_whose_person_cannot_be_read_stops_grants_and_keeps_denials(
    client: TestClient, service: Service
) -> None:
    rows = [
        row(person_id=7),
        row(record_id="web-2"),
        row(record_id="web-3", person_id="ann", event_state="ConsentWithdrawn"),
    ]
    done = client.post("/events", json=rows, headers=BEARER)
    assert done.status_code == 422
    assert done.json()["stopped"]["row"] == 1
    assert says(service, "u-cy") == "no_record"
    assert says(service, "ann") == "withdrawn"


@pytest.mark.parametrize(
    "body", ["", "[", "{", "[[[[", "null", "[1]", "\ufeff{}", '{"person_id":"ann","person_id":"bob"}']
)
def test_a_body_that_is_no_event_grants_nothing(client: TestClient, service: Service, body: str) -> None:
    before = service.store.head()
    done = client.post("/events", content=body, headers=BEARER)
    assert done.status_code in (200, 422)
    assert done.status_code == 422 or done.json()["rows"] == 0
    assert service.store.head() == before


def test_an_opt_out_answers_with_a_receipt_that_verifies_and_can_be_had_again(
    client: TestClient, service: Service
) -> None:
    done = client.post("/opt-outs", json={"person_id": "Ann "}, headers=BEARER)
    assert (done.status_code, done.json()["new"]) == (201, True)
    statement = verified(done.json()["receipt"], service.signing.public_pem)
    assert says(service, "ann") == "withdrawn"
    found = client.get(f"/receipts/{statement['record_id']}", headers=BEARER)
    assert found.json() == done.json()["receipt"]
    assert client.get("/receipts/withdrawal-0", headers=BEARER).status_code == 404


def test_an_organisation_opts_out(client: TestClient, service: Service) -> None:
    service.store.append(granted("x", record_id="org", pii_principal_id=None, entity_role=EntityRole.ORG_ADMIN))
    done = client.post("/opt-outs", json={"organisation": "acme", "purposes": ["publish"]}, headers=BEARER)
    assert done.status_code == 201
    (event,) = [each for each in service.store.events() if each.event_state is EventState.WITHDRAWN]
    assert (event.org_id, event.pii_principal_id, event.purpose) == ("acme", None, frozenset({Purpose.PUBLISH}))


def test_a_gpc_signal_is_recorded_as_a_denial(client: TestClient, service: Service, sign_in: SignIn) -> None:
    client.post("/opt-outs", json={"person_id": "ann"}, headers=BEARER | {"Sec-GPC": "1"})
    sign_in("bob")
    for _ in range(2):
        page = client.get("/me", headers={"Sec-GPC": "1"})
        assert "signal of your browser" in page.text
    for person in ("ann", "bob"):
        events = list(service.store.events(pseudonym=KEY.pseudonym(person)))
        assert [event.collection_method for event in events[1:]] == [CollectionMethod.GPC_SIGNAL]
        assert says(service, person) == "gpc_signal"


@pytest.mark.parametrize("value", ["0", "", "?0", "0;x", ","])
def test_a_value_that_says_that_there_is_no_signal_is_none(
    client: TestClient, service: Service, sign_in: SignIn, value: str
) -> None:
    sign_in("ann")
    client.get("/me", headers={"Sec-GPC": value})
    assert says(service, "ann") == "granted"


@pytest.mark.parametrize("value", ["1, 1", "0, 1", " 1", '"1"', "?1", "1;x=0", "true", "11", "\u00a01"])
def test_a_signal_that_is_written_in_another_way_is_a_no(
    client: TestClient, service: Service, sign_in: SignIn, value: str
) -> None:
    sign_in("ann")
    client.get("/me", headers={"Sec-GPC": value.encode("latin-1")})
    assert says(service, "ann") == "gpc_signal"


def test_a_person_sees_what_they_agreed_to_and_opts_out(client: TestClient, service: Service, sign_in: SignIn) -> None:
    sign_in("ann")
    page = client.get("/me")
    assert page.status_code == 200
    assert "you agreed" in page.text
    assert "features, version 1" in page.text
    assert "Your words are in no model" in page.text
    assert KEY.pseudonym("bob") not in page.text
    done = client.post("/me/opt-out", data={"form": csrf(page.text)})
    assert (done.status_code, done.headers["location"]) == (303, "/me")
    after = client.get("/me").text
    assert "you opted out" in after
    assert "<button" not in after
    assert says(service, "ann") == "withdrawn"
    assert says(service, "bob") == "granted"


def test_the_page_names_models_under_their_bounds(
    client: TestClient, service: Service, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = {
        "run": "runs/secret-folder",
        "purpose": "train_chat_compose",
        "started": "2025-01-31T12:00:00",
        "out_of_use": False,
        "keeps": ["model"],
        "bounded_per_person": True,
        "epsilon": 3.5,
        "delta": 1e-6,
        "model_versions": ["chat v<3>"],
    }
    found = service.person(KEY.pseudonym("ann")) | {"runs": [run], "runs_not_found": [{}]}
    monkeypatch.setattr(Service, "person", lambda *_: found)
    sign_in("ann")
    page = client.get("/me").text
    assert "ε = 3.50, δ = 1.0e-06" in page
    assert "chat v&lt;3&gt;" in page
    assert "1 runs that you may be in are not found" in page
    assert "secret-folder" not in page


def test_the_page_shows_the_text_that_was_agreed_to(client: TestClient, service: Service, sign_in: SignIn) -> None:
    text = "We train on <b>chat</b>."
    keep(service.store.database, text.encode())
    digest = hashlib.sha256(text.encode()).hexdigest()
    service.store.append(granted("ann", record_id="with-notice", notice_sha256=digest))
    sign_in("ann")
    assert "We train on &lt;b&gt;chat&lt;/b&gt;." in client.get("/me").text


def test_an_erased_person_and_an_unknown_one_see_that_nothing_is_kept(
    client: TestClient, service: Service, sign_in: SignIn
) -> None:
    with service.store.database.writing("consent") as connection:
        service.store.erase_in(connection, KEY.pseudonym("bob"), at=datetime.now(UTC), record_id="erasure-1", reason="")
    sign_in("bob")
    assert "You were erased on" in client.get("/me").text
    sign_in("never seen")
    page = client.get("/me").text
    assert "Nothing is kept about you." in page
    client.post("/me/opt-out", data={"form": csrf(page)})  # an objection before anything was agreed to
    assert says(service, "never seen") == "withdrawn"


def test_a_link_opens_one_session_and_both_end(client: TestClient, clock: Clock) -> None:
    url = client.post("/links", json={"person_id": "ann", "minutes": 5}, headers=BEARER).json()["url"]
    path = url.removeprefix(ADDRESS)
    assert client.get(path).status_code == 303
    assert client.get("/me").status_code == 200
    assert client.get(path).status_code == 403
    clock.now += 16 * 60
    assert client.get("/me").status_code == 403
    late = client.post("/links", json={"person_id": "ann", "minutes": 5}, headers=BEARER).json()["url"]
    clock.now += 5 * 60
    assert client.get(late.removeprefix(ADDRESS)).status_code == 403


def test_the_openapi_page_names_every_path_and_loads_nothing(client: TestClient) -> None:
    page = client.get("/docs").text
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/events", "/opt-outs", "/receipts/{record}", "/links", "/me", "/me/opt-out"}
    assert all(path in page for path in paths)
    assert "<script" not in page
    assert "http" not in page.replace("https://", "http").split("<body>")[0]


def test_the_one_style_of_the_pages_is_the_one_that_the_policy_allows(client: TestClient) -> None:
    page = client.get("/docs")
    assert f"<style>{STYLE}</style>" in page.text
    assert STYLE_HASH in page.headers["content-security-policy"]
