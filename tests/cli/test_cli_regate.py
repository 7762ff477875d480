"""Runs gated by the consent store, and what resuming them asks."""

from __future__ import annotations

import dataclasses
import json
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest
from small_runs import SMALL, Run, signal_at_checkpoint

from dp_train.cli.load_config import compose
from dp_train.consent.events import ConsentEvent, EventState, Purpose
from dp_train.consent.manifest import read_manifest
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.store import LOCK, ConsentStore
from dp_train.runs.consent_recheck import Change, change
from dp_train.runs.populations import asked, consented_examples, populations, refuse_the_past, stored_snapshot
from dp_train.store.database import Database

WORDS = (*SMALL, "tracking=off", "consent.store=true")
PEOPLE = tuple(word for word in SMALL if word.startswith(("experiments", "corpus")))


@pytest.fixture
def imported(folder: Path, cli: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder whose store holds the events of the small corpus."""
    monkeypatch.delenv("DP_TRAIN_STORE", raising=False)
    ended = cli("consent", "import", "--embedded", *PEOPLE, "--json")
    assert ended.code == 0, ended.err
    done = json.loads(ended.out)
    assert done["new"] == done["rows"] > 100
    assert cli("consent", "import", "--embedded", *PEOPLE).code == 0
    return folder


def withdrawal(pseudonym: str, **changes: object) -> ConsentEvent:
    now = datetime.now(UTC)
    (first, *_) = [one for one in stored(pseudonym) if one.event_state.grants]
    return dataclasses.replace(
        first,
        record_id=f"withdrawal-{pseudonym[:8]}",
        event_state=EventState.WITHDRAWN,
        event_time=now,
        recorded_time=now,
        **changes,  # type: ignore[arg-type]
    )


def stored(pseudonym: str) -> list[ConsentEvent]:
    database = Database(f"sqlite:///{Path('dp_train.db').absolute()}")
    try:
        return list(ConsentStore(database).events(pseudonym=pseudonym))
    finally:
        database.close()


def deliver(*events: ConsentEvent) -> None:
    database = Database(f"sqlite:///{Path('dp_train.db').absolute()}")
    for event in events:
        ConsentStore(database).append(event)
    database.close()


def test_a_run_by_the_store_gives_what_the_events_themselves_give(imported: Path, cli: Run) -> None:
    (by_events, _), (by_store, _) = compose(SMALL), compose(WORDS)
    assert [e.owners for e in consented_examples(by_store)] == [e.owners for e in consented_examples(by_events)]
    root = json.loads(cli("consent", "snapshot", *PEOPLE, "--json").out)["root"]
    assert root == consented_examples(by_store).root


def test_an_earlier_time_is_no_way_around_a_withdrawal(imported: Path, cli: Run) -> None:
    config, _ = compose(WORDS)
    before = datetime.now(UTC)
    asked_ = f"consent.as_of={before.isoformat()}", f"consent.known_at={before.isoformat()}"
    past, _ = compose([*WORDS, *asked_])
    refuse_the_past(past, populations(past))  # nothing was withdrawn since
    key = PrincipalKey.load(config.consent.key)
    owner = next(iter(next(iter(consented_examples(config))).owners))
    deliver(withdrawal(key.pseudonym(owner)))
    assert owner in {one for example in consented_examples(past) for one in example.owners}
    ended = cli("train", *WORDS, *asked_)
    assert (ended.code, ended.err.count("\n")) == (4, 1)
    assert "do not agree any more" in ended.err
    assert cli("validate", *WORDS, *asked_).err == ended.err  # it says what training would say


def test_without_events_in_the_store_nothing_is_trained_and_nothing_is_made(folder: Path, cli: Run) -> None:
    (folder / "runs").mkdir()
    (folder / "runs" / "principal.key").write_text("11" * 32)
    (folder / "runs" / "principal.key").chmod(0o600)
    ended = cli("train", *WORDS)
    assert ended.code == 4
    assert ended.err.count("\n") == 1
    assert "consent import" in ended.err
    assert not (folder / "dp_train.db").exists()


def test_a_file_beside_the_store_is_refused(folder: Path, cli: Run) -> None:
    ended = cli("train", *WORDS, "consent.events=some.jsonl")
    assert (ended.code, ended.err.count("\n")) == (2, 1)


@pytest.fixture
def stopped(imported: Path, cli: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of the store that was ended by a signal after its first checkpoint."""
    with monkeypatch.context() as patched:
        signal_at_checkpoint(patched, signal.SIGTERM)
        ended = cli("train", *WORDS, "trainer.steps=6", "trainer.checkpoint_every=2")
    assert ended.code == 143, ended.err
    return next(imported.glob("runs/*/*/result.json")).parent


def test_a_withdrawal_stops_the_resume_with_the_reason_and_an_erasure_too(
    imported: Path, stopped: Path, cli: Run
) -> None:
    run = stopped
    manifest = read_manifest(run)
    assert manifest is not None
    database = Database(f"sqlite:///{imported / 'dp_train.db'}")
    before = {path: path.read_bytes() for path in (run / "checkpoint").rglob("*") if path.is_file()}

    # Somebody of the run leaves: no step more, and the reason without a count.
    (leaves, *_) = manifest.people
    deliver(withdrawal(leaves))
    ended = cli("train", "--resume", str(run))
    assert (ended.code, ended.err.count("\n")) == (4, 1)
    assert "consent changed since this run began" in ended.err
    assert "fewer than 10" in ended.err
    assert "stays spent" in ended.err
    assert leaves[:16] not in ended.err + ended.out
    assert {path: path.read_bytes() for path in (run / "checkpoint").rglob("*") if path.is_file()} == before

    # Erased on top: still stopped, though nothing leads to the person any more.
    store = ConsentStore(database)
    with database.writing(LOCK) as connection:
        assert store.erase_in(connection, leaves, at=datetime.now(UTC), record_id="e", reason="")
    database.close()
    assert cli("train", "--resume", str(run)).code == 4


def test_a_resume_goes_on_with_the_units_it_began_with_whatever_was_granted_since(
    imported: Path, stopped: Path, cli: Run
) -> None:
    run = stopped
    manifest = read_manifest(run)
    assert manifest is not None
    database = Database(f"sqlite:///{imported / 'dp_train.db'}")
    events = list(ConsentStore(database).events())
    database.close()
    outside = sorted({e.pii_principal_id for e in events if e.pii_principal_id} - set(manifest.people))
    told = next(e for e in events if e.pii_principal_id in manifest.people and e.notice_version == 2)
    now = datetime.now(UTC)
    early = min(event.event_time for event in events)
    for number, person in enumerate(outside):
        news = dataclasses.replace(
            told, record_id=f"news-{number}", pii_principal_id=person, event_time=now, recorded_time=now
        )
        if number % 2:
            deliver(dataclasses.replace(news, event_state=EventState.RENEWED, data_from=early))
        else:
            deliver(
                dataclasses.replace(
                    news, event_state=EventState.REFUSED, purpose=frozenset({Purpose.TRAIN_MEETING_SUMMARY})
                )
            )
    ended = cli("train", "--resume", str(run))
    assert ended.code == 0, ended.err
    assert json.loads((run / "result.json").read_text())["steps"] == 6


def test_from_ten_people_on_they_are_counted(imported: Path) -> None:
    config, _ = compose(WORDS)
    before = stored_snapshot(config, as_of=datetime.now(UTC))
    assert before.upto is not None
    assert change(config, before, before, frozenset()) == Change(people=frozenset(), turns=0)
    (people, *_) = [
        sorted({turn.person_id for one in corpus.conversations() for turn in one.turns}) for corpus, _ in asked(config)
    ]
    key = PrincipalKey.load(config.consent.key)
    allowed = [p for p in map(key.pseudonym, people) if any(e.event_state.grants for e in stored(p))]
    deliver(*(withdrawal(one, purpose=frozenset()) for one in allowed))
    after = change(config, before, stored_snapshot(config, as_of=datetime.now(UTC)), frozenset())
    assert len(after.people) >= 10
    assert after.people <= set(allowed)
    assert after.turns > 0
