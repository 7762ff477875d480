"""The snippets of docs/extending.md do what the text says."""

from __future__ import annotations

import re
from pathlib import Path

from example_runs import EXAMPLES, SMALL, Python

DOC = EXAMPLES.parent / "docs" / "extending.md"
TASK, MODEL, ENGINE, CALLBACK = re.findall(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)


def test_links_of_the_text_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", DOC.read_text()):
        assert (DOC.parent / link).is_file(), link


def test_task_model_and_engine_of_the_text_train(dp_train: Python, tmp_path: Path) -> None:
    own = (EXAMPLES / "own_task.py").read_text().replace("\nclass Reply:", "\nclass Base:")
    whole = own + "\n\n" + TASK + "\n\nclass Scored(Base):\n    metric = 'exact'\n    build = build\n"
    (tmp_path / "own_task.py").write_text(whole)
    (tmp_path / "own_model.py").write_text(MODEL)
    (tmp_path / "own_engine.py").write_text(ENGINE)
    small = [word for word in SMALL if not word.startswith(("model.layers", "model.width", "model.heads"))]
    chosen = ("task=own_task:Scored", "model=own_model:Narrow", "model.options.depth=1", "engine=own_engine:build")
    done = dp_train("train", *chosen, "privacy.max_contributions=4", *small)
    assert done.returncode == 0, done.stderr
    assert "exact" in done.stdout
    card = next(tmp_path.glob("runs/*/*/card.md")).read_text()
    assert "own_engine:build" in card


def test_the_callback_of_the_text_follows_a_run(python: Python) -> None:
    code = CALLBACK + (
        "\nimport dp_train as dp\nfrom quickstart import prepare\nmodel, task, plan, units = prepare()\n"
        "execution = dp.Execution(callbacks=[Print()])\n"
        "dp.Trainer(model, task, plan, optimizer=dp.sgd(lr=0.1), execution=execution).fit(units)\n"
    )
    done = python("-c", code, path=(EXAMPLES,))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("chat_compose: 5 steps\nε=8.00")
    assert done.stdout.endswith(" numbers\n")
