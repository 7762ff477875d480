"""Laws of tokenised units on disk: the same units as in memory, and nobody's rows without their consent."""

from __future__ import annotations

import dataclasses
import os
import stat
import tracemalloc
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_units import KEY, NOW, PURPOSE, event

from dp_train.consent.gate import ConsentedExamples, ConsentPolicy, gate
from dp_train.consent.registry import ConsentRegistry
from dp_train.conversations import ContentKind, Conversation, ConversationKind, Example, Turn
from dp_train.errors import DataError, PlanError
from dp_train.privacy import tables as room
from dp_train.privacy.contribution_bounding import in_public_order
from dp_train.privacy.plan import Unit
from dp_train.privacy.tables import UnitTables, purge
from dp_train.privacy.units import Units, build_units
from dp_train.tasks.base import Row


@dataclasses.dataclass(frozen=True)
class Said:
    """A thread for each string of people; what each letter says is its own."""

    people: list[str]
    words: int = 3
    name: str = "said"

    def conversations(self) -> Iterator[Conversation]:
        for index, letters in enumerate(self.people):
            yield Conversation(
                conversation_id=f"c{index:05d}",
                org_id="org",
                created_at=NOW - timedelta(days=1),
                kind=ConversationKind.THREAD,
                turns=tuple(
                    Turn(person_id=letter, text=f"word{letter} " * self.words, kind=ContentKind.CHAT)
                    for letter in letters
                ),
            )


def as_one_example(conversation: Conversation) -> Iterator[Example]:
    yield Example(
        example_id=f"{conversation.conversation_id}/0",
        prompt=conversation.turns[0].text,
        target="".join(turn.text for turn in conversation.turns),
        owners=conversation.people,
    )


def examples(*people: str, gone: str = "", words: int = 3) -> ConsentedExamples:
    everyone = sorted(set("".join(people)) - set(gone))
    registry = ConsentRegistry([event(seq, person) for seq, person in enumerate([None, *everyone])], key=KEY)
    snapshot = registry.snapshot(as_of=NOW)
    return gate(Said(list(people), words), snapshot, ConsentPolicy(purpose=PURPOSE)).examples(as_one_example)


class Letters:
    """Tokenises letter by letter, and counts how often it was asked for words that a person wrote."""

    def __init__(self, *, masked: bool = True, dies_at: int = -1) -> None:
        self.calls = 0
        self._masked, self._dies_at = masked, dies_at

    def __deepcopy__(self, memo: object) -> Letters:
        return Letters(masked=self._masked)

    def __call__(self, example: Example) -> Row:
        self.calls += example.example_id != "probe"
        if self.calls == self._dies_at:
            os._exit(9)
        head, tail = (tuple(map(ord, text[:12])) for text in (example.prompt, example.target))
        if self._masked:  # as for a decoder
            return Row(input_ids=head + tail, labels=(-100,) * len(head) + tail)
        return Row(input_ids=head, labels=tail)


def built(folder: Path, given: ConsentedExamples, encode: Letters | None = None, **bounds: int) -> Units:
    tables = UnitTables(folder, encode=encode or Letters(), facts={"task": "letters"})
    return build_units(given, unit=Unit.USER, tables=tables, **bounds)


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def spelled(text: str) -> bytes:
    return b"".join(ord(letter).to_bytes(4, "little") for letter in text)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    people=st.lists(st.text("abcd", min_size=1, max_size=3).map(lambda text: "".join(sorted(set(text)))), max_size=9),
    unit=st.sampled_from(Unit),
    bound=st.integers(1, 3),
    alone=st.booleans(),
    masked=st.booleans(),
)
def test_a_table_holds_the_units_that_memory_holds(
    tmp_path: Path, people: list[str], unit: Unit, bound: int, alone: bool, masked: bool
) -> None:
    encode = Letters(masked=masked)
    given = examples(*(who[:1] if alone else who for who in people))
    bounds = {"unit": unit, "max_contributions": bound, "rows_per_unit": bound}
    memory = build_units(given, **bounds)
    tabled = build_units(given, **bounds, tables=UnitTables(tmp_path, encode=encode, facts={}))
    assert len(tabled) == len(memory)
    for index in range(len(memory)):
        expected = [encode(example) for example in memory[index]]
        assert tabled.tokens(index, encode) == tuple((row.input_ids, row.labels) for row in expected)
    for fact in ("cohort", "people", "selection", "max_contributions", "rows_per_unit", "consent_root", "purpose"):
        assert getattr(tabled, fact) == getattr(memory, fact)


def test_the_order_of_units_and_rows_is_the_one_that_was_always_used(tmp_path: Path) -> None:
    import hashlib

    units = build_units(examples(*"babacab"), unit=Unit.USER, rows_per_unit=2)
    ids = [[example.example_id for example in unit] for unit in units]
    of = {"a": [1, 3, 5], "b": [0, 2, 6], "c": [4]}
    by_hash = {
        who: sorted((f"c{n:05d}/0" for n in numbers), key=lambda name: hashlib.sha256(name.encode()).digest())[:2]
        for who, numbers in of.items()
    }
    assert ids == list(by_hash.values())


def test_a_hit_equals_a_rebuild_and_tokenises_nothing(tmp_path: Path) -> None:
    first, second, rebuilt = Letters(), Letters(), Letters()
    built(tmp_path / "one", examples(*"abca"), first, rows_per_unit=2)
    again = built(tmp_path / "one", examples(*"abca"), second, rows_per_unit=2)
    built(tmp_path / "two", examples(*"abca"), rebuilt, rows_per_unit=2)
    assert (first.calls, second.calls, rebuilt.calls) == (4, 0, 4)
    assert len(again) == 3
    assert on_disk(tmp_path / "one") == on_disk(tmp_path / "two")


@pytest.mark.parametrize(
    "other",
    [
        lambda folder: built(folder, examples("a", "b", "b"), rows_per_unit=2),
        lambda folder: built(folder, examples("a", "b", words=2), rows_per_unit=2),
        lambda folder: built(folder, examples("a", "b"), rows_per_unit=1),
        lambda folder: built(folder, examples("a", "b"), Letters(masked=False), rows_per_unit=2),
    ],
    ids=["more rows", "other words", "another bound", "another tokenizer"],
)
def test_whatever_decides_the_rows_names_another_table(tmp_path: Path, other) -> None:  # type: ignore[no-untyped-def]
    built(tmp_path, examples("a", "b"), rows_per_unit=2)
    other(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_another_consent_root_is_another_table_and_who_withdrew_is_gone_from_disk(tmp_path: Path) -> None:
    with_them = built(tmp_path, examples(*"abz"))
    (before,) = tmp_path.iterdir()
    assert spelled("wordz") in on_disk(tmp_path)
    without = built(tmp_path, examples(*"abz", gone="z"))
    (after,) = tmp_path.iterdir()
    assert before.name != after.name
    assert with_them.consent_root != without.consent_root
    assert spelled("wordz") not in on_disk(tmp_path)
    assert len(with_them) == 3  # whoever reads the old map still can, until the process ends
    assert with_them.tokens(2, Letters())[0][0]


def test_nobody_finds_a_table_by_a_root_that_was_written_into_it(tmp_path: Path) -> None:
    built(tmp_path, examples(*"ab"))
    (folder,) = tmp_path.iterdir()
    facts = folder / "facts.json"
    root = examples(*"ab").root
    facts.write_text(facts.read_text().replace(root, "0" * 64))
    encode = Letters()
    built(tmp_path, examples(*"ab"), encode)
    assert encode.calls == 2


def test_the_folder_is_private_and_holds_tokens_and_neither_text_nor_names(tmp_path: Path) -> None:
    units = built(tmp_path / "units", examples("ab", "c"))
    (folder,) = (tmp_path / "units").iterdir()
    for path in (tmp_path / "units", folder):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    written = on_disk(tmp_path)
    assert spelled("worda") in written
    assert b"word" not in written
    assert b"c00000" not in written
    with pytest.raises(PlanError, match="keeps tokens and no text"):
        units[0]


def cut(rows: Path) -> None:
    rows.write_bytes(rows.read_bytes()[:-40])


def turn_a_bit(rows: Path) -> None:
    data = bytearray(rows.read_bytes())
    data[len(data) // 2] ^= 1
    rows.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, turn_a_bit, Path.unlink, lambda rows: rows.with_name("facts.json").unlink()])
def test_a_damaged_table_is_found_and_made_anew(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    expected = [built(tmp_path, examples(*"abc")).tokens(index, Letters()) for index in range(3)]
    (folder,) = tmp_path.iterdir()
    damage(folder / "rows.arrow")
    encode = Letters()
    units = built(tmp_path, examples(*"abc"), encode)
    assert encode.calls == 3
    assert [units.tokens(index, encode) for index in range(3)] == expected


def test_a_kill_while_writing_leaves_no_table_and_its_half_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_BATCH", 2)  # so that some of it is written when the process dies
    pid = os.fork()
    if pid == 0:
        built(tmp_path, examples(*"abcdefgh"), Letters(dies_at=7))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    (half,) = tmp_path.iterdir()
    assert half.name.startswith(".")
    assert len(built(tmp_path, examples(*"abcdefgh"))) == 8
    (whole,) = tmp_path.iterdir()
    assert not whole.name.startswith(".")


def test_purge_deletes_tables_and_halves_and_nothing_else(tmp_path: Path) -> None:
    built(tmp_path, examples("a"))
    (tmp_path / f".{'0' * 32}.1").mkdir()
    other = tmp_path / ".config.d"
    other.mkdir()
    assert purge(tmp_path) == 1
    assert list(tmp_path.iterdir()) == [other]
    assert purge(tmp_path / "nowhere") == 0


def test_memory_does_not_grow_with_what_people_said(tmp_path: Path) -> None:
    given = examples(*("ab"[index % 2] for index in range(400)), words=5000)  # 30 kB a message twice, 24 MB in all
    tables = UnitTables(tmp_path, encode=Letters(), facts={})
    tracemalloc.start()
    build_units(given, unit=Unit.USER, rows_per_unit=1000, tables=tables)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3_000_000


def test_rows_over_several_batches_are_read_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_BATCH", 3)
    given = examples(*"abcdefgh")
    units = built(tmp_path, given)
    (folder,) = tmp_path.iterdir()
    assert pa.ipc.open_file(str(folder / "rows.arrow")).num_record_batches == 3
    kept = build_units(given, unit=Unit.USER)
    expected = [tuple((row.input_ids, row.labels) for row in map(Letters(), unit)) for unit in kept]
    assert [units.tokens(index, Letters()) for index in range(8)] == expected


def test_an_id_that_occurs_twice_is_refused_by_name_with_and_without_a_table(tmp_path: Path) -> None:
    def twice(conversation: Conversation) -> Iterator[Example]:
        for example in as_one_example(conversation):
            yield dataclasses.replace(example, example_id="same")

    snapshot = ConsentRegistry([event(0, None), event(1, "a")], key=KEY).snapshot(as_of=NOW)
    given = gate(Said(["a", "a"]), snapshot, ConsentPolicy(purpose=PURPOSE)).examples(twice)
    with pytest.raises(DataError, match="id same occurs twice"):
        built(tmp_path, given)
    with pytest.raises(DataError, match="id same occurs twice"):
        build_units(given, unit=Unit.USER)
    with pytest.raises(DataError, match="id same occurs twice"):
        in_public_order(given)
