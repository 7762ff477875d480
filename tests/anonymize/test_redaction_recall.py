"""Recall and precision as the benchmark measures them, and that its measure can fail."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dp_train.anonymize import Anonymizer, recall_figures
from dp_train.anonymize.recall_figures import NOT_COVERED

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_redaction.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_redaction", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_redaction"] = module
    spec.loader.exec_module(module)
    return module


def test_hand_labelled_lines_lie_in_their_text(bench: ModuleType) -> None:
    lines = list(bench.labelled())
    assert len(lines) == 200
    for line in lines:
        for start, end, _ in line.places:
            assert 0 <= start < end <= len(line.text)
            assert line.text[start:end].strip() == line.text[start:end]


def test_labelled_lines_lose_every_identifier_and_keep_every_fact(bench: ModuleType) -> None:
    rows = bench.measure(bench.labelled())
    facts = rows.pop("PERSONAL_FACT")
    assert facts["recall"] == 0.0  # what is told, not what identifies by shape: said to be not covered
    assert {kind: row["recall"] for kind, row in rows.items()} == dict.fromkeys(rows, 1.0)
    assert {kind: row["precision"] for kind, row in rows.items()} == dict.fromkeys(rows, 1.0)


@pytest.mark.parametrize("locale", ["en_US", "de_DE", "fr_FR", "es_ES", "ja_JP"])
def test_generated_lines_of_every_locale_keep_their_recall(bench: ModuleType, locale: str) -> None:
    rows = bench.measure(bench.generated(locale, 99, 30))
    assert bench.overall(rows.values(), "recall", "labelled") >= 0.93
    assert bench.overall(rows.values(), "precision", "replaced") >= 0.97


def test_the_measure_sees_a_missing_half(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for half, kind in ((Anonymizer(names=False), "PERSON"), (Anonymizer(patterns=False), "EMAIL")):
        monkeypatch.setattr(bench, "Anonymizer", lambda half=half: half)
        assert bench.measure(bench.labelled())[kind]["recall"] == 0.0


def test_the_measure_sees_what_was_taken_by_mistake(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def eager(conversation: Any) -> Any:
        import dataclasses

        turn = conversation.turns[0]
        return dataclasses.replace(
            conversation, turns=(dataclasses.replace(turn, text=turn.text.replace("the", "[PHONE]")),)
        )

    monkeypatch.setattr(bench, "Anonymizer", lambda: eager)
    assert bench.measure(bench.labelled())["PHONE"]["precision"] < 0.2


def test_residual_counts_a_name_that_survives(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    line = bench.Line(text="thanks jamesroe_42, and james too", roster={"u-1": "jamesroe_42"}, places=(), speaker="u-1")
    assert bench.residual([line.conversation()])["first name after"] == 0.0
    monkeypatch.setattr(bench, "Anonymizer", lambda: lambda conversation: conversation)
    survived = bench.residual([line.conversation()])
    assert survived["user name after"] == survived["first name after"] == 1.0


def test_what_the_card_quotes_was_measured(bench: ModuleType) -> None:
    figures = recall_figures()
    assert figures.command.startswith("python scripts/bench_redaction.py")
    assert 0 < figures.recall() <= 1
    rows = bench.measure(bench.labelled())
    assert figures.labelled == rows  # measured again whenever the patterns change
    assert figures.date in figures.describe()


def test_what_the_card_quotes_has_every_type_by_hand_and_what_is_not_covered() -> None:
    figures = recall_figures()
    written = {kind: row for kind, row in figures.hand.items() if row["labelled"]}
    assert len(written) >= 14
    assert [kind for kind, row in written.items() if f"{kind} {row['recall']:.2f}" not in figures.describe()] == []
    assert figures.describe().endswith(f"not covered: {NOT_COVERED}")


def test_names_in_other_letters_and_mistakes_keep_the_goals(bench: ModuleType) -> None:
    lines = [line for half in (False, True) for _, line in bench.hand(held_out=half)]
    assert bench.measure(lines)["TRANSLIT"]["recall"] >= 0.85
    wrong = bench.mistakes(bench.ordinary())
    assert wrong["sentences"] >= 1000
    assert wrong["share"] <= 0.005
