"""docs/gate.md: what one person says, or their leaving, changes no row of anybody else, from raw text to tokens."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from neighbour_corpora import NOW, TASKS, WRITERS, Corpus, corpora, emptied, kind_of, passed, without, without_links_to
from transformers import PreTrainedTokenizerFast

from dp_train.conversations import ContentKind, Conversation, ConversationKind, Turn
from dp_train.models.build import Architecture
from dp_train.models.tokenizer import train_tokenizer
from dp_train.privacy.plan import Unit
from dp_train.privacy.tables import UnitTables
from dp_train.privacy.units import Units, build_units
from dp_train.tasks.chat_compose import ChatCompose
from dp_train.tasks.meeting_summary import MeetingSummary

EXAMPLES = int(os.environ.get("DP_TRAIN_NEIGHBOURS", "40"))
Row = tuple[str, tuple[int, ...], tuple[int, ...]]


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(["we ship the report on friday", "ask [P1] and [P2] about the budget"] * 4, vocab_size=320)


def units_of(
    corpus: Corpus,
    task: str,
    *,
    unit: Unit = Unit.USER,
    k: int = 1,
    share: float = 1.0,
    tables: UnitTables | None = None,
) -> Units:
    examples = passed(corpus, TASKS[task], share)
    return build_units(examples, unit=unit, max_contributions=k, rows_per_unit=2, tables=tables)


def rows_of(units: Units, encoder: ChatCompose | MeetingSummary) -> Counter[tuple[frozenset[str], tuple[Row, ...]]]:
    """Each unit: its owners, and its rows as text, ids and tokens."""
    found: Counter[tuple[frozenset[str], tuple[Row, ...]]] = Counter()
    for examples in units:
        owners = frozenset().union(*(example.owners for example in examples))
        rows = []
        for example in examples:
            row = encoder.encode(example)
            rows.append((f"{example.example_id}|{example.prompt}|{example.target}", row.input_ids, row.labels))
        found[owners, tuple(rows)] += 1
    return found


def encoder_of(task: str) -> ChatCompose | MeetingSummary:
    if task == "meeting":
        return MeetingSummary(tokenizer(), Architecture.DECODER, max_length=64, max_new_tokens=16)
    return ChatCompose(tokenizer(), Architecture.DECODER, max_length=48)


def check_neighbours(here: Units, there: Units, person: str, encoder: ChatCompose | MeetingSummary, most: int) -> None:
    """Units of the person are gone, at most `most`; all others are the same, in the same order."""
    one, other = rows_of(here, encoder), rows_of(there, encoder)
    assert [unit for unit in one if person not in unit[0]] == list(other), "somebody else's unit changed"
    assert (one - other).total() <= most
    assert not other - one


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("task", ["own", "thread", "meeting"])
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_what_one_person_says_changes_no_row_of_anybody_else(task: str, k: int, data: st.DataObject) -> None:
    corpus = data.draw(corpora(kind=kind_of(task), rosters=data.draw(st.booleans())))
    person = data.draw(st.sampled_from([p for p in WRITERS if p not in corpus.refusing]))
    share = data.draw(st.sampled_from([0.3, 0.5, 1.0]))
    here, there = (units_of(one, task, k=k, share=share) for one in (corpus, corpus.of(emptied(person))))
    single = all(len(example.owners) == 1 for example in passed(corpus, TASKS[task], share).places())
    check_neighbours(here, there, person, encoder_of(task), 1 if single else k)


@pytest.mark.parametrize("task", ["own", "thread", "meeting"])
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_per_example_only_the_persons_own_examples_change(task: str, data: st.DataObject) -> None:
    corpus = data.draw(corpora(kind=kind_of(task)))
    person = data.draw(st.sampled_from([p for p in WRITERS if p not in corpus.refusing]))
    here, there = (units_of(one, task, unit=Unit.EXAMPLE) for one in (corpus, corpus.of(emptied(person))))
    check_neighbours(here, there, person, encoder_of(task), 1_000)


@pytest.mark.parametrize("rosters", [True, False])
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_whose_turns_are_not_there_at_all_takes_one_unit_along(rosters: bool, data: st.DataObject) -> None:
    corpus = data.draw(corpora(kind=ConversationKind.THREAD, rosters=rosters))
    person = data.draw(st.sampled_from([p for p in WRITERS if p not in corpus.refusing]))
    # A link to a turn that is not there cannot be in the file; it is public order, and gone on both sides.
    corpus = corpus.of(without_links_to(person))
    here, there = (units_of(one, "own") for one in (corpus, corpus.of(without(person))))
    check_neighbours(here, there, person, encoder_of("own"), 1)


@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_a_no_renumbers_nobody(data: st.DataObject) -> None:
    """Who does not pass takes out what is theirs and what names or repeats them; what is left keeps id and text."""
    corpus = data.draw(corpora(kind=ConversationKind.THREAD, refusing=False))
    person = data.draw(st.sampled_from(WRITERS))
    no = dataclasses.replace(corpus, refusing=corpus.refusing | {person})
    before, after = (
        {example.example_id: example.target for example in passed(one, TASKS["own"], 1.0)} for one in (corpus, no)
    )
    assert after.items() <= before.items()


@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_who_did_not_agree_shows_in_nothing_but_what_is_missing(data: st.DataObject) -> None:
    corpus = data.draw(corpora(kind=ConversationKind.THREAD))
    person = data.draw(st.sampled_from(sorted(corpus.refusing)))
    said, silent = (
        {example.example_id: example.target for example in passed(one, TASKS["own"], 1.0)}
        for one in (corpus, corpus.of(emptied(person)))
    )
    assert said.items() <= silent.items()


@settings(max_examples=5)
@given(data=st.data())
def test_tables_hold_the_same_units(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    task = data.draw(st.sampled_from(list(TASKS)))
    corpus, encode = data.draw(corpora(kind=kind_of(task))), encoder_of(task).encode
    folder = Path(tmp_path_factory.mktemp("tables"))
    plain = units_of(corpus, task)
    tabled = units_of(corpus, task, tables=UnitTables(folder, encode=encode, facts={}))
    assert [tabled.tokens(unit, encode) for unit in range(len(tabled))] == [
        plain.tokens(unit, encode) for unit in range(len(plain))
    ]


def forty(alice: str, *, heavy: int = 12) -> Corpus:
    """Forty people in one thread, who name strangers and each other; Alice is the first to speak and named by none."""
    people = [f"user-{number:02d}" for number in range(40)]
    turns = [Turn(person_id="alice", text=alice, kind=ContentKind.CHAT)] * 3
    for round_ in range(heavy):
        for number, person in enumerate(people):
            text = f"ask @friend{(number + round_) % 9} or Name{(number + 1) % 40:02d}x about {round_}"
            turns.append(Turn(person_id=person, text=text, kind=ContentKind.CHAT))
    roster = {"alice": "Alice Adler", **{person: f"Name{person[-2:]}x" for person in people}}
    talk = Conversation(
        conversation_id="big",
        org_id="org",
        created_at=NOW,
        kind=ConversationKind.THREAD,
        turns=tuple(turns),
        roster=roster,
    )
    return Corpus((talk,), frozenset())


@pytest.mark.parametrize("task", ["own", "thread"])
def test_forty_people_keep_their_rows_when_one_falls_silent(task: str) -> None:
    loud, quiet = (units_of(forty(text), task, k=4) for text in ("ask @newcomer and @friend1 about it", ""))
    check_neighbours(loud, quiet, "alice", encoder_of(task), 4)


@pytest.mark.parametrize("roster", [True, False])
def test_forty_people_keep_their_rows_when_the_first_to_speak_is_gone(roster: bool) -> None:
    corpus = forty("ask @friend1")
    if not roster:
        corpus = corpus.of(lambda talk: dataclasses.replace(talk, roster={}))
    here, there = (units_of(one, "own") for one in (corpus, corpus.of(without("alice"))))
    check_neighbours(here, there, "alice", encoder_of("own"), 1)


def test_forty_people_keep_their_rows_when_one_does_not_pass() -> None:
    corpus = forty("ask @newcomer about it")
    with_her, without_her = (
        units_of(one, "own") for one in (corpus, dataclasses.replace(corpus, refusing=frozenset({"alice"})))
    )
    check_neighbours(with_her, without_her, "alice", encoder_of("own"), 1)
