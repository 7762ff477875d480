"""A consent service on a store of two people, and a client of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serving import ADDRESS, BEARER, HOSTS, KEY, TOKEN, Clock, granted
from starlette.testclient import TestClient

from dp_train.consent.policy import WithdrawalPolicy
from dp_train.consent.signing import SigningKey
from dp_train.consent.store import ConsentStore
from dp_train.store.database import Database
from dp_train.web.app import make_app
from dp_train.web.guard import App, Limits
from dp_train.web.service import Service
from dp_train.web.tokens import Signer


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.chdir(tmp_path)
    database = Database(f"sqlite:///{tmp_path / 'dp_train.db'}")
    store = ConsentStore(database)
    made = Service(
        url=database.url,
        store=store,
        key=KEY,
        signing=SigningKey.open(tmp_path / "signing.key"),
        policy=WithdrawalPolicy(rules=()),
    )
    made.bind()
    store.append(granted("ann"))
    store.append(granted("bob"))
    yield made
    database.close()


@pytest.fixture
def app(service: Service, clock: Clock) -> App:
    limits = Limits(rate=1e6, burst=10**6, total_rate=1e6, total_burst=10**6, body_bytes=20_000, body_seconds=2.0)
    return make_app(service, Signer(TOKEN), address=ADDRESS, hosts=HOSTS, limits=limits, clock=clock)


@pytest.fixture
def client(app: App) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as made:
        yield made


@pytest.fixture
def sign_in(client: TestClient) -> Callable[[str], None]:
    """Gives the client the session of a person, as a link does."""

    def signed_in(person: str) -> None:
        made = client.post("/links", json={"person_id": person}, headers=BEARER)
        assert made.status_code == 201, made.text
        opened = client.get(made.json()["url"].removeprefix(ADDRESS))
        assert (opened.status_code, opened.headers["location"]) == (303, "/me")

    return signed_in
