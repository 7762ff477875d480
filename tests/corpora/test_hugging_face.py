"""Laws of datasets of Hugging Face: the same conversations as the readers give, offline, and no row in an error."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from dp_train.corpora.hugging_face import read_hf
from dp_train.corpora.readers import parquet_schema
from dp_train.corpora.rows import to_row
from dp_train.corpora.synthetic import Population, SyntheticCorpus
from dp_train.errors import ConfigError, DataError

CONVERSATIONS = list(SyntheticCorpus(20, Population.PRIVATE).conversations())


def table(**changed: str) -> pa.Table:
    rows = [{**to_row(conversation), "created_at": conversation.created_at} for conversation in CONVERSATIONS]
    for row in rows:
        row["roster"] = [{"person_id": person, "name": name} for person, name in row["roster"].items()]
    rows[1].update(changed)
    return pa.Table.from_pylist(rows, schema=parquet_schema())


@pytest.fixture
def datasets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return pytest.importorskip("datasets", reason="the extra is not installed: pip install 'dp_train[hf]'")


def test_a_saved_dataset_and_a_parquet_file_read_as_the_conversations_that_were_written(
    datasets: Any, tmp_path: Path
) -> None:
    datasets.Dataset(table()).save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "files").mkdir()
    parquet.write_table(table(), tmp_path / "files" / "talk.parquet")
    for path in (tmp_path / "saved", tmp_path / "files", tmp_path / "files" / "talk.parquet"):
        corpus = read_hf(path)
        assert list(corpus.conversations()) == CONVERSATIONS
        assert list(corpus.conversations()) == CONVERSATIONS, "a corpus can be read again"


def test_a_broken_row_is_named_by_number(datasets: Any, tmp_path: Path) -> None:
    datasets.Dataset(table(kind="flower pot")).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(DataError, match=r"saved row 2: kind is unknown") as error:
        list(read_hf(tmp_path / "saved").conversations())
    assert "flower" not in str(error.value)


@pytest.mark.parametrize("name", ["talk.csv", "talk.parquet", "."])
def test_what_is_no_dataset_is_told_in_one_line(name: str, datasets: Any, tmp_path: Path) -> None:
    (tmp_path / "talk.csv").write_text("flower,pot\n1,2\n")
    (tmp_path / "talk.parquet").write_text("flower pot")
    with pytest.raises(DataError, match="save_to_disk") as error:
        list(read_hf(tmp_path / name).conversations())
    assert "flower" not in str(error.value)
    assert "\n" not in str(error.value)


def test_nothing_there_and_nothing_installed_are_one_line_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        read_hf(tmp_path / "nothing")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"pip install 'dp_train\[hf\]'"):
        read_hf(tmp_path)
