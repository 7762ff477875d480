"""Per-unit gradients that are kept as their factors, so that units × parameters is never held.

A linear layer's gradient of one row is a sum of outer products over positions, aᵀb. What clipping needs of it is the
norm of each unit, which a Gram matrix over positions gives, and one weighted sum over all units, which is one
matrix product (Bu et al. 2022, arXiv 2210.00038). A unit's rows are one longer sequence of positions: the
products between different rows of a unit count, as the clip is of the unit's gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dp_train.engines.scaling import Scale
from dp_train.engines.units import squared_norms

_MOST_ROOM = 2.5  # size of kept per-unit gradients ÷ size of the factors they replace
_MARGIN = 4 * 2.0**-24  # of a sum of float32 products, times the norms of its two sides
_CHUNK_ELEMENTS = 1 << 22  # of per-unit gradients that live at a time while their norms are taken


@dataclass(frozen=True, slots=True)
class _Group:
    """Units with equally many rows. `units` and `rows` are None where all units lie in order."""

    units: Tensor | None
    rows: Tensor | None
    rows_per_unit: int

    def fold(self, values: Tensor) -> Tensor:
        """(rows, positions, …) → (units of the group, rows_per_unit · positions, …)."""
        chosen = values if self.rows is None else values[self.rows]
        return (
            chosen
            if self.rows_per_unit == 1
            else chosen.reshape(-1, self.rows_per_unit * chosen.shape[1], *chosen.shape[2:])
        )


class UnitRows:
    """Which rows of a microbatch make up which unit.

    Args:
      owner: (rows,) int64, the unit of each row, in 0 … `num_units` − 1.
      num_units: units of the microbatch.
    """

    def __init__(self, owner: Tensor, num_units: int) -> None:
        self.owner = owner
        self.num_units = num_units
        self.one_row_each = _counts_up(owner, num_units, 1)
        self._groups = tuple(self._find_groups())

    @classmethod
    def single(cls, rows: int, device: torch.device) -> UnitRows:
        """Each row a unit of its own."""
        return cls(torch.arange(rows, device=device), rows)

    @property
    def longest(self) -> int:
        """Most rows that a unit has."""
        return max((group.rows_per_unit for group in self._groups), default=1)

    def per_unit(self, function: Callable[..., Tensor], *values: Tensor) -> Tensor:
        """`function` of each unit's positions: maps (units, positions, …) tensors to (units, …) float64 or float32."""
        if len(self._groups) == 1 and self._groups[0].rows is None:
            return function(*(self._groups[0].fold(value) for value in values))
        result: Tensor | None = None
        for group in self._groups:
            part = function(*(group.fold(value) for value in values))
            if result is None:
                result = part.new_zeros(self.num_units, *part.shape[1:])
            assert group.units is not None
            result[group.units] = part
        assert result is not None
        return result

    def sum_rows(self, values: Tensor) -> Tensor:
        """(rows, …) → (num_units, …), without a copy where each unit has one row."""
        if self.one_row_each:
            return values
        return values.new_zeros(self.num_units, *values.shape[1:]).index_add_(0, self.owner, values)

    def _find_groups(self) -> Iterator[_Group]:
        rows = self.owner.shape[0]
        even = rows // self.num_units if self.num_units and rows % self.num_units == 0 else 0
        if self.num_units == 0 or (even and _counts_up(self.owner, self.num_units, even)):
            yield _Group(None, None, max(even, 1))
            return
        counts = torch.bincount(self.owner, minlength=self.num_units)
        order, starts = self.owner.argsort(stable=True), counts.cumsum(0) - counts
        for size in counts.unique().tolist():  # type: ignore[no-untyped-call]
            if size == 0:
                continue
            units = (counts == size).nonzero().flatten()
            within = starts[units, None] + torch.arange(size, device=units.device)
            yield _Group(units, order[within.flatten()], size)


def _counts_up(owner: Tensor, num_units: int, rows_per_unit: int) -> bool:
    if owner.shape[0] != num_units * rows_per_unit:
        return False
    expected = torch.arange(num_units, device=owner.device).repeat_interleave(rows_per_unit)
    return torch.equal(owner, expected)


@dataclass(frozen=True, slots=True)
class Product:
    """Row gradients Σₜ aₜ bₜᵀ of a matrix: `left` (rows, positions, m) and `right` (rows, positions, n)."""

    left: Tensor
    right: Tensor

    def masked(self, lost: Tensor) -> Product:
        return Product(_without(self.left, lost), _without(self.right, lost))

    def stretched(self, scale: Scale) -> Product:
        """The same gradients with each coordinate times its factor."""
        return Product(self.left * scale.rows, self.right * scale.columns)

    def instantiate(self, unit_rows: UnitRows) -> Tensor:
        """(units, m, n) float32."""
        return unit_rows.per_unit(_multiply, self.left.float(), self.right.float())

    def weighted_sum(self, factors: Tensor, total: Tensor | None) -> Tensor:
        """`total` plus Σ over rows of factor · gradient, in place; the smaller side takes the factors."""
        left, right, scale = self.left.float(), self.right.float(), factors[:, None, None]
        if left.shape[2] < right.shape[2]:
            left = left * scale
        else:
            right = right * scale
        left, right = left.reshape(-1, left.shape[2]).t(), right.reshape(-1, right.shape[2])
        return torch.mm(left, right) if total is None else total.addmm_(left, right)


@dataclass(frozen=True, slots=True)
class Lookup:
    """Row gradients of a table with one entry an id: `ids` (rows, positions), `values` (rows, positions, n)."""

    ids: Tensor
    values: Tensor
    entries: int

    def masked(self, lost: Tensor) -> Lookup:
        return Lookup(self.ids, _without(self.values, lost), self.entries)

    def stretched(self, scale: Scale) -> Lookup:
        """The same gradients with each coordinate times its factor."""
        return Lookup(self.ids, self.values * scale.rows[self.ids][:, :, None] * scale.columns, self.entries)

    def joined(self, other: Lookup) -> Lookup:
        """Both as one: what is looked up twice in a unit adds up."""
        ids, values = torch.cat([self.ids, other.ids], 1), torch.cat([self.values, other.values], 1)
        return Lookup(ids, values, self.entries)

    def squared_norms(self, unit_rows: UnitRows) -> Tensor:
        """(units,) float64: values of equal ids are summed first, and no unit's table is formed."""
        keys = (unit_rows.owner[:, None] * self.entries + self.ids).flatten()
        keys, where = torch.unique(keys, return_inverse=True)
        values = self.values.float().reshape(where.shape[0], -1)
        summed = values.new_zeros(keys.shape[0], values.shape[1]).index_add_(0, where, values)
        squares = squared_norms(summed)
        return squares.new_zeros(unit_rows.num_units).index_add_(0, keys // self.entries, squares)

    def instantiate(self, unit_rows: UnitRows) -> Tensor:
        """(units, entries, n) float32."""
        keys = (unit_rows.owner[:, None] * self.entries + self.ids).flatten()
        values = self.values.float().reshape(keys.shape[0], -1)
        table = values.new_zeros(unit_rows.num_units * self.entries, values.shape[1]).index_add_(0, keys, values)
        return table.view(unit_rows.num_units, self.entries, -1)

    def weighted_sum(self, factors: Tensor, total: Tensor | None) -> Tensor:
        values = self.values.float() * factors[:, None, None]
        values = values.reshape(-1, values.shape[2])
        if total is None:
            total = values.new_zeros(self.entries, values.shape[1])
        return total.index_add_(0, self.ids.flatten(), values)


@dataclass(slots=True)
class UnitGradient:
    """All that one parameter received in one pass, and the squared norm of each unit of it.

    A tied parameter receives several factors; the products between them belong to the norm.
    """

    products: list[Product] = field(default_factory=list)
    lookup: Lookup | None = None
    dense: Tensor | None = None
    """(units, *shape) float32: gradients that are smaller than their factors, or have no factors."""
    product_squares: Tensor | None = None
    _dense_squares: Tensor | None = None

    def add_product(self, product: Product, squares: Tensor) -> None:
        self.products.append(product)
        self.product_squares = squares if self.product_squares is None else self.product_squares + squares

    def add_lookup(self, lookup: Lookup) -> None:
        self.lookup = lookup if self.lookup is None else self.lookup.joined(lookup)

    def add_dense(self, gradient: Tensor) -> None:
        """Take up (units, *shape) float32; the norms of a first one are taken while it is in the cache."""
        self._dense_squares = squared_norms(gradient) if self.dense is None else None
        self.dense = gradient if self.dense is None else self.dense + gradient

    def squared_norms(self, unit_rows: UnitRows) -> Tensor:
        """(units,) float64."""
        with in_float32(unit_rows.owner.device):
            return self._squared_norms(unit_rows)

    def _squared_norms(self, unit_rows: UnitRows) -> Tensor:
        if self.dense is not None:
            self._make_dense(unit_rows)
            return squared_norms(self.dense) if self._dense_squares is None else self._dense_squares
        squares = torch.zeros(unit_rows.num_units, dtype=torch.float64, device=unit_rows.owner.device)
        if self.product_squares is not None:
            squares += self.product_squares
        for index, first in enumerate(self.products):
            for second in self.products[index + 1 :]:
                squares += 2 * unit_rows.per_unit(
                    _product_dot_product, first.left, first.right, second.left, second.right
                )
            if self.lookup is not None:
                squares += 2 * unit_rows.per_unit(
                    _product_dot_lookup, first.left, first.right, self.lookup.ids, self.lookup.values
                )
        if self.lookup is not None:
            squares += self.lookup.squared_norms(unit_rows)
        return squares.clamp_(min=0.0)  # rounding; NaN stays NaN

    def weighted_sum(self, factors: Tensor, unit_rows: UnitRows, lost: Tensor | None, total: Tensor | None) -> Tensor:
        """`total` plus Σ over units of factor · gradient, in place where there is a total.

        Args:
          factors: (units,) float32. lost: (units,) bool, units that count as zero whatever they hold, or None.
        """
        with in_float32(unit_rows.owner.device):
            return self._weighted_sum(factors, unit_rows, lost, total)

    def _weighted_sum(self, factors: Tensor, unit_rows: UnitRows, lost: Tensor | None, total: Tensor | None) -> Tensor:
        if self.dense is not None:
            self._make_dense(unit_rows)
            dense = self.dense if lost is None else _without(self.dense, lost)
            if total is None:
                summed: Tensor = torch.tensordot(factors, dense, dims=1)
                return summed
            total.view(1, -1).addmm_(factors[None], dense.reshape(len(dense), -1))  # no second array of that size
            return total
        by_row = factors if unit_rows.one_row_each else factors[unit_rows.owner]
        lost_rows = None if lost is None else lost[unit_rows.owner]
        for factor in (*self.products, self.lookup):
            if factor is not None:
                factor = factor if lost_rows is None else factor.masked(lost_rows)
                total = factor.weighted_sum(by_row, total)
        assert total is not None
        return total

    def _make_dense(self, unit_rows: UnitRows) -> None:
        for factor in (*self.products, self.lookup):
            if factor is not None:
                self.add_dense(factor.instantiate(unit_rows))
        self.products, self.lookup, self.product_squares = [], None, None


class GramMemory:
    """The last Gram matrix of a layer's input: query, key and value projections share theirs."""

    def __init__(self) -> None:
        self._of: Tensor | None = None  # kept, so that its address is not given to another tensor
        self._gram: Tensor | None = None

    def gram(self, values: Tensor) -> Tensor:
        """(units, positions, n) → (units, positions, positions)."""
        held = self._of
        if (
            held is None
            or self._gram is None
            or held.data_ptr() != values.data_ptr()
            or held.shape != values.shape
            or held.stride() != values.stride()
        ):
            self._of, self._gram = values, _gram(values)
        assert self._gram is not None
        return self._gram

    def clear(self) -> None:
        self._of = self._gram = None


def in_float32(device: torch.device) -> AbstractContextManager[object]:
    """An autocast that a user has around their whole loop ends here; where there is none, entering costs nothing."""
    on = torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if on else nullcontext()


def better_as_gradient(positions: int, m: int, n: int) -> bool:
    """Whether to form each unit's (m, n) gradient at once and keep it, instead of its factors.

    It saves the Gram matrices, `positions`² · (m + n) products, and costs m · n numbers written and read again:
    worth it on a CPU up to positions ÷ 36 times the size of the factors (measured from 48 to 256 positions). What
    is kept stays within a small multiple of the factors, which are the layer's own activations.
    """
    return m * n <= min(_MOST_ROOM, positions / 36) * positions * (m + n)


def product_squared_norms(left: Tensor, right: Tensor, memory: GramMemory) -> Tensor:
    """(units, positions, m), (units, positions, n) → (units,) float64, ‖Σₜ aₜ bₜᵀ‖².

    By Gram matrices over positions or by the gradients themselves, a few units at a time: whichever takes fewer
    operations.
    """
    left, right = left.float(), right.float()
    units, positions, m = left.shape
    n = right.shape[2]
    if positions == 1:
        return squared_norms(left) * squared_norms(right)
    if positions * (m + n) <= m * n:
        return _inner(_gram(left), memory.gram(right))
    step = max(1, _CHUNK_ELEMENTS // (m * n))
    chunks = [squared_norms(_multiply(left[at : at + step], right[at : at + step])) for at in range(0, units, step)]
    return torch.cat(chunks) if chunks else left.new_zeros(0, dtype=torch.float64)


def _gram(values: Tensor) -> Tensor:
    return torch.bmm(values, values.transpose(1, 2))


def _multiply(left: Tensor, right: Tensor) -> Tensor:
    return torch.bmm(left.transpose(1, 2), right)


def _product_dot_product(left1: Tensor, right1: Tensor, left2: Tensor, right2: Tensor) -> Tensor:
    lefts = torch.bmm(left1.float(), left2.float().transpose(1, 2))
    rights = torch.bmm(right1.float(), right2.float().transpose(1, 2))
    return _inner(lefts, rights)


def _product_dot_lookup(left: Tensor, right: Tensor, ids: Tensor, values: Tensor) -> Tensor:
    """Σ over positions s of the product and t of the lookup: left[s, id(t)] · ⟨right[s], value[t]⟩."""
    picked = left.gather(2, ids[:, None, :].expand(-1, left.shape[1], -1)).float()  # (units, s, t)
    inner = torch.bmm(right.float(), values.float().transpose(1, 2))
    return _inner(picked, inner)


def _inner(first: Tensor, second: Tensor) -> Tensor:
    """(units, s, t) twice → (units,) float64 inner products, rounded up by what float32 may have lost.

    Where positions cancel, a sum of large terms is small and its rounding error is not: a norm that came out too
    small would let the unit pass unclipped. In ordinary gradients the margin is about a millionth.
    """
    first, second = first.flatten(1), second.flatten(1)
    margin = torch.linalg.vector_norm(first, dim=1).double() * torch.linalg.vector_norm(second, dim=1).double()
    return (first * second).sum(1, dtype=torch.float64).add_(margin, alpha=_MARGIN)


def _without(values: Tensor, lost: Tensor) -> Tensor:
    """Rows that are lost as zeros: 0 · NaN is NaN."""
    return values.masked_fill(lost.view(-1, *[1] * (values.dim() - 1)), 0.0)
