"""The notebook runs top to bottom, as its reader runs it, and shows a card and a picture."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from example_runs import EXAMPLES

NOTEBOOK = EXAMPLES / "first_hour.ipynb"

nbformat = pytest.importorskip("nbformat", reason="the notebook runs with nbclient and ipykernel, of the group dev")
nbclient = pytest.importorskip("nbclient", reason="the notebook runs with nbclient and ipykernel, of the group dev")
pytest.importorskip("ipykernel", reason="the notebook runs with nbclient and ipykernel, of the group dev")


@pytest.mark.filterwarnings("ignore")  # of the kernel's own packages
@pytest.mark.timeout(900)
def test_the_notebook_runs_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(EXAMPLES.parent), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in shown if output.output_type == "error"]
    said = "".join(output.get("text", "") for output in shown)
    assert "ε=8.00, δ=1e-05 per person" in said
    shows = [kind for output in shown for kind in output.get("data", {})]
    assert "text/markdown" in shows
    assert "image/png" in shows


def test_the_notebook_is_kept_without_outputs() -> None:
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
