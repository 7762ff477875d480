"""A run does not begin on a model that its engine gets wrong; and the look changes no bit of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from engine_contract import PLAN, trainable, uneven_scaling
from engine_models import MODELS, batch, gpt2, lora, row_losses, rows
from torch import Tensor, nn

from dp_train.engines import self_check as room
from dp_train.engines.base import Clipping, Engine, EngineName, MicroBatch, StepRecord
from dp_train.engines.build import build_engine
from dp_train.engines.self_check import self_check
from dp_train.errors import ModelError

ROWS = batch(rows(3), [0, 1, 1])
SINGLE = batch(rows(2), [0, 1])
UNTIED = ("gpt2_untied", "llama", "gpt2_lora", "llama_lora", "t5_lora")
RUNS = [
    *((name, kind) for name in (EngineName.NAIVE, EngineName.HOOKS, EngineName.BOOKKEEPING) for kind in MODELS),
    *((EngineName.GHOST, kind) for kind in UNTIED),
    (EngineName.FUNCTORCH, "gpt2_untied"),
]


def check(model: nn.Module, name: EngineName = EngineName.BOOKKEEPING, **changes: Any) -> None:
    """The self-check of a plan with noise, of whose noise nothing may be seen."""
    ghost = name is EngineName.GHOST
    plan = PLAN.replace(noise_multiplier=1.0, rows_per_unit=1 if ghost else 3)
    settings = {"plan": plan, "batches": [SINGLE if ghost else ROWS], "row_losses": row_losses}
    self_check(name, model=model, **(settings | changes))


def bits(model: nn.Module) -> Iterator[Any]:
    """Everything that a look could change."""
    yield torch.get_rng_state().tolist()
    for key, tensor in [*model.named_parameters(), *model.named_buffers()]:
        gradient = tensor.grad if isinstance(tensor, nn.Parameter) else None
        yield key, id(tensor), tensor.tolist(), id(gradient), None if gradient is None else gradient.tolist()
        yield sorted(vars(tensor))
    for key, module in model.named_modules():
        yield key, id(module), module.training, sorted(vars(module))
        yield [list(value) for value in vars(module).values() if isinstance(value, dict)]


@pytest.mark.parametrize(("name", "kind"), RUNS)
def test_a_sound_engine_passes_and_leaves_every_bit(name: EngineName, kind: str) -> None:
    model = MODELS[kind]().train()
    trainable(model)[0].grad = torch.ones_like(trainable(model)[0])
    next(module for module in model.modules() if isinstance(module, nn.Dropout | nn.Embedding)).eval()
    before = list(bits(model))
    check(model, name)
    assert list(bits(model)) == before


@pytest.mark.parametrize("name", [EngineName.HOOKS, EngineName.BOOKKEEPING])
@pytest.mark.parametrize("clipping", Clipping)
def test_it_passes_as_the_run_clips_and_scales(name: EngineName, clipping: Clipping) -> None:
    model = MODELS["gpt2_tied"]()
    check(model, name, clipping=clipping, scaling=uneven_scaling(model))


@pytest.mark.parametrize("kind", ["gpt2_tied", "llama_lora"])
def test_it_passes_in_bfloat16_and_under_autocast(kind: str) -> None:
    def mixed(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return row_losses(model, inputs)

    check(MODELS[kind]().to(torch.bfloat16))
    check(MODELS[kind](), row_losses=mixed)


def test_adapters_that_begin_at_zero_are_seen_all_the_same() -> None:
    model = lora(gpt2(tied=True), "c_attn")
    for key, parameter in model.named_parameters():
        if "lora_B" in key:
            parameter.data.zero_()
    before = list(bits(model))
    check(model)
    assert list(bits(model)) == before
    with sabotaged(released=forgets("lora_A")), pytest.raises(ModelError, match="lora_A"):
        check(model)


# What a wrapper can get wrong: it is built around the model, and every call goes through it.


class Sabotaged:
    """An engine that does something to the model when it is attached, or to what it releases."""

    def __init__(self, engine: Engine, model: nn.Module, released: Callable[[nn.Module, int], None] | None) -> None:
        self._engine, self._model, self._released = engine, model, released
        self.name = engine.name

    def accumulate(self, batch: MicroBatch) -> None:
        self._engine.accumulate(batch)

    def release(self, step: int) -> StepRecord:
        record = self._engine.release(step)
        if self._released is not None:
            self._released(self._model, step)
        return record

    def detach(self) -> None:
        self._engine.detach()


class sabotaged:  # noqa: N801
    """Every engine but the reference is wrapped while inside."""

    def __init__(
        self,
        *,
        attached: Callable[[nn.Module], None] | None = None,
        released: Callable[[nn.Module, int], None] | None = None,
    ) -> None:
        self._attached, self._released = attached, released
        self._patch = pytest.MonkeyPatch()

    def __enter__(self) -> None:
        def build(name: EngineName, *, model: nn.Module, **rest: Any) -> Engine:
            if name is EngineName.NAIVE:
                return build_engine(name, model=model, **rest)
            if self._attached is not None:
                self._attached(model)
            return Sabotaged(build_engine(name, model=model, **rest), model, self._released)  # type: ignore[return-value]

        self._patch.setattr(room, "build_engine", build)

    def __exit__(self, *error: object) -> None:
        self._patch.undo()


def forgets(part: str) -> Callable[[nn.Module, int], None]:
    def released(model: nn.Module, step: int) -> None:
        next(p for key, p in model.named_parameters() if part in key).grad.zero_()

    return released


def doubles_the_tied_weight(model: nn.Module, step: int) -> None:
    model.get_output_embeddings().weight.grad.mul_(2.0)


def freezes_after_one_step(model: nn.Module, step: int) -> None:
    if step == 1:
        trainable(model)[0].grad.zero_()


def bypasses_a_layer(model: nn.Module) -> None:
    model.transformer.h[0].mlp.forward = lambda hidden: torch.zeros_like(hidden)


def reads_a_copy_of_the_weights(model: nn.Module) -> None:
    layer = model.get_output_embeddings()
    held = layer.weight.detach().clone()

    def stale(hidden: Tensor) -> Tensor:
        # Gradients of the weight are right; its values are those of before the first step.
        return nn.functional.linear(hidden, layer.weight + (held - layer.weight).detach())

    layer.forward = stale


def swaps_a_weight(model: nn.Module) -> None:
    layer = model.transformer.h[0].attn.c_proj
    layer.weight = nn.Parameter(layer.weight.detach().clone())


def touches_a_frozen_weight(model: nn.Module) -> None:
    with torch.no_grad():
        next(p for p in model.parameters() if not p.requires_grad)[0].mul_(1.5)


def leaves_a_hook(model: nn.Module) -> None:
    model.transformer.h[0].register_forward_hook(lambda *_: None)


BROKEN = {
    "a hook drops a LoRA gradient": ("gpt2_lora", {"released": forgets("lora_B")}, "lora_B"),
    "a tied weight is counted twice": ("gpt2_tied", {"released": doubles_the_tied_weight}, "wte"),
    "only the first step counts": ("gpt2_untied", {"released": freezes_after_one_step}, "after two steps"),
    "a layer's forward is bypassed": ("gpt2_untied", {"attached": bypasses_a_layer}, r"h\.0\.(ln_2|mlp).* no gradient"),
    "old weights are read": ("gpt2_untied", {"attached": reads_a_copy_of_the_weights}, "engine"),
    "a weight is swapped": ("gpt2_untied", {"attached": swaps_a_weight}, "optimizer: steps on"),
    "a frozen weight is touched": ("gpt2_lora", {"attached": touches_a_frozen_weight}, "self-check: engine"),
    "a hook is left": ("gpt2_untied", {"attached": leaves_a_hook}, "leaves layer transformer.h.0 changed"),
}


@pytest.mark.parametrize("name", [EngineName.HOOKS, EngineName.BOOKKEEPING])
@pytest.mark.parametrize("mistake", BROKEN)
def test_a_broken_wrapper_is_refused_by_name_and_the_model_is_put_back(name: EngineName, mistake: str) -> None:
    kind, how, names = BROKEN[mistake]
    model = MODELS[kind]()
    before = list(bits(model))
    with sabotaged(**how), pytest.raises(ModelError, match=names) as error:  # type: ignore[arg-type]
        check(model, name)
    assert "\n" not in str(error.value)
    after = list(bits(model))
    if mistake != "a frozen weight is touched":  # only its digest was kept: it is told, and cannot be put back
        assert after == before


@pytest.mark.parametrize("name", [EngineName.NAIVE, EngineName.BOOKKEEPING])
def test_a_trainable_weight_that_no_loss_reaches_is_refused(name: EngineName) -> None:
    model = MODELS["gpt2_untied"]()
    model.unused = nn.Linear(2, 2)
    with pytest.raises(ModelError, match=r"unused\.weight is trainable and no loss depends on it"):
        check(model, name)


def test_a_hook_of_ones_own_that_drops_a_gradient_is_refused() -> None:
    model = MODELS["gpt2_lora"]()
    weight = next(p for key, p in model.named_parameters() if "lora_B" in key)
    weight.register_hook(torch.zeros_like)
    with pytest.raises(ModelError, match="lora_B"):
        check(model)


def test_a_loss_that_is_not_finite_is_told() -> None:
    spoiled = batch({**rows(3), "offset": torch.tensor([0.0, float("nan"), 0.0])}, [0, 1, 1])
    with pytest.raises(ModelError, match="expected finite numbers"):
        check(MODELS["gpt2_tied"](), batches=[spoiled])
