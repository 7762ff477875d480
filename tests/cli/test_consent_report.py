"""The documents of an officer read the folders of the runs: what a run's configuration says changes a sentence."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dp_train.cli import consent_report
from dp_train.consent.manifest import FILE, PRIVATE
from dp_train.consent.store import ConsentStore
from dp_train.store.database import Database

RUN: dict[str, Any] = {
    "task": {"name": "meeting_summary"},
    "corpus": {"train_on": "private", "research_only": False, "tables": "runs/units"},
    "anonymize": {"names": True, "patterns": True, "people": None, "presidio": False},
    "privacy": {"mode": "dp", "unit": "user"},
    "tracking": {"name": "mlflow", "log_private_statistics": False},
    "evaluation": {"samples": 2},
    "ledger": True,
}
DOCUMENTS = ("art30", "dpia", "transparency")


@pytest.fixture(autouse=True)
def project(folder: Path) -> None:
    """A working folder with an empty store."""
    database = Database(f"sqlite:///{folder / 'dp_train.db'}")
    ConsentStore(database).verify()
    database.close()


def said(cli: Callable[..., Any], run: dict[str, Any]) -> dict[str, str]:
    """Each document, of a project with one run that was made so."""
    folder = Path("runs/2025-01-31/12-00-00-000000-ab12cd")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(run))
    assert cli("consent", "report", "--out", "reports").code == 0
    texts = {name: json.loads(Path(f"reports/{name}.json").read_text()) for name in DOCUMENTS}
    return {name: json.dumps({**text, "as of": ""}) for name, text in texts.items()}


CHANGES = [
    ("task", "name", "chat_compose"),
    ("corpus", "train_on", "public"),
    ("corpus", "research_only", True),
    ("anonymize", "names", False),
    ("anonymize", "patterns", False),
    ("anonymize", "people", "en_core_web_sm"),
    ("privacy", "mode", "none"),
    ("privacy", "unit", "example"),
    ("tracking", "log_private_statistics", True),
    ("tracking", "name", "off"),
    ("evaluation", "samples", 0),
    ("ledger", None, False),
]


@pytest.mark.parametrize(("part", "key", "value"), CHANGES, ids=[f"{part}.{key}" for part, key, _ in CHANGES])
def test_what_a_recipe_says_changes_each_document(
    cli: Callable[..., Any], part: str, key: str | None, value: Any
) -> None:
    before = said(cli, RUN)
    changed = copy.deepcopy(RUN)
    if key is None:
        changed[part] = value
    else:
        changed[part][key] = value
    after = said(cli, changed)
    assert [name for name in DOCUMENTS if before[name] == after[name]] == []


def test_what_lies_in_a_run_folder_changes_each_document(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [said(cli, RUN)]
    folder = next(Path("runs").rglob("config.yaml")).parent
    (folder / PRIVATE).mkdir()
    (folder / PRIVATE / FILE).write_text("{}\n")
    texts.append(said(cli, RUN))
    Path("runs/units").mkdir()
    Path("runs/units/a.arrow").write_bytes(b"")
    texts.append(said(cli, RUN))
    (folder / "model_status.json").write_text('{"status": "retired", "reason": "x", "since": "2025-01-31"}')
    texts.append(said(cli, RUN))
    figures = consent_report.recall_figures()
    generated = {kind: {**row, "recall": 0.5} for kind, row in figures.generated.items()}
    worse = dataclasses.replace(figures, generated=generated)
    monkeypatch.setattr(consent_report, "recall_figures", lambda: worse)
    texts.append(said(cli, RUN))
    for name in DOCUMENTS:
        assert len({text[name] for text in texts}) == len(texts), name


def test_a_run_that_does_not_say_how_it_was_made_is_claimed_nothing_for(cli: Callable[..., Any]) -> None:
    for text in said(cli, {}).values():
        assert "NO differential privacy per person, in any of 1 runs" in text
        assert "names of a conversation's people were NOT replaced" in text
