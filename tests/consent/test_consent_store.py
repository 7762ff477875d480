"""The consent store: append-only, chained, each record once, and the same decisions as the registry in memory."""

import dataclasses
import random
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from records import AS_OF, CHAT, COMPANY, COMPOSE, KEY, ORG, RULES, day, event, registry, renewal
from test_consent_laws import SAYS, histories

from dp_train.consent.events import EntityRole, EventState
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.registry import ConsentRegistry
from dp_train.consent.store import LOCK, ConsentStore, Fate
from dp_train.consent.tables import EVENTS, LINKS, METADATA, TERMS_TABLE, TOMBSTONES, Row, body_of, record_commitment
from dp_train.errors import ConsentError, DataError, StoreError
from dp_train.store.chain import canonical
from dp_train.store.chain_key import open_key
from dp_train.store.database import Database

EAST, WEST = timezone(timedelta(hours=5)), timezone(timedelta(hours=-5))


@pytest.fixture(autouse=True)
def _starts_leave_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DP_TRAIN_LEDGER_KEY", str(tmp_path / "runs" / "ledger.key"))
    open_key(tmp_path / "runs" / "ledger.key")


@pytest.fixture
def store(store_url: str) -> Iterator[ConsentStore]:
    database = Database(store_url.replace("postgresql://", "postgresql+psycopg://"))
    yield ConsentStore(database)
    database.close()


def new_store(url: str) -> ConsentStore:
    """Make a store with a name of its own in place of the one that is there: one emptied and refilled is refused."""
    database = Database(url.replace("postgresql://", "postgresql+psycopg://"))
    with database.writing(LOCK) as connection:
        METADATA.drop_all(connection)
    return ConsentStore(database)


def append(store: ConsentStore, *events: Any) -> list[Fate]:
    with store.database.writing(LOCK) as connection:
        return store.append_in(connection, events)


def root(store: ConsentStore, **asked: Any) -> str:
    return store.snapshot(**{"as_of": AS_OF, "rules": RULES, "key": KEY, **asked}).root


def test_events_are_read_back_equal(store: ConsentStore) -> None:
    guardian = event("ann", entity_role=EntityRole.GUARDIAN, entity_id=KEY.pseudonym("mother"), data_to=day(9), seq=4)
    events = [COMPANY, event("ann"), guardian, event("bob", EventState.WITHDRAWN, 3, evidence_ref="letter")]
    assert append(store, *events) == [Fate.NEW] * 4
    assert list(store.events()) == events
    assert list(store.events(pseudonym=KEY.pseudonym("ann"))) == events[1:3]
    assert store.verify().rows == store.head().seq == 4


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), min_size=9, max_size=9),
)
def test_the_bytes_of_an_event_are_canonical_json(text: str, numbers: list[int | None]) -> None:
    fields = ["event_time", "recorded_time", "data_from", "data_to", "expires_at", "source_seq"]
    given_: dict[str, Any] = dict(zip([*fields, "stored_time"], [number or 0 for number in numbers[:7]], strict=True))
    for name, number in zip(fields, numbers, strict=False):
        if name in ("data_from", "data_to", "expires_at"):
            given_[name] = number
    people = {
        name: None if n is None else n.to_bytes(16, signed=True) for name, n in zip("ab", numbers[7:], strict=True)
    }
    row = Row(
        record_id=text,
        evidence_ref=text,
        organisation=1,
        terms=2,
        person=people["a"],
        entity=people["b"],
        salt=b"s",
        **given_,
    )
    own = {name: value for name, value in row._asdict().items() if name in (*fields, "stored_time")}
    own |= {name: None if (n := getattr(row, name)) is None else n.hex() for name in ("person", "entity")}
    own |= {"record": record_commitment(row), "org_id": text * 2}
    assert body_of(row, text * 2, "{}") == canonical(own) + b"\n{}"


def test_the_key_of_the_pseudonyms_is_noted_and_another_is_refused(store: ConsentStore) -> None:
    other = PrincipalKey(b"another key, under which Ann is someone else")
    append(store, COMPANY, event("ann"))
    root(store, key=other)  # nobody has said yet whose pseudonyms these are
    store.bind(KEY)
    store.bind(KEY)
    with pytest.raises(ConsentError, match="another key"):
        store.bind(other)
    with pytest.raises(ConsentError, match="another key"):
        root(store, key=other)
    assert root(store)


def test_counts_are_those_of_the_events_that_lead_to_somebody(store: ConsentStore) -> None:
    append(store, COMPANY, event("ann"), event("bob"), event("bob", EventState.WITHDRAWN, 2))
    with store.database.writing(LOCK) as connection:
        store.erase_in(connection, KEY.pseudonym("ann"), at=day(4), record_id="e", reason="")
    counts = {(terms["entity_role"], terms["event_state"]): count for terms, count in store.counts()}
    given_, left = EventState.GIVEN.value, EventState.WITHDRAWN.value
    assert counts == {("org_admin", given_): 1, ("self", given_): 1, ("self", left): 1}


def test_same_event_delivered_twice_changes_nothing(store: ConsentStore) -> None:
    one = event("ann")
    assert append(store, one, dataclasses.replace(one, seq=7, recorded_time=day(5))) == [Fate.NEW, Fate.SAME]
    head = store.head()
    assert store.append(one) is Fate.SAME
    assert store.head() == head


def test_other_event_under_a_known_record_id_is_refused(store: ConsentStore) -> None:
    one = event("ann", record_id="r")
    assert append(store, one, event("bob", record_id="r")) == [Fate.NEW, Fate.CONFLICT]
    assert store.append(event("ann", record_id="r", data_to=day(3))) is Fate.CONFLICT
    assert list(store.events()) == [one]


def test_a_denial_under_a_known_record_id_still_denies_and_is_kept_once(store: ConsentStore) -> None:
    append(store, COMPANY, event("ann", record_id="r"))
    denial = event("ann", EventState.WITHDRAWN, 1, record_id="r")
    assert [store.append(denial), store.append(denial)] == [Fate.CONFLICT, Fate.CONFLICT]
    assert store.head().seq == 3
    assert not store.snapshot(as_of=AS_OF, rules=RULES, key=KEY).decide("ann", COMPOSE, CHAT, day(50), ORG).allowed


def test_unlinked_person_is_gone_and_the_chain_verifies(store: ConsentStore) -> None:
    append(store, COMPANY, event("ann"), event("bob"))
    head = store.head()
    with store.database.writing(LOCK) as connection:
        assert store.erase_in(connection, KEY.pseudonym("ann"), at=day(4), record_id="e1", reason="")
        assert not store.erase_in(connection, KEY.pseudonym("ann"), at=day(4), record_id="e2", reason="")
    assert store.verify(expected_head=head.event_hash).broken is None
    assert list(store.events()) == [COMPANY, event("bob")]
    assert root(store) == registry([COMPANY, event("bob")]).snapshot(as_of=AS_OF).root
    for again in (event("ann"), event("ann", when=9, record_id="new"), event("ann", EventState.RENEWED, 9)):
        assert store.append(again) is Fate.SUPPRESSED  # no sync brings her back
    assert store.append(event("ann", EventState.REFUSED, 5)) is Fate.SUPPRESSED
    assert store.append(renewal("ann", 4.5)) is Fate.SUPPRESSED  # she said no again after that
    assert list(store.events(pseudonym=KEY.pseudonym("ann"))) == []
    assert store.append(renewal("ann", 6)) is Fate.NEW
    assert len(list(store.events(pseudonym=KEY.pseudonym("ann")))) == 1
    assert store.verify().broken is None


def test_pseudonyms_stand_in_the_links_alone(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'store.db'}")
    store = ConsentStore(database)
    append(store, event("ann", entity_id=KEY.pseudonym("mother")))
    with database.writing(LOCK) as connection:
        connection.execute(LINKS.delete())
    with database.reading() as connection:
        dump = "\n".join(str(row) for table in (EVENTS, LINKS) for row in connection.execute(sa.select(table)))
    assert KEY.pseudonym("ann")[:16] not in dump
    assert str(KEY.digest("ann")[:8])[2:-1] not in dump
    database.close()


@pytest.mark.parametrize(
    "change",
    [
        {"event_time": 0},
        {"person": b"5" * 16},
        {"record_id": "another"},
        {"salt": b""},
        {"terms": 5},
        {"organisation": 5},
        {"evidence_ref": "x"},
        {"stored_time": 1},
        {"event_hash": bytes(32)},
    ],
)
def test_changed_event_is_named(store: ConsentStore, change: dict[str, Any]) -> None:
    append(store, *(event("ann", when=number) for number in range(5)))
    with store.database.writing(LOCK) as connection:
        connection.execute(EVENTS.update().where(EVENTS.c.seq == 3).values(**change))
    broken = store.verify().broken
    assert broken is not None
    assert broken.seq == 3


def test_event_taken_out_is_named_and_a_cut_end_shows_against_a_kept_head(store: ConsentStore) -> None:
    append(store, *(event("ann", when=number) for number in range(5)))
    head = store.head()
    with store.database.writing(LOCK) as connection:
        connection.execute(EVENTS.delete().where(EVENTS.c.seq == 5))
    assert store.verify().broken is None
    assert store.verify(expected_head=head.event_hash).broken is not None
    with store.database.writing(LOCK) as connection:
        connection.execute(EVENTS.delete().where(EVENTS.c.seq == 2))
    assert store.verify().broken == dataclasses.replace(store.verify().broken, seq=2)  # type: ignore[type-var]


def test_event_with_an_entity_that_is_a_name_is_refused_and_nothing_of_its_batch_is_stored(store: ConsentStore) -> None:
    with pytest.raises(DataError, match="entity_id is not a pseudonym"):
        append(store, event("ann"), event("bob", entity_id="Bob's mother"))
    with pytest.raises(DataError, match="NUL"):
        store.append(event("ann", notice_id="a\x00b"))
    assert store.head().seq == 0


def test_failed_transaction_leaves_nothing_and_the_next_append_works(store: ConsentStore) -> None:
    def fail() -> None:
        with store.database.writing(LOCK) as connection:
            store.append_in(connection, [event("ann"), COMPANY])
            connection.execute(LINKS.insert(), [{"pseudonym": b"x", "number": n, "salt": b""} for n in (b"1", b"2")])

    with pytest.raises(StoreError):
        fail()
    assert store.head().seq == 0
    append(store, event("ann"), COMPANY)
    assert list(store.events()) == [event("ann"), COMPANY]


def test_earlier_state_is_reproduced_whatever_was_delivered_since(store: ConsentStore) -> None:
    append(store, COMPANY, event("ann"))
    head, before = store.head(), root(store)
    store.append(event("ann", EventState.WITHDRAWN, 1, recorded_time=day(1)))
    assert root(store) != before
    assert root(store, upto=head.seq) == before


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(histories(), st.randoms(use_true_random=False), st.integers(0, 100))
def test_store_and_registry_decide_alike_in_any_order_of_delivery(
    store_url: str, events: list[Any], chance: random.Random, known: int
) -> None:
    store = new_store(store_url)
    delivered = [COMPANY, *events, *chance.choices([COMPANY, *events], k=4)]
    chance.shuffle(delivered)
    for one in delivered:
        store.append(one)
    memory = registry([COMPANY, *events])
    assert root(store) == memory.snapshot(as_of=AS_OF).root
    assert root(store, known_at=day(known)) == memory.snapshot(as_of=AS_OF, known_at=day(known)).root
    streamed = ConsentRegistry(store.events(), rules=RULES, key=KEY).snapshot(as_of=AS_OF)
    assert root(store) == streamed.root
    assert store.verify().broken is None
    store.database.close()


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    histories(),
    histories(person="ann", states=[state for state in SAYS if not state.grants]),
    st.randoms(use_true_random=False),
)
def test_no_denial_is_lost_whatever_id_it_bears_and_whenever_it_comes(
    store_url: str, events: list[Any], denials: list[Any], chance: random.Random
) -> None:
    store = new_store(store_url)
    taken = [one.record_id for one in events] or ["free"]
    last = [
        dataclasses.replace(one, record_id=chance.choice(taken), event_time=day(20), recorded_time=day(20))
        for one in denials
    ]
    delivered = [COMPANY, *events, *last]
    chance.shuffle(delivered)
    append(store, *delivered)
    frozen = store.snapshot(as_of=AS_OF, rules=RULES, key=KEY)
    for one in last:
        for purpose in one.purpose or [COMPOSE]:
            for kind in one.content_kind:
                assert not frozen.decide("ann", purpose, kind, day(30), ORG).allowed
    store.database.close()


@pytest.mark.parametrize("field", ["event_time", "recorded_time", "data_from", "data_to", "expires_at"])
@pytest.mark.parametrize("end", [datetime.min.replace(tzinfo=EAST), datetime.max.replace(tzinfo=WEST)])
def test_a_time_of_an_older_version_beyond_the_calendar_never_allows_more_and_crashes_nothing(
    store: ConsentStore, field: str, end: datetime
) -> None:
    kept = {"data_from": day(0), "data_to": day(99), "expires_at": day(200)}
    grant, denial = event("ann", when=1, **kept), event("bob", EventState.WITHDRAWN, 1, **kept)
    for one in (grant, denial):
        object.__setattr__(one, field, end)  # the reader refuses it today
    append(store, COMPANY, event("bob"), grant, denial)
    found = {each.pii_principal_id: each for each in store.events(pseudonym=KEY.pseudonym("ann"))}
    assert getattr(found[KEY.pseudonym("ann")], field).year == end.year
    frozen = store.snapshot(as_of=AS_OF, rules=RULES, key=KEY)
    assert not frozen.decide("bob", COMPOSE, CHAT, day(50), ORG).allowed
    in_memory = ConsentRegistry(store.events(), rules=RULES, key=KEY).snapshot(as_of=AS_OF)
    for person in ("ann", "bob"):
        asked = (person, COMPOSE, CHAT, day(50), ORG)
        assert frozen.decide(*asked) == in_memory.decide(*asked)
    assert frozen.decide("ann", COMPOSE, CHAT, day(50), ORG).allowed == (
        (field, end.year)
        in {("data_from", 1), ("data_to", 9999), ("expires_at", 9999), ("event_time", 1), ("recorded_time", 9999)}
    )


def test_a_text_that_is_gone_is_one_line_for_whoever_reads(store: ConsentStore) -> None:
    append(store, COMPANY, event("ann"))
    with store.database.writing(LOCK) as connection:
        connection.execute(TERMS_TABLE.delete())
    for read in (store.counts, store.events):
        with pytest.raises(StoreError, match="text of an event is gone"):
            list(read())


def test_a_store_that_was_emptied_and_filled_again_is_refused_by_the_next_start(store: ConsentStore) -> None:
    append(store, COMPANY, event("ann", EventState.WITHDRAWN, 3))
    root(store)
    with store.database.writing(LOCK) as connection:
        for table in (EVENTS, LINKS, TOMBSTONES):
            connection.execute(table.delete())
    with pytest.raises(StoreError, match="not the one that an earlier start saw"):
        root(store)
    append(store, COMPANY, event("ann"), event("bob"))
    assert store.verify().broken is None  # a chain of its own, and not the one that was seen
    with pytest.raises(StoreError, match="not the one that an earlier start saw"):
        root(store)
