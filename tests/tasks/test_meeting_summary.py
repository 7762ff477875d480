"""Meeting summary: whose example it is, what is cut, what is scored."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from talks import chat, consented, example, meeting, thread
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from dp_train.consent.events import Purpose
from dp_train.errors import ConfigError
from dp_train.models.build import Architecture
from dp_train.tasks.meeting_summary import MeetingSummary
from dp_train.tasks.metrics import Scores
from dp_train.tasks.sequences import IGNORE

TRANSCRIPT = "\n".join(f"[P{1 + n % 3}]: turn {n} is about the report" for n in range(12))


@pytest.fixture(scope="module")
def task(tokenizer: PreTrainedTokenizerFast, architecture: Architecture) -> MeetingSummary:
    return MeetingSummary(tokenizer, architecture, max_length=96, max_new_tokens=24)


def decoder_task(tokenizer: PreTrainedTokenizerFast, max_length: int = 96) -> MeetingSummary:
    return MeetingSummary(tokenizer, Architecture.DECODER, max_length=max_length, max_new_tokens=24)


def test_purpose_and_metric(task: MeetingSummary) -> None:
    assert (task.name, task.metric, task.higher_is_better) == ("meeting_summary", "rougeL", True)
    assert task.purpose is Purpose.TRAIN_MEETING_SUMMARY


def test_everyone_in_the_meeting_owns_its_example(task: MeetingSummary) -> None:
    (only,) = task.examples(
        consented(
            meeting(("a", "hello\n there"), ("b", "hi"), ("a", "bye"), summary="they\n met"), purpose=task.purpose
        )
    )
    assert only.owners == {"a", "b"}
    assert only.prompt == "[P1]: hello there\n[P2]: hi\n[P1]: bye"
    assert only.target == "they met"
    assert only.example_id == "m1"


def test_only_meetings_with_a_summary_teach(task: MeetingSummary) -> None:
    without = [meeting(("a", "hi"), summary=None), meeting(("a", "hi"), summary=""), thread(chat("a", "hi"))]
    assert list(task.examples(consented(*without, purpose=task.purpose))) == []


def test_no_person_id_enters_a_prompt(task: MeetingSummary) -> None:
    (only,) = task.examples(
        consented(meeting(("id-7", "hi"), ("id-8", "ho"), roster={"id-8": "[P1]"}), purpose=task.purpose)
    )
    assert only.prompt == "[P2]: hi\n[P1]: ho"


def test_what_fits_is_whole(tokenizer: PreTrainedTokenizerFast) -> None:
    task = decoder_task(tokenizer, max_length=600)
    row = task.encode(example("they agreed", TRANSCRIPT))
    labels = [label for label in row.labels if label != IGNORE]
    assert tokenizer.decode(row.input_ids, skip_special_tokens=True) == TRANSCRIPT + "they agreed"
    assert tokenizer.decode(labels) == "they agreed</s>"


@given(st.integers(1, 40), st.integers(0, 60))
def test_row_is_never_too_long_and_the_summary_is_kept(
    tokenizer: PreTrainedTokenizerFast, words: int, turns: int
) -> None:
    task = decoder_task(tokenizer)
    summary = " ".join(["report"] * words)
    prompt = "\n".join(TRANSCRIPT.split("\n")[:1] * (turns + 1))
    row = task.encode(example(summary, prompt))
    assert len(row.input_ids) == len(row.labels) <= 96
    written = [label for label in row.labels if label != IGNORE]
    assert tokenizer.decode(written, skip_special_tokens=True) == summary


def test_transcript_is_cut_in_the_middle_by_whole_turns(tokenizer: PreTrainedTokenizerFast) -> None:
    row = decoder_task(tokenizer, max_length=160).encode(example("they met", TRANSCRIPT))
    prompt = tokenizer.decode([i for i, label in zip(row.input_ids, row.labels, strict=True) if label == IGNORE][1:-1])
    lines, every = prompt.split("\n"), TRANSCRIPT.split("\n")
    kept = [every.index(line) for line in lines]
    assert kept[0] == 0
    assert kept[-1] == len(every) - 1
    gaps = [later - earlier for earlier, later in pairwise(kept)]
    assert sorted(gaps)[-1] > 1
    assert sorted(gaps)[:-1] == [1] * (len(gaps) - 1)


def test_turn_longer_than_everything_keeps_its_beginning(tokenizer: PreTrainedTokenizerFast) -> None:
    row = decoder_task(tokenizer).encode(example("they met", "[P1]: " + "report " * 500))
    assert tokenizer.decode(row.input_ids[1:]).startswith("[P1]: report report")
    assert len(row.input_ids) <= 96


def test_model_is_trained_on_the_prompt_that_it_will_see(
    task: MeetingSummary, model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    generate = type(task._sequences).generate

    def spy(self: object, model: object, heads: list[tuple[int, ...]], **options: object) -> object:
        seen.extend(heads)
        return generate(self, model, heads, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(type(task._sequences), "generate", spy)
    task.generate(model, [TRANSCRIPT])
    row = task.encode(example("they met", TRANSCRIPT))
    assert row.input_ids[: len(seen[0])] == seen[0]


def test_summary_longer_than_the_row_is_cut_and_has_no_end(
    task: MeetingSummary, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    row = task.encode(example("report " * 300, "[P1]: hi"))
    assert len(row.input_ids) <= 96
    assert 90 <= sum(label != IGNORE for label in row.labels) <= 96
    assert row.labels[-1] != tokenizer.eos_token_id
    assert torch.isfinite(task.row_losses(model, task.collate([row]))).all()


def test_scores_of_a_model(task: MeetingSummary, model: PreTrainedModel) -> None:
    examples = [example("they met", "[P1]: hi\n[P2]: ho"), example("the report", TRANSCRIPT, 1)]
    model.train()
    scores = task.evaluate(model, examples)
    assert {"rouge1", "rouge2", "rougeL", "loss"} <= set(scores)
    assert all(0 <= score <= 1 for name, score in scores.items() if name != "loss")
    assert scores == task.evaluate(model, examples)
    assert model.training
    assert task.evaluate(model, examples, scores=Scores.PRIMARY) == {"rougeL": scores["rougeL"]}


def test_loss_of_a_model_that_knows_nothing_is_the_vocabulary(
    task: MeetingSummary, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    handle = model.get_output_embeddings().register_forward_hook(lambda module, args, output: output * 0)
    loss = task.evaluate(model, [example("they met"), example("the report is late")])["loss"]
    handle.remove()
    assert loss == pytest.approx(float(torch.tensor(len(tokenizer)).log()))


def test_baselines_are_scored_as_models_are(task: MeetingSummary) -> None:
    examples = [
        example("[P1]: one [P2]: two [P3]: three", "[P1]: one\n[P2]: two\n[P3]: three\n[P1]: and at length four")
    ]
    baselines = task.baselines(examples)
    assert baselines["lead_3"] == {
        **dict.fromkeys(("rouge1", "rouge2", "rougeL", "rougeLsum", "speaker_precision"), 1.0),
        **{f"{name}_{end}": 1.0 for name in ("rouge1", "rouge2", "rougeL", "rougeLsum") for end in ("low", "high")},
        **dict.fromkeys(("people", "speaker_recall", "number_recall"), 1.0),
        **dict.fromkeys(("empty", "one_word", "repeating"), 0.0),
        **dict.fromkeys(("novel_unigrams", "novel_bigrams", "novel_trigrams"), 0.0),
    }
    assert baselines["longest_3"]["rouge1"] < 1


def test_samples_are_the_first_examples(task: MeetingSummary, model: PreTrainedModel) -> None:
    examples = [example(f"summary {n}", f"[P1]: turn {n}", n) for n in range(3)]
    samples = task.samples(model, examples, 2)
    assert [(sample.prompt, sample.reference) for sample in samples] == [
        ("[P1]: turn 0", "summary 0"),
        ("[P1]: turn 1", "summary 1"),
    ]
    assert [sample.output for sample in samples] == task.generate(model, ["[P1]: turn 0", "[P1]: turn 1"])


@pytest.mark.parametrize(("max_length", "max_new_tokens"), [(20, 24), (64, 0)])
def test_lengths_without_room_are_refused(
    tokenizer: PreTrainedTokenizerFast, max_length: int, max_new_tokens: int
) -> None:
    with pytest.raises(ConfigError, match="meeting_summary: max_"):
        MeetingSummary(tokenizer, Architecture.DECODER, max_length=max_length, max_new_tokens=max_new_tokens)
