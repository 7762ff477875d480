"""The processes that are one run: what they add up, hand on and agree about, over one group of torch.distributed.

Everything goes over gloo, in the processor's memory. Sums are taken in the order of the processes, so that they are the
same in every process and, for one number of processes, in every run. What is noised is cut by `engines.parts`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import zip_longest
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dp_train.engines.launched import launched
from dp_train.engines.parts import Part
from dp_train.errors import ProcessesError

_BUCKET = 1 << 22
"""Elements of each process that are on their way at a time."""


class Ranks:
    """What a process does with the others of its run; alone, it does nothing.

    All processes call the same methods in the same order, and get the same answer to the last bit.

    Attributes:
      rank: which of them this one is. size: how many there are.

    Args:
      group: of gloo; None for a process alone.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self._group = group
        self.rank = 0 if group is None else dist.get_rank(group)
        self.size = 1 if group is None else dist.get_world_size(group)

    @property
    def first(self) -> bool:
        """Whether this is the one that asks consent, pays, writes and speaks for all."""
        return self.rank == 0

    def sum_parts(self, tensors: Sequence[Tensor], shares: Sequence[Sequence[Part]]) -> None:
        """Leave in this process' share of `tensors` the sum over all processes; what is in the rest is of no use then.

        Args:
          tensors: contiguous float32, of the same sizes in each process. shares: `engines.parts.shares`.
        """
        if self.size == 1:
            return
        for turn in zip_longest(*map(_buckets, shares), fillvalue=()):
            lengths = [sum(part.elements for part in bucket) for bucket in turn]
            sent = _packed([part for bucket in turn for part in bucket], tensors)
            own = lengths[self.rank]
            received = torch.empty(self.size * own)
            with _answered():
                dist.all_to_all_single(received, sent, [own] * self.size, lengths, group=self._group)
            total = received[:own]
            for other in range(1, self.size):
                total += received[other * own : (other + 1) * own]
            _unpack(turn[self.rank], tensors, total)

    def gather_parts(self, tensors: Sequence[Tensor], shares: Sequence[Sequence[Part]]) -> None:
        """Give each process what every other one has in its share."""
        if self.size == 1:
            return
        for owner, share in enumerate(shares):
            for bucket in _buckets(share):
                own = owner == self.rank
                length = sum(part.elements for part in bucket)
                held = _packed(bucket, tensors) if own else torch.empty(length)
                with _answered():
                    dist.broadcast(held, src=owner, group=self._group)
                if not own:
                    _unpack(bucket, tensors, held)

    def sums(self, values: Sequence[float]) -> tuple[float, ...]:
        """Add up numbers over the processes, each in float64 and in their order."""
        if self.size == 1:
            return tuple(map(float, values))
        sent = torch.tensor(values, dtype=torch.float64)
        received = [torch.empty_like(sent) for _ in range(self.size)]
        with _answered():
            dist.all_gather(received, sent, group=self._group)
        return tuple(sum(column) for column in zip(*(one.tolist() for one in received), strict=True))

    def merged(self, values: Tensor) -> Tensor:
        """Merge float64 values of which each is other than zero in at most one process."""
        if self.size == 1:
            return values
        with _answered():
            dist.all_reduce(values, group=self._group)
        return values

    def from_first(self, data: bytes) -> bytes:
        """Return the bytes that the first process has."""
        if self.size == 1:
            return data
        length = torch.tensor([len(data)])
        with _answered():
            dist.broadcast(length, src=0, group=self._group)
            held = torch.empty(int(length), dtype=torch.uint8)
            if self.first and data:
                held.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
            dist.broadcast(held, src=0, group=self._group)
        return data if self.first else held.numpy().tobytes()

    def each(self, value: Any) -> list[Any]:
        """Return every process' value, in their order; pickled, for they are one program."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        with _answered():
            dist.all_gather_object(found, value, group=self._group)
        return found

    def most(self, value: int) -> int:
        """Return the largest of the processes' numbers."""
        if self.size == 1:
            return value
        held = torch.tensor([value])
        with _answered():
            dist.all_reduce(held, op=dist.ReduceOp.MAX, group=self._group)
        return int(held)


ALONE = Ranks()


@contextmanager
def joined(*, wait_seconds: float) -> Iterator[Ranks]:
    """Join the processes that were started with this one, in a group of this call's own; `ALONE` where there are none.

    The group is gone on every way out, so that the others hear at once of a process that failed.

    Args:
      wait_seconds: how long a process waits for another before it gives up.

    Raises:
      ProcessesError: one of them does not come, or is gone.
    """
    patience = timedelta(seconds=wait_seconds)
    with _answered():
        if not dist.is_initialized() and launched():
            dist.init_process_group("gloo", timeout=patience)
        several = dist.is_initialized() and dist.get_world_size() > 1
        group = dist.new_group(backend="gloo", timeout=patience) if several else None
    if group is None:
        yield ALONE
        return
    try:
        yield Ranks(group)
    finally:
        dist.destroy_process_group(group)


@contextmanager
def _answered() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo has one error for all that can happen to a process
        raise ProcessesError(
            f"processes: another process of this run ended or did not answer ({type(error).__name__}); what ran is "
            "charged; look at its own error, then resume with any number of processes"
        ) from error


def _buckets(share: Sequence[Part]) -> list[list[Part]]:
    """Cut a share into lists of parts that go over the group together."""
    found: list[list[Part]] = []
    room = 0
    for part in share:
        for piece in part.pieces():
            if not found or piece.elements > room:
                found.append([])
                room = _BUCKET
            found[-1].append(piece)
            room -= piece.elements
    return found


def _packed(parts: Sequence[Part], tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([torch.empty(0), *(part.of(tensors).cpu() for part in parts)])


def _unpack(parts: Sequence[Part], tensors: Sequence[Tensor], values: Tensor) -> None:
    start = 0
    for part in parts:
        part.of(tensors).copy_(values[start : start + part.elements])
        start += part.elements


__all__ = ["ALONE", "Ranks", "joined"]
