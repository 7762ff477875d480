"""Headlines of meetings: the beginning of what summaries are, and nothing else of an example."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from talks import consented, meeting
from transformers import PreTrainedTokenizerFast

from dp_train.models.build import Architecture
from dp_train.runs.registers import GROUPS
from dp_train.tasks.examples import meeting_examples
from dp_train.tasks.meeting_headline import first_sentence, headline_examples
from dp_train.tasks.meeting_summary import MeetingSummary
from dp_train.tasks.spec import TaskConfig


@pytest.mark.parametrize(
    ("summary", "headline"),
    [
        ("The rota is settled. Erik calls the club.", "The rota is settled."),
        ("Dr. Rossi and J. Petit met. They ate.", "Dr. Rossi and J. Petit met."),
        ("[P1] opened the meeting. [P2] closed it.", "[P1] opened the meeting."),
        ("It costs 3.50 a person, i.e. less. More is to come.", "It costs 3.50 a person, i.e. less."),
        ("Who comes? Nobody knew.", "Who comes?"),
        ('"We are late." Everyone agreed.', '"We are late."'),
        ("会議は終わった。次は月曜日。", "会議は終わった。"),
        ("no end at all", "no end at all"),
        ("One sentence.", "One sentence."),
        ("", ""),
    ],
)
def test_a_headline_is_the_first_sentence_of_a_summary(summary: str, headline: str) -> None:
    assert first_sentence(summary) == headline


@given(st.text())
def test_a_headline_is_how_the_summary_begins_and_is_empty_only_if_that_is(text: str) -> None:
    assert text.startswith(first_sentence(text))
    assert bool(first_sentence(text)) == bool(text)


@pytest.mark.parametrize("said", ["ho", ""])  # someone who says nothing leaves a place
def test_an_example_differs_from_that_of_the_summary_in_its_target_alone(said: str) -> None:
    conversation = meeting(("a", "hi"), ("b", said), summary="They met. They ate.")
    (summary,), (headline,) = meeting_examples(conversation), headline_examples(conversation)
    assert headline == dataclasses.replace(summary, target="They met." if said else "")
    assert headline.empty == summary.empty


def test_it_is_chosen_by_its_name_and_trained_scored_and_generated_as_summaries_are(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    config = TaskConfig(**GROUPS["task"].node("meeting_headline"))
    assert (config.max_new_tokens, config.max_length) == (24, 256)
    task = config.spec().build(tokenizer, Architecture.DECODER)
    assert isinstance(task, MeetingSummary)  # `dp-train generate` asks for it
    assert (task.name, task.purpose, task.metric) == ("meeting_headline", config.spec().purpose, config.spec().metric)
    examples = list(
        task.examples(
            consented(meeting(("a", "hi there"), ("b", "ho"), summary="They met. They ate."), purpose=task.purpose)
        )
    )
    assert [example.target for example in examples] == ["They met."]
    assert set(task.baselines(examples)) == {"lead_1", "longest_1"}
