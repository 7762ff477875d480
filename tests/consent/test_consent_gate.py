"""The gate and the sealed values that come out of it."""

import copy
import dataclasses
import itertools
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mypy import api as mypy
from records import COMPOSE, ORG, SUMMARY, Listed, day, event, meeting, says, snapshot, thread

import dp_train
from dp_train.consent.decisions import Reason
from dp_train.consent.events import EventState, Purpose
from dp_train.consent.gate import ConsentedCorpus, ConsentedExamples, ConsentPolicy, gate
from dp_train.consent.snapshot import ConsentSnapshot
from dp_train.conversations import Conversation, Corpus, Example
from dp_train.errors import ConfigError, ConsentError

COMPOSING, SUMMARISING = ConsentPolicy(purpose=COMPOSE), ConsentPolicy(purpose=SUMMARY)


def _consented(*conversations: Conversation, policy: ConsentPolicy = COMPOSING) -> ConsentedCorpus:
    return gate(Listed(*conversations), snapshot(agreeing=["ann", "bob"]), policy)


def _examples(corpus: ConsentedCorpus) -> ConsentedExamples:
    return corpus.examples(
        lambda conversation: [
            Example(example_id=f"{conversation.conversation_id}/{i}", prompt="", target=t.text, owners={t.person_id})  # type: ignore[arg-type]
            for i, t in enumerate(conversation.turns)
        ]
    )


BOTH = {"ann": "Ann Archer", "bob": "Bob Brix"}
TALK = thread(says("ann", "hello there"), says("bob", "good morning"), roster=BOTH)


def test_what_everyone_agreed_to_passes_unchanged() -> None:
    assert list(_consented(TALK).conversations()) == [TALK]
    assert list(_consented(meeting(*TALK.turns), policy=SUMMARISING).conversations()) == [meeting(*TALK.turns)]


@pytest.mark.parametrize("purpose", [SUMMARY, Purpose.PUBLISH, Purpose.PROVIDE_FEATURE])
def test_one_denial_drops_a_whole_meeting(purpose: Purpose) -> None:
    corpus = _consented(
        meeting(*TALK.turns, says("cy", "hm")), meeting(*TALK.turns), policy=ConsentPolicy(purpose=purpose)
    )
    assert list(corpus.conversations()) == [meeting(*TALK.turns)]
    assert corpus.report.denials == {Reason.NO_RECORD: 1}
    assert corpus.report.turns_removed == 3


def test_under_the_summary_purpose_threads_too_need_everyone() -> None:
    assert not list(_consented(thread(*TALK.turns, says("cy", "hm")), policy=SUMMARISING).conversations())


def test_who_is_only_invited_or_named_need_not_agree_to_a_meeting() -> None:
    held = meeting(says("ann", "Cy is away", mentions=("cy",)), says("bob", "right"))
    assert list(_consented(held, policy=SUMMARISING).conversations()) == [held]


def test_a_meeting_without_turns_does_not_pass() -> None:
    corpus = _consented(meeting(), policy=SUMMARISING)
    assert not list(corpus.conversations())
    assert corpus.report.denials == {Reason.MALFORMED: 1}


def test_consent_is_asked_for_the_kind_of_each_turn() -> None:
    only_chat = event("ann", content_kind=frozenset({TALK.turns[0].kind}))
    spoken = dataclasses.replace(TALK.turns[0], kind=type(TALK.turns[0].kind).TRANSCRIPT)
    frozen = snapshot(only_chat, agreeing=["bob"])
    assert list(gate(Listed(meeting(*TALK.turns)), frozen, SUMMARISING).conversations())
    assert not list(gate(Listed(meeting(spoken, TALK.turns[1])), frozen, SUMMARISING).conversations())


def test_a_guest_is_denied_whatever_is_on_record() -> None:
    held = meeting(*TALK.turns, guests=frozenset({"bob"}))
    corpus = _consented(held, policy=SUMMARISING)
    assert not list(corpus.conversations())
    assert corpus.report.denials == {Reason.GUEST: 1}


def test_another_organisations_conversation_is_denied() -> None:
    corpus = _consented(thread(*TALK.turns, org_id="elsewhere"))
    assert not list(corpus.conversations())
    assert corpus.report.denials == {Reason.ORGANISATION_DENIES: 2, Reason.TOO_MUCH_REMOVED: 1}


def test_the_gate_is_a_stream() -> None:
    class Endless:
        name = "endless"

        def conversations(self) -> Iterator[Conversation]:
            return itertools.repeat(TALK)

    corpus = gate(Endless(), snapshot(agreeing=["ann", "bob"]), COMPOSING)
    assert next(iter(corpus.conversations())) == TALK
    assert next(iter(_examples(corpus))).target == "hello there"
    source = Listed(TALK, TALK)
    gate(source, snapshot(), COMPOSING)
    assert source.read == 0


def test_corpus_and_examples_can_be_read_again() -> None:
    corpus = _consented(TALK, thread(says("cy", "no")))
    assert list(corpus.conversations()) == list(corpus.conversations())
    examples = _examples(corpus)
    assert list(examples) == list(examples)


def test_the_report_counts_reasons_and_never_names_people() -> None:
    corpus = _consented(TALK, thread(*TALK.turns, says("cy", "a"), says("ann", "b"), says("cy", "c")))
    report = corpus.report
    assert (report.conversations_seen, report.conversations_kept) == (2, 2)
    assert (report.turns_seen, report.turns_removed) == (7, 2)
    assert report.denials == {Reason.NO_RECORD: 1}
    assert report.rows()[-2:] == [("removed for: no_record", 2), ("denied: no_record", 1)]
    assert [count for _, count in report.rows()] == [2, 2, 7, 2, 2, 1]
    assert not {"ann", "bob", "cy", "Cole"} & set(str(report).replace("'", " ").split())
    with pytest.raises(TypeError):
        report.denials[Reason.REFUSED] = 1  # type: ignore[index]


def test_a_report_needs_no_second_pass_after_a_whole_one() -> None:
    source = Listed(TALK, TALK)
    corpus = gate(source, snapshot(agreeing=["ann", "bob"]), COMPOSING)
    list(corpus.redact(lambda conversation: conversation).conversations())
    assert corpus.report.conversations_seen == 2
    assert source.read == 2


def test_what_comes_out_says_what_it_was_let_through_for() -> None:
    frozen = snapshot(agreeing=["ann", "bob"])
    corpus = gate(Listed(TALK), frozen, COMPOSING)
    examples = _examples(corpus)
    for value in (corpus, examples):
        assert (value.name, value.purpose, value.root) == ("listed", COMPOSE, frozen.root)
        assert frozen.root in repr(value)
    assert corpus.policy is COMPOSING


def test_neither_corpus_nor_examples_can_be_made_by_hand() -> None:
    with pytest.raises(ConsentError, match="made by hand; call gate"):
        ConsentedCorpus(Listed(TALK))  # type: ignore[arg-type]
    with pytest.raises(ConsentError, match="made by hand; call gate"):
        ConsentedCorpus(Listed(TALK), seal=object())  # type: ignore[arg-type]
    with pytest.raises(ConsentError, match="made by hand; call gate"):
        ConsentedExamples(_consented(TALK), lambda conversation: [], seal=object())


def test_a_forged_instance_yields_nothing() -> None:
    real = _consented(TALK)
    forged = object.__new__(ConsentedCorpus)
    object.__setattr__(forged, "_gated", real._gated)
    with pytest.raises(ConsentError, match="not made by the gate"):
        forged.conversations()
    with pytest.raises(ConsentError, match="not made by the gate"):
        forged.redact(lambda conversation: conversation)
    examples = object.__new__(ConsentedExamples)
    object.__setattr__(examples, "_corpus", real)
    with pytest.raises(ConsentError, match="not made by the gate"):
        list(examples)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps, dataclasses.replace])
def test_sealed_values_cannot_be_copied_or_pickled(duplicate: Any) -> None:
    corpus = _consented(TALK)
    for value in (corpus, _examples(corpus)):
        with pytest.raises((ConsentError, TypeError)):
            duplicate(value)


def test_sealed_values_cannot_be_changed() -> None:
    corpus = _consented(TALK)
    with pytest.raises(ConsentError, match="cannot be changed"):
        corpus._gated = None  # type: ignore[assignment]
    with pytest.raises(ConsentError, match="cannot be changed"):
        del corpus._gated


def test_only_a_snapshot_of_a_registry_answers_the_gate() -> None:
    class Yes:
        root = "00"
        as_of = known_at = day(100)

        def decide(self, *asked: Any) -> Any:
            return snapshot(agreeing=["ann"]).decide("ann", COMPOSE, TALK.turns[0].kind, day(50), ORG)

    with pytest.raises(ConsentError, match="the snapshot is a Yes"):
        gate(Listed(TALK), Yes(), COMPOSING)  # type: ignore[arg-type]
    assert ConsentSnapshot.__final__  # type: ignore[attr-defined]


def test_redaction_changes_text_and_never_people() -> None:
    corpus = _consented(TALK)

    def shout(conversation: Conversation) -> Conversation:
        turns = tuple(dataclasses.replace(turn, text=turn.text.upper()) for turn in conversation.turns)
        return dataclasses.replace(conversation, turns=turns)

    redacted = corpus.redact(shout).redact(lambda conversation: conversation)
    assert [turn.text for one in redacted.conversations() for turn in one.turns] == ["HELLO THERE", "GOOD MORNING"]
    assert [turn.text for one in corpus.conversations() for turn in one.turns] == ["hello there", "good morning"]
    for change in ({"conversation_id": "other"}, {"turns": TALK.turns[:1]}, {"turns": (says("cy", "a secret"),)}):
        broken = corpus.redact(lambda conversation, change=change: dataclasses.replace(conversation, **change))
        with pytest.raises(ConsentError, match="another id or other people") as caught:
            list(broken.conversations())
        assert "secret" not in str(caught.value)


def test_an_example_belongs_to_people_of_its_conversation() -> None:
    def foreign(conversation: Conversation) -> list[Example]:
        return [Example(example_id="x", prompt="", target="", owners=frozenset({"ann", "cy"}))]

    with pytest.raises(ConsentError, match="an owner who is not in its conversation"):
        list(_consented(TALK).examples(foreign))


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_the_removed_share_is_a_share(share: float) -> None:
    with pytest.raises(ConfigError, match="max_removed_share"):
        ConsentPolicy(purpose=COMPOSE, max_removed_share=share)


def test_a_late_withdrawal_closes_the_gate_for_the_next_snapshot() -> None:
    late = event("bob", EventState.WITHDRAWN, 10, recorded_time=day(99))
    corpus = gate(Listed(meeting(*TALK.turns)), snapshot(late, agreeing=["ann", "bob"]), SUMMARISING)
    assert not list(corpus.conversations())
    assert corpus.report.denials == {Reason.WITHDRAWN: 1}


def test_a_corpus_where_a_consented_one_is_wanted_does_not_type_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snippet = tmp_path / "ungated.py"
    snippet.write_text(
        "from dp_train.consent.gate import ConsentedCorpus, ConsentedExamples, ConsentPolicy, gate\n"
        "from dp_train.consent.snapshot import ConsentSnapshot\n"
        "from dp_train.conversations import Corpus, Example\n"
        "def train(corpus: ConsentedCorpus, examples: ConsentedExamples) -> None: ...\n"
        "def right(corpus: Corpus, snapshot: ConsentSnapshot, policy: ConsentPolicy) -> None:\n"
        "    consented = gate(corpus, snapshot, policy)\n"
        "    train(consented, consented.examples(lambda conversation: []))\n"
        "def wrong(corpus: Corpus, examples: list[Example]) -> None:\n"
        "    train(corpus, examples)\n"
    )
    monkeypatch.setenv("MYPYPATH", str(Path(dp_train.__file__).parent.parent))
    # No configuration and no site packages: the two files that matter are checked within seconds.
    quick = ["--config-file=", "--no-site-packages", "--follow-imports=silent", f"--cache-dir={tmp_path / 'cache'}"]
    out, _, status = mypy.run(["--strict", "--no-error-summary", *quick, str(snippet)])
    lines = [line for line in out.splitlines() if "ungated.py" in line]
    assert status == 1
    assert all("ungated.py:9:" in line for line in lines), out
    assert 'expected "ConsentedCorpus"' in out
    assert 'expected "ConsentedExamples"' in out


def test_a_consented_corpus_is_a_corpus() -> None:
    corpus: Corpus = _consented(TALK)
    again = gate(corpus, snapshot(agreeing=["ann", "bob"]), SUMMARISING)
    assert list(again.conversations()) == [TALK]
