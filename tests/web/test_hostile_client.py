"""A hostile client: no token, forged links, long bodies, other hosts, HTML in ids, floods and races."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving import ADDRESS, BEARER, HOSTS, KEY, TOKEN, Clock, granted
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from dp_train.consent.events import EventState
from dp_train.errors import ConfigError
from dp_train.web.app import COOKIE, make_app
from dp_train.web.guard import App, Limits, Rate
from dp_train.web.service import Service
from dp_train.web.tokens import Kind, Signer, open_token

SignIn = Callable[[str], None]
FOR_SYSTEMS = [("POST", "/events"), ("POST", "/opt-outs"), ("POST", "/links"), ("GET", "/receipts/withdrawal-1")]
HEADERS = ("content-security-policy", "x-content-type-options", "referrer-policy", "cache-control", "x-frame-options")


@pytest.mark.parametrize(("method", "path"), FOR_SYSTEMS)
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": b"Bearer \xc3\xa9"},
        {"Cookie": f"{COOKIE}={TOKEN}"},
    ],
)
def test_without_the_token_no_system_does_anything(
    client: TestClient, service: Service, method: str, path: str, given: dict[str, Any]
) -> None:
    before = service.store.head()
    asked = client.request(method, path, json={"person_id": "ann"}, headers=given)
    assert asked.status_code == 401
    assert asked.headers["www-authenticate"] == "Bearer"
    assert service.store.head() == before


@given(text=st.text(max_size=300))
def test_nobody_without_the_token_makes_a_link(text: str) -> None:
    signer = Signer(TOKEN)
    good = signer.sign(Kind.LINK, KEY.pseudonym("ann"), 2**33)
    assert signer.read(Kind.LINK, good, 0) is not None
    assert signer.read(Kind.LINK, text, 0) is None
    assert signer.read(Kind.SESSION, good, 0) is None
    assert signer.read(Kind.LINK, good, 2**33) is None
    assert Signer(TOKEN + "2").read(Kind.LINK, good, 0) is None


@given(at=st.integers(0, 140), letter=st.characters(max_codepoint=0x7F))
def test_a_link_with_one_letter_changed_is_none(at: int, letter: str) -> None:
    signer = Signer(TOKEN)
    good = signer.sign(Kind.LINK, KEY.pseudonym("ann"), 2**33)
    at %= len(good)
    forged = good[:at] + letter + good[at + 1 :]
    assert (signer.read(Kind.LINK, forged, 0) is not None) == (forged == good)


@pytest.mark.parametrize("name", ["link", "session"])
def test_a_forged_link_or_session_shows_nothing(client: TestClient, name: str) -> None:
    signer = Signer("another token of thirty-two letters")
    if name == "link":
        asked = client.get(f"/me?link={signer.sign(Kind.LINK, KEY.pseudonym('ann'), 2**33)}")
    else:
        client.cookies.set(COOKIE, signer.sign(Kind.SESSION, KEY.pseudonym("ann"), 2**33))
        asked = client.get("/me")
    assert asked.status_code == 403
    assert "ended or was used" in asked.text


def test_a_form_of_another_session_or_none_opts_nobody_out(
    client: TestClient, service: Service, sign_in: SignIn
) -> None:
    sign_in("ann")
    other = Signer(TOKEN).form("another session")
    before = service.store.head()
    for form in ({}, {"form": ""}, {"form": other}, {"form": "\u00e9"}, {"other": "x"}):
        assert client.post("/me/opt-out", data=form).status_code == 403
    client.cookies.clear()
    assert client.post("/me/opt-out", data={"form": other}).status_code == 403
    assert service.store.head() == before


def test_the_cookie_is_for_this_site_alone_and_out_of_reach_of_scripts(client: TestClient) -> None:
    url = client.post("/links", json={"person_id": "ann"}, headers=BEARER).json()["url"]
    said = client.get(url.removeprefix(ADDRESS)).headers["set-cookie"].lower()
    assert "httponly" in said
    assert "samesite=lax" in said
    assert "path=/me" in said


@pytest.mark.parametrize("path", ["/events", "/opt-outs", "/links", "/me/opt-out"])
def test_a_body_that_is_too_long_is_refused_also_where_its_length_is_not_told(
    client: TestClient, service: Service, path: str
) -> None:
    before = service.store.head()

    def parts() -> Iterator[bytes]:
        for _ in range(50):
            yield b" " * 1_000

    assert client.post(path, content=b" " * 20_001, headers=BEARER).status_code == 413
    assert client.post(path, content=parts(), headers=BEARER).status_code == 413
    assert client.post(path, content=b"x", headers=BEARER | {"Content-Length": "-1"}).status_code == 413
    assert service.store.head() == before


def test_a_body_that_does_not_end_is_given_up(app: App) -> None:
    sent: list[dict[str, Any]] = []

    async def never() -> dict[str, Any]:
        await asyncio.sleep(3600)
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/events", "headers": [(b"host", b"127.0.0.1")]}
    asyncio.run(app(scope, never, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 408


def test_a_deeply_nested_body_is_no_error_of_ours(client: TestClient) -> None:
    deep = "[" * 9_000 + "]" * 9_000
    assert client.post("/events", content=deep, headers=BEARER).status_code == 422
    asked = client.post("/opt-outs", content=deep, headers=BEARER | {"Content-Type": "application/json"})
    assert asked.status_code in (400, 422)


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "localhost@evil.example", "[::1", "testserver:x"]
)
def test_another_host_name_reaches_nothing(client: TestClient, host: str) -> None:
    """So a page of another site that resolves to loopback cannot ask for a person's page."""
    asked = client.get("/docs", headers={"Host": host})
    assert asked.status_code == 421


@pytest.mark.parametrize(
    "path",
    [
        "/receipts/../me",
        "/receipts/%2e%2e%2fme",
        "/receipts/..%5c..%5cetc%5cpasswd",
        "/receipts/a%00b",
        "/receipts/" + "a" * 200,
        "/receipts/%0d%0aSet-Cookie:%20x=1",
        "//evil.example/me",
        "/me/../receipts/x",
        "/static/../../etc/passwd",
        "/receipts/' OR 1=1 --",
    ],
)
def test_tricks_with_paths_find_nothing(client: TestClient, path: str) -> None:
    asked = client.get(path, headers=BEARER)
    assert asked.status_code in (403, 404, 405, 422)
    assert "set-cookie" not in asked.headers
    assert "passwd" not in asked.text


EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


def test_html_in_ids_notices_and_organisations_is_text(client: TestClient, service: Service, sign_in: SignIn) -> None:
    service.store.append(granted(EVIL, org_id=EVIL, notice_id=EVIL, jurisdiction=EVIL, reason=EVIL, language=EVIL))
    client.post("/opt-outs", json={"organisation": EVIL}, headers=BEARER)
    sign_in(EVIL)
    page = client.get("/me").text
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "<img" not in page


@pytest.mark.parametrize("text", ["a\r\nSet-Cookie: x=1", "a\x00b", "\ud800", "é\u202e", "a" * 600])
def test_controls_in_a_value_make_no_header_and_no_error_of_ours(client: TestClient, text: str) -> None:
    body = json.dumps({"person_id": text}).encode()
    headers = BEARER | {"Content-Type": "application/json"}
    for path in ("/links", "/opt-outs"):
        asked = client.post(path, content=body, headers=headers)
        assert asked.status_code in (201, 422)
        assert "set-cookie" not in asked.headers


@pytest.mark.parametrize(
    "body",
    [
        {"person_id": "zoe", "operator": "me"},
        {"person_id": ["zoe"]},
        {"person_id": "zoe", "method": "x\ny"},
        {},
        [],
        {"person_id": "zoe", "organisation": "acme"},
        {"person_id": "\u200b"},
        {"person_id": "zoe", "purposes": ["all"]},
    ],
)
def test_an_opt_out_that_cannot_be_read_is_refused_without_an_echo(
    client: TestClient, service: Service, body: Any
) -> None:
    before = service.store.head()
    asked = client.post("/opt-outs", json=body, headers=BEARER)
    assert asked.status_code == 422
    assert "zoe" not in asked.text
    assert service.store.head() == before


def test_every_answer_carries_the_headers_that_keep_it_private(client: TestClient, sign_in: SignIn) -> None:
    sign_in("ann")
    answers = [
        client.get("/me"),
        client.get("/docs"),
        client.get("/nothing"),
        client.post("/events", headers=BEARER, content=b"x" * 30_000),
        client.get("/docs", headers={"Host": "evil.example"}),
        client.get("/receipts/x"),
    ]
    for answer in answers:
        assert all(name in answer.headers for name in HEADERS), answer.url
        assert answer.headers["cache-control"] == "no-store"
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert "server" not in answer.headers


def test_a_flood_is_limited(service: Service, clock: Clock) -> None:
    """1,000 requests in one second of one address: so many pass as agreed, and those of another still do."""
    now = [0.0]
    limits = Limits(rate=20.0, burst=40)
    rate = Rate(limits, clock=lambda: now[0])
    app = make_app(service, Signer(TOKEN), address=ADDRESS, hosts=HOSTS, limits=limits, rate=rate, clock=clock)
    with TestClient(app, follow_redirects=False) as client:
        answers = []
        for number in range(1_000):
            now[0] = number / 1_000
            answers.append(client.get("/me").status_code)
    assert answers.count(403) == 40 + 19
    assert answers.count(429) == 1_000 - 59
    assert rate.admits("another")


def test_all_addresses_together_are_limited_and_few_are_remembered() -> None:
    rate = Rate(Limits(total_rate=0.0, total_burst=400), clock=lambda: 0.0)
    assert sum(rate.admits(f"10.0.{number // 256}.{number % 256}") for number in range(20_000)) == 400
    assert len(rate._each) <= 10_000


def test_two_opt_outs_at_once_are_one_event_with_one_receipt(client: TestClient, service: Service) -> None:
    def opt_out(_: int) -> Any:
        return client.post("/opt-outs", json={"person_id": "ann"}, headers=BEARER).json()

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(opt_out, range(16)))
    assert sum(each["new"] for each in done) == 1
    assert len({json.dumps(each["receipt"], sort_keys=True) for each in done}) == 1
    events = list(service.store.events(pseudonym=KEY.pseudonym("ann")))
    assert [event.event_state for event in events] == [EventState.GIVEN, EventState.WITHDRAWN]
    assert service.store.verify().broken is None


def test_nothing_that_is_logged_names_a_person(
    client: TestClient, sign_in: SignIn, capfd: pytest.CaptureFixture[str]
) -> None:
    sign_in("ann-archer")
    client.get("/me")
    client.get("/receipts/ann-archer", headers=BEARER)
    client.get("/ann-archer?person=ann-archer")
    client.request("ann-archer", "/me")
    client.post("/opt-outs", json={"person_id": "ann-archer"}, headers=BEARER)
    client.post("/events", content='{"person_id": "ann-archer"}', headers=BEARER)
    out, err = capfd.readouterr()
    assert "ann-archer" not in out + err
    assert KEY.pseudonym("ann-archer")[:8] not in out + err
    assert TOKEN not in out + err
    assert "GET /receipts/{record} 404" in err


def test_an_error_inside_tells_nothing(
    client: TestClient, service: Service, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("ann said no")

    sign_in("ann")
    monkeypatch.setattr(Service, "person", broken)
    asked = client.get("/me")
    assert (asked.status_code, asked.json()) == (500, {"error": "internal error"})


def test_a_token_file_that_others_read_or_that_holds_no_token_is_refused(tmp_path: Path) -> None:
    made = open_token(tmp_path / "deep" / "serve.token")
    assert len(made) >= 32
    assert open_token(tmp_path / "deep" / "serve.token") == made
    (tmp_path / "deep" / "serve.token").chmod(0o644)
    with pytest.raises(ConfigError, match="mode 644; expected 600"):
        open_token(tmp_path / "deep" / "serve.token")
    short = tmp_path / "short"
    short.write_text("abc\n")
    short.chmod(0o600)
    with pytest.raises(ConfigError, match="no token; expected 32"):
        open_token(short)


def test_the_guard_lets_no_websocket_in(client: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/me"):
        pass
