"""Chat compose: one owner unless asked otherwise, whole words, scores that models and baselines share."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from talks import ANNOUNCED, TEXTS, chat, consented, example, meeting, thread
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from dp_train.consent.events import Purpose
from dp_train.conversations import Turn
from dp_train.errors import ConfigError
from dp_train.models.build import Architecture
from dp_train.tasks.chat_compose import ChatCompose, ContextKind
from dp_train.tasks.metrics import Scores
from dp_train.tasks.sequences import IGNORE

MESSAGES = [example(text, number=number) for number, text in enumerate(TEXTS[:4])]
TURNS = (
    chat("a", "shall we\nship it"),
    chat("b", "yes", reply_to=0),
    chat("a", "good"),
    Turn(person_id="b", text="said aloud"),
    chat("c", "> yes\nwhy", quotes=1),
    chat("a", "because you asked", quotes=4),
    chat("a", "   "),
    chat("a", "as I said: good", quotes=2),
)


@pytest.fixture(scope="module")
def task(tokenizer: PreTrainedTokenizerFast, architecture: Architecture) -> ChatCompose:
    return ChatCompose(tokenizer, architecture, max_length=48)


def of(task: ChatCompose, *turns: Turn) -> list[tuple[str, str, frozenset[str]]]:
    corpus = consented(thread(*turns), purpose=task.purpose)
    return [(e.prompt, e.target, e.owners) for e in task.examples(corpus)]


def test_purpose_and_metric(task: ChatCompose) -> None:
    assert (task.name, task.metric, task.higher_is_better) == ("chat_compose", "perplexity", False)
    assert task.purpose is Purpose.TRAIN_CHAT_COMPOSE


def test_own_context_has_one_owner_and_nobody_elses_words(tokenizer: PreTrainedTokenizerFast) -> None:
    task = ChatCompose(tokenizer, Architecture.DECODER, context_turns=2)
    assert of(task, *TURNS) == [
        ("", "shall we ship it", {"a"}),
        ("", "yes", {"b"}),
        ("shall we ship it", "good", {"a"}),
        ("shall we ship it\ngood", "as I said: good", {"a"}),
    ]


def test_own_context_may_be_empty(tokenizer: PreTrainedTokenizerFast) -> None:
    task = ChatCompose(tokenizer, Architecture.DECODER, context_turns=0)
    assert {prompt for prompt, _, _ in of(task, *TURNS)} == {""}


def test_thread_context_is_owned_by_everyone_whose_words_enter(tokenizer: PreTrainedTokenizerFast) -> None:
    task = ChatCompose(tokenizer, Architecture.DECODER, context=ContextKind.THREAD, context_turns=1)
    made = of(task, *TURNS)
    assert made[0] == ("[P1]:", "shall we ship it", {"a"})
    assert made[1] == ("[P1]: shall we ship it\n[P2]:", "yes", {"a", "b"})
    assert made[3] == ("[P2]: said aloud\n[P3]:", "> yes why", {"b", "c"})
    assert made[4] == ("[P3]: > yes why\n[P1]:", "because you asked", {"a", "b", "c"})
    assert len(made) == 6


def test_examples_have_public_ids_of_their_own(task: ChatCompose) -> None:
    corpus = consented(thread(*TURNS), purpose=task.purpose)
    made = list(task.examples(corpus))
    authors = {example.owners: example.example_id.rpartition(".")[0] for example in made}
    assert len(set(authors.values())) == 2
    assert all(author.startswith("t1/") for author in authors.values())
    assert [e.example_id for e in made] == [
        f"{authors[e.owners]}.{ordinal}" for e, ordinal in zip(made, (0, 0, 1, 4), strict=True)
    ]


def test_meetings_teach_no_chat(task: ChatCompose) -> None:
    assert list(task.examples(consented(meeting(("a", "hi")), purpose=task.purpose))) == []


def test_what_fits_is_whole(task: ChatCompose, tokenizer: PreTrainedTokenizerFast) -> None:
    row = task.encode(example("see you", "before"))
    assert tokenizer.decode([label for label in row.labels if label != IGNORE]) == "see you</s>"
    assert "before<message>" in tokenizer.decode(row.input_ids)


@settings(deadline=None)
@given(st.text("report ,é", max_size=150), st.text("ab \n", max_size=150))
def test_row_is_never_too_long_and_ends_with_a_whole_word(
    tokenizer: PreTrainedTokenizerFast, message: str, prompt: str
) -> None:
    task = ChatCompose(tokenizer, Architecture.DECODER, max_length=48)
    row = task.encode(example(message, prompt))
    assert len(row.input_ids) == len(row.labels) <= 48
    kept = tokenizer.decode([label for label in row.labels if label != IGNORE], skip_special_tokens=True).split()
    words = message.split()
    assert kept == words[: len(kept)] or len(kept) == 1
    assert (row.labels[-1] == tokenizer.eos_token_id) == (kept == words)


def test_a_long_prompt_keeps_its_end(tokenizer: PreTrainedTokenizerFast) -> None:
    row = ChatCompose(tokenizer, Architecture.DECODER, max_length=48).encode(example("see you", "x " * 300 + "end"))
    assert "end<message>see you</s>" in tokenizer.decode(row.input_ids)
    assert len(row.input_ids) == 48


def test_perplexity_of_a_uniform_model_is_the_vocabulary(
    task: ChatCompose, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    handle = model.get_output_embeddings().register_forward_hook(lambda module, args, output: output * 0)
    value = task.evaluate(model, MESSAGES, scores=Scores.PRIMARY)["perplexity"]
    handle.remove()
    tokens = sum(len(tokenizer.encode(e.target, add_special_tokens=False)) + 1 for e in MESSAGES)
    words = sum(len(e.target.split()) + 1 for e in MESSAGES)
    assert value == pytest.approx(math.exp(tokens * math.log(len(tokenizer)) / words), rel=1e-4)


def test_scores_of_models_and_baselines_have_the_same_names(task: ChatCompose, model: PreTrainedModel) -> None:
    model.train()
    scores = task.evaluate(model, MESSAGES)
    assert scores == task.evaluate(model, MESSAGES)
    assert model.training
    baselines = task.baselines(MESSAGES, public=MESSAGES)
    assert set(baselines) == {"unigram", "trigram"}
    assert all(set(values) == set(scores) for values in baselines.values())
    assert {"perplexity", "top1", "top3", "exact_match_5", "keystroke_savings"} <= set(scores)
    assert task.evaluate(model, MESSAGES, scores=Scores.PRIMARY) == {"perplexity": scores["perplexity"]}


def test_trigrams_know_the_text_that_they_were_counted_in(task: ChatCompose) -> None:
    baselines = task.baselines(MESSAGES, public=MESSAGES)
    assert baselines["trigram"]["top1"] > 0.8
    assert baselines["trigram"]["perplexity"] < baselines["unigram"]["perplexity"]


def test_who_knows_the_message_suggests_it(task: ChatCompose, memory: nn.Module) -> None:
    scores = task.evaluate(memory, ANNOUNCED)
    assert scores["perplexity"] < 1.5
    assert min(scores["top1"], scores["top3"]) >= 0.95
    assert scores["exact_match_5"] >= 0.9  # five words of more than 13 tokens are never suggested
    assert scores["keystroke_savings"] > 0.05
    samples = task.samples(memory, ANNOUNCED, 2)
    assert [sample.output for sample in samples] == [sample.reference for sample in samples]
    assert task.generate(memory, ["we agreed to"], earlier=["0"]) == ["ship the report on friday"]


def test_order_of_places_does_not_change_what_is_suggested(task: ChatCompose, memory: nn.Module) -> None:
    one, other = task.evaluate(memory, ANNOUNCED), task.evaluate(memory, ANNOUNCED[::-1])
    for name in ("top1", "top3", "exact_match_2"):
        assert one[name] == other[name]
    assert one["perplexity"] == pytest.approx(other["perplexity"], rel=1e-5)


def test_places_are_thinned_evenly(tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel) -> None:
    few = ChatCompose(tokenizer, Architecture.DECODER, max_places=3)
    assert few.baselines(MESSAGES, public=MESSAGES)["trigram"]["top1"] in {n / 3 for n in range(4)}


def test_drafts_of_any_length_are_continued(task: ChatCompose, model: PreTrainedModel) -> None:
    outputs = task.generate(model, ["", "word " * 200, "x" * 500], earlier=["", "y " * 200, ""])
    assert len(outputs) == 3


@pytest.mark.parametrize(
    "options", [{"max_length": 8}, {"context_turns": -1}, {"trigger_rate": 0.0}, {"max_places": 0}], ids=str
)
def test_impossible_options_are_refused(tokenizer: PreTrainedTokenizerFast, options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"chat_compose: {next(iter(options))}="):
        ChatCompose(tokenizer, Architecture.DECODER, **options)  # type: ignore[arg-type]
