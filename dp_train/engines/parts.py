"""The flat vector of a release and how it is cut: whole blocks of 65,536 elements, over threads and over processes.

All trainable tensors, one after the other, are one vector. Noise is keyed by (step, tensor, block), so a cut between
blocks gives every element the noise that it has uncut, whoever makes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

BLOCK = 1 << 16
"""Elements that are drawn from one stream, and that no cut separates."""

_PIECE = 8 * BLOCK
"""Elements that a thread makes at a time: small enough that threads end together, whatever tensors there are."""


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """Elements `start` to `stop` of the flat tensor number `index`; `start` is where a block begins."""

    index: int
    start: int
    stop: int

    @property
    def elements(self) -> int:
        """How many there are."""
        return self.stop - self.start

    @property
    def block(self) -> int:
        """Number of the first block, within its tensor."""
        return self.start // BLOCK

    def of(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return a flat view of the elements, of contiguous tensors."""
        return tensors[self.index].view(-1)[self.start : self.stop]

    def pieces(self, most: int = _PIECE) -> Iterable[Part]:
        """Cut the part between blocks, into pieces of at most `most` elements, a multiple of `BLOCK`."""
        for start in range(self.start, self.stop, most):
            yield Part(self.index, start, min(start + most, self.stop))


def shares(sizes: Sequence[int], count: int) -> tuple[tuple[Part, ...], ...]:
    """Cut the vector of tensors of `sizes` elements into `count` stretches of about equal length, between blocks.

    Guarantee: every element is in exactly one share, shares are in the vector's order, and a share holds at most one
    part of a tensor. A share may be empty. Depends on `sizes` and `count` alone.
    """
    total, before = sum(sizes), 0
    found: list[list[Part]] = [[] for _ in range(count)]
    for index, size in enumerate(sizes):
        for owner in range(count):
            # A block belongs to the share in which its first element falls.
            low, high = (_first_block(total * edge // count - before, size) for edge in (owner, owner + 1))
            if low < high:
                found[owner].append(Part(index, low, high))
        before += size
    return tuple(map(tuple, found))


def _first_block(edge: int, size: int) -> int:
    """Where the first block begins that does not begin before `edge`."""
    return min(size, max(0, -(-edge // BLOCK) * BLOCK))


__all__ = ["BLOCK", "Part", "shares"]
