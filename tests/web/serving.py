"""Constants and events of the tests of the consent service."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from dp_train.consent.events import AgeBand, ConsentEvent, EntityRole, EventState, Purpose
from dp_train.consent.principals import PrincipalKey
from dp_train.conversations import ContentKind

KEY = PrincipalKey(b"the key of the tests, not a secret")
TOKEN = "the-token-of-the-tests-not-a-secret"
ADDRESS = "http://127.0.0.1:8765"
HOSTS = frozenset({"127.0.0.1", "localhost", "testserver"})
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@dataclass
class Clock:
    """Seconds since 1970 that a test moves."""

    now: float = field(default_factory=lambda: datetime.now(UTC).timestamp())

    def __call__(self) -> float:
        return self.now


def granted(person: str, **changes: Any) -> ConsentEvent:
    """What a person agreed to a day ago."""
    when = datetime.now(UTC) - timedelta(days=1)
    fields: dict[str, Any] = {
        "record_id": f"r-{abs(hash((person, str(changes))))}",
        "seq": 0,
        "pii_principal_id": KEY.pseudonym(person),
        "org_id": "acme",
        "entity_role": EntityRole.SELF,
        "purpose": frozenset({Purpose.TRAIN_CHAT_COMPOSE}),
        "content_kind": frozenset({ContentKind.CHAT}),
        "event_state": EventState.GIVEN,
        "event_time": when,
        "recorded_time": when,
        "notice_id": "features",
        "notice_version": 1,
        "age_band": AgeBand.ADULT,
    }
    return ConsentEvent(**fields | changes)
