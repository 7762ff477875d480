from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dp_train.engines.correlated_noise import CorrelatedNoise
from dp_train.engines.noise import NoiseSource, SecureNoise, SeededNoise, add_in_parts
from dp_train.engines.parts import BLOCK, shares
from dp_train.errors import PrivacyError
from dp_train.training.identity import FORMAT

SEED = bytes(range(32))
COUNT = 200_003  # three chunks and a bit, an odd number

every_source = pytest.mark.parametrize("source", [lambda: SeededNoise(SEED), SecureNoise], ids=["seeded", "secure"])
Source = Callable[[], NoiseSource]


def banded(bands: int) -> CorrelatedNoise:
    return CorrelatedNoise(SeededNoise(SEED), bands=bands, steps=4)


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


@pytest.mark.parametrize("noise", [lambda: SeededNoise(SEED), lambda: banded(3)], ids=["independent", "correlated"])
@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(0, 3 * BLOCK + 5), min_size=1, max_size=5), count=st.integers(1, 4), data=st.data())
def test_any_cut_of_the_flat_vector_gives_the_same_noise(
    noise: Source, sizes: list[int], count: int, data: st.DataObject
) -> None:
    whole, cut = ([torch.full((size,), 0.5) for size in sizes] for _ in range(2))
    alone, together = noise(), noise()
    pieces = data.draw(st.integers(1, 3)) * BLOCK
    for step in range(2):
        for index, tensor in enumerate(whole):
            alone.add(tensor, 1.7, step=step, index=index)
        for share in data.draw(st.permutations(shares(sizes, count))):
            for piece in [piece for part in share for piece in part.pieces(pieces)]:
                together.add(piece.of(cut), 1.7, step=step, index=piece.index, block=piece.block)
    assert all(torch.equal(one, other) for one, other in zip(cut, whole, strict=True))


@given(sizes=st.lists(st.integers(0, 5 * BLOCK), max_size=7), count=st.integers(1, 9))
def test_shares_take_each_block_once_and_are_about_equal(sizes: list[int], count: int) -> None:
    cut = shares(sizes, count)
    assert len(cut) == count
    seen = [part for share in cut for part in share]
    assert seen == sorted(seen)
    for index, size in enumerate(sizes):
        of_tensor = [part for part in seen if part.index == index]
        assert [part.start for part in of_tensor] == [0, *(part.stop for part in of_tensor)][: len(of_tensor)]
        assert sum(part.elements for part in of_tensor) == size
        assert all(part.start % BLOCK == 0 and part.elements for part in of_tensor)
    for share in cut:
        assert len({part.index for part in share}) == len(share)
        assert abs(sum(part.elements for part in share) - sum(sizes) / count) <= BLOCK + 1


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_bit_and_reach_every_element(threads: int) -> None:
    tensors = [torch.zeros(11 * BLOCK + 3), torch.zeros(7), torch.zeros(()), torch.zeros(0, 2)]
    expected = [tensor.clone() for tensor in tensors]
    for index, tensor in enumerate(expected):
        SeededNoise(SEED).add(tensor, 0.7, step=4, index=index)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        (whole,) = shares([tensor.numel() for tensor in tensors], 1)
        add_in_parts(SeededNoise(SEED), tensors, whole, 0.7, step=4)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(tensors, expected, strict=True))


@every_source
def test_threads_share_out_a_single_large_tensor(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    honest = type(source()).add

    def add(self: NoiseSource, tensor: Tensor, std: float, **where: int) -> None:
        made.append(tensor.numel())
        honest(self, tensor, std, **where)

    monkeypatch.setattr(type(source()), "add", add)
    tensor = torch.zeros(40 * BLOCK + 1)
    add_in_parts(source(), [tensor], shares([tensor.numel()], 1)[0], 1.0, step=0)
    assert len(made) > 4
    assert sum(made) == tensor.numel()
    assert max(made) <= 0.25 * tensor.numel()


def test_seeded_noise_is_what_it_was() -> None:
    """A checkpoint is resumed with the noise that it began with; a change of the streams takes a new `FORMAT`."""
    assert FORMAT == 4
    tensor = torch.zeros(2 * BLOCK + 3)
    SeededNoise(SEED).add(tensor, 1.0, step=2, index=1)
    expected = [-0.970001220703125, 2.46549916267395, -1.1837151050567627]
    expected += [0.5242059826850891, -0.9391605257987976, 0.1459895670413971]
    places = [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK, 2 * BLOCK + 2]
    assert tensor[places].tolist() == pytest.approx(expected, abs=1e-6)


def test_short_seeds_are_refused_and_no_seed_is_shown() -> None:
    with pytest.raises(PrivacyError, match="7 bytes"):
        SeededNoise(b"1234567")
    assert SEED.hex() not in repr(SeededNoise(SEED))
    assert str(SEED) not in repr(SeededNoise(SEED))


def test_secure_noise_never_repeats() -> None:
    assert not torch.equal(draw(SecureNoise(), count=64), draw(SecureNoise(), count=64))
