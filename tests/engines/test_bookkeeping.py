from __future__ import annotations

from collections.abc import Callable, Mapping

import peft
import pytest
import torch
import transformers
from engine_contract import (
    NOISY,
    PLAN,
    SEED,
    UNITS,
    EngineContract,
    clipped_sum,
    difference,
    released,
    trainable,
    unit_gradients,
)
from engine_models import MODELS, PAD, VOCABULARY, batch, gpt2, llama, row_losses, rows, select
from hypothesis import given, settings
from hypothesis import strategies as st
from test_hooks import Net, Scale, net_batch, net_losses
from torch import Tensor, nn

from dp_train.engines import bookkeeping, bookkeeping_factors, bookkeeping_rules
from dp_train.engines.base import Clipping, EngineName, MicroBatch, RowLosses
from dp_train.engines.bookkeeping import BookkeepingEngine
from dp_train.engines.bookkeeping_factors import GramMemory, Lookup, Product, UnitGradient, UnitRows
from dp_train.engines.bookkeeping_hooks import BookkeepingHooks
from dp_train.engines.bookkeeping_rules import Received
from dp_train.engines.cross_check import cross_check
from dp_train.engines.noise import SeededNoise
from dp_train.errors import ModelError
from dp_train.privacy.plan import PrivacyPlan


class TestBookkeeping(EngineContract):
    engine = EngineName.BOOKKEEPING


def engine_of(
    model: nn.Module,
    losses: RowLosses = row_losses,
    plan: PrivacyPlan = PLAN,
    clipping: Clipping = Clipping.FLAT,
) -> BookkeepingEngine:
    optimizer = torch.optim.SGD(trainable(model), lr=0.1)
    return BookkeepingEngine(
        model=model, row_losses=losses, plan=plan, noise=SeededNoise(SEED), optimizer=optimizer, clipping=clipping
    )


def sum_of(engine: BookkeepingEngine, model: nn.Module, microbatch: MicroBatch) -> Tensor:
    engine.accumulate(microbatch)
    engine.release(0)
    engine.detach()
    return released(model) * PLAN.expected_units


def row_gradients(model: nn.Module, losses: RowLosses, inputs: Mapping[str, Tensor]) -> Tensor:
    """(rows, parameters) float64, a row at a time."""
    count = len(next(iter(inputs.values())))
    found = []
    for row in range(count):
        loss = losses(model, {name: tensor[row : row + 1] for name, tensor in inputs.items()}).sum()
        gradients = torch.autograd.grad(loss, trainable(model), allow_unused=True, materialize_grads=True)
        found.append(torch.cat([gradient.flatten().double() for gradient in gradients]))
    return torch.stack(found)


def equals_the_loop(model: nn.Module, losses: RowLosses, inputs: Mapping[str, Tensor]) -> None:
    gradients = row_gradients(model, losses, inputs)
    clip_norm = 1.001 * float(gradients.norm(dim=1).median())
    engine = engine_of(model, losses, PLAN.replace(clip_norm=clip_norm))
    found = sum_of(engine, model, batch(inputs, range(len(gradients))))
    assert difference(found, clipped_sum(gradients, clip_norm)) < 1e-5


SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
SIDES = {f"{side}_{what}": 2 for side in ("encoder", "decoder") for what in ("layers", "attention_heads")}
IDS = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": 2}
GEMMA = transformers.Gemma3TextConfig(head_dim=8, num_key_value_heads=1, sliding_window=4, **SIZES, **IDS)
OPT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 24, "word_embed_proj_dim": 16}
MBART = {**SIDES, "d_model": 16, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "dropout": 0.0, "scale_embedding": True}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.0, "local_radius": 3}
LAYOUTS: dict[str, Callable[[], nn.Module]] = {
    "scaled lookup, other norm": lambda: transformers.Gemma3ForCausalLM(GEMMA),
    "rows and positions joined": lambda: transformers.OPTForCausalLM(
        transformers.OPTConfig(max_position_embeddings=32, dropout=0.0, **OPT, **IDS)
    ),
    "positions that count themselves": lambda: transformers.MBartForConditionalGeneration(
        transformers.MBartConfig(max_position_embeddings=32, **MBART, **IDS)
    ),
    "positions first": lambda: transformers.LEDForConditionalGeneration(
        transformers.LEDConfig(
            attention_window=4,
            max_encoder_position_embeddings=32,
            max_decoder_position_embeddings=32,
            **{**MBART, "scale_embedding": False},
            **IDS,
        )
    ),
    "bias of blocks": lambda: transformers.LongT5ForConditionalGeneration(
        transformers.LongT5Config(decoder_start_token_id=PAD, **T5, **IDS)
    ),
}


@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize("adapters", [False, True])
def test_layers_of_transformers_equal_the_loop_whatever_their_layout(kind: str, adapters: bool) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = LAYOUTS[kind]().train()
        for name, parameter in model.named_parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
            if "_global" in name:  # of LED: what nothing here reaches
                parameter.requires_grad_(False)
        if adapters:
            model.requires_grad_(False)
            unused = ".*_global" if "first" in kind else None
            chosen = peft.LoraConfig(r=2, target_modules="all-linear", exclude_modules=unused)
            model = peft.get_peft_model(model, chosen)
            for parameter in trainable(model):  # B starts at zero, where A's gradient vanishes
                parameter.data.normal_(0.0, 0.3)
    equals_the_loop(model, row_losses, rows(5))


class Normed(nn.Embedding):
    """Looks up and then does something that is not linear in its weight."""

    def forward(self, ids: Tensor) -> Tensor:
        return nn.functional.normalize(super().forward(ids), dim=-1)


def test_an_embedding_that_does_more_than_look_up_is_refused_by_name() -> None:
    model = nn.Sequential(Normed(5, 3), nn.Linear(3, 2)).train()
    ids = torch.randint(5, (2, 3))
    engine = engine_of(model, lambda model, inputs: model(inputs["x"]).sum((1, 2)))
    with pytest.raises(ModelError, match=r"no rule for layer 0 \(Normed\)"):
        engine.accumulate(batch({"x": ids}, range(2)))
    engine.detach()
    BookkeepingHooks(model)  # in a loop that is not ours, where nothing is tried before
    with pytest.raises(ModelError, match=r"no rule for layer 0 \(Normed\)"):
        model(ids)


def test_dora_vectors_have_no_rule_and_are_refused() -> None:
    model = peft.get_peft_model(llama(), peft.LoraConfig(r=2, target_modules=["q_proj"], use_dora=True))
    with pytest.raises(ModelError, match="no rule for layer"):
        engine_of(model)


class Convolutions(nn.Module):
    """Layers that only Opacus has rules for."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv1d(3, 4, 2), nn.GroupNorm(2, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.convolution(x))


def test_layers_that_opacus_knows_equal_the_loop() -> None:
    torch.manual_seed(0)
    equals_the_loop(
        Convolutions(),
        lambda model, inputs: (model(inputs["x"]) ** 3).sum((1, 2)),
        {"x": torch.randn(4, 3, 5)},
    )


class Sharing(nn.Module):
    """One weight as two linear layers, as GPT-2's kind of layer the other way round, and as an embedding, run twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6, bias=False)
        self.third = transformers.pytorch_utils.Conv1D(6, 6)
        self.table = nn.Embedding(6, 6, padding_idx=2)
        self.norm = nn.LayerNorm(6)
        self.second.weight = self.third.weight = self.table.weight = self.first.weight

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.norm(self.first(self.table(ids)).tanh())
        return self.norm(self.third(self.second(self.first(hidden)).tanh()) + self.table(ids.flip(1)))


def test_every_cross_term_of_a_shared_weight_counts() -> None:
    torch.manual_seed(0)
    equals_the_loop(
        Sharing(),
        lambda model, inputs: (model(inputs["ids"]) ** 3).sum((1, 2)),
        {"ids": torch.randint(0, 6, (5, 4))},
    )


@pytest.mark.parametrize("positions", ["(T,)", "(1, T)", "(rows, T)"])
@pytest.mark.parametrize("count", [1, 2, 5])  # 5 rows of 5 positions: the shapes alone say nothing
def test_positions_that_broadcast_get_rows_of_their_own(positions: str, count: int) -> None:
    torch.manual_seed(0)
    equals_the_loop(Net(positions), net_losses, net_batch(count).inputs)


def test_relative_bias_has_rows_when_there_are_as_many_as_positions() -> None:
    count = rows(1)["input_ids"].shape[1]
    model, whole = MODELS["t5"](), batch(rows(count), range(count))
    expected = clipped_sum(unit_gradients(model, whole), PLAN.clip_norm)
    assert difference(sum_of(engine_of(model), model, whole), expected) < 1e-5


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_nothing(reentrant: bool) -> None:
    model, whole = llama(), batch(rows(len(UNITS)), UNITS)
    expected = sum_of(engine_of(model), model, whole)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    assert difference(sum_of(engine_of(model), model, whole), expected) < 1e-6


@pytest.mark.parametrize("kind", MODELS)
def test_autocast_bounds_a_unit_and_equals_the_loop_in_the_same_arithmetic(kind: str) -> None:
    def half(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return row_losses(model, inputs)

    model, whole = MODELS[kind](), batch(rows(len(UNITS)), UNITS)
    plan = PLAN.replace(clip_norm=0.1)
    by_row = row_gradients(model, half, whole.inputs)
    of_units = torch.stack([by_row[whole.units == unit].mean(0) for unit in range(whole.num_units)])
    expected = clipped_sum(of_units, plan.clip_norm)
    assert difference(sum_of(engine_of(model, half, plan), model, whole), expected) < 0.02  # 5 × its rounding, 2⁻⁸
    alone = sum_of(engine_of(model, half, plan), model, select(whole, [3]))
    assert float(alone.norm()) <= plan.clip_norm * (1 + 1e-6)


@pytest.mark.parametrize("kind", ["gpt2_tied", "t5", "llama_lora"])
def test_autocast_around_the_whole_loop_is_that_within_the_loss(kind: str) -> None:
    def half(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return row_losses(model, inputs)

    model, whole = MODELS[kind](), batch(rows(len(UNITS)), UNITS)
    plan = PLAN.replace(clip_norm=0.1)
    within = sum_of(engine_of(model, half, plan), model, whole)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        around = sum_of(engine_of(model, plan=plan), model, whole)
        alone = sum_of(engine_of(model, plan=plan), model, select(whole, [3]))
    assert difference(around, within) < 0.02  # other casts are cached: a rounding of bfloat16 or two
    assert float(alone.norm()) <= plan.clip_norm * (1 + 1e-6)


def test_dropout_is_the_same_for_the_sum_and_its_check_and_leaves_the_random_state_alone() -> None:
    model, whole = gpt2(tied=True), batch(rows(len(UNITS)), UNITS)
    for block in model.transformer.h:
        block.mlp.dropout.p = 0.5
    outcomes = []
    for fresh in (True, False):
        engine = engine_of(model)
        if not fresh:  # has checked already, like the engine of a run that was not interrupted
            engine.accumulate(select(whole, [0]))
            engine.release(0)
        torch.manual_seed(11)
        outcomes.append(sum_of(engine, model, whole))
    assert torch.equal(*outcomes)


@pytest.mark.parametrize("positions", [2, 16])
def test_positions_that_cancel_do_not_slip_under_the_clip(positions: int) -> None:
    """Each position's gradient is huge and their sum is not: the norm is lost in rounding, the bound is not."""
    random = torch.Generator().manual_seed(4)
    signs = torch.tensor([1.0, -1.0]).repeat(positions // 2)
    inputs = torch.randn(1, 1, 64, generator=random) + 1e-5 * torch.randn(1, positions, 64, generator=random)

    def losses(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        return 1e6 * (model(inputs["x"]).sum(2) * signs).sum(1)

    model = nn.Sequential(nn.Linear(64, 64, bias=False))
    engine = engine_of(model, losses)
    engine.accumulate(batch({"x": torch.randn(1, positions, 64, generator=random)}, [0]))
    engine.release(0)
    moved = sum_of(engine, model, batch({"x": inputs}, [0]))
    assert float(moved.norm()) <= PLAN.clip_norm * (1 + 1e-3)


def test_per_layer_clipping_keeps_no_factors_until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tensor is clipped and added in the middle of the backward pass: none is left for the end."""
    model, whole = gpt2(tied=True), batch(rows(len(UNITS)), UNITS)
    engine = engine_of(model, clipping=Clipping.PER_LAYER)
    left: list[int] = []
    take = bookkeeping.UnitBookkeepingOptimizer.take
    monkeypatch.setattr(
        bookkeeping.UnitBookkeepingOptimizer,
        "take",
        lambda self, taken, losses: (left.append(len(taken.gradients)), take(self, taken, losses)),
    )
    sum_of(engine, model, whole)
    assert left == [0]


def test_per_layer_clipping_waits_for_every_use_under_gradient_checkpointing() -> None:
    model, whole = llama(), batch(rows(len(UNITS)), UNITS)
    expected = sum_of(engine_of(model, clipping=Clipping.PER_LAYER), model, whole)
    model.gradient_checkpointing_enable({"use_reentrant": True})
    assert difference(sum_of(engine_of(model, clipping=Clipping.PER_LAYER), model, whole), expected) < 1e-6


def test_a_backward_pass_that_breaks_under_per_layer_clipping_spoils_the_engine() -> None:
    model, whole = gpt2(tied=True), batch(rows(len(UNITS)), UNITS)
    broken = False

    def losses(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        found = row_losses(model, inputs)
        if broken:
            model.transformer.wte.weight.grad = torch.ones_like(model.transformer.wte.weight)
        return found

    engine = engine_of(model, losses, clipping=Clipping.PER_LAYER)
    engine.accumulate(whole)
    broken = True
    with pytest.raises(ModelError, match="used outside its layer"):
        engine.accumulate(whole)
    for action in (lambda: engine.accumulate(whole), lambda: engine.release(0)):
        with pytest.raises(ModelError, match="detach this engine and build a new one"):
            action()


@pytest.mark.parametrize("count", [1, 5])
def test_a_lookup_without_rows_is_refused_by_name(count: int) -> None:
    with pytest.raises(ModelError, match=r"layer positions \(Embedding\) does not have the batch as its first"):
        engine_of(Net("(T, T)"), net_losses).accumulate(net_batch(count))


@pytest.mark.parametrize("inside", [False, True])
def test_a_weight_used_outside_its_layer_is_refused_by_name_and_leaves_nothing(inside: bool) -> None:
    def losses(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        return model(inputs["ids"]) + (model.positions.weight[inputs["ids"]].sum((1, 2)) if inside else 0)

    model = Net("(T,)" if inside else "weight")
    engine = engine_of(model, losses)
    with pytest.raises(ModelError, match=r"positions\.weight is used outside its layer"):
        engine.accumulate(net_batch(3))
    assert engine.release(0).units == 0
    assert not released(model).any()


def test_rows_that_depend_on_each_other_are_refused() -> None:
    def losses(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        return row_losses(model, inputs) * row_losses(model, inputs).mean()

    model = gpt2(tied=True)
    with pytest.raises(ModelError, match="rows depend on each other"):
        engine_of(model, losses).accumulate(batch(rows(4), range(4)))


def test_an_input_that_is_changed_in_place_is_refused() -> None:
    class Changed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.inner(x) * 2
            output = self.outer(hidden)
            hidden.zero_()
            return output

    engine = engine_of(Changed(), lambda model, inputs: model(inputs["x"]).sum(1))
    with pytest.raises(ModelError, match="input of layer outer was changed in place"):
        engine.accumulate(batch({"x": torch.randn(2, 3)}, range(2)))


def test_a_layer_without_a_rule_is_refused_by_name_before_any_data() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Sequential(Scale()))
    with pytest.raises(ModelError, match=r"no rule for layer 1\.0 \(Scale\); freeze it, or use engine naive"):
        engine_of(model)
    model[1].requires_grad_(False)
    engine_of(model)


@pytest.mark.parametrize("option", [{"max_norm": 1.0}, {"scale_grad_by_freq": True}, {"sparse": True}])
def test_embeddings_that_couple_rows_are_refused(option: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="couple rows"):
        engine_of(nn.Sequential(nn.Embedding(3, 3, **option)))


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
        BookkeepingEngine(
            model=model,
            row_losses=row_losses,
            plan=PLAN,
            noise=SeededNoise(SEED),
            optimizer=torch.optim.SGD(trainable(model)[1:], lr=0.1),
        )


def test_parameters_out_of_reach_count_as_zero() -> None:
    model, whole = gpt2(tied=True), batch(rows(3), range(3))
    model.register_module("spare", nn.Linear(2, 2))
    sum_of(engine_of(model), model, whole)
    assert not model.spare.weight.grad.any()


def test_opacus_step_hook_hears_of_every_release() -> None:
    model, whole = gpt2(tied=True), batch(rows(len(UNITS)), UNITS)
    engine = engine_of(model, plan=NOISY)
    engine.accumulate(whole)
    for step in range(4):
        engine.release(step)
    assert engine.opacus_history() == [(NOISY.calibrated_noise_multiplier, NOISY.sample_rate, 4)]
    assert cross_check(NOISY, history=engine.opacus_history()).agrees


sizes = st.integers(1, 7)


@settings(max_examples=60, deadline=None)
@given(
    owners=st.lists(st.integers(0, 4), min_size=1, max_size=9),
    positions=sizes,
    shape=st.tuples(sizes, sizes),
    seed=st.integers(0, 99),
)
def test_norms_and_sums_of_factors_are_those_of_the_gradients(
    owners: list[int], positions: int, shape: tuple[int, int], seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    present = sorted(set(owners))
    unit_rows = UnitRows(torch.tensor([present.index(owner) for owner in owners]), len(present))
    left = torch.randn(len(owners), positions, shape[0], generator=random)
    right = torch.randn(len(owners), positions, shape[1], generator=random)
    ids = torch.randint(0, shape[0], (len(owners), positions), generator=random)
    factors = torch.rand(len(present), generator=random)
    for gradient, dense in (
        (_of_product(Product(left, right), unit_rows), torch.einsum("rpm,rpn->rmn", left, right)),
        (UnitGradient(lookup=Lookup(ids, right, shape[0])), _one_hot(ids, shape[0]).mT @ right),
    ):
        expected = torch.zeros(len(present), *shape).index_add_(0, unit_rows.owner, dense)
        norms = gradient.squared_norms(unit_rows).sqrt()
        torch.testing.assert_close(norms.float(), expected.flatten(1).norm(dim=1), rtol=1e-4, atol=1e-5)
        found = gradient.weighted_sum(factors, unit_rows, None, None)
        torch.testing.assert_close(found, torch.tensordot(factors, expected, dims=1), rtol=1e-4, atol=1e-5)


def _of_product(product: Product, unit_rows: UnitRows) -> UnitGradient:
    gradient, memory = UnitGradient(), GramMemory()
    squares = unit_rows.per_unit(
        lambda left, right: bookkeeping_factors.product_squared_norms(left, right, memory), product.left, product.right
    )
    gradient.add_product(product, squares)
    return gradient


def _one_hot(ids: Tensor, entries: int) -> Tensor:
    return nn.functional.one_hot(ids, entries).float()


def _no_cross_term(*tensors: Tensor) -> Tensor:
    return torch.zeros(len(tensors[0]), dtype=torch.float64)


def _without_bias(layer: nn.Module, inputs: list[Tensor], grads: Tensor) -> Received:
    return (pair for pair in bookkeeping_rules._conv1d(layer, inputs, grads) if pair[0] is not layer.bias)


def _padding_counted(layer: nn.Module, inputs: list[Tensor], grads: Tensor) -> Received:
    yield layer.weight, Lookup(inputs[0], grads, layer.num_embeddings)


def _each_row_alone(unit_rows: UnitRows, function: Callable[..., Tensor], *values: Tensor) -> Tensor:
    """The norms of a unit's rows instead of the unit's: products between its rows left out."""
    return unit_rows.sum_rows(function(*values))


def plant(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a wrong rule in place of the right one; the contract's test of sabotage says that it is caught."""
    rules = bookkeeping_rules._FACTOR_RULES
    if mistake == "cross term":
        monkeypatch.setattr(bookkeeping_factors, "_product_dot_lookup", _no_cross_term)
    elif mistake == "bias":
        monkeypatch.setitem(rules, "transformers.pytorch_utils.Conv1D", _without_bias)
    elif mistake == "padding":
        monkeypatch.setattr(bookkeeping_rules, "_embedding", _padding_counted)
    else:
        monkeypatch.setattr(UnitRows, "per_unit", _each_row_alone)
