"""A start walks only what is new, and notices an old event that was changed as the whole walk does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from records import COMPANY, KEY, event

from dp_train.consent import integrity
from dp_train.consent.checkpoint import Checkpoints, _Fingerprint
from dp_train.consent.events import EventState
from dp_train.consent.store import LOCK, ConsentStore
from dp_train.consent.tables import COLUMNS, EVENTS, LINKS, ORGANISATIONS, TERMS_TABLE, TOMBSTONES, Row, body_of
from dp_train.errors import StoreError
from dp_train.store.chain import GENESIS, row_hash
from dp_train.store.chain_key import key_path, open_key
from dp_train.store.database import Database

PEOPLE = ("ann", "bob", "cy", "dee")


@pytest.fixture
def store(store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConsentStore]:
    monkeypatch.setenv("DP_TRAIN_LEDGER_KEY", str(tmp_path / "runs" / "ledger.key"))
    database = Database(store_url.replace("postgresql://", "postgresql+psycopg://"))
    open_key(key_path(database.url))
    yield filled(database)
    database.close()


def filled(database: Database) -> ConsentStore:
    made = ConsentStore(database)
    made.append(COMPANY)
    for person in PEOPLE:
        made.append(event(person, EventState.REFUSED if person == "ann" else EventState.GIVEN))
    return made


def walked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The source sequence of every event that is taken apart from now on."""
    seen: list[int] = []

    def body(row: Row, *texts: str) -> bytes:
        seen.append(row.event_time)
        return body_of(row, *texts)

    monkeypatch.setattr(integrity, "body_of", body)
    return seen


def checkpoint_file(store: ConsentStore) -> Path:
    return Checkpoints.of(store.database, store.store_id).path


def refused(store: ConsentStore) -> bool:
    try:
        store.check()
    except StoreError:
        return True
    return False


def test_a_start_walks_only_the_events_that_came_since(store: ConsentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = walked(monkeypatch)
    assert store.check().seq == 5
    assert len(seen) == 5
    seen.clear()
    assert store.check().seq == 5
    assert seen == []
    store.append(event("eve", when=3))
    assert store.check().event_hash == store.head().event_hash
    assert len(seen) == 1


def test_a_snapshot_leaves_a_checkpoint_and_uses_it(store: ConsentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    root = store.snapshot(as_of=datetime.now(UTC), key=KEY).root
    seen = walked(monkeypatch)
    assert store.snapshot(as_of=datetime.now(UTC), key=KEY).root == root
    assert seen == []


def test_without_a_chain_key_every_start_walks_all(
    store: ConsentStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DP_TRAIN_LEDGER_KEY", str(tmp_path / "none.key"))
    store.check()
    seen = walked(monkeypatch)
    store.check()
    assert len(seen) == 5
    assert not checkpoint_file(store).exists()


EDITS: dict[str, Any] = {
    "record_id": "another",
    "person": b"p" * 16,
    "organisation": 7,
    "terms": 7,
    "event_time": 7,
    "recorded_time": 7,
    "data_from": 7,
    "data_to": 7,
    "expires_at": 7,
    "source_seq": 7,
    "entity": b"e" * 16,
    "evidence_ref": "another",
    "stored_time": 7,
    "salt": b"s" * 16,
    "event_hash": b"h" * 32,
}


@pytest.mark.parametrize("column", EDITS)
def test_an_old_event_that_was_edited_in_any_column_is_noticed(store: ConsentStore, column: str) -> None:
    assert set(EDITS) == {each.name for each in EVENTS.c} - {"seq"}
    store.check()
    with store.database.writing(LOCK) as connection:
        connection.execute(EVENTS.update().where(EVENTS.c.seq == 3).values(**{column: EDITS[column]}))
    with pytest.raises(StoreError, match="consent chain"):
        store.check()


@pytest.mark.parametrize("table", [TERMS_TABLE, ORGANISATIONS])
def test_an_old_text_that_was_edited_is_noticed(store: ConsentStore, table: sa.Table) -> None:
    store.check()
    text = next(column for column in table.c if column.name != "number")
    with store.database.writing(LOCK) as connection:
        number, said = connection.execute(sa.select(table)).first() or (0, "")
        edited = said.replace("Consent", "Nonsent") + " "
        connection.execute(table.update().where(table.c.number == number).values(**{text.name: edited}))
    with pytest.raises(StoreError, match="was changed after it was written"):
        store.check()


@pytest.mark.parametrize("table", [LINKS, TERMS_TABLE, ORGANISATIONS, EVENTS])
def test_rows_that_were_taken_out_are_noticed(store: ConsentStore, table: sa.Table) -> None:
    store.check()
    with store.database.writing(LOCK) as connection:
        connection.execute(table.delete())
    with pytest.raises(StoreError, match="consent chain"):
        store.check()


def test_a_chain_that_was_made_anew_from_an_edited_event_on_is_refused(store: ConsentStore) -> None:
    """The chain has no key, so a walk alone holds; the checkpoint has seen the old one."""
    store.check()
    with store.database.writing(LOCK) as connection:
        texts: dict[int, str] = dict(tuple(row) for row in connection.execute(sa.select(TERMS_TABLE)))
        names: dict[int, str] = dict(tuple(row) for row in connection.execute(sa.select(ORGANISATIONS)))
        given = next(number for number, body in texts.items() if '"ConsentGiven"' in body and '"self"' not in body)
        previous = GENESIS
        for seq, *values in connection.execute(sa.select(EVENTS.c.seq, *COLUMNS).order_by(EVENTS.c.seq)).all():
            row = Row(*values)
            if seq == 2:
                row = row._replace(terms=given)
            previous = row_hash(previous, seq, body_of(row, names[row.organisation], texts[row.terms]))
            changes = {"terms": row.terms, "event_hash": bytes.fromhex(previous)}
            connection.execute(EVENTS.update().where(EVENTS.c.seq == seq).values(**changes))
    assert store.verify().broken is None
    with pytest.raises(StoreError, match="row 5 is not the one that an earlier start saw"):
        store.check()


def test_an_erasure_is_walked_whole_once(store: ConsentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.check()
    with store.database.writing(LOCK) as connection:
        store.erase_in(connection, KEY.pseudonym("bob"), at=datetime.now(UTC), record_id="erasure-1", reason="")
    seen = walked(monkeypatch)
    assert store.check().seq == 6
    assert len(seen) == 6
    seen.clear()
    store.check()
    assert seen == []


@pytest.mark.parametrize("how", ["gone", "no json", "edited", "another store's", "older"])
def test_a_checkpoint_that_does_not_fit_makes_a_start_slower_and_nothing_else(
    store: ConsentStore, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.check()
    path = checkpoint_file(store)
    said = json.loads(path.read_text())
    if how == "older":
        store.append(event("eve", when=3))
        store.check()
    elif how == "gone":
        path.unlink()
    elif how == "edited":
        said["rows"] = 1
    elif how == "another store's":
        said["store"] = "0" * 32
    if how != "gone":
        path.write_text("{" if how == "no json" else json.dumps(said))
    seen = walked(monkeypatch)
    head = store.check()
    assert head == store.head()
    assert len(seen) == (1 if how == "older" else head.seq)


def test_whoever_lacks_the_key_cannot_make_a_checkpoint_for_an_edited_event(
    store: ConsentStore, tmp_path: Path
) -> None:
    store.check()
    with store.database.writing(LOCK) as connection:
        connection.execute(EVENTS.update().where(EVENTS.c.seq == 3).values(event_time=7))
    own = tmp_path / "own.key"
    open_key(own)
    forged = Checkpoints(
        checkpoint_file(store), own.read_bytes()[:32], Checkpoints.of(store.database, store.store_id).about
    )
    said = json.loads(checkpoint_file(store).read_text())
    said.pop("seal")
    checkpoint_file(store).write_text(json.dumps({**said, "seal": forged._seal(said)}))
    with pytest.raises(StoreError, match="was changed after it was written"):
        store.check()


@given(cut=st.lists(st.integers(0, 9)), key=st.binary(min_size=32, max_size=32))
def test_a_fingerprint_does_not_depend_on_the_pieces(cut: list[int], key: bytes) -> None:
    rows = [(number, "é" * number, None, *range(13)) for number in range(9)]
    whole, parts = _Fingerprint(key), _Fingerprint(key)
    whole.add(rows)
    start = 0
    for end in [*sorted(cut), 9]:
        parts.add(rows[start:end])
        start = end
    assert whole._rows.digest() == parts._rows.digest()


CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("edit"), st.integers(1, 7), st.sampled_from(sorted(EDITS))),
        st.tuples(st.just("delete"), st.integers(1, 7), st.just("")),
        st.tuples(st.just("swap"), st.integers(1, 7), st.just("")),
        st.tuples(st.just("unlink"), st.integers(0, 3), st.just("")),
        st.tuples(st.just("bury"), st.integers(0, 3), st.just("")),
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=60)
@given(changes=CHANGES, later=st.integers(0, 2))
def test_a_start_after_a_checkpoint_holds_only_if_the_whole_chain_does(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, int, str]], later: int
) -> None:
    """The law: whatever bytes are changed, a checkpoint makes nothing pass that the whole walk refuses."""
    folder = tmp_path_factory.mktemp("store")
    database = Database(f"sqlite:///{folder / 'store.db'}")
    open_key(key_path(database.url))
    try:
        store = filled(database)
        store.check()
        for number in range(later):
            store.append(event(f"late{number}", when=9))
        with suppress(StoreError), database.writing(LOCK) as connection:
            change(connection, changes)
        broken = store.verify().broken is not None
        assert refused(store) or not broken
        if not broken and store.head().seq >= 5:  # else its end was cut off, which a walk alone does not see
            assert store.check() == store.head()
    finally:
        database.close()


def change(connection: sa.Connection, changes: list[tuple[str, int, str]]) -> None:
    for how, at, column in changes:
        if how == "edit":
            connection.execute(EVENTS.update().where(EVENTS.c.seq == at).values(**{column: EDITS[column]}))
        elif how == "delete":
            connection.execute(EVENTS.delete().where(EVENTS.c.seq == at))
        elif how == "swap":
            for one, other in ((at, 99), (at + 1, at), (99, at + 1)):
                connection.execute(EVENTS.update().where(EVENTS.c.seq == one).values(seq=other))
        elif how == "unlink":
            pseudonym = bytes.fromhex(KEY.pseudonym(PEOPLE[at]))
            connection.execute(LINKS.delete().where(LINKS.c.pseudonym == pseudonym))
        else:
            connection.execute(TOMBSTONES.insert().values(digest=bytes([at]) * 32, since=at))
