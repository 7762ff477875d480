"""Opacus' own tests of its privacy engine, run in our mode, and the loop of an Opacus user."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
import types
from typing import Any
from unittest import mock

import pytest
import torch
from opacus import PrivacyEngine
from opacus.grad_sample.gsm_base import AbstractGradSampleHooks
from opacus.optimizers import DPOptimizer
from opacus.utils.batch_memory_manager import BatchMemoryManager
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from dp_train.engines.bookkeeping_opacus import MODE, BookkeepingPrivacyEngine
from dp_train.errors import ConfigError

# Opacus says at each start that its generator is no CSPRNG; its
# PRV accountant asks its RDP one for a rough bound first; its hooks mode has hooks on ids, which have no gradient.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Secure RNG turned off", "ignore:Optimal order is the", "ignore:Full backward hook is"
)


class _Residual(nn.Sequential):
    """What the tests need of a vision model: batch norms to be refused or replaced, and a classifier."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 32, 3), nn.BatchNorm2d(32), nn.ReLU())
        self.classifier = nn.Linear(32, 10)


def _opacus_tests() -> Any:
    """Opacus' module imports torchvision, for convolutional cases that are not run here and three small tests."""
    vision, models, datasets = (types.ModuleType(name) for name in ("torchvision", "models", "datasets"))
    models.resnet18 = _Residual
    models.densenet121 = lambda weights: _Residual()
    vision.models, vision.transforms, datasets.FakeData = models, types.ModuleType("transforms"), object
    sys.modules |= {"torchvision": vision, "torchvision.datasets": datasets}
    try:
        return importlib.import_module("opacus.tests.privacy_engine_test")
    finally:
        del sys.modules["torchvision"], sys.modules["torchvision.datasets"]


theirs = _opacus_tests()


class OurMode:
    """Their test case with our engine and mode; what reads ``grad_sample``, which we never form, is left out."""

    wrap_model = True

    def setUp(self) -> None:
        super().setUp()
        self.GRAD_SAMPLE_MODE, self.WRAP_MODEL = MODE, self.wrap_model
        patch = mock.patch.object(theirs, "PrivacyEngine", BookkeepingPrivacyEngine)
        patch.start()
        self.addCleanup(patch.stop)

    test_sample_grad_aggregation = None
    test_generate_noise_in_secure_mode = None  # needs torchcsprng; of Opacus' own function


class TestText(OurMode, theirs.PrivacyEngineTextTest):
    pass


class TestTextWithoutWrapping(OurMode, theirs.PrivacyEngineTextTest):
    wrap_model = False


class TestTiedWeights(OurMode, theirs.PrivacyEngineTiedWeightsTest):
    pass


class TestTiedWeightsWithoutWrapping(OurMode, theirs.PrivacyEngineTiedWeightsTest):
    wrap_model = False


class Small(nn.Module):
    """A tied model of ids, as a user of Opacus might have one."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.inner, self.out = nn.Embedding(11, 6), nn.Linear(6, 6), nn.Linear(6, 11, bias=False)
        self.norm = nn.LayerNorm(6)
        self.out.weight = self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.norm(self.inner(self.table(ids)).tanh())).mean(1)


def train(
    engine: type[PrivacyEngine],
    mode: str,
    *,
    noise: float = 0.0,
    physical: int | None = None,
    backwards: int = 1,
    clipping: str = "flat",
    wrap: bool = True,
    loss_reduction: str = "mean",
    norms: int = 5,
) -> tuple[Tensor, DPOptimizer, nn.Module]:
    """Three steps of an ordinary Opacus loop; the parameters it ended with."""
    torch.manual_seed(0)
    model = Small()
    data = TensorDataset(torch.randint(0, 11, (12, 4)), torch.randint(0, 11, (12,)))
    prepared, optimizer, loader = engine(accountant="rdp").make_private(
        module=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.5),
        data_loader=DataLoader(data, batch_size=4),
        noise_multiplier=noise,
        max_grad_norm=[0.2] * norms if clipping == "per_layer" else 0.3,
        poisson_sampling=False,
        clipping=clipping,
        grad_sample_mode=mode,
        wrap_model=wrap,
        loss_reduction=loss_reduction,
    )
    run = prepared if wrap else model
    memory = BatchMemoryManager(data_loader=loader, max_physical_batch_size=physical or 4, optimizer=optimizer)
    with memory if physical else contextlib.nullcontext(loader) as batches:
        for ids, labels in batches:
            optimizer.zero_grad()
            for part in range(backwards):
                share = slice(part, None, backwards)
                nn.functional.cross_entropy(run(ids[share]), labels[share], reduction=loss_reduction).backward()
            optimizer.step()
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]), optimizer, prepared


@pytest.mark.parametrize(
    "loop",
    [
        {},
        {"wrap": False},
        {"loss_reduction": "sum"},
        {"clipping": "per_layer"},
        {"physical": 2},
        {"backwards": 2},
        {"noise": 1.0},
    ],
    ids=str,
)
def test_one_word_changes_in_an_opacus_loop_and_the_parameters_do_not(loop: dict[str, Any]) -> None:
    ours, _, prepared = train(BookkeepingPrivacyEngine, MODE, **loop)
    assert hasattr(prepared, "cleanup")
    theirs_, _, _ = train(PrivacyEngine, "hooks", **loop)
    torch.testing.assert_close(ours, theirs_, rtol=1e-4, atol=1e-6)


def test_opacus_modes_work_through_our_engine_as_before() -> None:
    torch.testing.assert_close(train(BookkeepingPrivacyEngine, "hooks")[0], train(PrivacyEngine, "hooks")[0])


def test_automatic_clipping_is_offered() -> None:
    assert torch.isfinite(train(BookkeepingPrivacyEngine, MODE, clipping="automatic")[0]).all()


def test_cleanup_leaves_a_plain_model() -> None:
    _, optimizer, prepared = train(BookkeepingPrivacyEngine, MODE)
    model = prepared.to_standard_module()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not hasattr(model, "autograd_grad_sample_hooks")
    assert isinstance(optimizer, DPOptimizer)


def test_a_second_backward_pass_is_refused_under_poisson_sampling() -> None:
    model = Small()
    prepared, _, _ = BookkeepingPrivacyEngine().make_private(
        module=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.5),
        data_loader=DataLoader(TensorDataset(torch.zeros(8, 4, dtype=torch.int64)), batch_size=4),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
    )
    ids = torch.zeros(2, 4, dtype=torch.int64)
    prepared(ids).sum().backward()
    with pytest.raises(ValueError, match="not compatible with grad accumulation"):
        prepared(ids).sum().backward()


def test_a_step_without_zero_grad_between_is_refused_as_by_opacus() -> None:
    model = Small()
    prepared, optimizer, _ = BookkeepingPrivacyEngine().make_private(
        module=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.5),
        data_loader=DataLoader(TensorDataset(torch.zeros(8, 4, dtype=torch.int64)), batch_size=4),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
    )
    prepared(torch.zeros(2, 4, dtype=torch.int64)).sum().backward()
    optimizer.step()
    with pytest.raises(ValueError, match="zero_grad"):
        optimizer.step()


def test_per_layer_clipping_wants_a_norm_for_each_tensor() -> None:
    with pytest.raises(ConfigError, match="max_grad_norm: 4 norms for 5 tensors"):
        train(BookkeepingPrivacyEngine, MODE, clipping="per_layer", norms=4)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"clipping": "adaptive"}, "expected one of flat, automatic, per_layer"), ({"distributed": True}, "one process")],
)
def test_what_is_not_offered_is_refused(change: dict[str, Any], message: str) -> None:
    model = Small()
    engine = BookkeepingPrivacyEngine()
    engine._prepare_model(model, grad_sample_mode=MODE)
    with pytest.raises(ConfigError, match=message):
        engine._prepare_optimizer(
            optimizer=torch.optim.SGD(model.parameters(), lr=0.5),
            noise_multiplier=1.0,
            max_grad_norm=1.0,
            expected_batch_size=4,
            grad_sample_mode=MODE,
            **change,
        )


def test_the_places_that_we_replace_are_still_opacus_own() -> None:
    """An upgrade of Opacus that renames one of them would go around us without an error."""
    for kind, names in (
        (PrivacyEngine, ("_prepare_model", "_prepare_optimizer", "make_private", "make_private_with_epsilon")),
        (DPOptimizer, ("clip_and_accumulate", "add_noise", "scale_grad", "pre_step", "zero_grad", "grad_samples")),
        (DPOptimizer, ("accumulated_iterations", "attach_step_hook", "params")),
        (AbstractGradSampleHooks, ("remove_hooks", "cleanup", "forbid_grad_accumulation", "allow_grad_accumulation")),
    ):
        for name in names:
            assert name in vars(kind), f"{kind.__name__}.{name}"
    source = inspect.getsource(DPOptimizer.pre_step)
    order = [source.index(f"self.{name}") for name in ("clip_and_accumulate()", "add_noise()", "scale_grad()")]
    assert order == sorted(order)
