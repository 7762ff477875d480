"""A store that is not whole, or steps back behind what a run saw, starts nothing: one line, exit code 9."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from small_runs import SMALL, Run

from dp_train.consent.store import LOCK, ConsentStore
from dp_train.consent.tables import TERMS_TABLE
from dp_train.store.database import Database

STORED = (*SMALL, "consent.store=true", "tracking=off")


@pytest.fixture
def filled(folder: Path, cli: Run) -> ConsentStore:
    words = [word for word in SMALL if not word.startswith("tradeoff")]
    assert cli("consent", "import", "--embedded", *words).code == 0
    return ConsentStore(Database(f"sqlite:///{folder / 'dp_train.db'}"))


def noted(folder: Path, name: str, head: str) -> None:
    run = folder / "runs" / "2025-01-31" / "a"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("{}\n")
    (run / name).write_text(json.dumps({"head": head, "store_at": str(folder / "dp_train.db")}))


@pytest.mark.parametrize("verb", ["train", "tradeoff"])
def test_edited_events_start_nothing(filled: ConsentStore, cli: Run, verb: str) -> None:
    with filled.database.writing(LOCK) as connection:
        for number, body in connection.execute(sa.select(TERMS_TABLE)).all():
            edited = body.replace("ConsentRefused", "ConsentGiven").replace("ConsentWithdrawn", "ConsentGiven")
            connection.execute(TERMS_TABLE.update().where(TERMS_TABLE.c.number == number).values(body=edited))
    ended = cli(verb, *STORED)
    assert ended.code == 9
    assert "was changed after it was written" in ended.err
    assert ended.err.strip().count("\n") == 0


@pytest.mark.parametrize("verb", ["train", "tradeoff"])
def test_a_store_that_lacks_what_a_run_saw_starts_nothing(
    filled: ConsentStore, folder: Path, cli: Run, verb: str
) -> None:
    noted(folder, "consent.json", "ab" * 32)
    ended = cli(verb, *STORED)
    assert (ended.code, "older copy" in ended.err) == (9, True)


def test_a_ledger_that_lacks_what_a_run_saw_shows_and_spends_nothing(folder: Path, cli: Run) -> None:
    assert cli("consent", "key").code == 0
    assert cli("ledger", "declare", "--epsilon", "3", "--delta", "1e-6").code == 0
    noted(folder, "ledger.json", "cd" * 32)
    assert cli("ledger", "show").code == 9
    assert cli("train", *SMALL, "tracking=off").code == 9


def test_a_ledger_whose_rows_were_cut_off_starts_nothing(folder: Path, cli: Run) -> None:
    words = ("train", *SMALL, "tracking=off")
    assert cli(*words).code == 0
    with sqlite3.connect(folder / "dp_train.db") as connection:
        connection.execute("DELETE FROM ledger WHERE seq = (SELECT MAX(seq) FROM ledger)")
    connection.close()
    ended = cli(*words)
    assert (ended.code, "its end was cut off" in ended.err) == (9, True)
