"""Know a model's tensors by their contents, whatever object, name or wrapper holds them.

A copy, a `load_state_dict` and a peft wrapper keep the contents of a tensor, so they keep its mark. Values that were
rounded to bfloat16 on the way (an export, a cast) are known by a second mark. What cannot be known is a tensor whose
values were changed outside a run: adapters merged by hand, a weight average, a scalar that was rounded on the way.
`has_known_origin` is then False.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_BYTES = 16
_NAME = 16
"""Hex digits of a name by which a tensor is found again: enough that none are taken for one another by chance."""
_KNOWN: set[str] = set()
"""Marks of tensors that this process built, or that someone declared."""


@dataclass(frozen=True, slots=True)
class TensorMark:
    """Digests of one tensor's contents.

    Attributes:
      exact: of its values in float32.
      rounded: of its values in bfloat16.
      constant: whether all its values are equal, as of a scalar or a norm's first weights.
      usual: whether they are all 0, 1 or −1, which fresh layers hold: then the digests name nothing.
      size: how many values it has.
    """

    exact: str
    rounded: str
    constant: bool
    usual: bool
    size: int

    @property
    def names(self) -> tuple[str, ...]:
        """Public names by which the tensor is found again.

        | values | names |
        |---|---|
        | differ | the exact and the rounded ones |
        | one number | the exact one: rounded to bfloat16 there are too few numbers to tell runs apart |
        | 0, 1 or −1 alone, or whole numbers that are equal | none |
        """
        if self.usual:
            return ()
        return (self.exact[:_NAME],) if self.constant else (self.exact[:_NAME], self.rounded[:_NAME])


Marks = Mapping[str, TensorMark]
"""Mark of each parameter and buffer, by name; tied ones once."""


def mark_tensors(model: nn.Module, *, trained_only: bool = False) -> Marks:
    """Return the marks of a model's parameters and buffers, non-persistent buffers among them.

    Args:
      trained_only: leave frozen parameters out; they are as they were.
    """
    tensors = {
        name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad or not trained_only
    } | dict(model.named_buffers())
    return {name: _mark(tensor.detach()) for name, tensor in tensors.items()}


def weights_digest(marks: Marks) -> str:
    """Return one digest of all names and values."""
    digest = hashlib.blake2b(digest_size=_BYTES)
    for name in sorted(marks):
        digest.update(f"{name}\0{marks[name].exact}\0".encode())
    return digest.hexdigest()


def names_of(marks: Marks) -> frozenset[str]:
    """Return every digest by which one of the tensors may be found again."""
    return frozenset(name for mark in marks.values() for name in mark.names)


def names_of_change(after: Marks, start: frozenset[str]) -> list[str]:
    """Return the names of tensors that a run changed, those of the largest tensors first.

    Args:
      start: names of the tensors that it began with. A tensor that it did not change is not learnt from its data.
    """
    largest = sorted(after.values(), key=lambda mark: mark.size, reverse=True)
    return [name for mark in largest for name in mark.names if name not in start]


def declare_origin(model: nn.Module) -> None:
    """Declare that the weights as they are now were learnt from no person's data but what is recorded of them.

    `build_model` says so of fresh weights, and `runs` of published ones. Say it of weights that you initialised, or
    loaded from a place that you trust; a run on any other weights says "start weights of unknown origin" beside its ε.
    """
    declare_names(names_of(mark_tensors(model)))


def declare_tensors(tensors: Iterable[Tensor]) -> None:
    """Declare the same of some tensors: adapters that were just put into a model."""
    declare_names(name for tensor in tensors for name in _mark(tensor.detach()).names)


def declare_names(names: Iterable[str]) -> None:
    """Declare tensors of known origin by their marks."""
    _KNOWN.update(names)


def has_known_origin(marks: Marks, *, elsewhere: frozenset[str] = frozenset()) -> bool:
    """Return whether every tensor was built, declared or trained where it was recorded, or holds what fresh ones do.

    Args:
      elsewhere: marks that a ledger knows.
    """
    known = _KNOWN | elsewhere
    return all(mark.usual or not known.isdisjoint(mark.names) for mark in marks.values())


def _mark(tensor: Tensor) -> TensorMark:
    values = tensor.to("cpu", torch.float32 if tensor.is_floating_point() else tensor.dtype).contiguous().flatten()
    rounded = values.to(torch.bfloat16).view(torch.int16) if tensor.is_floating_point() else values
    constant = bool((values == values[0]).all()) if len(values) else True
    usual = constant and (not tensor.is_floating_point() or len(values) == 0 or abs(float(values[0])) in (0.0, 1.0))
    return TensorMark(exact=_digest(values), rounded=_digest(rounded), constant=constant, usual=usual, size=len(values))


def _digest(values: Tensor) -> str:
    return hashlib.blake2b(values.numpy().data, digest_size=_BYTES).hexdigest()
