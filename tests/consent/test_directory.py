"""A directory of the organisation: read whole or not at all."""

from pathlib import Path

import pytest

from dp_train.consent.directory import read_directory
from dp_train.errors import DataError


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.csv", "person_id,name,team\nu1,Ann Archer,x\nu2,李小明,y\n"),
        ("p.jsonl", '{"person_id": "u1", "name": "Ann Archer"}\n{"person_id": "u2", "name": "李小明"}\n'),
    ],
)
def test_a_directory_is_read_from_csv_and_json_lines(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_directory(tmp_path / name) == {"u1": "Ann Archer", "u2": "李小明"}


@pytest.mark.parametrize(
    ("name", "text", "row"),
    [
        ("p.csv", "id,name\nu1,Ann Archer\n", "row 1"),
        ("p.csv", "person_id,name\nu1,Ann Archer\nu2,\n", "row 2"),
        ("p.csv", "person_id,name\nu1,Ann Archer\nu1,Bob Brix\n", "row 2"),
        ("p.jsonl", '{"person_id": "u1", "name": "Ann Archer"}\n[]\n', "row 2"),
        ("p.jsonl", '{"person_id": 7, "name": "Ann Archer"}\n', "row 1"),
        ("p.jsonl", "Ann Archer\n", "cannot be read"),
        ("p.jsonl", '{"person_id": "u1", "name": "Ann", "name": "Bob"}\n', "cannot be read"),
        ("p.csv", "person_id,name,person_id\nu1,Ann Archer,u2\n", "a column twice"),
        ("p.csv", "person_id,name\nu1,Archer, Ann\n", "row 1"),
        ("p.csv", "person_id,name,team\nu1,Ann Archer\n", "row 1"),
        ("p.csv", 'person_id,name\nu1,"Ann" Archer\n', "cannot be read"),
    ],
)
def test_a_row_that_cannot_be_read_stops_the_read_and_is_not_quoted(
    tmp_path: Path, name: str, text: str, row: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=row) as caught:
        read_directory(tmp_path / name)
    assert "Ann" not in str(caught.value)


def test_a_directory_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"p\.csv: No such file"):
        read_directory(tmp_path / "p.csv")
