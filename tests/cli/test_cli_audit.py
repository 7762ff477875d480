"""`dp-train audit` from the command line: a correct run passes, a planted bug is refuted and withheld everywhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import SMALL, Run

from dp_train.audit.checks import Check, Conformance
from dp_train.audit.letters import LetterModel, LetterTask
from dp_train.audit.planting import planted
from dp_train.audit.plants import PLANTS
from dp_train.audit.report import AuditReport, Level
from dp_train.cli.main import main
from dp_train.errors import ModelError, TrackingError
from dp_train.privacy.monitor import RunMonitor
from dp_train.privacy.plan import PrivacyPlan
from dp_train.runs import audit as audits
from dp_train.runs.folder import RunFolder, read_config
from dp_train.runs.recipe import recipe_of

FEW = ["--canaries", "400"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with one small run, its tracker and its ledger; copied by each test that changes it."""
    with pytest.MonkeyPatch.context() as patch:
        working = tmp_path_factory.mktemp("audited")
        patch.chdir(working)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert main(["train", *SMALL]) == 0
        yield working


@pytest.fixture
def project(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it as the working folder, with everything where it was relative to it."""
    copied = tmp_path / "project"
    shutil.copytree(trained, copied)
    monkeypatch.chdir(copied)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return copied


def run_of(project: Path) -> Path:
    return next(project.glob("runs/*/*/result.json")).parent


def metrics_of(project: Path, run: Path | None = None) -> tuple[dict[str, float], dict[str, str]]:
    from dp_train.tracking.connection import client

    note = json.loads(((run or run_of(project)) / "tracking.json").read_text())
    data = client(f"sqlite:///{project / 'mlflow.db'}").get_run(note["run_id"]).data
    return data.metrics, data.tags


def test_a_correct_run_is_consistent_with_its_claim_everywhere(cli: Run, project: Path) -> None:
    run = run_of(project)
    before = json.loads((run / "result.json").read_text())
    lines = json.loads(cli("ledger", "show", "--json").out)
    ended = cli("audit", str(run), "--json", *FEW)
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert found == json.loads((run / "audit.json").read_text())
    assert found["verdict"] == "consistent with the claim"
    assert found["findings"] == []
    (attack,) = found["attacks"]
    assert 0 <= attack["refuting_bound"]["epsilon"] <= attack["bound"]["epsilon"] < found["claim"]["planned"]
    assert found["seconds"].keys() == {"preparation", "conformance", "white box"}
    assert json.loads((run / "result.json").read_text()) == before
    assert json.loads(cli("ledger", "show", "--json").out) == lines  # nobody's budget was touched
    card = json.loads((run / "card.json").read_text())
    assert card["audit"]["what it says"].startswith("consistent with the claim")
    assert card["audit"]["lower bound, white box"].endswith("on published text, from every noised sum)")
    assert not any("no empirical lower bound" in limit for limit in card["the ε does not cover"])
    assert "![The claimed ε with lower bounds" in (run / "card.md").read_text()
    assert (run / "audit.png").stat().st_size > 1000
    assert cli("report", str(run), "--verify").code == 0
    metrics, tags = metrics_of(project)
    assert metrics["audit/epsilon_white_box"] == attack["bound"]["epsilon"]
    assert tags["audit.verdict"] == "consistent with the claim"
    assert "privacy.withheld" not in tags
    shown = cli("audit", str(run), "--level", "conformance").out
    assert "null batches" in shown
    assert "an audit proves nothing" in shown
    assert "prove" not in shown.replace("an audit proves nothing", "")


@contextmanager
def half_the_noise() -> Iterator[None]:
    """An engine that adds half the planned noise, to everything that is trained in this process."""
    with planted(next(plant for plant in PLANTS if plant.name == "noise × 0.5"), LetterModel(), LetterTask()):
        yield


def test_a_run_whose_noise_was_halved_is_refuted_and_withheld_everywhere(
    cli: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_of(project)
    with half_the_noise():
        with monkeypatch.context() as blind:  # a product that does not look at its own noise
            blind.setattr(RunMonitor, "_look", lambda monitor, step, units, seen: None)
            trained = cli("train", *SMALL)
            assert trained.code == 0, trained.err
        run = next(found.parent for found in project.glob("runs/*/*/result.json") if found.parent != first)
        claimed = json.loads((run / "result.json").read_text())
        assert claimed["epsilon"] == pytest.approx(8, abs=0.01)  # so the run believed
        ended = cli("audit", str(run), *FEW)
    assert ended.code == 5
    assert "refutes the claim" in ended.err
    assert "null batches" in ended.err
    found = json.loads((run / "audit.json").read_text())
    (attack,) = found["attacks"]
    assert any("noise" in reason for reason in attack["departed"])
    assert {finding.split(":")[0] for finding in found["findings"]} >= {"null batches", "white box"}
    result = json.loads((run / "result.json").read_text())
    assert result["epsilon"] is None
    assert result["withheld"][0].startswith("refuted by an audit: null batches: ")
    card = json.loads((run / "card.json").read_text())
    assert card["claim"]["statement"].startswith("claim withheld: refuted by an audit")
    assert "epsilon" not in card["claim"]
    assert card["guarantee as a curve"] == {}
    assert not any(name.startswith("ε of the plan by") for name in card["accounting"])
    assert "refuted" in card["ledger"]["ε of this run"]
    assert "withheld" in cli("ls", "runs").out
    shown = cli("ledger", "show")
    assert "refuted" in shown.out
    assert cli("ledger", "verify").code == 0
    assert cli("report", str(run), "--verify").code == 0
    lines = json.loads(cli("ledger", "show", "--json").out)
    assert "refuted" in json.dumps(lines)
    metrics, tags = metrics_of(project, run)
    assert metrics["privacy/epsilon"] != metrics["privacy/epsilon"]  # NaN
    assert tags["audit.verdict"] == "refutes the claim"
    assert tags["privacy.withheld"].startswith("null batches")
    assert "withheld" not in json.loads((first / "result.json").read_text())["claim"]  # the honest run keeps its own
    promoted = cli("promote", str(run))
    assert promoted.code == 5
    # Also where somebody wrote the old result back: the ledger says it.
    (run / "result.json").write_text(json.dumps({**result, "epsilon": 8.0, "withheld": []}))
    assert cli("promote", str(run)).code == 5
    assert "withheld" in cli("ls", "runs").out
    # A later audit that finds nothing does not bring it back.
    (run / "result.json").write_text(json.dumps(result))
    assert cli("audit", str(run), "--level", "conformance").code == 0
    assert json.loads((run / "result.json").read_text())["epsilon"] is None
    assert "consistent" not in json.loads((run / "audit.json").read_text())["verdict"]
    assert "consistent" not in metrics_of(project, run)[1]["audit.verdict"]
    card = json.loads((run / "card.json").read_text())
    assert card["audit"]["claimed"].startswith("nothing")
    assert any("sent no canary" in limit for limit in card["the ε does not cover"])
    assert cli("audit", str(run)).code == 5  # there is no ε to compare with


def test_what_is_computed_from_private_data_stays_in_the_private_folder_unless_released(
    cli: Run, project: Path
) -> None:
    run = run_of(project)
    ended = cli("audit", str(run), "--level", "full", "--json", *FEW)
    assert ended.code == 0, ended.err
    names = ["membership", "replay of outputs", "replay of references"]
    kept = json.loads((run / "private" / "audit.json").read_text())
    assert sorted(kept) == names
    assert set(kept["membership"]) == {"area", "tpr_at_0.001", "tpr_at_0.01", "members", "others", "roc"}
    found = json.loads(ended.out)
    assert found["private"] == names
    assert not found["released_private"]
    assert any(attack["name"].startswith("black box") for attack in found["attacks"])
    metrics, tags = metrics_of(project)
    assert not any("membership" in name or "replay" in name for name in metrics)
    assert "privacy.tainted" not in tags
    card = (run / "card.json").read_text()
    assert str(kept["membership"]["area"]["low"]) not in card
    released = cli("audit", str(run), "--level", "full", "--release-private", "--json", *FEW)
    assert released.code == 0, released.err
    metrics, tags = metrics_of(project)
    assert tags["privacy.tainted"] == "true"
    assert 0 <= metrics["audit/membership/area/value"] <= 1
    limits = json.loads((run / "card.json").read_text())["the ε does not cover"]
    assert any("which was released on request" in limit for limit in limits)


def test_what_conformance_found_stays_where_a_later_part_fails(
    cli: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ModelError("shadow run: no; expected one")

    def finds(*_: object, **__: object) -> Conformance:
        return Conformance(checks=(Check(name="null batches", compared="", findings=("too little noise",)),))

    monkeypatch.setattr(audits, "white_box", fails)
    monkeypatch.setattr(audits, "conformance", lambda *_, **__: Conformance(checks=()))
    run = run_of(project)
    ended = cli("audit", str(run), *FEW)
    assert ended.code == 5
    assert "is incomplete" in ended.err
    assert json.loads((run / "audit.json").read_text())["errors"] == ["white box: shadow run: no; expected one"]
    assert json.loads((run / "result.json").read_text())["epsilon"] is not None
    monkeypatch.setattr(audits, "conformance", finds)
    assert cli("audit", str(run), *FEW).code == 5
    assert json.loads((run / "audit.json").read_text())["verdict"] == "refutes the claim"
    assert json.loads((run / "result.json").read_text())["epsilon"] is None


def test_a_run_is_marked_before_a_private_number_is_written_and_the_card_does_not_forget_it(
    cli: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(project)
    folder = RunFolder.find(str(run))
    result = json.loads((run / "result.json").read_text())
    report = AuditReport(
        run="r",
        level=Level.FULL,
        epsilon=8.0,
        planned=8.0,
        delta=1e-5,
        unit="user",
        conformance=Conformance(checks=()),
        private={"membership": {"area": 0.5}},
        released=True,
    )

    def stops(*_: object, **__: object) -> None:
        raise TrackingError("the disk is full")

    recipe = recipe_of(read_config(folder.config))
    with monkeypatch.context() as full:
        full.setattr(RunFolder, "write_json", stops)
        full.setattr(audits, "_write_private", lambda *_: None)
        with pytest.raises(TrackingError):
            audits.record(folder, recipe, report, result)
    assert metrics_of(project)[1]["privacy.tainted"] == "true"
    audits.record(folder, recipe, report, result)
    audits.record(folder, recipe, replace(report, private={}, released=False), result)
    limits = json.loads((run / "card.json").read_text())["the ε does not cover"]
    assert sum("which was released on request" in limit for limit in limits) == 1


def test_canaries_leave_half_of_the_people_whom_a_cap_declares() -> None:
    plan = PrivacyPlan(sample_rate=0.1, expected_units=10, steps=4, delta=1e-5)
    assert audits.canaries_of(plan, 20_000) == 20_000
    assert audits.canaries_of(plan.replace(max_batch_units=30, population=100), 20_000) == 50


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"status": "KILLED"}, 6, "has not finished"),
        ({"epsilon": None, "withheld": []}, 5, "without privacy"),
        ({"epsilon": None, "withheld": ["a step is missing"]}, 5, "its claim is withheld"),
        ({"plan_digest": "0" * 64}, 2, "the run kept to 000000000000"),
    ],
)
def test_a_run_without_a_claim_is_refused_in_one_line(
    cli: Run, project: Path, change: dict[str, object], code: int, said: str
) -> None:
    run = run_of(project)
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps({**result, **change}))
    ended = cli("audit", str(run), "--json")
    assert (ended.code, ended.out) == (code, "")
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert not (run / "audit.json").exists()


def test_the_self_test_prints_who_catches_what_and_fails_if_a_bug_is_missed(
    cli: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dp_train.audit import self_test
    from dp_train.audit.planting import Plant

    harmless = Plant("a harmless change", "nobody", lambda run: None)
    chosen = [plant for plant in PLANTS if plant.name in ("noise × 0.5", "rate × 2")]
    monkeypatch.setattr(self_test, "PLANTS", chosen)
    ended = cli("audit", "--self-test")
    assert ended.code == 0, ended.err
    assert "noise × 0.5" in ended.out
    assert "batch sizes" in ended.out
    monkeypatch.setattr(self_test, "PLANTS", [*chosen, harmless])
    ended = cli("audit", "--self-test", "--json")
    assert ended.code == 5
    assert "a harmless change" in ended.err
    assert json.loads(ended.out)[-1] == {**json.loads(ended.out)[-1], "bug": "a harmless change", "caught_by": []}


def test_a_run_has_to_be_named(cli: Run, folder: Path) -> None:
    ended = cli("audit")
    assert ended.code == 2
    assert "no run is named" in ended.err
