"""Rows of a person in one sequence: the same clipped sums, from every engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from letters import LetterModel, LetterTask, trainer_of
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from dp_train.conversations import Example
from dp_train.engines.base import EngineName, MicroBatch, StepRecord
from dp_train.engines.build import build_engine
from dp_train.engines.noise import SeededNoise
from dp_train.errors import ModelError, PlanError
from dp_train.models.build import Architecture, ModelSpec, build_model
from dp_train.models.tokenizer import train_tokenizer
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.units import Units
from dp_train.tasks.chat_compose import ChatCompose
from dp_train.training.batches import PackedBatches, Packing, UnitBatches
from dp_train.training.callbacks import PrivateStep, StepEnd
from dp_train.training.checkpoint import CheckpointFolder
from dp_train.training.method import Method, Setup
from dp_train.training.optimizers import sgd
from dp_train.training.seeds import Seeds

UnitsOf = Callable[..., Units]
WORDS = ["plan", "ship", "review", "budget", "release", "agenda", "ticket", "deploy", "invoice", "roadmap"]
ROWS_OF_UNITS = (3, 1, 8, 2, 1, 5)
CPU = torch.device("cpu")
PLAN = PrivacyPlan(
    sample_rate=0.1, expected_units=4, steps=100, delta=1e-5, clip_norm=1.0, noise_multiplier=0.0, rows_per_unit=8
)
PRIVATE = [EngineName.NAIVE, EngineName.HOOKS, EngineName.FUNCTORCH, EngineName.BOOKKEEPING]


def example(words: int, seed: int) -> Example:
    text = " ".join(WORDS[(seed * 7 + index * (seed % 3 + 1)) % len(WORDS)] for index in range(words))
    prompt = " ".join(WORDS[(seed + index) % len(WORDS)] for index in range(seed % 4))
    return Example(example_id=f"{seed}", prompt=prompt, target=text, owners=frozenset({"u"}))


UNITS = [
    tuple(example(1 + (unit * 5 + row * 3) % 11, 10 * unit + row) for row in range(count))
    for unit, count in enumerate(ROWS_OF_UNITS)
]
ALL = np.arange(len(UNITS))


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer([" ".join(WORDS)] * 20, vocab_size=300)


@pytest.fixture(scope="module")
def task(tokenizer: PreTrainedTokenizerFast) -> ChatCompose:
    return ChatCompose(tokenizer, Architecture.DECODER, max_length=48)


def neox(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    spec = ModelSpec(architecture=Architecture.DECODER, layers=2, width=16, heads=2, positions=48)
    return build_model(spec, tokenizer, seed=3)


def gpt2(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_positions=48, n_embd=16, n_layer=2, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0, bos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    torch.manual_seed(3)
    return transformers.GPT2LMHeadModel(config)


def llama(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1,
    )  # fmt: skip
    torch.manual_seed(3)
    return transformers.LlamaForCausalLM(config)


MODELS = {"neox": neox, "gpt2": gpt2, "llama": llama}


def step(
    engine: EngineName, model: PreTrainedModel, task: ChatCompose, batches: Iterable[MicroBatch], clip_norm: float = 1.0
) -> tuple[Tensor, StepRecord]:
    """The sum that an engine releases, and its record."""
    plan = PLAN.replace(clip_norm=clip_norm)
    built = build_engine(
        engine,
        model=model.train(),
        row_losses=task.row_losses,
        plan=plan.without_privacy() if engine is EngineName.NON_PRIVATE else plan,
        noise=SeededNoise(b"a seed for tests"),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
    )
    try:
        for batch in batches:
            built.accumulate(batch)
        record = built.release(0)
    finally:
        built.detach()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None for gradient in gradients)
    return torch.cat([gradient.flatten().double() for gradient in gradients if gradient is not None]), record


def unpacked(task: ChatCompose, rows: int = 6) -> UnitBatches:
    return UnitBatches(UNITS, task, rows=rows, device=CPU)


def packed(
    task: ChatCompose, tokens: int = 150, length: int = 60, packing: Packing = Packing.WITHIN_UNITS
) -> PackedBatches:
    return PackedBatches(UNITS, task, packing=packing, tokens=tokens, length=length, device=CPU)


def difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("engine", [*PRIVATE, EngineName.NON_PRIVATE])
def test_packed_rows_have_the_clipped_sum_of_unpacked_rows(
    engine: EngineName, kind: str, task: ChatCompose, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = MODELS[kind](tokenizer)
    norms = [
        float(step(EngineName.NAIVE, model, task, unpacked(task)(ALL[unit : unit + 1]), 1e6)[0].norm()) * 4
        for unit in ALL
    ]
    clip_norm = 1.001 * sorted(norms)[3]  # some units are clipped and some are not
    expected, there = step(
        EngineName.NAIVE if engine in PRIVATE else engine, model, task, unpacked(task)(ALL), clip_norm
    )
    found, here = step(engine, model, task, packed(task)(ALL), clip_norm)
    assert difference(found, expected) < 1e-5
    assert (here.units, here.clipped_units, here.nonfinite_units) == (there.units, there.clipped_units, 0)
    assert here.clipped_units == (2 if engine in PRIVATE else 0)
    assert here.loss_sum == pytest.approx(there.loss_sum, rel=1e-5)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tokens=st.integers(1, 600),
    length=st.integers(1, 300),
    draw=st.lists(st.integers(0, len(UNITS) - 1), unique=True, min_size=1),
)
def test_any_cut_and_any_length_give_one_sum(
    task: ChatCompose, tokenizer: PreTrainedTokenizerFast, tokens: int, length: int, draw: list[int]
) -> None:
    model, chosen = neox(tokenizer), np.array(draw)
    expected, _ = step(EngineName.BOOKKEEPING, model, task, unpacked(task, 100)(chosen), 0.5)
    found, record = step(EngineName.BOOKKEEPING, model, task, packed(task, tokens, length)(chosen), 0.5)
    assert difference(found, expected) < 1e-5
    assert record.units == len(draw)


def test_a_nonfinite_row_takes_its_unit_along_and_nobody_else(
    task: ChatCompose, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = neox(tokenizer)
    batches = list(packed(task, tokens=10_000)(ALL))
    assert len(batches) == 1
    healthy, _ = step(EngineName.BOOKKEEPING, model, task, packed(task)(np.delete(ALL, 2)))
    batch = batches[0]
    lost = int(torch.bincount(batch.units).argmax())  # the unit of eight rows has several sequences
    sequence = int((batch.units == lost).nonzero()[0])
    batch.inputs["label_weights"][sequence, 0] = float("nan")
    found, record = step(EngineName.BOOKKEEPING, model, task, batches)
    assert difference(found, healthy) < 1e-5
    assert (record.units, record.nonfinite_units) == (6, 1)


def test_rows_of_units_never_share_a_sequence_within_units(task: ChatCompose) -> None:
    for batch in packed(task, tokens=10_000, length=10_000)(ALL):
        assert batch.units.tolist() == list(range(len(UNITS)))
        rows = [int(segments.max()) + 1 for segments in batch.inputs["segments"]]
        assert sorted(rows) == sorted(ROWS_OF_UNITS)


def test_a_microbatch_keeps_to_its_tokens_unless_one_unit_is_larger(task: ChatCompose) -> None:
    for tokens in (1, 80, 200, 400):
        for batch in packed(task, tokens=tokens)(ALL):
            assert batch.num_units == 1 or batch.inputs["input_ids"].numel() <= tokens


def test_equal_draws_give_equal_microbatches(task: ChatCompose) -> None:
    batches = packed(task)
    first, again, fresh = list(batches(ALL)), list(batches(ALL)), list(packed(task)(ALL))
    for one, other in [*zip(first, again, strict=True), *zip(first, fresh, strict=True)]:
        assert all(torch.equal(one.inputs[name], other.inputs[name]) for name in one.inputs)
        assert torch.equal(one.units, other.units)


def test_an_empty_draw_gives_no_microbatch(task: ChatCompose) -> None:
    for packing in (Packing.WITHIN_UNITS, Packing.ACROSS_UNITS):
        assert not list(packed(task, packing=packing)(ALL[:0]))


def test_rows_across_units_add_up_to_the_sum_without_privacy(
    task: ChatCompose, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = neox(tokenizer)
    expected, there = step(EngineName.NON_PRIVATE, model, task, unpacked(task)(ALL))
    batches = list(packed(task, packing=Packing.ACROSS_UNITS)(ALL))
    found, here = step(EngineName.NON_PRIVATE, model, task, batches)
    assert difference(found, expected) < 1e-5
    assert here.loss_sum == pytest.approx(there.loss_sum, rel=1e-5)
    assert sum(batch.num_units for batch in batches) < sum(
        batch.inputs["input_ids"].shape[0] for batch in packed(task)(ALL)
    )


def test_a_wrong_weight_is_another_sum(task: ChatCompose, tokenizer: PreTrainedTokenizerFast) -> None:
    """What the law above would miss if it could not fail."""
    model = neox(tokenizer)
    expected, _ = step(EngineName.BOOKKEEPING, model, task, unpacked(task)(ALL), 100.0)
    batches = list(packed(task)(ALL))
    for batch in batches:
        batch.inputs["label_weights"][:] = (batch.inputs["labels"] >= 0).float()
    assert difference(step(EngineName.BOOKKEEPING, model, task, batches, 100.0)[0], expected) > 1e-2


class _Stop:
    """Interrupts a run after a step, and keeps the numbers of units."""

    def __init__(self, at: int = -1) -> None:
        self.units: list[int] = []
        self._at = at

    def on_start(self, run: object) -> None:
        pass

    def on_private_step(self, step: PrivateStep) -> None:
        self.units.append(step.record.units)

    def on_step(self, step: StepEnd) -> None:
        if step.step == self._at:
            raise KeyboardInterrupt

    def on_end(self, result: object) -> None:
        pass


def fit(
    units: Units,
    plan: PrivacyPlan,
    task: ChatCompose,
    tokenizer: PreTrainedTokenizerFast,
    *,
    packing: Packing,
    notes: _Stop | None = None,
    folder: Path | None = None,
) -> PreTrainedModel:
    model = neox(tokenizer)
    trainer = trainer_of(
        model,
        task,
        plan,
        optimizer=sgd(lr=0.5),
        packing=packing,
        microbatch_tokens=200,
        callbacks=[notes] if notes else [],
        checkpoint=CheckpointFolder(folder) if folder else None,
        checkpoint_every=100,
    )
    trainer.fit(units, seeds=Seeds.fixed_for_test(3))
    return model


@pytest.mark.usefixtures("one_identity")
def test_a_packed_run_is_the_unpacked_run_but_for_rounding(
    units_of: UnitsOf, plan: PrivacyPlan, task: ChatCompose, tokenizer: PreTrainedTokenizerFast
) -> None:
    units = units_of(40)
    one, other = (
        fit(units, plan, task, tokenizer, packing=packing) for packing in (Packing.NONE, Packing.WITHIN_UNITS)
    )
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_an_interrupted_packed_run_equals_an_uninterrupted_one(
    units_of: UnitsOf, plan: PrivacyPlan, task: ChatCompose, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    units = units_of(40)
    whole = fit(units, plan, task, tokenizer, packing=Packing.WITHIN_UNITS)
    with pytest.raises(KeyboardInterrupt):
        fit(units, plan, task, tokenizer, packing=Packing.WITHIN_UNITS, notes=_Stop(5), folder=tmp_path)
    resumed = fit(units, plan, task, tokenizer, packing=Packing.WITHIN_UNITS, folder=tmp_path)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.usefixtures("one_identity")
def test_packing_across_units_counts_units_and_is_refused_under_a_private_plan(
    units_of: UnitsOf, plan: PrivacyPlan, task: ChatCompose, tokenizer: PreTrainedTokenizerFast
) -> None:
    units, apart, together = units_of(40), _Stop(), _Stop()
    baseline = plan.without_privacy()
    one = fit(units, baseline, task, tokenizer, packing=Packing.NONE, notes=apart)
    other = fit(units, baseline, task, tokenizer, packing=Packing.ACROSS_UNITS, notes=together)
    assert apart.units == together.units
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    with pytest.raises(PlanError, match=r"cannot be clipped one by one.*within_units"):
        fit(units, plan, task, tokenizer, packing=Packing.ACROSS_UNITS)


def test_a_task_that_cannot_pack_is_refused_by_name(plan: PrivacyPlan) -> None:
    with pytest.raises(ModelError, match="task letters: its rows cannot share a sequence"):
        trainer_of(LetterModel(), LetterTask(), plan, optimizer=sgd(lr=0.1), packing=Packing.WITHIN_UNITS)


@pytest.mark.parametrize("packed", [False, True])
def test_by_token_the_step_is_the_gradient_of_the_mean_over_all_labels(
    packed: bool, task: ChatCompose, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = neox(tokenizer)
    rows = [task.encode(one) for unit in UNITS for one in unit]
    inputs = task.collate(rows)
    counts = torch.tensor([sum(label >= 0 for label in row.labels) for row in rows])
    wanted = torch.autograd.grad(
        (task.row_losses(model, inputs) * counts).sum() / counts.sum(), list(model.parameters()), allow_unused=False
    )
    batches = (
        PackedBatches(UNITS, task, packing=Packing.ACROSS_UNITS, tokens=96, device=CPU, by_token=True)
        if packed
        else UnitBatches(UNITS, task, rows=6, device=CPU, by_token=True)
    )
    found, _ = step(EngineName.NON_PRIVATE, model, task, batches(ALL))
    expected = torch.cat([gradient.flatten().double() for gradient in wanted])
    torch.testing.assert_close(found * PLAN.expected_units / len(rows), expected, rtol=1e-4, atol=1e-7)


def test_with_privacy_each_unit_counts_alike(task: ChatCompose, tokenizer: PreTrainedTokenizerFast) -> None:
    plan = PLAN.replace(noise_multiplier=1.0)
    with pytest.raises(PlanError, match="by_token=True; expected False"):
        Setup(model=neox(tokenizer), task=task, plan=plan, optimizer=sgd(lr=0.1), method=Method(by_token=True))
