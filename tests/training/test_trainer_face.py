"""What a trainer offers around a run: schedules, history, callbacks that see the model, scores, texts, a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from letters import LetterModel, LetterTask, trainer_of
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau
from transformers import AutoModelForCausalLM, AutoTokenizer, get_cosine_schedule_with_warmup

import dp_train as dp
from dp_train.errors import CheckpointError, ConfigError, ConsentError, DataError, DpTrainError, ModelError
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.units import Units
from dp_train.training.callbacks import Callback, PrivateStep, Result, RunStart, StepEnd
from dp_train.training.checkpoint import CheckpointFolder
from dp_train.training.optimizers import from_scheduler, sgd

UnitsOf = Callable[..., Units]


@pytest.mark.parametrize(
    "make",
    [
        lambda optimizer: get_cosine_schedule_with_warmup(optimizer, 3, 12),
        lambda optimizer: CosineAnnealingLR(optimizer, 12),
    ],
    ids=["transformers", "torch"],
)
def test_a_scheduler_of_others_gives_the_rates_that_it_gives_alone(
    units_of: UnitsOf, plan: PrivacyPlan, make: Callable[[torch.optim.Optimizer], Any]
) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler, expected = make(optimizer), []
    for _ in range(plan.steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    trainer = trainer_of(LetterModel(), LetterTask(), plan, optimizer=sgd(lr=0.5), schedule=from_scheduler(make))
    result = trainer.fit(units_of(5))
    assert [step.learning_rate for step in result.history] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("make", "said"),
    [(lambda optimizer: 0.1, "made a float"), (lambda optimizer: ReduceLROnPlateau(optimizer), "made a ReduceLROnPl")],
)
def test_what_is_no_schedule_by_steps_is_refused(
    units_of: UnitsOf, plan: PrivacyPlan, make: Callable[[torch.optim.Optimizer], Any], said: str
) -> None:
    trainer = trainer_of(LetterModel(), LetterTask(), plan, optimizer=sgd(lr=0.5), schedule=from_scheduler(make))
    with pytest.raises(ConfigError, match=said):
        trainer.fit(units_of(5))
    with pytest.raises(ConfigError, match="expected a function that makes it"):
        from_scheduler("cosine")  # type: ignore[arg-type]


def test_history_holds_every_step_also_after_an_interruption(
    units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path
) -> None:
    class Stop(Callback):
        def on_step(self, step: StepEnd) -> None:
            if step.step == 5:
                raise KeyboardInterrupt

    units, seeds = units_of(20), dp.Seeds.fresh()
    parts = {"optimizer": sgd(lr=0.5), "checkpoint": CheckpointFolder(tmp_path / "kept"), "checkpoint_every": 1}
    with pytest.raises(KeyboardInterrupt):
        trainer_of(LetterModel(), LetterTask(), plan, callbacks=[Stop()], **parts).fit(units, seeds=seeds)  # type: ignore[arg-type]
    result = trainer_of(LetterModel(), LetterTask(), plan, **parts).fit(units)  # type: ignore[arg-type]
    assert [step.step for step in result.history] == list(range(1, plan.steps + 1))
    assert result.history[-1].epsilon == pytest.approx(plan.epsilon())


def test_what_is_handed_out_unasked_is_the_same_whoever_the_people_are(units_of: UnitsOf, plan: PrivacyPlan) -> None:
    """Learning rates and ε follow from the plan: no value that leaves by itself was computed from the data."""
    few, many = (
        trainer_of(LetterModel(), LetterTask(), plan, optimizer=sgd(lr=0.5)).fit(units_of(people)) for people in (3, 30)
    )
    assert [asdict(step) for step in few.history] == [asdict(step) for step in many.history]


def test_private_values_are_in_no_public_object() -> None:
    private = {one.name for one in fields(PrivateStep)} - {"step"}
    assert "record" in private
    for public in (RunStart, StepEnd):
        assert private.isdisjoint(one.name for one in fields(public))
    assert "record" not in {one.name for one in fields(Result)}


def test_a_callback_that_asks_for_the_model_is_handed_it(units_of: UnitsOf, plan: PrivacyPlan) -> None:
    model, seen = LetterModel(), []

    class Looks(Callback):
        def on_start(self, run: RunStart, model: nn.Module) -> None:  # type: ignore[override]
            seen.append(model)

        def on_step(self, step: StepEnd) -> None:
            seen.append(step)

        def on_end(self, result: Result, *, model: nn.Module) -> None:  # type: ignore[override]
            seen.append(model)

    result = trainer_of(model, LetterTask(), plan, optimizer=sgd(lr=0.5), callbacks=[Looks()]).fit(units_of(20))
    assert seen[0] is model
    assert seen[-1] is model
    assert len(seen) == 2 + plan.steps
    assert not result.epsilon.withheld


def test_a_callback_that_changes_the_model_costs_the_claim(units_of: UnitsOf, plan: PrivacyPlan) -> None:
    class Meddles(Callback):
        def on_end(self, result: Result, model: nn.Module) -> None:  # type: ignore[override]
            with torch.no_grad():
                next(model.parameters()).add_(1.0)

    trainer = trainer_of(LetterModel(), LetterTask(), plan, optimizer=sgd(lr=0.5), callbacks=[Meddles()])
    assert trainer.fit(units_of(20)).epsilon.withheld


TEXTS = ["we ship the report on friday", "can you look at the report, please?", "lunch at noon"]


@pytest.fixture
def chat() -> dp.Trainer:
    tokenizer = dp.train_tokenizer(TEXTS, vocab_size=300)
    task = dp.ChatCompose(tokenizer, dp.Architecture.DECODER, max_length=32)
    model = dp.build_model(dp.TINY.replace(layers=1, width=16, heads=1), tokenizer, seed=0)
    plan = PrivacyPlan(sample_rate=0.5, expected_units=2, steps=2, delta=1e-5).without_privacy()
    return dp.Trainer(model, task, plan, optimizer=sgd(lr=0.1))


def test_public_texts_train_and_score_without_ceremony(chat: dp.Trainer) -> None:
    published = dp.public(TEXTS)
    assert published.purpose is dp.Purpose.PUBLISH
    assert published.root == dp.public(TEXTS).root
    examples = chat.task.examples(published)
    result = chat.fit(dp.build_units(examples, unit=dp.Unit.EXAMPLE))
    assert result.status.value == "FINISHED"
    assert chat.evaluate(examples)["perplexity"] > 1
    assert [type(text) for text in chat.predict(["we ship", "can you"])] == [str, str]


def test_a_saved_folder_is_loaded_by_transformers(chat: dp.Trainer, tmp_path: Path) -> None:
    folder = chat.save(tmp_path / "mine")
    loaded, ids = AutoModelForCausalLM.from_pretrained(folder), torch.tensor([[3, 4]])
    assert torch.allclose(loaded(ids).logits, chat.model(ids).logits, atol=1e-5)
    assert len(AutoTokenizer.from_pretrained(folder)) == 300
    assert (folder / "dp_train.json").is_file()
    with pytest.raises(CheckpointError, match="is there already"):
        chat.save(folder)


def test_scores_of_people_who_did_not_agree_to_publication_are_refused(
    chat: dp.Trainer, units_of: UnitsOf, plan: PrivacyPlan
) -> None:
    people = dp.SyntheticCorpus(20, dp.Population.PRIVATE)
    key = dp.PrincipalKey(b"k" * 32)
    snapshot = dp.ConsentRegistry(people.consent_events(key), key=key).snapshot(as_of=datetime.now(UTC))
    private = dp.gate(people, snapshot, dp.ConsentPolicy(purpose=dp.Purpose.TRAIN_CHAT_COMPOSE))
    with pytest.raises(ConsentError, match="consented for train_chat_compose; expected publish"):
        chat.evaluate(chat.task.examples(private))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda chat, path: chat.evaluate(["a text"]), "examples is a list; expected task.examples"),
        (lambda chat, path: chat.predict("a text"), "prompts is no list of texts"),
        (lambda chat, path: chat.predict([1]), "prompts is no list of texts"),
        (lambda chat, path: dp.public("a text"), "texts is one str; expected a list"),
        (lambda chat, path: dp.public(["a", 3]), "text 2 is a int; expected words"),
        (lambda chat, path: dp.public([" "]), "text 1 is an empty text; expected words"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(
    chat: dp.Trainer, tmp_path: Path, call: Callable[[dp.Trainer, Path], object], said: str
) -> None:
    with pytest.raises(DpTrainError, match=said) as error:
        call(chat, tmp_path)
    assert "\n" not in str(error.value)


def test_a_task_that_cannot_write_and_a_model_of_ones_own_are_told(plan: PrivacyPlan, tmp_path: Path) -> None:
    trainer = trainer_of(LetterModel(), LetterTask(), plan, optimizer=sgd(lr=0.5))
    with pytest.raises(ConfigError, match="task letters cannot write; expected one with generate"):
        trainer.predict(["a"])
    with pytest.raises(ModelError, match="model is a LetterModel; expected one of transformers"):
        trainer.save(tmp_path / "mine")
    with pytest.raises(DataError, match="expected words"):
        dp.public([""])
