"""One person moves the clipped sum by at most C, measured from a recipe and files through `runs.prepare` and trainer.

The noise is too small to be seen and every unit is drawn, so one step of plain SGD shows the released sum in the
weights. `DP_TRAIN_NEIGHBOURS=500` looks at as many corpora a case; with `-s` the largest ratio of each is shown.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from neighbour_corpora import (
    KEY,
    NOW,
    WRITERS,
    Corpus,
    corpora,
    emptied,
    events_of,
    kind_of,
    without,
    without_links_to,
)
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from dp_train.cli.load_config import compose
from dp_train.consent.event_json import to_json
from dp_train.conversations import ContentKind, Conversation, ConversationKind, Turn
from dp_train.corpora.rows import to_row
from dp_train.models.tokenizer import train_tokenizer
from dp_train.runs import prepare as preparation
from dp_train.runs.prepare import make_trainer, prepare
from dp_train.runs.recipe import Recipe
from dp_train.runs.starting import make_model

EXAMPLES = int(os.environ.get("DP_TRAIN_NEIGHBOURS", "6"))
pytestmark = pytest.mark.timeout(300 + 20 * EXAMPLES)  # a second a corpus on a machine that others use
CLIP = 0.25
CASES = [("own", 1), ("thread", 1), ("thread", 4), ("meeting", 1), ("meeting", 4)]
_LARGEST: dict[str, float] = {}
_WORDS = (
    "corpus=jsonl",
    "corpus.private=private.jsonl",
    "corpus.public=public.jsonl",
    "corpus.tables=null",
    "consent.events=events.jsonl",
    "consent.key=key",
    "model.layers=1",
    "model.width=16",
    "model.heads=2",
    "start=none",
    "optimizer=sgd",
    "optimizer.learning_rate=1.0",
    "optimizer.momentum=0.0",
    "optimizer.schedule=constant",
    "privacy=dp",
    "privacy.epsilon=null",
    "privacy.noise_multiplier=1e-12",
    f"privacy.clip_norm={CLIP}",
    "privacy.rows_per_unit=2",
    "trainer.steps=1",
    "trainer.expected_units=1",
    "trainer.population=null",
    "trainer.sample_rate=1.0",
    "trainer.self_check=false",
    "tracking=off",
)


@cache
def recipe(task: str, k: int, share: float) -> Recipe:
    """What is typed for a case; composed once, for Hydra takes longer than the run."""
    words = {
        "own": ("task=chat_compose", "task.max_length=48", "task.context=own", "task.context_turns=2"),
        "thread": ("task=chat_compose", "task.max_length=48", "task.context=thread", "task.context_turns=2"),
        "meeting": ("task=meeting_summary", "task.max_length=64", "task.max_new_tokens=16"),
    }
    more = (f"privacy.max_contributions={k}", f"consent.max_removed_share={share}")
    return compose((*_WORDS, *words[task], *more))[0]


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A working folder with a key, a public file and the tokenizer that would be learnt from it; shows the ratios."""
    torch.set_num_threads(1)
    texts = ["we ship the report on friday", "ask [P1] and [P2] about the budget"] * 4
    tokenizer = train_tokenizer(texts, vocab_size=320)

    def same(config: Recipe, public: object) -> PreTrainedTokenizerFast:
        return tokenizer

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("differencing"))
        patch.delenv("DP_TRAIN_STORE", raising=False)
        patch.setattr(preparation, "make_tokenizer", same)  # published text alone decides it, and that stays the same
        Path("key").write_text(KEY.secret.hex() + "\n")
        Path("key").chmod(0o600)
        Path("public.jsonl").write_text("".join(json.dumps(to_row(talk)) + "\n" for talk in _published()))
        yield
    for case, ratio in _LARGEST.items():
        print(f"\n{case}: largest ‖difference‖ ÷ bound {ratio:.7f}")


def _published() -> Iterator[Conversation]:
    for kind, summary in ((ConversationKind.THREAD, None), (ConversationKind.MEETING, "It ships.")):
        said = ContentKind.CHAT if kind is ConversationKind.THREAD else ContentKind.TRANSCRIPT
        turns = (Turn(person_id="p-1", text="we ship", kind=said), Turn(person_id="p-2", text="it ships", kind=said))
        yield Conversation(
            conversation_id=f"public-{kind.value}",
            org_id="org",
            created_at=NOW,
            kind=kind,
            turns=turns,
            summary=summary,
        )


def released_sum(corpus: Corpus, config: Recipe) -> Tensor:
    """The clipped sum over all units, as the weights show it after one step."""
    Path("private.jsonl").write_text("".join(json.dumps(to_row(talk)) + "\n" for talk in corpus.conversations_))
    parts = prepare(config)
    model, _ = make_model(config, parts.data)
    before = torch.cat([parameter.detach().flatten().clone() for parameter in model.parameters()])
    make_trainer(config, model, parts.data.task, parts.plan).fit(parts.data.units)
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]) - before


def ratio_of(case: str, here: Corpus, there: Corpus, config: Recipe) -> float:
    """By how much of the bound the sums of two neighbours differ."""
    events = events_of(here, also=(*WRITERS, "p-1", "p-2"))
    Path("events.jsonl").write_text("".join(json.dumps(to_json(event)) + "\n" for event in events))
    # Units of one person, each counted once: what k costs is in the event (`accounting.event`).
    bound = CLIP * (config.privacy.max_contributions if not case.startswith("own") else 1)
    ratio = float((released_sum(here, config) - released_sum(there, config)).norm()) / bound
    _LARGEST[case] = max(ratio, _LARGEST.get(case, 0.0))
    return ratio


@pytest.mark.parametrize(("task", "k"), CASES)
@settings(max_examples=EXAMPLES, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_one_persons_words_move_the_sum_by_at_most_the_clip_norm(task: str, k: int, data: st.DataObject) -> None:
    corpus = data.draw(corpora(kind=kind_of(task), rosters=data.draw(st.booleans())))
    person = data.draw(st.sampled_from([p for p in WRITERS if p not in corpus.refusing]))
    config = recipe(task, k, data.draw(st.sampled_from([0.5, 1.0])))
    assert ratio_of(f"{task}, k={k}, emptied", corpus, corpus.of(emptied(person)), config) <= 1.0001


@settings(max_examples=EXAMPLES, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_one_person_who_is_gone_moves_the_sum_by_at_most_the_clip_norm(data: st.DataObject) -> None:
    corpus = data.draw(corpora(kind=ConversationKind.THREAD, rosters=data.draw(st.booleans())))
    person = data.draw(st.sampled_from([p for p in WRITERS if p not in corpus.refusing]))
    corpus = corpus.of(without_links_to(person))
    assert ratio_of("own, gone", corpus, _left(corpus.of(without(person))), recipe("own", 1, 1.0)) <= 1.0001


def _left(corpus: Corpus) -> Corpus:
    """A conversation in which no one is left is in no file."""
    return dataclasses.replace(corpus, conversations_=tuple(talk for talk in corpus.conversations_ if talk.turns))
