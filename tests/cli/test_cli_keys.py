"""`consent key --rotate`, as a privacy officer types it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from small_runs import Run

from dp_train.consent.events import Purpose
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.store import ConsentStore
from dp_train.store.database import Database


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_receipts_of_a_key_that_was_replaced_still_verify(folder: Path, cli: Run) -> None:
    assert cli("consent", "withdraw", "u001", "--receipt", "old.json").code == 0
    assert cli("consent", "key", "--rotate", "signing", "--operator", "ann", "--reason", "laptop lost").code == 0
    assert cli("consent", "withdraw", "u002", "--receipt", "new.json").code == 0
    assert json.loads(Path("old.json").read_text())["key"] != json.loads(Path("new.json").read_text())["key"]
    for name in ("old.json", "new.json"):
        ended = cli("consent", "verify", "--receipt", name, "--public-key", "runs/signing.pub")
        assert ended.code == 0, ended.err
    Path("elsewhere").mkdir()
    Path("elsewhere/signing.pub").write_text(Path("runs/signing.pub").read_text())
    ended = cli("consent", "verify", "--receipt", "old.json", "--public-key", "elsewhere/signing.pub")
    assert (ended.code, "ask for the right one" in ended.err) == (4, True)
    assert cli("consent", "withdraw", "u001").code == 0  # said before: its receipt is that of the old key


@pytest.mark.parametrize("key", ["principal", "ledger", "people"])
def test_a_key_whose_loss_would_cost_a_no_or_a_budget_is_refused_and_nothing_changes(
    folder: Path, cli: Run, key: str
) -> None:
    assert cli("consent", "withdraw", "u001").code == 0
    assert cli("ledger", "declare", "--epsilon", "3", "--delta", "1e-6").code == 0
    before = tree(folder)
    ended = cli("consent", "key", "--rotate", key)
    assert (ended.code, ended.err.strip().count("\n")) == (4, 0)
    assert "is not replaced" in ended.err
    assert tree(folder) == before


def test_under_another_principal_key_a_no_is_neither_lost_nor_overlooked(folder: Path, cli: Run) -> None:
    assert cli("consent", "withdraw", "u001").code == 0
    assert cli("consent", "key", "runs/other.key").code == 0
    for words in (("withdraw", "u001"), ("impact", "u001"), ("opt-out", "--people", "ids.txt")):
        Path("ids.txt").write_text("u001\n")
        ended = cli("consent", *words, "--key", "runs/other.key")
        assert ended.code == 4, ended.err
    key = PrincipalKey.load("runs/principal.key")
    database = Database(f"sqlite:///{folder / 'dp_train.db'}")
    frozen = ConsentStore(database).snapshot(as_of=datetime.now(UTC), key=key)
    assert frozen.says(key.pseudonym("u001"), Purpose.TRAIN_CHAT_COMPOSE).value == "withdrawn"
    database.close()


def test_a_new_token_is_another_one(folder: Path, cli: Run) -> None:
    assert cli("consent", "key", "--rotate", "token").code == 2
    Path("runs").mkdir()
    Path("runs/serve.token").write_text("x" * 40 + "\n")
    assert cli("consent", "key", "--rotate", "token").code == 0
    assert Path("runs/serve.token").read_text().strip() != "x" * 40
    assert Path("runs/serve.token").stat().st_mode & 0o777 == 0o600
