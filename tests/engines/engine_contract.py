"""What every private engine must do; an engine's test class inherits it and names the engine.

The reference is written out here a second time, in float64 and on rows without their padding, so that
the naive engine is under test too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pytest
import scipy.stats
import torch
from engine_models import MODELS, PAD, batch, row_losses, rows, select, trimmed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from together import together
from torch import Tensor, nn

from dp_train.engines.base import Clipping, Engine, EngineName, MicroBatch, StepRecord
from dp_train.engines.build import build_engine
from dp_train.engines.correlated_noise import CorrelatedNoise
from dp_train.engines.noise import NoiseSource, SeededNoise
from dp_train.engines.ranks import ALONE, Ranks, joined
from dp_train.engines.scaling import FactoredScaling, Scaling
from dp_train.errors import PlanError
from dp_train.privacy.noise_check import NoiseObservation, violations
from dp_train.privacy.plan import PrivacyPlan

UNITS = (0, 0, 1, 2, 3, 3, 3, 4)
PLAN = PrivacyPlan(
    sample_rate=0.1, expected_units=4, steps=100, delta=1e-5, clip_norm=2.5, noise_multiplier=0.0, rows_per_unit=3
)
NOISY = PLAN.replace(noise_multiplier=1.5)
SEED = b"a seed for tests"

every_model = pytest.mark.parametrize("kind", MODELS)


def trainable(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def released(model: nn.Module) -> Tensor:
    """All released gradients as one float64 vector."""
    gradients = [parameter.grad for parameter in trainable(model)]
    assert all(gradient is not None for gradient in gradients)
    return torch.cat([gradient.flatten().double() for gradient in gradients])


def unit_gradients(model: nn.Module, whole: MicroBatch) -> Tensor:
    """(units, parameters) float64: the mean of each unit's row gradients, a row at a time and unpadded."""
    total = torch.zeros(whole.num_units, sum(parameter.numel() for parameter in trainable(model)), dtype=torch.float64)
    counts = torch.bincount(whole.units)
    for row, unit in enumerate(whole.units.tolist()):
        loss = row_losses(model, trimmed(whole.inputs, row)).sum()
        gradients = torch.autograd.grad(loss, trainable(model), allow_unused=True, materialize_grads=True)
        total[unit] += torch.cat([gradient.flatten().double() for gradient in gradients]) / counts[unit]
    return total


def clipped_sum(gradients: Tensor, clip_norm: float) -> Tensor:
    norms = gradients.norm(dim=1, keepdim=True)
    return (gradients * (clip_norm / norms).clamp(max=1.0)).sum(0)


def difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def uneven_scaling(model: nn.Module) -> Scaling:
    """Factors that differ in every row and column; tensors of norms are left as they are."""
    generator = torch.Generator().manual_seed(5)
    return FactoredScaling(
        {
            parameter: torch.rand(parameter.shape, generator=generator).add(0.05).square()
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and "ln_f" not in name
        }
    )


def factors_of(model: nn.Module, scaling: Scaling) -> Tensor:
    """The factor of each trainable coordinate as one float64 vector."""
    return torch.cat(
        [
            (scaling.scales[parameter].full() if parameter in scaling.scales else torch.ones_like(parameter))
            .flatten()
            .double()
            for parameter in trainable(model)
        ]
    )


HANDS = {2: ((4, 0, 2), (1, 3)), 3: ((3, 1, 0), (2, 4), ())}
"""Units as they are dealt to two processes and to three, the last of which has none."""


@dataclass(frozen=True)
class Released:
    """What the steps of one process released: no units, clipped sums without noise, and with it."""

    noise: list[Tensor]
    bare: Tensor
    noisy: Tensor
    records: tuple[float, ...]
    seen: NoiseObservation


def releases(
    contract: type[EngineContract], kinds: Sequence[str], hands: Sequence[Sequence[int]]
) -> dict[str, Released]:
    """Release steps of each model, with the process' own hand of units; alone, with all of them one after the other."""
    contract_, found = contract(), {}
    with joined(wait_seconds=200) as ranks:
        mine = hands if ranks.size == 1 else hands[ranks.rank : ranks.rank + 1]

        def step(
            model: nn.Module, plan: PrivacyPlan, hands: Sequence[Sequence[int]], number: int, noise: NoiseSource
        ) -> tuple[Tensor, StepRecord]:
            engine = contract_.build(model, plan, noise, ranks=ranks)
            for hand in hands:
                if hand:
                    engine.accumulate(select(whole, hand))
            record = engine.release(number)
            engine.detach()
            return released(model), record

        for kind in kinds:
            whole, noisy = batch(rows(len(contract.units)), contract.units), contract_.noisy
            banded = CorrelatedNoise(SeededNoise(SEED), bands=3, steps=5)
            sources: list[tuple[NoiseSource, int]] = [(SeededNoise(SEED), 2), (banded, 0), (banded, 3)]
            gradient, record = step(MODELS[kind](), noisy, mine, 0, SeededNoise(SEED))
            assert record.noise_seen is not None
            found[kind] = Released(
                noise=[step(MODELS[kind](), noisy, (), number, source)[0] for source, number in sources],
                bare=step(MODELS[kind](), contract.plan, mine, 0, SeededNoise(SEED))[0],
                noisy=gradient,
                records=(record.units, record.clipped_units, record.nonfinite_units, record.loss_sum),
                seen=record.noise_seen,
            )
    return found


class EngineContract:
    """Inherit, set `engine`, and pytest runs all of it."""

    engine: EngineName
    kinds: tuple[str, ...] = tuple(MODELS)
    typical: tuple[str, ...] = ("gpt2_tied", "t5")
    decoder = "gpt2_tied"
    clippings: tuple[Clipping, ...] = (Clipping.AUTOMATIC, Clipping.PER_LAYER)
    scales = True
    units: tuple[int, ...] = UNITS
    """Which unit each row belongs to; units 0 … 4 have to be there."""
    plan: PrivacyPlan = PLAN

    @property
    def noisy(self) -> PrivacyPlan:
        return self.plan.replace(noise_multiplier=NOISY.noise_multiplier)

    def build(
        self,
        model: nn.Module,
        plan: PrivacyPlan,
        noise: NoiseSource | None = None,
        clipping: Clipping = Clipping.FLAT,
        scaling: Scaling | None = None,
        ranks: Ranks = ALONE,
    ) -> Engine:
        optimizer = torch.optim.SGD(trainable(model), lr=0.1)
        return build_engine(
            self.engine,
            model=model,
            row_losses=row_losses,
            plan=plan,
            noise=noise or SeededNoise(SEED),
            optimizer=optimizer,
            clipping=clipping,
            scaling=scaling,
            ranks=ranks,
        )

    def step(
        self,
        model: nn.Module,
        batches: Iterable[MicroBatch],
        plan: PrivacyPlan | None = None,
        step: int = 0,
        clipping: Clipping = Clipping.FLAT,
        scaling: Scaling | None = None,
    ) -> tuple[Tensor, StepRecord]:
        """One step of a fresh engine: what it wrote times the divisor, and its record."""
        plan = plan or self.plan
        engine = self.build(model, plan, clipping=clipping, scaling=scaling)
        try:
            for microbatch in batches:
                engine.accumulate(microbatch)
            record = engine.release(step)
            return released(model) * plan.expected_units, record
        finally:
            engine.detach()

    def test_equals_the_per_unit_loop(self, kind: str) -> None:
        model, whole = MODELS[kind](), batch(rows(len(self.units)), self.units)
        gradients = unit_gradients(model, whole)
        norms = gradients.norm(dim=1)
        clip_norm = 1.001 * float(norms.median())  # some units are clipped and some are not
        found, record = self.step(model, [whole], self.plan.replace(clip_norm=clip_norm))
        assert difference(found, clipped_sum(gradients, clip_norm)) < 1e-5
        assert record.units == whole.num_units
        assert record.clipped_units == 2
        assert record.nonfinite_units == 0
        losses = [
            row_losses(model, trimmed(whole.inputs, row)).item() / self.units.count(self.units[row])
            for row in range(len(self.units))
        ]
        assert record.loss_sum == pytest.approx(sum(losses), rel=1e-5)

    def test_scaled_gradients_equal_the_loop_that_stretches_clips_and_shrinks(self, kind: str) -> None:
        model, whole = MODELS[kind](), batch(rows(len(self.units)), self.units)
        scaling = uneven_scaling(model)
        if not self.scales:
            with pytest.raises(PlanError, match="use bookkeeping, hooks or naive"):
                self.build(model, self.plan, scaling=scaling)
            return
        factors = factors_of(model, scaling)
        stretched = unit_gradients(model, whole) * factors
        clip_norm = 1.001 * float(stretched.norm(dim=1).median())
        found, record = self.step(model, [whole], self.plan.replace(clip_norm=clip_norm), scaling=scaling)
        assert difference(found * factors, clipped_sum(stretched, clip_norm)) < 1e-5
        assert record.clipped_units == 2

    def test_scaled_noise_is_shrunk_and_covers_what_one_unit_can_do(self) -> None:
        if not self.scales:
            return
        model, whole = MODELS[self.decoder](), batch(rows(len(self.units)), self.units)
        scaling = uneven_scaling(model)
        factors = factors_of(model, scaling)
        noise, record = self.step(model, [], self.plan.replace(noise_multiplier=1.5), scaling=scaling)
        assert float((noise * factors).std()) == pytest.approx(record.noise_std, rel=0.05)
        without, _ = self.step(model, [select(whole, [0, 1, 2, 4])], scaling=scaling)
        joined, _ = self.step(model, [whole], scaling=scaling)
        assert float(((joined - without) * factors).norm()) <= self.plan.clip_norm * (1 + 1e-5)

    @pytest.mark.parametrize("size", [2, 3])
    def test_several_processes_release_what_one_does(self, size: int) -> None:
        """The same noise to the last bit, the same sum up to rounding, the same record: whatever their number."""
        found = together(size, releases, type(self), self.kinds, HANDS[size])
        for kind in self.kinds:
            of_ranks = [one[kind] for one in found]
            first = of_ranks[0]
            # The last process' hand is empty: it makes noise, and releases what all do.
            assert all(torch.equal(one.noisy, first.noisy) for one in of_ranks)
            assert all(one.records == first.records for one in of_ranks)
            alone = releases(type(self), [kind], HANDS[size])[kind]
            for banded, expected in zip(first.noise, alone.noise, strict=True):
                assert torch.equal(banded, expected)
            assert difference(first.bare, alone.bare) < 1e-6
            assert difference(first.noisy, alone.noisy) < 1e-6
            (units, *counts, losses), (expected_units, *expected_counts, expected_losses) = first.records, alone.records
            assert (units, counts) == (expected_units, expected_counts)
            assert losses == pytest.approx(expected_losses, rel=1e-6)
            # What was seen of the noise is of all of it, in every process, and follows the law that the plan has.
            assert not violations(self.noisy, 0, units, first.seen, false_alarm=1e-9)
            assert first.seen.counts == alone.seen.counts
            assert first.seen.sum_norm == pytest.approx(alone.seen.sum_norm, rel=1e-5)
            assert all(one.seen == first.seen for one in of_ranks)

    @pytest.mark.parametrize("size", [1, 2, 3])
    def test_microbatches_of_every_size_give_one_sum(self, kind: str, size: int) -> None:
        model, whole = MODELS[kind](), batch(rows(len(self.units)), self.units)
        units = range(whole.num_units)
        cut = [select(whole, units[start : start + size]) for start in range(0, whole.num_units, size)]
        found, record = self.step(model, cut)
        assert difference(found, self.step(model, [whole])[0]) < 1e-5
        assert record.units == whole.num_units

    @settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(owners=st.lists(st.integers(0, 4), min_size=1, max_size=9), seed=st.integers(0, 99))
    def test_any_owners_in_any_order_equal_the_loop(self, owners: list[int], seed: int) -> None:
        if self.plan.rows_per_unit == 1:
            owners = list(dict.fromkeys(owners))
        present = sorted(set(owners))
        whole = batch(rows(len(owners), seed=seed), [present.index(owner) for owner in owners])
        model = MODELS[self.decoder]()
        expected = clipped_sum(unit_gradients(model, whole), self.plan.clip_norm)
        assert difference(self.step(model, [whole])[0], expected) < 1e-5

    @pytest.mark.parametrize("others", [(), (1,), (0, 1, 2, 4)])
    @pytest.mark.parametrize("scale", [1.0, 1e6, 1e-6])
    def test_one_unit_moves_the_sum_by_at_most_clip_norm(self, kind: str, others: Sequence[int], scale: float) -> None:
        model, inputs = MODELS[kind](), rows(len(self.units))
        inputs["scale"][[row for row, unit in enumerate(self.units) if unit == 3]] = scale
        whole = batch(inputs, self.units)
        without, _ = self.step(model, [select(whole, others)] if others else [])
        joined, _ = self.step(model, [select(whole, [*others, 3])])
        moved = float((joined - without).norm())
        assert moved <= self.plan.clip_norm * (1 + 1e-5)
        assert scale < 1 or moved > 0.25 * self.plan.clip_norm

    def test_automatic_clipping_is_its_formula(self, kind: str) -> None:
        model, whole = MODELS[kind](), batch(rows(len(self.units)), self.units)
        gradients = unit_gradients(model, whole)
        expected = (gradients * self.plan.clip_norm / (gradients.norm(dim=1, keepdim=True) + 0.01)).sum(0)
        found, record = self.step(model, [whole], clipping=Clipping.AUTOMATIC)
        assert difference(found, expected) < 1e-5
        assert record.nonfinite_units == 0

    def test_per_layer_clipping_bounds_each_tensor_by_itself(self, kind: str) -> None:
        model, whole = MODELS[kind](), batch(rows(len(self.units)), self.units)
        tensors = [parameter.numel() for parameter in trainable(model)]
        parts = unit_gradients(model, whole).split(tensors, dim=1)
        norms = torch.cat([part.norm(dim=1) for part in parts])
        bound = 1.001 * float(norms.median())  # about half of all that there is to clip is clipped
        plan = self.plan.replace(clip_norm=bound * len(tensors) ** 0.5)
        found, _ = self.step(model, [whole], plan, clipping=Clipping.PER_LAYER)
        assert difference(found, torch.cat([clipped_sum(part, bound) for part in parts])) < 1e-5

    @pytest.mark.parametrize("scale", [1.0, 1e6])
    def test_one_unit_moves_the_sum_by_at_most_clip_norm_in_every_mode(
        self, kind: str, clipping: Clipping, scale: float
    ) -> None:
        model, inputs = MODELS[kind](), rows(len(self.units))
        inputs["scale"][[row for row, unit in enumerate(self.units) if unit == 3]] = scale
        whole = batch(inputs, self.units)
        without, _ = self.step(model, [select(whole, (0, 1))], clipping=clipping)
        joined, _ = self.step(model, [select(whole, [0, 1, 3])], clipping=clipping)
        moved = float((joined - without).norm())
        assert moved <= self.plan.clip_norm * (1 + 1e-5)
        assert scale == 1.0 or moved > 0.8 * self.plan.clip_norm

    @pytest.mark.parametrize(("field", "value"), [("scale", math.nan), ("offset", math.inf), ("spoil", math.nan)])
    def test_a_nonfinite_unit_is_zero_in_every_mode(self, clipping: Clipping, field: str, value: float) -> None:
        model, inputs = MODELS[self.decoder](), rows(len(self.units))
        healthy, _ = self.step(model, [select(batch(inputs, self.units), [0, 1, 2, 4])], clipping=clipping)
        inputs[field][self.units.index(3)] = value
        found, record = self.step(model, [batch(inputs, self.units)], clipping=clipping)
        assert difference(found, healthy) < 1e-5
        assert (record.units, record.nonfinite_units) == (5, 1)

    def test_padding_tokens_train_no_embedding_as_in_torch(self, kind: str) -> None:
        model, inputs = MODELS[kind](), rows(len(self.units))
        inputs["input_ids"][:, 1] = PAD  # seen by attention: Opacus' own rule gives the row of the table a gradient
        whole = batch(inputs, self.units)
        gradients = unit_gradients(model, whole)
        clip_norm = 0.5 * float(gradients.norm(dim=1).min())  # each is clipped, so every norm counts
        found, _ = self.step(model, [whole], self.plan.replace(clip_norm=clip_norm))
        assert difference(found, clipped_sum(gradients, clip_norm)) < 1e-5

    def test_a_tiny_clip_norm_is_met_and_not_undercut(self) -> None:
        model, whole = MODELS[self.decoder](), batch(rows(1), [0])
        plan = self.plan.replace(clip_norm=1e-6)
        moved = float(self.step(model, [whole], plan)[0].norm())
        assert moved == pytest.approx(plan.clip_norm, rel=1e-5)

    def test_a_zero_gradient_is_safe(self) -> None:
        model, inputs = MODELS[self.decoder](), rows(2)
        inputs["scale"][:] = 0.0
        found, record = self.step(model, [batch(inputs, [0, 1])])
        assert float(found.norm()) == 0.0
        assert record.nonfinite_units == 0

    @pytest.mark.parametrize(
        ("field", "value"), [("scale", math.nan), ("offset", math.inf), ("spoil", math.nan), ("spoil", -math.inf)]
    )
    def test_a_nonfinite_row_makes_its_unit_zero_and_does_not_spread(
        self, typical: str, field: str, value: float
    ) -> None:
        model, inputs = MODELS[typical](), rows(len(self.units))
        healthy, _ = self.step(model, [select(batch(inputs, self.units), [0, 1, 2, 4])])
        inputs[field][self.units.index(3)] = value  # of the unit's rows, where it has several, one
        found, record = self.step(model, [batch(inputs, self.units)])
        assert difference(found, healthy) < 1e-5
        assert record.nonfinite_units == 1
        assert record.units == 5
        assert math.isfinite(record.loss_sum)

    @pytest.mark.parametrize("empty", ["no microbatch", "a microbatch of no units"])
    def test_empty_draw_still_adds_noise(self, empty: str) -> None:
        model = MODELS[self.decoder]()
        nothing = MicroBatch(
            inputs={name: tensor[:0] for name, tensor in rows(1).items()},
            units=torch.zeros(0, dtype=torch.int64),
            num_units=0,
        )
        noise, record = self.step(model, [] if empty == "no microbatch" else [nothing], self.noisy)
        assert record.units == 0
        assert record.noise_draws == 1
        assert record.noise_std == pytest.approx(self.noisy.calibrated_noise_multiplier * self.noisy.clip_norm)
        assert float(noise.std()) == pytest.approx(record.noise_std, rel=0.05)

    def test_noise_of_every_tensor_has_the_planned_variance_at_every_step(self) -> None:
        model, steps = MODELS["gpt2_untied"](), 40
        engine = self.build(model, self.noisy)
        noise: list[list[Tensor]] = []
        for step in range(steps):
            engine.release(step)
            noise.append([parameter.grad.flatten().double() for parameter in trainable(model)])
        std = self.noisy.calibrated_noise_multiplier * self.noisy.clip_norm / self.noisy.expected_units
        for tensor in zip(*noise, strict=True):
            values = torch.cat(tensor) / std
            chi2 = scipy.stats.chi2(len(values))
            total = float(values.square().sum())
            assert min(chi2.cdf(total), chi2.sf(total)) > 1e-5
            assert scipy.stats.kstest(values.numpy(), "norm").pvalue > 1e-5
        flat = torch.stack([torch.cat(tensors) for tensors in noise]) / std
        across_steps = flat @ flat.T / math.sqrt(flat.shape[1])
        assert float(across_steps.fill_diagonal_(0.0).abs().max()) < 5.5
        alike = torch.stack([torch.cat(t) for t in zip(*noise, strict=True) if len(t[0]) == 16]) / std
        across_tensors = alike @ alike.T / math.sqrt(alike.shape[1])
        assert float(across_tensors.fill_diagonal_(0.0).abs().max()) < 5.5

    def test_noise_covers_the_clipped_sum_and_nothing_else_changes(self) -> None:
        model, whole = MODELS[self.decoder](), batch(rows(len(self.units)), self.units)
        noisy, _ = self.step(model, [whole], self.noisy, step=3)
        noise, _ = self.step(model, [], self.noisy, step=3)
        bare, _ = self.step(model, [whole])
        assert difference(noisy - noise, bare) < 1e-4

    def test_resumed_engine_draws_the_noise_of_the_step(self) -> None:
        model = MODELS[self.decoder]()
        engine = self.build(model, self.noisy)
        for step in range(3):
            engine.release(step)
        expected = released(model) * self.noisy.expected_units
        engine.detach()
        found, _ = self.step(model, [], self.noisy, step=2)
        assert torch.equal(found, expected)

    def test_a_step_starts_from_zero(self) -> None:
        model, whole = MODELS[self.decoder](), batch(rows(len(self.units)), self.units)
        engine = self.build(model, self.plan)
        engine.accumulate(whole)
        first = engine.release(0)
        engine.accumulate(select(whole, [1]))
        second = engine.release(1)
        alone = released(model) * self.plan.expected_units
        engine.detach()
        assert (first.units, second.units) == (5, 1)
        assert difference(alone, self.step(model, [select(whole, [1])])[0]) < 1e-6

    def test_what_was_released_is_not_touched_by_the_next_microbatch(self) -> None:
        model, whole = MODELS[self.decoder](), batch(rows(len(self.units)), self.units)
        engine = self.build(model, self.plan)
        engine.accumulate(whole)
        engine.release(0)
        held = [parameter.grad for parameter in trainable(model)]
        copies = [gradient.clone() for gradient in held]
        engine.accumulate(whole)
        engine.release(1)
        assert all(torch.equal(gradient, copy) for gradient, copy in zip(held, copies, strict=True))

    def test_constants_are_the_same_with_one_unit_more(self) -> None:
        model, whole = MODELS[self.decoder](), batch(rows(len(self.units)), self.units)
        _, fewer = self.step(model, [select(whole, [0, 1])], self.noisy)
        _, more = self.step(model, [select(whole, [0, 1, 2])], self.noisy)
        assert (fewer.divisor, fewer.noise_std, fewer.clip_norm) == (more.divisor, more.noise_std, more.clip_norm)
        assert fewer.divisor == self.noisy.expected_units

    def test_frozen_parameters_enter_neither_norm_nor_gradient(self) -> None:
        model, whole = MODELS[self.decoder](), batch(rows(len(self.units)), self.units)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("ln" in name or "bias" in name)
        expected = clipped_sum(unit_gradients(model, whole), self.plan.clip_norm)
        assert difference(self.step(model, [whole])[0], expected) < 1e-5
        assert all(parameter.grad is None for parameter in model.parameters() if not parameter.requires_grad)

    def test_evaluation_mode_gives_the_same_sum(self) -> None:
        model, whole = MODELS[self.decoder](), batch(rows(len(self.units)), self.units)
        training, _ = self.step(model, [whole])
        model.eval()
        assert torch.equal(self.step(model, [whole])[0], training)

    def test_model_works_as_usual_while_attached_and_after(self, typical: str) -> None:
        model, whole = MODELS[typical](), batch(rows(len(self.units)), self.units)
        expected, keys = self.step(model, [whole])[0], list(model.state_dict())
        prompt = whole.inputs["input_ids"][:1, :3]
        before = model.generate(prompt, max_new_tokens=4, do_sample=False)
        engine = self.build(model, self.plan)
        engine.accumulate(whole)
        assert torch.equal(model.generate(prompt, max_new_tokens=4, do_sample=False), before)
        row_losses(model, whole.inputs).sum().backward()  # somebody's look at a loss is no part of the step
        engine.release(0)
        assert difference(released(model) * self.plan.expected_units, expected) < 1e-6
        assert list(model.state_dict()) == keys
        engine.detach()
        assert torch.equal(model.generate(prompt, max_new_tokens=4, do_sample=False), before)
        for parameter in model.parameters():
            assert not vars(parameter)
        for module in model.modules():
            assert "forward" not in vars(module)
            assert not module._forward_hooks
            assert not module._forward_pre_hooks
            assert not module._backward_hooks
        assert difference(self.step(model, [whole])[0], expected) < 1e-6

    def test_a_pass_that_breaks_leaves_nothing_behind(self) -> None:
        model, whole = MODELS[self.decoder](), batch(rows(len(self.units)), self.units)
        broken = batch({name: tensor for name, tensor in whole.inputs.items() if name != "spoil"}, self.units)
        engine = self.build(model, self.plan)
        with pytest.raises(KeyError):
            engine.accumulate(broken)
        engine.accumulate(whole)
        engine.release(0)
        found = released(model) * self.plan.expected_units
        engine.detach()
        assert difference(found, self.step(model, [whole])[0]) < 1e-6

    def test_sums_are_float32_whatever_the_model_computes_in(self) -> None:
        model, whole = MODELS[self.decoder]().to(torch.bfloat16), batch(rows(len(self.units)), self.units)
        plan = self.plan.replace(clip_norm=1e-3)
        moved, _ = self.step(model, [select(whole, [3])], plan)
        assert float(moved.norm()) <= plan.clip_norm * (1 + 2.0**-9)  # p.grad itself is rounded to bfloat16
        assert all(parameter.grad.dtype == torch.bfloat16 for parameter in trainable(model))
