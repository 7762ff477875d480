"""Laws of the readers: what is written reads back equal, and a broken row is named and never shown."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from dp_train.conversations import ContentKind, Conversation, ConversationKind, Corpus, Turn
from dp_train.corpora.readers import parquet_schema, read_csv, read_jsonl, read_parquet, write_jsonl
from dp_train.corpora.rows import from_row, to_row
from dp_train.corpora.synthetic import Population, SyntheticCorpus
from dp_train.corpora.table import COLUMNS
from dp_train.errors import DataError

PLANTED = "my locker code is amber birch 77"


@dataclass(frozen=True)
class Given:
    """A corpus of given conversations."""

    given: tuple[Conversation, ...]
    name: str = "given"

    def conversations(self) -> Iterator[Conversation]:
        return iter(self.given)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return SyntheticCorpus(60, Population.PRIVATE)


@pytest.fixture(scope="module")
def conversations(corpus: Corpus) -> list[Conversation]:
    return list(corpus.conversations())


def parquet_row(conversation: Conversation) -> dict[str, Any]:
    row = to_row(conversation)
    row["roster"] = [{"person_id": person, "name": name} for person, name in row["roster"].items()]
    row["created_at"] = conversation.created_at
    return row


def write_parquet(conversations: list[Conversation], path: Path) -> None:
    table = pa.Table.from_pylist([parquet_row(c) for c in conversations], schema=parquet_schema())
    parquet.write_table(table, path, row_group_size=7)


def write_table(conversations: list[Conversation], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, COLUMNS)
        writer.writeheader()
        for conversation in conversations:
            silent = set(conversation.roster) - conversation.people
            for number, turn in enumerate(conversation.turns):
                writer.writerow(
                    {
                        "conversation_id": conversation.conversation_id,
                        "org_id": conversation.org_id,
                        "created_at": conversation.created_at.isoformat(),
                        "kind": conversation.kind.value,
                        "turn": number,
                        "person_id": turn.person_id,
                        "text": turn.text,
                        "display_name": conversation.roster[turn.person_id],
                        "guest": "true" if turn.person_id in conversation.guests else "",
                        "content_kind": turn.kind.value,
                        "mentions": ";".join(
                            f"{person}={conversation.roster[person]}" if person in silent else person
                            for person in turn.mentions
                        ),
                        "reply_to": "" if turn.reply_to is None else turn.reply_to,
                        "quotes": "" if turn.quotes is None else turn.quotes,
                        "summary": (conversation.summary or "") if number == 0 else "",
                    }
                )


def test_every_format_reads_back_what_was_written(
    corpus: Corpus, conversations: list[Conversation], tmp_path: Path
) -> None:
    write_jsonl(corpus, tmp_path / "talk.jsonl")
    write_parquet(conversations, tmp_path / "talk.parquet")
    write_table(conversations, tmp_path / "talk.csv")
    for read, name in ((read_jsonl, "talk.jsonl"), (read_parquet, "talk.parquet"), (read_csv, "talk.csv")):
        found = read(tmp_path / name)
        assert found.name == "talk"
        assert list(found.conversations()) == conversations
        assert list(found.conversations()) == conversations, "a corpus can be read again"


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ids = texts.filter(bool)


@st.composite
def any_conversation(draw: st.DrawFn) -> Conversation:
    people = draw(st.lists(ids, min_size=1, max_size=4, unique=True))
    turns: list[Turn] = []
    for index in range(draw(st.integers(0, 5))):
        links = st.none() if index == 0 else st.none() | st.integers(0, index - 1)
        turns.append(
            Turn(
                person_id=draw(st.sampled_from(people)),
                text=draw(texts),
                kind=draw(st.sampled_from(ContentKind)),
                mentions=tuple(draw(st.lists(st.sampled_from(people), max_size=2))),
                reply_to=draw(links),
                quotes=draw(links),
            )
        )
    zone = timezone(timedelta(minutes=draw(st.integers(-14 * 60, 14 * 60))))
    return Conversation(
        conversation_id=draw(ids),
        org_id=draw(ids),
        created_at=draw(st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(zone))),
        kind=draw(st.sampled_from(ConversationKind)),
        turns=tuple(turns),
        roster=dict(zip(people, draw(st.lists(texts, min_size=4, max_size=4)), strict=False)),
        guests=frozenset(draw(st.lists(st.sampled_from(people), max_size=2))),
        summary=draw(st.none() | texts),
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(any_conversation(), max_size=3))
def test_any_conversation_survives_jsonl(tmp_path_factory: pytest.TempPathFactory, given_: list[Conversation]) -> None:
    path = tmp_path_factory.mktemp("any") / "any.jsonl"
    write_jsonl(Given(tuple(given_)), path)
    assert list(read_jsonl(path).conversations()) == given_
    assert [from_row(to_row(conversation)) for conversation in given_] == given_


def row(**changes: Any) -> dict[str, Any]:
    turns = [{"person_id": "p1", "text": PLANTED}, {"person_id": "p2", "text": "ok", "reply_to": 0}]
    return {
        "conversation_id": "c1",
        "org_id": "o1",
        "created_at": "2025-03-04T09:30:00+01:00",
        "kind": "thread",
        "turns": turns,
    } | changes


def test_defaults_follow_from_the_kind() -> None:
    assert from_row(row()).turns[0].kind is ContentKind.CHAT
    assert from_row(row(kind="meeting")).turns[0].kind is ContentKind.TRANSCRIPT
    assert from_row(row(created_at="2025-03-04T08:30:00Z")).created_at == datetime(2025, 3, 4, 8, 30, tzinfo=UTC)


BROKEN: list[tuple[object, str]] = [
    ([PLANTED], "row is not an object; expected one with conversation_id"),
    (row(kind=PLANTED), "kind is unknown; expected one of meeting, thread"),
    (row(kind=["meeting"]), "kind is unknown; expected one of meeting, thread"),
    (row(created_at=PLANTED), "created_at is not a time; write it as ISO 8601 with an offset"),
    (row(created_at="2025-03-04T09:30:00"), "created_at has no time zone; write it as ISO 8601 with an offset"),
    (row(turns=PLANTED), "turns is not a list; expected an array"),
    (row(turns=None), "turns is missing; every row needs"),
    (row(org_id=""), "org_id is empty; expected an id"),
    (row(org_id=7), "org_id is not text; expected a string"),
    (row(sumary=PLANTED), "row has 1 unknown field(s); expected conversation_id"),
    (row(summary=[PLANTED]), "summary is not text; expected a string"),
    (row(roster=[PLANTED]), "roster is not an object; expected one with person_id, name"),
    (row(roster={"p1": None}), "roster is not text; expected a string"),
    (row(guests=[""]), "guests is empty; expected an id"),
    (row(turns=[{"text": PLANTED}]), "turn 0 has no speaker; every turn needs a person_id"),
    (row(turns=[{"person_id": "", "text": PLANTED}]), "turn 0 has no speaker; every turn needs a person_id"),
    (row(turns=[{"person_id": PLANTED}]), "turn 0 has no text; every turn needs one"),
    (row(turns=[PLANTED]), "turn 0 is not an object; expected one with person_id"),
    (row(turns=[{"person_id": "p", "text": PLANTED, "to": 1}]), "turn 0 has 1 unknown field(s); expected person_id"),
    (row(turns=[{"person_id": "p", "text": "\ud800"}]), "turn 0: text is not valid Unicode"),
    (row(turns=[{"person_id": "p", "text": "a", "content_kind": PLANTED}]), "turn 0: content_kind is unknown"),
    (row(turns=[{"person_id": "p", "text": "a", "reply_to": 0}]), "turn 0 refers to turn 0; expected an earlier turn"),
    (row(turns=[{"person_id": "p", "text": "a", "quotes": True}]), "turn 0: quotes is not a whole number"),
    (row(turns=[{"person_id": "p", "text": "a", "mentions": PLANTED}]), "mentions is not a list; expected an array"),
]


@pytest.mark.parametrize(("broken", "message"), BROKEN)
def test_a_broken_row_is_named_and_never_shown(broken: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    path.write_text(f"{json.dumps(row())}\n\n{json.dumps(broken)}\n")
    found = read_jsonl(path).conversations()
    assert next(found).conversation_id == "c1"
    with pytest.raises(DataError) as caught:
        next(found)
    said = str(caught.value)
    assert said.startswith("talk.jsonl row 3: ")
    assert message in said
    assert "\n" not in said
    assert PLANTED not in said


@pytest.mark.parametrize("line", [PLANTED, "{" + json.dumps(PLANTED), "[" * 100_000])
def test_a_line_that_is_not_json_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "talk.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=r"^talk.jsonl row 1: not JSON; expected one object a line") as caught:
        list(read_jsonl(tmp_path / "talk.jsonl").conversations())
    assert PLANTED not in str(caught.value)


HEADER = "conversation_id,org_id,created_at,kind,turn,person_id,text,reply_to,guest,summary\n"
FIRST = f"c1,o1,2025-03-04T09:30:00Z,thread,0,p1,{PLANTED},,,\n"

BROKEN_TABLES = [
    ("", "talk.csv: no header; expected a first row with conversation_id"),
    ("conversation_id,text\n", "talk.csv: column org_id is missing; expected conversation_id"),
    (HEADER.replace("summary", "sumary"), "talk.csv: 1 unknown column(s); expected some of"),
    (HEADER.replace("summary", "text"), "talk.csv: a column comes twice; expected each once"),
    (HEADER + FIRST + "c1,o1\n", "talk.csv row 3: 2 cells; expected 10 as in the header"),
    (HEADER + FIRST + FIRST.replace(",0,", ",2,"), "talk.csv row 3: turn is not 1; rows of a conversation stand"),
    (HEADER + FIRST.replace(",0,", f",{PLANTED},"), "talk.csv row 2: turn is not 0; rows of a conversation stand"),
    (HEADER + FIRST + FIRST.replace("o1", "o2").replace(",0,", ",1,"), "talk.csv row 3: org_id differs; expected"),
    (HEADER + FIRST.replace("p1", ""), "talk.csv row 2: turn has no speaker; every turn needs a person_id"),
    (HEADER + FIRST.replace(",,,", f",{PLANTED},,"), "talk.csv row 2: reply_to is not a whole number"),
    (HEADER + FIRST.replace(",,,", ",-1,,"), "talk.csv row 2: reply_to is not a whole number"),
    (HEADER + FIRST.replace(",,,", f",,{PLANTED},"), "talk.csv row 2: guest is neither true nor false"),
    (HEADER + FIRST.replace(",,,", ",3,,"), "talk.csv rows 2 to 2: turn 0 refers to turn 3; expected an earlier"),
    (HEADER + FIRST.replace("thread", PLANTED), "talk.csv rows 2 to 2: kind is unknown; expected one of"),
    (HEADER + FIRST + FIRST.replace(",0,", ",1,").replace(",,,", ",,,late"), "talk.csv row 3: summary on a later turn"),
    (HEADER + 'c1,o1,2025,thread,0,p1,"' + PLANTED, "talk.csv row 2: cannot be read; expected cells quoted as in"),
]


@pytest.mark.parametrize(("table", "message"), BROKEN_TABLES)
def test_a_broken_table_is_named_and_never_shown(table: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "talk.csv").write_text(table)
    with pytest.raises(DataError) as caught:
        list(read_csv(tmp_path / "talk.csv").conversations())
    assert str(caught.value).startswith(message)
    assert PLANTED not in str(caught.value)


def test_a_table_of_a_spreadsheet_reads(tmp_path: Path) -> None:
    """With a byte order mark, Windows line ends, an empty line and a line break in a cell."""
    table = HEADER + FIRST.replace(PLANTED, '"two\nlines"') + "\n" + FIRST.replace("c1", "c2")
    (tmp_path / "talk.csv").write_bytes(b"\xef\xbb\xbf" + table.replace("\n", "\r\n").encode())
    one, two = read_csv(tmp_path / "talk.csv").conversations()
    assert one.turns[0].text.split() == ["two", "lines"]
    assert (one.conversation_id, two.conversation_id) == ("c1", "c2")


def test_a_file_that_is_not_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "talk.parquet").write_text(PLANTED * 10)
    with pytest.raises(DataError, match=r"^talk.parquet: cannot be read as parquet; write it with") as caught:
        list(read_parquet(tmp_path / "talk.parquet").conversations())
    assert PLANTED not in str(caught.value)


def test_a_broken_parquet_row_is_named(tmp_path: Path) -> None:
    good = parquet_row(from_row(row()))
    rows = [good] * 300 + [good | {"kind": PLANTED}]
    parquet.write_table(pa.Table.from_pylist(rows, schema=parquet_schema()), tmp_path / "talk.parquet")
    with pytest.raises(DataError, match=r"^talk.parquet row 301: kind is unknown; expected one of meeting, thread$"):
        list(read_parquet(tmp_path / "talk.parquet").conversations())


@pytest.mark.parametrize("read", [read_jsonl, read_csv, read_parquet])
def test_a_missing_file_is_refused_before_anything_is_read(read: Callable[[str], Corpus], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^talk.x: No such file or directory; expected a file of conversations"):
        read(str(tmp_path / "talk.x"))
    with pytest.raises(DataError, match=r": Is a directory; expected a file of conversations"):
        read(str(tmp_path))


@pytest.mark.parametrize("read", [read_jsonl, read_csv])
def test_text_that_is_not_utf8_is_refused(read: Callable[[Path], Corpus], tmp_path: Path) -> None:
    (tmp_path / "talk.txt").write_bytes(b"\xff\xfe caf\xe9")
    with pytest.raises(DataError, match=r"^talk.txt: not UTF-8; save the file as UTF-8$"):
        list(read(tmp_path / "talk.txt").conversations())


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    class Failing:
        name = "failing"

        def conversations(self) -> Iterator[Conversation]:
            yield from_row(row())
            raise DataError("row 2 is broken")

    (tmp_path / "talk.jsonl").write_text("before")
    with pytest.raises(DataError, match="row 2 is broken"):
        write_jsonl(Failing(), tmp_path / "talk.jsonl")
    assert os.listdir(tmp_path) == ["talk.jsonl"]  # noqa: PTH208
    assert (tmp_path / "talk.jsonl").read_text() == "before"
    with pytest.raises(DataError, match=r"^talk.jsonl: No such file or directory; choose a folder that can be written"):
        write_jsonl(Failing(), tmp_path / "no" / "talk.jsonl")
