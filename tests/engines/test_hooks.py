from __future__ import annotations

import importlib

import peft
import pytest
import torch
from engine_contract import NOISY, PLAN, SEED, UNITS, EngineContract, clipped_sum, difference, trainable, unit_gradients
from engine_models import MODELS, batch, gpt2, llama, row_losses, rows, select
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dp_train.engines import row_hooks
from dp_train.engines.base import EngineName, MicroBatch, RowLosses
from dp_train.engines.cross_check import cross_check
from dp_train.engines.hooks import HooksEngine
from dp_train.engines.layer_rules import LayerRule, layer_rule
from dp_train.engines.noise import SeededNoise
from dp_train.engines.units import clip_factors, squared_norms
from dp_train.errors import ModelError
from dp_train.privacy.plan import PrivacyPlan


class TestHooks(EngineContract):
    engine = EngineName.HOOKS


class TestFunctorch(EngineContract):
    """With Opacus' functorch for every layer but embeddings; the smallest models, as it traces each layer."""

    engine = EngineName.FUNCTORCH
    kinds = ("gpt2_tied", "llama", "neox_untied")
    typical = ("gpt2_tied",)

    @pytest.fixture(autouse=True)
    def _no_rules_but_of_embeddings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def rule(module: nn.Module) -> LayerRule | None:
            return layer_rule(module) if isinstance(module, nn.Embedding) else None

        monkeypatch.setattr(row_hooks, "layer_rule", rule)


def engine_of(
    model: nn.Module, losses: RowLosses = row_losses, plan: PrivacyPlan = PLAN, *, functorch: bool = False
) -> HooksEngine:
    optimizer = torch.optim.SGD(trainable(model), lr=0.1)
    return HooksEngine(
        model=model, row_losses=losses, plan=plan, noise=SeededNoise(SEED), optimizer=optimizer, functorch=functorch
    )


def sum_of(engine: HooksEngine, model: nn.Module, microbatch: MicroBatch) -> Tensor:
    engine.accumulate(microbatch)
    engine.release(0)
    engine.detach()
    return torch.cat([parameter.grad.flatten().double() for parameter in trainable(model)]) * PLAN.expected_units


class Scale(nn.Module):
    """A layer that nobody wrote a rule for."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x


class Net(nn.Module):
    """Tokens with hand-made positions, in the ways people write them."""

    def __init__(self, positions: str) -> None:
        super().__init__()
        self.kind = positions
        self.tokens, self.positions, self.out = nn.Embedding(7, 3), nn.Embedding(7, 3), nn.Linear(3, 1)

    def forward(self, ids: Tensor) -> Tensor:
        count = torch.arange(ids.shape[1])
        where = {
            "(T,)": lambda: self.positions(count),
            "(1, T)": lambda: self.positions(count[None]),
            "(rows, T)": lambda: self.positions(count.expand_as(ids)),
            "(T, T)": lambda: self.positions((count[:, None] - count).abs()).sum(0),
            "weight": lambda: self.positions.weight[: ids.shape[1]],
        }
        return self.out(self.tokens(ids) + where[self.kind]()).sum((1, 2)).square()


def net_losses(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return model(inputs["ids"])


def net_batch(count: int) -> MicroBatch:
    ids = torch.randint(0, 7, (count, 5), generator=torch.Generator().manual_seed(1))
    return batch({"ids": ids}, range(count))


@pytest.mark.parametrize("positions", ["(T,)", "(1, T)", "(rows, T)"])
@pytest.mark.parametrize("count", [1, 2, 5])  # 5 rows of 5 positions: the shapes alone say nothing
def test_positions_that_broadcast_get_rows_of_their_own(positions: str, count: int) -> None:
    torch.manual_seed(0)
    model, whole = Net(positions), net_batch(count)
    gradients = []
    for row in range(count):
        loss = net_losses(model, {"ids": whole.inputs["ids"][row : row + 1]}).sum()
        gradients.append(torch.cat([g.flatten().double() for g in torch.autograd.grad(loss, trainable(model))]))
    found = sum_of(engine_of(model, net_losses), model, whole)
    assert difference(found, clipped_sum(torch.stack(gradients), PLAN.clip_norm)) < 1e-5


@pytest.mark.parametrize("count", [1, 5])
def test_a_lookup_without_rows_is_refused_by_name(count: int) -> None:
    with pytest.raises(ModelError, match=r"layer positions \(Embedding\) does not have the batch as its first"):
        engine_of(Net("(T, T)"), net_losses).accumulate(net_batch(count))


def test_a_weight_used_outside_its_layer_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match=r"positions\.weight is used outside its layer"):
        engine_of(Net("weight"), net_losses).accumulate(net_batch(3))


def test_a_weight_used_inside_and_outside_its_layer_is_refused_by_name() -> None:
    def losses(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        return model(inputs["ids"]) + model.tokens.weight[inputs["ids"]].sum((1, 2))

    with pytest.raises(ModelError, match=r"tokens\.weight do not add up"):
        engine_of(Net("(T,)"), losses).accumulate(net_batch(3))


def test_a_refused_microbatch_leaves_nothing_in_the_sum() -> None:
    model = Net("weight")
    engine = engine_of(model, net_losses)
    with pytest.raises(ModelError):
        engine.accumulate(net_batch(3))
    record = engine.release(0)
    assert record.units == 0
    assert not any(parameter.grad.any() for parameter in trainable(model))


def test_a_layer_without_a_rule_is_refused_by_name_before_any_data() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Sequential(Scale()))
    with pytest.raises(ModelError, match=r"no rule for layer 1\.0 \(Scale\); freeze it, or use engine naive"):
        engine_of(model)
    model[1].requires_grad_(False)
    engine_of(model)


def test_a_subclass_inherits_no_rule() -> None:
    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    with pytest.raises(ModelError, match="Doubled"):
        engine_of(nn.Sequential(Doubled(3, 3)))


def test_functorch_covers_a_layer_without_a_rule() -> None:
    model = nn.Sequential(nn.Linear(3, 3), Scale())
    inputs = {"x": torch.randn(4, 3, generator=torch.Generator().manual_seed(0))}

    def losses(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        return model(inputs["x"]).square().sum(1)

    gradients = []
    for row in range(4):
        loss = losses(model, {"x": inputs["x"][row : row + 1]}).sum()
        gradients.append(torch.cat([g.flatten().double() for g in torch.autograd.grad(loss, trainable(model))]))
    found = sum_of(engine_of(model, losses, functorch=True), model, batch(inputs, range(4)))
    assert difference(found, clipped_sum(torch.stack(gradients), PLAN.clip_norm)) < 1e-5


def test_gradient_checkpointing_is_refused_with_a_remedy() -> None:
    model = llama()
    model.gradient_checkpointing_enable()
    with pytest.raises(ModelError, match=r"gradient_checkpointing_disable\(\)"):
        engine_of(model)


def test_two_engines_on_one_model_are_refused() -> None:
    model = gpt2(tied=True)
    engine = engine_of(model)
    with pytest.raises(ModelError, match="another engine is attached"):
        engine_of(model)
    engine.detach()
    engine_of(model)


def test_an_optimizer_over_other_parameters_is_refused() -> None:
    model = gpt2(tied=True)
    with pytest.raises(ModelError, match="exactly the model's parameters"):
        HooksEngine(
            model=model,
            row_losses=row_losses,
            plan=PLAN,
            noise=SeededNoise(SEED),
            optimizer=torch.optim.SGD(trainable(model)[1:], lr=0.1),
        )


@pytest.mark.parametrize("shape", [(), (4, 2)])
def test_losses_that_are_not_one_a_row_are_refused(shape: tuple[int, ...]) -> None:
    model = Net("(T,)")
    engine = engine_of(model, lambda model, inputs: model(inputs["ids"]).sum().expand(shape))
    with pytest.raises(ModelError, match="one loss a row"):
        engine.accumulate(net_batch(4))


def test_dora_vectors_have_no_rule_and_are_refused() -> None:
    model = peft.get_peft_model(llama(), peft.LoraConfig(r=2, target_modules=["q_proj"], use_dora=True))
    with pytest.raises(ModelError, match="no rule for layer"):
        engine_of(model)


def test_relative_bias_has_rows_when_there_are_as_many_as_positions() -> None:
    count = rows(1)["input_ids"].shape[1]
    model, whole = MODELS["t5"](), batch(rows(count), range(count))
    expected = clipped_sum(unit_gradients(model, whole), PLAN.clip_norm)
    assert difference(sum_of(engine_of(model), model, whole), expected) < 1e-5


def test_parameters_out_of_reach_count_as_zero() -> None:
    model, whole = gpt2(tied=True), batch(rows(3), range(3))
    model.register_module("spare", nn.Linear(2, 2))
    sum_of(engine_of(model), model, whole)
    assert not model.spare.weight.grad.any()


def test_probing_leaves_the_random_state_alone() -> None:
    model, whole = gpt2(tied=True), batch(rows(len(UNITS)), UNITS)
    for block in model.transformer.h:
        block.mlp.dropout.p = 0.5
    outcomes = []
    for fresh in (True, False):
        engine = engine_of(model)
        if not fresh:  # has probed already, like the engine of a run that was not interrupted
            engine.accumulate(select(whole, [0]))
            engine.release(0)
        torch.manual_seed(11)
        outcomes.append(sum_of(engine, model, whole))
    assert torch.equal(*outcomes)


def test_opacus_step_hook_hears_of_every_release() -> None:
    model, whole = gpt2(tied=True), batch(rows(len(UNITS)), UNITS)
    engine = engine_of(model, plan=NOISY)
    engine.accumulate(whole)
    for step in range(4):
        engine.release(step)
    assert engine.opacus_history() == [(NOISY.calibrated_noise_multiplier, NOISY.sample_rate, 4)]
    assert cross_check(NOISY, history=engine.opacus_history()).agrees


NORMS = [
    "llama.modeling_llama.LlamaRMSNorm",
    "mistral.modeling_mistral.MistralRMSNorm",
    "phi3.modeling_phi3.Phi3RMSNorm",
    "qwen2.modeling_qwen2.Qwen2RMSNorm",
    "qwen3.modeling_qwen3.Qwen3RMSNorm",
    "smollm3.modeling_smollm3.SmolLM3RMSNorm",
    "olmo2.modeling_olmo2.Olmo2RMSNorm",
    "granite.modeling_granite.GraniteRMSNorm",
    "gemma.modeling_gemma.GemmaRMSNorm",
    "gemma2.modeling_gemma2.Gemma2RMSNorm",
    "gemma3.modeling_gemma3.Gemma3RMSNorm",
    "t5.modeling_t5.T5LayerNorm",
    "mt5.modeling_mt5.MT5LayerNorm",
    "longt5.modeling_longt5.LongT5LayerNorm",
]


@pytest.mark.parametrize("name", NORMS)
def test_every_rms_norm_is_known_by_what_it_computes(name: str) -> None:
    module, _, kind = f"transformers.models.{name}".rpartition(".")
    layer = getattr(importlib.import_module(module), kind)(6)
    random = torch.Generator().manual_seed(2)
    layer.weight.data.normal_(generator=random)
    before = layer.weight
    hidden, upstream = torch.randn(4, 3, 6, generator=random), torch.randn(4, 3, 6, generator=random)
    rule = layer_rule(layer)
    assert rule is not None
    assert layer.weight is before
    found = rule(layer, [hidden], upstream)[layer.weight]
    for row in range(4):
        (expected,) = torch.autograd.grad((layer(hidden[row]) * upstream[row]).sum(), layer.weight)
        torch.testing.assert_close(found[row], expected)


class AlmostRmsNorm(nn.Module):
    """Looks like one; `power` 0.5 makes it one."""

    def __init__(self, power: float, *, centred: bool = False, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.eps, self._power, self._centred = nn.Parameter(torch.ones(6)), 1e-6, power, centred
        self._eps = eps

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = hidden - hidden.mean(-1, keepdim=True) if self._centred else hidden
        return self.weight * hidden / (hidden.square().mean(-1, keepdim=True) + self._eps) ** self._power


def test_a_norm_that_computes_something_else_has_no_rule() -> None:
    assert layer_rule(AlmostRmsNorm(0.5)) is not None
    for other in (AlmostRmsNorm(0.6), AlmostRmsNorm(0.5, centred=True), AlmostRmsNorm(0.5, eps=1e-3)):
        assert layer_rule(other) is None


@settings(max_examples=60, deadline=None)
@given(
    norm=st.floats(0.0, 1e30, allow_subnormal=True),
    clip_norm=st.floats(1e-6, 1e6),
)
def test_clip_factor_never_lets_a_norm_pass(norm: float, clip_norm: float) -> None:
    factor = float(clip_factors(torch.tensor([norm], dtype=torch.float64), clip_norm))
    assert 0.0 <= factor <= 1.0
    assert factor * norm <= clip_norm * (1 + 1e-6)
    if norm <= clip_norm:
        assert factor == 1.0


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 3_000_001])
def test_norms_of_large_tensors_do_not_lose_digits(size: int) -> None:
    values = torch.randn(2, size, generator=torch.Generator().manual_seed(5))
    expected = values.double().square().sum(1)
    assert float((squared_norms(values) / expected - 1).abs().max()) < 1e-6
