from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from dp_train.engines.noise import NoiseSource, SecureNoise, SeededNoise
from dp_train.errors import PrivacyError

SEED = bytes(range(32))
COUNT = 200_003  # three chunks and a bit, an odd number

every_source = pytest.mark.parametrize("source", [lambda: SeededNoise(SEED), SecureNoise], ids=["seeded", "secure"])
Source = Callable[[], NoiseSource]


def draw(source: NoiseSource, *, step: int = 0, index: int = 0, std: float = 1.0, count: int = COUNT) -> Tensor:
    tensor = torch.zeros(count)
    source.add(tensor, std, step=step, index=index)
    return tensor


@every_source
def test_noise_is_gaussian(source: Source) -> None:
    values = draw(source(), std=3.0).double().numpy() / 3.0
    assert scipy.stats.kstest(values, "norm").pvalue > 1e-7
    chi2 = scipy.stats.chi2(COUNT)
    assert min(chi2.cdf((values**2).sum()), chi2.sf((values**2).sum())) > 1e-7
    assert abs(values.mean()) * math.sqrt(COUNT) < 6
    # Far tails: how many lie beyond 4 standard deviations.
    assert 1e-7 < scipy.stats.binom(COUNT, 2 * scipy.stats.norm.sf(4)).cdf((np.abs(values) > 4).sum()) < 1 - 1e-7


@every_source
def test_noise_is_fresh_for_every_step_and_tensor(source: Source) -> None:
    drawn = torch.stack([draw(source(), step=step, index=index) for step in range(3) for index in range(3)]).double()
    correlations = drawn @ drawn.T / math.sqrt(COUNT)
    assert float(correlations.fill_diagonal_(0.0).abs().max()) < 6.5


@every_source
def test_chunks_do_not_repeat(source: Source) -> None:
    values = draw(source()).numpy()
    assert len(np.unique(values)) > 0.9 * COUNT
    for lag in (1, 2, 1 << 15, 1 << 16):
        assert abs(float(np.dot(values[:-lag], values[lag:]))) / math.sqrt(COUNT - lag) < 6.5


@every_source
def test_noise_is_added_to_what_is_there(source: Source) -> None:
    tensor = torch.full((COUNT,), 1000.0)
    source().add(tensor, 0.5, step=0, index=0)
    assert float(tensor.mean()) == pytest.approx(1000.0, abs=0.01)
    assert float(tensor.std()) == pytest.approx(0.5, rel=0.02)


@every_source
def test_std_zero_changes_nothing(source: Source) -> None:
    assert not draw(source(), std=0.0).any()


@every_source
@pytest.mark.parametrize("tensor", [torch.zeros(4, dtype=torch.bfloat16), torch.zeros(4, 3).T])
def test_only_contiguous_float32_takes_noise(source: Source, tensor: Tensor) -> None:
    with pytest.raises(PrivacyError, match="float32"):
        source().add(tensor, 1.0, step=0, index=0)


@every_source
def test_a_scalar_and_an_empty_tensor_are_fine(source: Source) -> None:
    scalar, empty = torch.zeros(()), torch.zeros(0, 3)
    source().add(scalar, 1.0, step=0, index=0)
    source().add(empty, 1.0, step=0, index=1)
    assert float(scalar) != 0.0


def test_seeded_noise_is_a_pure_function_of_seed_step_and_index() -> None:
    source = SeededNoise(SEED)
    first = draw(source, step=5, index=2)
    draw(source, step=6, index=2)
    assert torch.equal(draw(source, step=5, index=2), first)
    assert torch.equal(draw(SeededNoise(SEED), step=5, index=2), first)


def test_seeded_noise_of_any_shape_is_the_same_stream() -> None:
    flat, square = torch.zeros(36), torch.zeros(6, 6)
    SeededNoise(SEED).add(flat, 1.0, step=0, index=0)
    SeededNoise(SEED).add(square, 1.0, step=0, index=0)
    assert torch.equal(flat, square.flatten())


@pytest.mark.parametrize("other", [SEED[:-1] + b"\0", SEED[:16], SEED * 3])
def test_every_byte_of_the_seed_counts(other: bytes) -> None:
    assert not torch.equal(draw(SeededNoise(SEED), count=64), draw(SeededNoise(other), count=64))


def test_short_seeds_are_refused_and_no_seed_is_shown() -> None:
    with pytest.raises(PrivacyError, match="7 bytes"):
        SeededNoise(b"1234567")
    assert SEED.hex() not in repr(SeededNoise(SEED))
    assert str(SEED) not in repr(SeededNoise(SEED))


def test_secure_noise_never_repeats() -> None:
    assert not torch.equal(draw(SecureNoise(), count=64), draw(SecureNoise(), count=64))
