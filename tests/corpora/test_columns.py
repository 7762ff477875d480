"""Laws of other column names: a file with its own names reads as the same file by ours, and nothing unknown passes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from dp_train.corpora.columns import KNOWN, Columns, ColumnsConfig, Noted
from dp_train.corpora.readers import parquet_schema, read_file, read_jsonl, read_parquet
from dp_train.corpora.rows import to_row
from dp_train.corpora.sample import CONVERSATIONS
from dp_train.corpora.table import conversations_of_turns
from dp_train.errors import ConfigError, DataError

PLANTED = "my locker code is amber birch 77"
HEADER = "conversation_id,org_id,created_at,kind,turn,person_id,text"
ROWS = [["c1", "o1", "2025-03-04T09:30:00+00:00", "thread", str(n), f"p{n}", f"{PLANTED} {n}"] for n in range(3)]


def renamed(row: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """A row by the names of a file."""
    values = {names.get(name, name): value for name, value in row.items()}
    turns = names.get("turns", "turns")
    values[turns] = [{names.get(name, name): value for name, value in turn.items()} for turn in row["turns"]]
    return values


@given(
    names=st.dictionaries(st.sampled_from(KNOWN), st.text(min_size=1, max_size=8).map(lambda t: f"x{t}"), max_size=6)
)
def test_a_nested_row_under_other_names_is_the_row_itself(names: dict[str, str]) -> None:
    names = dict({given: own for own, given in names.items()}.items())  # one name, one field
    names = {own: given for given, own in names.items()}
    for conversation in read_jsonl(CONVERSATIONS).conversations():
        row = to_row(conversation)
        assert Columns(names=names).row(renamed(row, names)) == row


@given(order=st.permutations(range(7)), extra=st.integers(0, 7))
def test_a_table_reads_alike_whatever_its_columns_are_called_and_where_they_stand(order: list[int], extra: int) -> None:
    own = HEADER.split(",")
    names = {name: f"their {name}" for name in own}
    header = [names[own[place]] for place in order]
    header.insert(extra, "mood")
    rows = [[row[place] for place in order] for row in ROWS]
    for row in rows:
        row.insert(extra, PLANTED)
    columns = Columns(names=names, left_out=frozenset({"mood"}))
    (found,) = conversations_of_turns("t.csv", iter([header, *rows]), columns)
    (plain,) = conversations_of_turns("t.csv", iter([own, *ROWS]), Columns())
    assert found == plain


def test_parquet_of_other_names_reads(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([], schema=parquet_schema()).rename_columns(
        [{"kind": "sort", "org_id": "company"}.get(name, name) for name in parquet_schema().names]
    )
    rows = [dict(to_row(each)) for each in read_jsonl(CONVERSATIONS).conversations()]
    for row in rows:
        row["roster"] = [{"person_id": person, "name": name} for person, name in row["roster"].items()]
        row["created_at"] = None
        row["sort"], row["company"] = row.pop("kind"), row.pop("org_id")
    times = [each.created_at for each in read_jsonl(CONVERSATIONS).conversations()]
    for row, time in zip(rows, times, strict=True):
        row["created_at"] = time
    parquet.write_table(pa.Table.from_pylist(rows, schema=table.schema), tmp_path / "t.parquet")
    columns = Columns(names={"kind": "sort", "org_id": "company"})
    assert list(read_parquet(tmp_path / "t.parquet", columns).conversations()) == list(
        read_jsonl(CONVERSATIONS).conversations()
    )


def test_without_a_column_of_turns_rows_count_in_their_order(tmp_path: Path) -> None:
    own = HEADER.replace(",turn", "").split(",")
    rows = [[cell for place, cell in enumerate(row) if place != 4] for row in ROWS]
    (found,) = conversations_of_turns("t.csv", iter([own, *rows]), Columns())
    (plain,) = conversations_of_turns("t.csv", iter([HEADER.split(","), *ROWS]), Columns())
    assert found == plain


def test_constants_stand_for_columns_that_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    with path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["conversation_id", "created_at", "person_id", "text"])
        writer.writerows([[row[0], row[2], row[5], row[6]] for row in ROWS])
    columns = Columns(constants={"org_id": "o1", "kind": "thread"})
    (found,) = read_file(path, columns).conversations()
    (plain,) = conversations_of_turns("t.csv", iter([HEADER.split(","), *ROWS]), Columns())
    assert found == plain


def test_a_column_that_nobody_named_is_refused_in_every_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"{HEADER},mood\n{','.join(ROWS[0])},{PLANTED}\n")
    row = to_row(next(read_jsonl(CONVERSATIONS).conversations()))
    (tmp_path / "t.jsonl").write_text(json.dumps({**row, "mood": PLANTED}) + "\n")
    for name in ("t.csv", "t.jsonl"):
        with pytest.raises(DataError, match="1 unknown") as caught:
            list(read_file(tmp_path / name, Columns(left_out=frozenset({"tone"}))).conversations())
        assert PLANTED not in str(caught.value)
        assert len(list(read_file(tmp_path / name, Columns(left_out=frozenset({"mood"}))).conversations())) == 1


def test_noted_columns_are_named_and_kept_out(tmp_path: Path) -> None:
    row = to_row(next(read_jsonl(CONVERSATIONS).conversations()))
    row["turns"][0]["tone"] = PLANTED
    (tmp_path / "t.jsonl").write_text(json.dumps({**row, "mood": PLANTED}) + "\n")
    noted = Noted()
    (found,) = read_jsonl(tmp_path / "t.jsonl", Columns(noted=noted)).conversations()
    assert noted.unknown == {"mood", "tone"}
    assert noted.known == {*row} - {"mood"} | {"person_id", "text", "content_kind"}
    assert PLANTED not in repr(found)


def test_a_field_that_comes_twice_is_refused() -> None:
    row = to_row(next(read_jsonl(CONVERSATIONS).conversations()))
    row["turns"][0]["body"] = PLANTED
    with pytest.raises(DataError, match="text comes twice"):
        Columns(names={"text": "body"}).row(row)
    (kept, *_) = Columns(names={"text": "body"}, left_out=frozenset({"text"})).row(row)["turns"]  # type: ignore[index]
    assert kept["text"] == PLANTED


@pytest.mark.parametrize("name", [f"{PLANTED}\n{PLANTED}", "x" * 80])
def test_a_column_whose_name_may_be_content_is_not_shown(name: str) -> None:
    with pytest.raises(DataError, match="no plain word") as caught:
        Columns(noted=Noted()).row({name: 1})
    assert name not in str(caught.value)


def test_columns_that_differ_from_row_to_row_are_no_columns() -> None:
    with pytest.raises(DataError, match="more than 100 columns"):
        Columns(noted=Noted()).row({f"u{number}": 1 for number in range(200)})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"names": {"txt": "body"}}, "expected fields of a conversation"),
        ({"names": {"text": "body", "summary": "body"}}, "another column for each field"),
        ({"names": {"text": "body"}, "left_out": ["body"]}, "no column that corpus.columns.names reads"),
        ({"constants": {"text": "hi"}}, "values of org_id, kind"),
    ],
)
def test_impossible_columns_are_refused(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        ColumnsConfig(**given)


def test_an_ending_that_no_reader_has_is_named(tmp_path: Path) -> None:
    (tmp_path / "talks.xlsx").write_bytes(io.BytesIO(b"PK").getvalue())
    with pytest.raises(DataError, match=r"talks\.xlsx: ends in '\.xlsx'; expected \.jsonl, \.csv, \.parquet"):
        read_file(tmp_path / "talks.xlsx")


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_rows_of_single_turns_read_as_the_table_that_they_are(ending: str, tmp_path: Path) -> None:
    names = HEADER.split(",")
    rows = [dict(zip(names, row, strict=True)) for row in ROWS]
    for number, row in enumerate(rows):
        row["who"], row["turn"], row["guest"], row["mood"] = row.pop("person_id"), number, False, [PLANTED]  # type: ignore[assignment]
    path = tmp_path / f"t.{ending}"
    if ending == "jsonl":
        path.write_text("\n" + "".join(json.dumps(row) + "\n" for row in rows))
    else:
        parquet.write_table(pa.Table.from_pylist(rows), path)
    columns = Columns(names={"person_id": "who"}, left_out=frozenset({"mood"}))
    (found,) = read_file(path, columns).conversations()
    (plain,) = conversations_of_turns("t.csv", iter([names, *ROWS]), Columns())
    assert found == plain


def test_a_broken_row_of_single_turns_is_named_by_its_number_and_never_shown(tmp_path: Path) -> None:
    rows = [dict(zip(HEADER.split(","), row, strict=True)) for row in ROWS]
    broken = {
        json.dumps({**rows[1], "tone": PLANTED}): "row 2: a column that the first row has not",
        json.dumps(PLANTED): "row 2: row is not an object",
        "null": "row 2: row is not an object",
        PLANTED: "row 2: not JSON",
        json.dumps({**rows[1], "turn": "7"}): "row 2: turn is not 1",
    }
    for line, said in broken.items():
        (tmp_path / "t.jsonl").write_text(f"{json.dumps(rows[0])}\n{line}\n")
        with pytest.raises(DataError, match=said) as caught:
            list(read_jsonl(tmp_path / "t.jsonl").conversations())
        assert PLANTED not in str(caught.value)
