"""What a step allocates: nothing of size units × parameters, and no noise as large as a tensor."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from engine_contract import NOISY, PLAN, SEED, trainable
from engine_models import batch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from dp_train.engines import bookkeeping_opacus
from dp_train.engines.base import Engine, EngineName
from dp_train.engines.bookkeeping_clip import BookkeepingOptimizer
from dp_train.engines.build import build_engine
from dp_train.engines.noise import NoiseSource, SecureNoise, SeededNoise

WIDTH, VOCABULARY, LENGTH = 96, 500, 4


class Fresh(TorchDispatchMode):
    """The largest tensor, in elements of storage, that an operation of this thread made and did not only view."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        known = {t.untyped_storage().data_ptr() for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)}
        for tensor in tree_flatten(result)[0]:
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in known:
                self.largest = max(self.largest, tensor.untyped_storage().nbytes() // tensor.element_size())
        return result


class Layers(nn.Module):
    """Large layers and short rows, where gradients by unit would be by far the largest tensors."""

    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        self.table, self.norm = nn.Embedding(VOCABULARY, WIDTH), nn.LayerNorm(WIDTH)
        self.inner, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False)
        if tied:
            self.out.weight = self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.norm(self.inner(self.table(ids)).tanh()))


def losses(model: nn.Module, inputs: Any) -> Tensor:
    return model(inputs["ids"]).logsumexp(2).mean(1)


def built(name: EngineName, model: nn.Module) -> Engine:
    return build_engine(
        name,
        model=model,
        row_losses=losses,
        plan=PLAN.without_privacy() if name is EngineName.NON_PRIVATE else NOISY,
        noise=SeededNoise(SEED),
        optimizer=torch.optim.SGD(trainable(model), lr=0.1),
    )


def largest_of_a_microbatch(name: EngineName, *, tied: bool, units: int, length: int = LENGTH, rows: int = 1) -> int:
    """From the second microbatch on: the first is held against autograd."""
    model = Layers(tied=tied)
    engine = built(name, model)
    ids = torch.randint(0, VOCABULARY, (units * rows, length), generator=torch.Generator().manual_seed(0))
    whole = batch({"ids": ids}, [row // rows for row in range(units * rows)])
    engine.accumulate(whole)
    with Fresh() as fresh:
        engine.accumulate(whole)
    engine.detach()
    return fresh.largest


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("length", "rows"), [(4, 1), (2, 3), (40, 1)])
def test_nothing_of_size_units_times_parameters_is_held(tied: bool, length: int, rows: int) -> None:
    for units in (4, 16, 32):
        how = {"tied": tied, "units": units, "length": length, "rows": rows}
        ordinary = largest_of_a_microbatch(EngineName.NON_PRIVATE, **how)  # logits, or a gradient
        assert ordinary >= VOCABULARY * WIDTH
        found = largest_of_a_microbatch(EngineName.BOOKKEEPING, **how)
        assert found <= ordinary, f"{units} units: {found} elements beside {ordinary} of an ordinary step"


def test_gradients_by_unit_would_be_seen() -> None:
    assert largest_of_a_microbatch(EngineName.HOOKS, tied=False, units=32) >= 32 * VOCABULARY * WIDTH


@pytest.mark.parametrize("name", [EngineName.BOOKKEEPING, EngineName.HOOKS, EngineName.NAIVE])
def test_release_makes_no_tensor_of_the_models_size(name: EngineName, monkeypatch: pytest.MonkeyPatch) -> None:
    # Noise is drawn in threads, which have no dispatch mode: here by this one, so that all of it is seen.
    monkeypatch.setattr("dp_train.engines.noise.ThreadPoolExecutor", _ThisThread)
    monkeypatch.setattr("dp_train.engines.noise.BLOCK", 1 << 10)
    model = Layers(tied=False)
    engine = built(name, model)
    engine.accumulate(batch({"ids": torch.arange(8).view(2, LENGTH)}, range(2)))
    largest = max(parameter.numel() for parameter in model.parameters())
    with Fresh() as fresh:
        engine.release(0)
    # The look at random elements of each tensor (`engines.noise_probe`) reads some thousands, whatever its size.
    assert fresh.largest <= 1 << 13 < largest


class _ThisThread:
    def __init__(self, max_workers: int) -> None: ...

    def __enter__(self) -> _ThisThread:
        return self

    def __exit__(self, *error: object) -> None: ...

    def map(self, function: Callable[[int], None], values: list[int]) -> list[None]:
        return [function(value) for value in values]


@pytest.mark.parametrize("source", [SeededNoise(SEED), SecureNoise()], ids=["seeded", "secure"])
def test_noise_is_drawn_in_blocks(source: NoiseSource) -> None:
    tensor = torch.zeros(1 << 20)  # 4 MiB
    tracemalloc.start()  # numpy tells it of its arrays
    try:
        with Fresh() as fresh:
            source.add(tensor, 1.0, step=0, index=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert fresh.largest <= 1 << 16
    assert 1 << 16 < peak < 3 << 20
    assert float(tensor.std()) == pytest.approx(1.0, rel=0.01)


@pytest.mark.filterwarnings("ignore:Secure RNG turned off")
def test_noise_of_the_opacus_mode_is_drawn_in_blocks() -> None:
    model = nn.Linear(600, 400)
    hooks = bookkeeping_opacus.BookkeepingHooks(model, loss_reduction="mean")
    optimizer = BookkeepingOptimizer(
        torch.optim.SGD(model.parameters(), lr=0.1),
        hooks=hooks,
        max_grad_norm=2.0,
        noise_multiplier=1.5,
        expected_batch_size=4,
    )
    model(torch.randn(4, 600, generator=torch.Generator().manual_seed(0))).mean().backward()
    optimizer.clip_and_accumulate()
    before = model.weight.summed_grad.clone()
    with Fresh() as fresh:
        optimizer.add_noise()
    assert 0 < fresh.largest <= 1 << 16 < model.weight.numel()
    noise = (model.weight.grad - before).flatten()
    assert float(noise.std()) == pytest.approx(3.0, rel=0.02)
    assert len(noise.unique()) > 0.99 * len(noise)  # no block twice
    hooks.cleanup()
