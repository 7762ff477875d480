"""One person's words move the clipped sum by at most C, measured from raw conversations through gate and trainer.

The noise is too small to be seen and every unit is drawn, so one step of plain SGD shows the released sum in the
weights. `DP_TRAIN_NEIGHBOURS=500` looks at as many corpora.
"""

from __future__ import annotations

import os
from functools import cache

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from neighbour_corpora import TASKS, WRITERS, Corpus, corpora, emptied, kind_of, passed
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from dp_train.models.build import Architecture, ModelSpec, build_model
from dp_train.models.tokenizer import train_tokenizer
from dp_train.privacy.plan import PrivacyPlan, Unit
from dp_train.privacy.units import build_units
from dp_train.tasks.chat_compose import ChatCompose
from dp_train.tasks.meeting_summary import MeetingSummary
from dp_train.training.method import Execution
from dp_train.training.optimizers import sgd
from dp_train.training.trainer import Trainer

EXAMPLES = int(os.environ.get("DP_TRAIN_NEIGHBOURS", "6"))
CLIP = 0.25


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    torch.set_num_threads(1)
    return train_tokenizer(["we ship the report on friday", "ask [P1] and [P2] about the budget"] * 4, vocab_size=320)


def released_sum(corpus: Corpus, task: str, k: int, share: float) -> Tensor:
    """The clipped sum over all units, as the weights show it after one step."""
    units = build_units(passed(corpus, TASKS[task], share), unit=Unit.USER, max_contributions=k, rows_per_unit=2)
    model = build_model(
        ModelSpec(architecture=Architecture.DECODER, layers=1, width=16, heads=2, positions=64), tokenizer(), seed=1
    )
    before = torch.cat([parameter.detach().flatten().clone() for parameter in model.parameters()])
    work: ChatCompose | MeetingSummary
    if task == "meeting":
        work = MeetingSummary(tokenizer(), Architecture.DECODER, max_length=64, max_new_tokens=16)
    else:
        work = ChatCompose(tokenizer(), Architecture.DECODER, max_length=48)
    plan = PrivacyPlan(
        sample_rate=1.0,
        expected_units=1,
        steps=1,
        delta=1e-5,
        clip_norm=CLIP,
        noise_multiplier=1e-12,
        max_contributions=k,
        rows_per_unit=2,
    )
    Trainer(model, work, plan, optimizer=sgd(lr=1.0), execution=Execution(self_check=False)).fit(units)
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]) - before


@pytest.mark.parametrize(("task", "k"), [("own", 1), ("thread", 1), ("thread", 4), ("meeting", 1), ("meeting", 4)])
@settings(max_examples=EXAMPLES, phases=[Phase.generate])
@given(data=st.data())
def test_one_person_moves_the_sum_by_at_most_the_clip_norm(task: str, k: int, data: st.DataObject) -> None:
    corpus = data.draw(corpora(kind=kind_of(task)))
    person = data.draw(st.sampled_from([p for p in WRITERS if p not in corpus.refusing]))
    share = data.draw(st.sampled_from([0.5, 1.0]))
    sums = [released_sum(one, task, k, share) for one in (corpus, corpus.of(emptied(person)))]
    assert float((sums[0] - sums[1]).norm()) <= 1.0001 * most_of(task, k) * CLIP


def most_of(task: str, k: int) -> int:
    """Units of one person, each counted once: what k costs is in the event (`accounting.event`)."""
    return k if task != "own" else 1
