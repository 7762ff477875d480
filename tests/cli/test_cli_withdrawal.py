"""A person leaves a trained run: impact, tags, receipt, resume, promotion, erasure, as a privacy officer types it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from small_runs import SMALL, Run

from dp_train.cli.load_config import compose
from dp_train.cli.main import main
from dp_train.consent.decisions import Reason
from dp_train.consent.events import Purpose
from dp_train.consent.manifest import read_manifest
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.store import ConsentStore
from dp_train.corpora.synthetic import Population, SyntheticCorpus
from dp_train.runs.folder import RunFolder, read_config
from dp_train.runs.populations import snapshot
from dp_train.store.database import Database
from dp_train.tracking.store import TrackingStore

POLICY = """rules:
  - {action: retrain, people: 1, days: 90}
  - {action: block_promotion, people: 2, days: 30}
  - {action: retire, people: 3}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with one finished run, tracked and in the ledger, on the 60 people of the embedded corpus."""
    before = Path.cwd()
    working = tmp_path_factory.mktemp("withdrawal")
    os.chdir(working)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ.pop("DP_TRAIN_STORE", None)
    try:
        assert main(["train", *SMALL]) == 0
        Path("policy.yaml").write_text(POLICY)
        yield working
    finally:
        os.chdir(before)


@pytest.fixture
def working(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it for one test."""
    shutil.copytree(trained, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    return tmp_path / "w"


def the_run() -> Path:
    return next(Path().glob("runs/*/*/result.json")).parent


def members() -> list[str]:
    """Ids of people who are in the run."""
    key, manifest = PrincipalKey.load("runs/principal.key"), read_manifest(the_run())
    assert manifest is not None
    everybody = (person.person_id for person, _ in SyntheticCorpus(60, Population.PRIVATE).census())
    return [person for person in everybody if manifest.holds(key.pseudonym(person))]


def asked(cli: Run, *words: str) -> Any:
    ended = cli(*words, "--json")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_impact_names_the_run_and_changes_nothing(working: Path, cli: Run) -> None:
    before = tree(the_run())
    found = asked(cli, "consent", "impact", members()[0])
    (run,) = found["runs"]
    assert run["run"] == str(the_run())
    assert run["people_left"] == 1
    assert run["group_epsilon"] == run["epsilon"] > 0
    assert run["action"] == "retrain"
    assert found["budget"]["retrain_needs"] == run["epsilon"]
    assert found["stored"] is None
    assert tree(the_run()) == before
    dry = asked(cli, "consent", "withdraw", members()[0], "--dry-run")
    assert dry["stored"] is None
    assert asked(cli, "consent", "verify")["events"] == 0


def test_promoted_version_carries_lineage_and_withdrawals_reach_it(working: Path, cli: Run, tmp_path: Path) -> None:
    made = asked(cli, "promote", str(the_run()), "--alias", "champion")
    result, ledger = (
        json.loads((the_run() / "result.json").read_text()),
        json.loads((the_run() / "ledger.json").read_text()),
    )
    assert made["tags"]["consent.root"] == result["consent_root"]
    assert made["tags"]["privacy.plan_digest"] == result["plan_digest"]
    assert float(made["tags"]["privacy.epsilon"]) == result["epsilon"]
    assert made["tags"]["ledger.reservation"] == ledger["reservation"]
    first, second, third, fourth = members()[:4]
    asked(cli, "consent", "withdraw", first, "--policy", "policy.yaml", "--receipt", "receipt.json")
    assert version_tags()["consent.action"] == "retrain"
    # A second machine has two files and nothing else.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("receipt.json", "runs/signing.pub"):
        shutil.copy(name, elsewhere)
    os.chdir(elsewhere)
    seen = asked(cli, "consent", "verify", "--receipt", "receipt.json", "--public-key", "signing.pub")
    assert seen["state"] == "ConsentWithdrawn"
    assert sorted(path.name for path in elsewhere.iterdir()) == ["receipt.json", "signing.pub"]
    os.chdir(working)
    assert asked(cli, "consent", "verify", "--head", seen["event_hash"])["events"] == 1
    # One who left may be promoted under this policy, two may not, three retire the model.
    assert asked(cli, "promote", str(the_run()), "--policy", "policy.yaml")["tags"]["consent.action"] == "retrain"
    asked(cli, "consent", "withdraw", second, "--policy", "policy.yaml")
    ended = cli("promote", str(the_run()), "--policy", "policy.yaml")
    assert ended.code == 4
    assert "block_promotion (people ≥ 2)" in ended.err
    assert version_tags()["consent.action"] == "block_promotion"
    done = asked(cli, "consent", "withdraw", third, "--policy", "policy.yaml")["done"]
    assert version_tags()["consent.action"] == "retire"
    assert any("champion no longer points" in line for line in done)
    status = json.loads((the_run() / "model_status.json").read_text())
    assert status["status"] == "retired"
    assert cli("promote", str(the_run())).code == 6
    assert "was retired on" in cli("evaluate", str(the_run())).err
    # A milder policy does not take back what was asked for.
    asked(cli, "consent", "withdraw", fourth)
    assert version_tags()["consent.action"] == "retire"


def test_reports_are_written_and_their_figures_are_the_ledgers(working: Path, cli: Run) -> None:
    assert cli("consent", "report", "--out", "reports").code == 0
    assert len(list(Path("reports").iterdir())) == 8
    dpia = json.loads(Path("reports/dpia.json").read_text())
    (line,) = dpia["(d) measures: runs in the ledger"]["table"]
    assert line["reservation"] == json.loads((the_run() / "ledger.json").read_text())["reservation"]
    epsilon = json.loads((the_run() / "result.json").read_text())["epsilon"]
    assert epsilon <= line["ε"] <= epsilon + 0.002
    audit = asked(cli, "consent", "report", "--kind", "audit")
    assert audit["ledger of privacy spent"]["holds"] == "yes"


def test_withdrawal_that_was_cut_off_is_completed_by_the_same_command(
    working: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("policy.yaml").write_text("rules: [{action: retire, people: 1}]")
    words = ("consent", "withdraw", members()[0], "--policy", "policy.yaml")
    with monkeypatch.context() as broken:
        broken.setattr(RunFolder, "retire", lambda *_: 1 / 0)
        assert cli(*words).code == 1
    assert not (the_run() / "model_status.json").exists()
    found = asked(cli, *words)
    assert found["stored"]["new"] is False
    assert (the_run() / "model_status.json").exists()
    assert asked(cli, "consent", "verify")["events"] == 1


def test_withdrawal_in_the_store_counts_for_a_run_whose_events_come_from_elsewhere(working: Path, cli: Run) -> None:
    config, _ = compose([], stored=read_config(the_run() / "config.yaml"))
    person = members()[0]
    pseudonym = PrincipalKey.load("runs/principal.key").pseudonym(person)
    before = snapshot(config)
    assert before.says(pseudonym, Purpose.TRAIN_CHAT_COMPOSE) is Reason.GRANTED
    asked(cli, "consent", "withdraw", person)
    now = snapshot(config)
    assert now.says(pseudonym, Purpose.TRAIN_CHAT_COMPOSE) is Reason.WITHDRAWN
    assert now.root != before.root


def version_tags() -> dict[str, str]:
    from dp_train.tracking.registry import versions

    run_id = json.loads((the_run() / "tracking.json").read_text())["run_id"]
    return dict(versions(TrackingStore.open(), run_id)[0].tags)


def test_withdrawal_between_snapshot_and_resume_stops_the_resume(working: Path, cli: Run) -> None:
    result = the_run() / "result.json"
    values = json.loads(result.read_text())
    result.write_text(json.dumps({**values, "status": "KILLED"}))  # as after Ctrl-C
    assert cli("train", "--resume", str(the_run())).code == 0
    result.write_text(json.dumps({**values, "status": "KILLED"}))
    asked(cli, "consent", "withdraw", members()[0])
    ended = cli("train", "--resume", str(the_run()))
    assert ended.code == 4
    assert "does not agree to train_chat_compose any more" in ended.err
    assert len(ended.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [({"withheld": ["seed"], "claim": "ε withheld"}, 5), ({"epsilon": None}, 5), ({"status": "FAILED"}, 6)],
)
def test_model_without_a_claim_is_not_promoted(working: Path, cli: Run, change: dict[str, Any], code: int) -> None:
    result = the_run() / "result.json"
    result.write_text(json.dumps({**json.loads(result.read_text()), **change}))
    assert cli("promote", str(the_run())).code == code


def test_somebody_whom_nothing_knows_has_no_impact_and_may_object_for_good(working: Path, cli: Run) -> None:
    ended = cli("consent", "impact", "no such person")
    assert ended.code == 4
    assert "no such person" not in ended.err
    assert asked(cli, "consent", "verify")["events"] == 0
    ended = cli("consent", "withdraw", "no such person")
    assert (ended.code, "no such person" in ended.err + ended.out) == (0, False)
    assert "standing objection" in ended.err
    assert asked(cli, "consent", "verify")["events"] == 1


def test_an_opt_out_before_the_first_run_makes_key_and_store_and_lasts(folder: Path, cli: Run) -> None:
    assert cli("consent", "withdraw", "early", "--method", "gpc", "--receipt", "r.json").code == 0
    assert cli("consent", "verify", "--receipt", "r.json", "--public-key", "runs/signing.pub").code == 0
    Path("ids.txt").write_text("one\ntwo\n EARLY\n")
    assert cli("consent", "opt-out", "--people", "ids.txt", "--receipts", "people.jsonl").code == 0
    assert cli("consent", "opt-out", "--organisation", "acme", "--receipts", "org.jsonl", "--reason", "board").code == 0
    assert len(Path("people.jsonl").read_text().splitlines()) == 3
    assert cli("consent", "opt-out").code == 2
    grant = {
        "record_id": "sync-1",
        "person_id": "early",
        "org_id": "acme",
        "entity_role": "self",
        "purpose": ["train_chat_compose"],
        "content_kind": ["chat"],
        "event_state": "ConsentGiven",
        "event_time": "2026-01-01T00:00:00+00:00",
        "recorded_time": "2026-01-01T00:00:00+00:00",
        "notice_id": "features",
        "notice_version": 1,
        "age_band": "adult",
    }
    late = {"event_time": datetime.now(UTC).isoformat(), "recorded_time": datetime.now(UTC).isoformat()}
    rows = [grant, grant | late | {"record_id": "sync-2"}]
    Path("sync.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli("consent", "import", "sync.jsonl", "--key", "runs/principal.key").code == 0
    store = ConsentStore(Database(f"sqlite:///{folder / 'dp_train.db'}"))
    key = PrincipalKey.load("runs/principal.key")
    frozen = store.snapshot(as_of=datetime.now(UTC), key=key)
    assert frozen.says(key.pseudonym("early"), Purpose.TRAIN_CHAT_COMPOSE) is Reason.GPC_SIGNAL
    store.database.close()


def test_a_no_of_one_id_is_a_no_of_every_linked_id(folder: Path, cli: Run) -> None:
    assert cli("consent", "withdraw", "work-id").code == 0
    assert cli("consent", "link", "work-id", "chat-id", "--reason", "one mailbox").code == 0
    assert "linked before" in cli("consent", "link", "CHAT-ID", "work-id").out
    assert cli("consent", "link", "work-id", "Work-Id").code == 2
    store = ConsentStore(Database(f"sqlite:///{folder / 'dp_train.db'}"))
    key = PrincipalKey.load("runs/principal.key")
    frozen = store.snapshot(as_of=datetime.now(UTC), key=key)
    assert frozen.says(key.pseudonym("chat-id"), Purpose.PUBLISH) is Reason.WITHDRAWN
    person = frozen.persons()
    assert person("Work-Id ") == person("chat-id")
    store.database.close()


def test_nothing_that_was_written_leads_to_an_erased_person(trained: Path, working: Path, cli: Run) -> None:
    corpus = SyntheticCorpus(60, Population.PRIVATE)
    person_id = members()[0]
    person = next(person for person, _ in corpus.census() if person.person_id == person_id)
    said = [
        turn.text
        for talk in corpus.conversations()
        for turn in talk.turns
        if turn.person_id == person_id and len(turn.text) > 20
    ]
    assert said
    pseudonym = PrincipalKey.load("runs/principal.key").pseudonym(person_id)
    asked(cli, "promote", str(the_run()))
    from dp_train.consent.event_json import write_events

    write_events(corpus.consent_events(PrincipalKey.load("runs/principal.key")), "given.jsonl")
    asked(cli, "consent", "import", "given.jsonl")
    bad = {"record_id": "bad", "person_id": person_id, "evidence_ref": person.email, "org_id": person.name}
    Path("given.jsonl").write_text(json.dumps(bad) + "\n")
    held = cli("consent", "import", "given.jsonl", "--key", "runs/principal.key", "--quarantine", "bad.jsonl")
    assert held.code == 10
    Path("given.jsonl").unlink()  # the officer's own file
    assert cli("consent", "report", "--out", "reports").code == 0
    assert cli("consent", "export", "audit.jsonl", "--audit").code == 0
    assert cli("report", str(the_run())).code == 0

    def leads(needles: list[bytes]) -> set[str]:
        roots = (working, trained / "mlartifacts")
        files = [path for root in roots for path in root.rglob("*") if path.is_file()]
        assert len(files) > 20
        return {f"{path.name}" for path in files if any(needle in path.read_bytes() for needle in needles)}

    identity = [person_id.encode(), person.name.encode(), person.email.encode()]
    texts = [text.encode() for text in said]
    tokens = [pseudonym.encode(), bytes.fromhex(pseudonym)]
    there = leads(tokens)  # the search finds what is there
    assert "people.jsonl" in there
    assert any(name.startswith("dp_train.db") for name in there)
    found = asked(cli, "consent", "erase", person_id)
    assert any("lists of people of 1 runs" in line for line in found["done"])
    assert leads([*identity, *texts, *tokens]) == set()
    told = json.dumps(found, ensure_ascii=False).encode()
    assert not [needle for needle in [*identity, *texts, *tokens] if needle in told]
    assert Path("bad.jsonl").exists()
    assert asked(cli, "consent", "verify")["events"] > 60
    assert cli("consent", "impact", person_id).code == 4
    # What the model has learnt is still counted.
    other = asked(cli, "consent", "impact", members()[0])
    assert other["runs"][0]["people_left"] >= 2
    assert "not taken out" in other["limits"][0]


@pytest.mark.parametrize("word", ["withdraw", "erase"])
def test_tables_of_tokenised_rows_go_when_somebody_leaves_and_not_before(working: Path, cli: Run, word: str) -> None:
    def rows() -> list[Path]:
        return list(Path("runs/units").rglob("*.arrow"))

    assert len(rows()) == 1
    asked(cli, "consent", "impact", members()[0])
    asked(cli, "consent", word, members()[0], "--dry-run")
    assert len(rows()) == 1
    left = asked(cli, "consent", word, members()[0])
    assert rows() == []
    assert "1 cached tables of tokenised rows deleted" in left["done"]


def test_a_withdrawal_in_a_folder_below_deletes_the_tables_and_signs_with_the_key_of_the_project(
    working: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, other = members()[:2]
    (working / "below").mkdir()
    monkeypatch.chdir(working / "below")
    left = asked(cli, "consent", "withdraw", person)
    assert list(working.glob("runs/units/*/*.arrow")) == []
    assert "1 cached tables of tokenised rows deleted" in left["done"]
    Path("ids.txt").write_text(f"{other}\n")
    assert cli("consent", "opt-out", "--people", "ids.txt", "--receipts", "people.jsonl").code == 0
    assert (working / "runs/signing.pub").exists()
    assert not Path("runs").exists()


def test_one_file_holds_everything_about_one_person_and_nothing_of_another(working: Path, cli: Run) -> None:
    assert cli("consent", "import", "--embedded", *SMALL).code == 0
    one, other = members()[:2]
    key = PrincipalKey.load("runs/principal.key")
    assert cli("consent", "link", one, "mail-of-one").code == 0
    assert cli("consent", "export", "before.json", "--person", one).code == 0
    before = json.loads(Path("before.json").read_text())
    assert Path("before.json").stat().st_mode & 0o777 == 0o600
    assert before["pseudonyms"] == sorted([key.pseudonym(one), key.pseudonym("mail-of-one")])
    assert {event["event_state"] for event in before["events"]} >= {"ConsentGiven", "IdentitiesLinked"}
    assert before["answers_today"]["train_chat_compose"] == "granted"
    (run,) = before["runs"]
    assert run["run"] == str(the_run())
    assert run["epsilon"] == pytest.approx(json.loads((the_run() / "result.json").read_text())["epsilon"])
    assert before["spent_by_all_runs"]["epsilon"] >= run["epsilon"]
    assert key.pseudonym(other) not in Path("before.json").read_text()
    # A no of the other id is theirs as well, and its receipt is in the file.
    asked(cli, "consent", "withdraw", "mail-of-one")
    assert cli("consent", "export", "after.json", "--person", one).code == 0
    after = json.loads(Path("after.json").read_text())
    assert after["answers_today"]["train_chat_compose"] != "granted"
    assert len(after["receipts"]) == 1
    again = cli("consent", "export", "after.json", "--person", one)
    assert (again.code, "exists already" in again.err) == (2, True)
    asked(cli, "consent", "erase", one)
    assert cli("consent", "export", "erased.json", "--person", one).code == 0
    erased = json.loads(Path("erased.json").read_text())
    assert (erased["events"], erased["runs"], erased["erased_since"] is not None) == ([], [], True)
    unknown = cli("consent", "export", "unknown.json", "--person", "person-of-nowhere")
    assert (unknown.code, Path("unknown.json").exists()) == (2, False)
    assert "person-of-nowhere" not in unknown.err


def test_an_action_is_overdue_once_its_date_has_passed_and_until_the_model_is_out_of_use(
    working: Path, cli: Run
) -> None:
    assert cli("consent", "overdue").code == 0
    first, second, third = members()[:3]
    asked(cli, "consent", "withdraw", first, "--policy", "policy.yaml")
    assert cli("consent", "overdue", "--policy", "policy.yaml").code == 0  # 90 days are left
    early = (datetime.now(UTC) - timedelta(days=91)).isoformat()
    asked(cli, "consent", "withdraw", second, "--policy", "policy.yaml", "--at", early)
    late = cli("consent", "overdue", "--policy", "policy.yaml", "--json")
    assert late.code == 12
    (run,) = json.loads(late.out)["runs"]
    assert (run["run"], run["people_left"]) == (str(the_run()), 2)
    # A no that is said again, for one purpose or for all, moves no date.
    asked(cli, "consent", "withdraw", second, "--policy", "policy.yaml", "--purpose", "train_chat_compose")
    assert cli("consent", "overdue", "--policy", "policy.yaml").code == 12
    asked(cli, "consent", "withdraw", third, "--policy", "policy.yaml")  # three: the model is retired
    assert cli("consent", "overdue", "--policy", "policy.yaml").code == 0


def test_a_notice_is_found_by_the_hash_that_events_carry(working: Path, cli: Run) -> None:
    assert cli("consent", "import", "--embedded", *SMALL).code == 0
    named = asked(cli, "consent", "notice")
    assert {(each["notice_id"], each["version"]) for each in named} >= {("conversation-features", 2)}
    assert not any(each["kept"] for each in named)
    # The embedded corpus hashes "id version": the text whose hash its events carry.
    Path("notice.txt").write_text("conversation-features 2")
    kept = cli("consent", "notice", "notice.txt")
    assert kept.code == 0
    (digest,) = [each["sha256"] for each in asked(cli, "consent", "notice") if each["kept"]]
    assert digest in kept.out
    assert "0 events" not in kept.out
    shown = cli("consent", "notice", "--sha256", digest)
    assert shown.out == "conversation-features 2\n"
    assert cli("consent", "notice", "--sha256", "0" * 64).code == 3
    Path("empty.txt").write_text(" \n")
    assert cli("consent", "notice", "empty.txt").code == 3
