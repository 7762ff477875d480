"""`dp-train consent …`, as a privacy officer types it."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dp_train.cli.main import main
from dp_train.consent.tables import body_of_parts
from dp_train.corpora.sample import write_sample
from dp_train.store.chain import Link, verify_chain


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DP_TRAIN_STORE", raising=False)
    write_sample(tmp_path)


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    capsys.readouterr()
    assert main(["consent", *words, "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_import_snapshot_verify_and_status(capsys: pytest.CaptureFixture[str]) -> None:
    done = asked(capsys, "import", "consent.jsonl")
    assert done["new"] == done["rows"] == done["events_in_store"]
    root = asked(capsys, "snapshot", "--key", "principals.key")["root"]
    assert asked(capsys, "verify")["head"] == done["head"]
    assert main(["consent", "status", "--store", "sqlite:///empty.db"]) == 9
    assert not Path("empty.db").exists()
    status = asked(capsys, "status")
    counts = status["counts"]
    assert str(status["last_event_taken"]).startswith(f"{datetime.now(UTC).year}-")
    assert isinstance(counts, list)
    assert all(row["events"] is None or row["events"] >= 10 for row in counts)
    assert main(["consent", "export", "copy.jsonl"]) == 0
    asked(capsys, "import", "copy.jsonl", "--store", "sqlite:///other.db")
    assert asked(capsys, "snapshot", "--key", "principals.key", "--store", "sqlite:///other.db")["root"] == root


def test_audit_file_holds_a_chain_that_verifies_and_no_pseudonym(capsys: pytest.CaptureFixture[str]) -> None:
    asked(capsys, "import", "consent.jsonl")
    assert main(["consent", "export", "audit.jsonl", "--audit"]) == 0
    text = Path("audit.jsonl").read_text()
    links = [
        Link(row["seq"], row["prev_hash"], row["event_hash"], body_of_parts(row["event"], row["terms"]))
        for row in map(json.loads, text.splitlines())
    ]
    assert verify_chain(links, expected_head=str(asked(capsys, "verify")["head"])).broken is None
    for line in Path("consent.jsonl").read_text().splitlines():
        pseudonym = json.loads(line).get("pii_principal_id")
        assert pseudonym is None or pseudonym not in text


def test_a_proof_verifies_elsewhere_with_the_files_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked(capsys, "import", "consent.jsonl")
    key = ("--key", str(tmp_path / "principals.key"))
    known = json.loads(Path("conversations.jsonl").read_text().splitlines()[0])
    person = next(turn["person_id"] for turn in known["turns"])
    root = str(asked(capsys, "snapshot", *key, "--prove", person)["root"])
    asked(capsys, "snapshot", *key, "--prove", "nobody", "--proof", "absent.json")
    assert main(["consent", "snapshot", *key, "--prove", person]) == 2  # proof.json is there already
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    proof, absent = ("--proof", str(tmp_path / "proof.json")), ("--proof", str(tmp_path / "absent.json"))
    found = asked(capsys, "verify", *proof, "--root", root, "--person", person, *key)
    assert (found["in_snapshot"], found["root_is_that_given"], found["person_is_that_given"]) == (True, True, True)
    assert asked(capsys, "verify", *absent, "--root", root)["in_snapshot"] is False
    assert main(["consent", "verify", *proof, "--root", "00" * 32]) == 4
    assert main(["consent", "verify", *proof, "--person", "somebody else", *key]) == 4
    assert main(["consent", "verify", "--proof", str(tmp_path / "consent.jsonl")]) == 4
    assert main(["consent", "verify", "--proof", "missing.json"]) == 2
    assert list(elsewhere.iterdir()) == []


def test_errors_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["consent", "snapshot"]) == 4  # there is no runs/principal.key
    assert main(["consent", "snapshot", "consent.stored=1"]) == 2
    assert main(["consent", "import", "consent.jsonl", "consent.jsonl"]) == 2
    assert main(["consent", "snapshot", "--key", "principals.key"]) == 4  # the store is empty, and none is made
    assert not Path("dp_train.db").exists()
    assert main(["consent", "import", "nothing.jsonl"]) == 3
    assert main(["consent", "snapshot", "--key", "principals.key", "--as-of", "yesterday"]) == 2
    assert main(["consent", "verify", "--head", "ab" * 32]) == 9
    assert len(capsys.readouterr().err.strip().splitlines()) == 7
