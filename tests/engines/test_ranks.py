"""What processes add up and hand on: in their order, whole, and the same in each."""

from __future__ import annotations

import pytest
import torch
from together import ended, together
from torch import Tensor

from dp_train.engines import ranks as of_ranks
from dp_train.engines.parts import BLOCK, shares
from dp_train.engines.ranks import ALONE, joined
from dp_train.errors import ProcessesError

pytestmark = pytest.mark.timeout(1200)  # processes that wait for each other are slow on a machine that others use

SIZES = (12 * BLOCK + 3, 7, 0, 1, BLOCK, 20 * BLOCK + 1)


def tensors_of(rank: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(rank)
    return [torch.randn(size, generator=random) for size in SIZES]


def exchange(bucket: int) -> tuple[list[Tensor], list[Tensor], tuple[float, ...], Tensor, bytes, list[int], int]:
    """Everything that ranks do, once; and what this process' share held in between."""
    of_ranks._BUCKET = bucket
    with joined(wait_seconds=200) as ranks:
        tensors, cut = tensors_of(ranks.rank), shares(SIZES, ranks.size)
        ranks.sum_parts(tensors, cut)
        own = [part.of(tensors).clone() for part in cut[ranks.rank]]
        ranks.gather_parts(tensors, cut)
        one = torch.zeros(ranks.size, dtype=torch.float64)
        one[ranks.rank] = 0.1 * (ranks.rank + 1)
        return (
            tensors,
            own,
            ranks.sums((0.1 * (ranks.rank + 1), 1.0)),
            ranks.merged(one),
            ranks.from_first(b"seed" if ranks.first else b"other"),
            ranks.each(ranks.rank),
            ranks.most(7 * ranks.rank),
        )


@pytest.mark.parametrize(("size", "bucket"), [(2, 1), (3, 10 * BLOCK)])
def test_sums_are_in_the_order_of_the_processes_and_every_process_gets_all_of_them(size: int, bucket: int) -> None:
    expected = tensors_of(0)
    for rank in range(1, size):
        expected = [one + other for one, other in zip(expected, tensors_of(rank), strict=True)]
    cut = shares(SIZES, size)
    for rank, (tensors, own, sums, merged, data, each, most) in enumerate(together(size, exchange, bucket)):
        assert all(torch.equal(one, other) for one, other in zip(tensors, expected, strict=True))
        assert all(torch.equal(one, part.of(expected)) for one, part in zip(own, cut[rank], strict=True))
        in_order = 0.1
        for other in range(2, size + 1):
            in_order += 0.1 * other
        assert sums == (in_order, float(size))
        assert merged.tolist() == [0.1 * (other + 1) for other in range(size)]
        assert (data, each, most) == (b"seed", list(range(size)), 7 * (size - 1))


def test_a_process_alone_exchanges_nothing() -> None:
    tensors = tensors_of(0)
    ALONE.sum_parts(tensors, shares(SIZES, 1))
    ALONE.gather_parts(tensors, shares(SIZES, 1))
    assert all(torch.equal(one, other) for one, other in zip(tensors, tensors_of(0), strict=True))
    assert ALONE.sums((1, 2.5)) == (1.0, 2.5)
    assert (ALONE.from_first(b"x"), ALONE.each(3), ALONE.most(4)) == (b"x", [3], 4)
    with joined(wait_seconds=1) as ranks:
        assert ranks is ALONE


def fails_in_the_second() -> None:
    with joined(wait_seconds=200) as ranks:
        if not ranks.first:
            raise ValueError
        ranks.most(0)


def test_the_others_hear_at_once_of_a_process_that_failed() -> None:
    first, second = ended(2, fails_in_the_second)
    assert isinstance(first.error, ProcessesError)
    assert isinstance(second.error, ValueError)
