"""Scale, then privatise: gradients are stretched by public factors before the clip and shrunk back after the noise.

The noise of a Gaussian release is a ball; the gradients of a language model are not. Stretched so that all coordinates
are about as large, a unit's gradient loses less of its small coordinates to the clip and to the noise, and what is
released is shrunk back, so that the optimizer sees gradients. Both factors are public, so the guarantee is that of the
release between them, at the same clip norm and noise multiplier (AdaDPS, Li et al. 2022, arXiv 2202.05963;
scale-then-privatize, Ganesh et al. 2025, arXiv 2507.01129).

The factors of a matrix are one for each row times one for each column (as in Adafactor, Shazeer & Stern 2018, arXiv
1804.04235). So they pass into the factors of a gradient that book-keeping clips, aᵀb, without a gradient being
formed: the clip stays exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from dp_train.errors import ConfigError

_FLOOR = 1e-4
"""Least second moment of a row or column, as a share of the tensor's mean: what was never seen is not blown up."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Public factors of one parameter: ``rows`` (m,) times ``columns``, of the shape of one row, () for a vector."""

    rows: Tensor
    columns: Tensor

    def full(self) -> Tensor:
        """The factor of each coordinate, in the parameter's shape."""
        return self.rows.view(-1, *[1] * self.columns.dim()) * self.columns

    def at(self, elements: Tensor) -> Tensor:
        """The factors of some coordinates: (n,) positions in the flat parameter → (n,)."""
        width = max(self.columns.numel(), 1)
        return self.rows[elements // width] * self.columns.reshape(-1)[elements % width]

    def stretch(self, gradients: Tensor) -> Tensor:
        """(…, *shape) → the same, each coordinate times its factor."""
        return gradients * self.full()

    def shrink(self, gradient: Tensor) -> Tensor:
        """(*shape) float32 → the same, divided by the factors in place."""
        return gradient.div_(self.full())


class Scaling(Protocol):
    """Where the factors of a step come from. They may change between steps, by what was released before."""

    @property
    def scales(self) -> Mapping[nn.Parameter, Scale]:
        """Factors for the next step; a parameter that is missing is left as it is."""
        ...

    def observe(self) -> None:
        """Learn from ``p.grad`` as it was just released. It never sees anything else of the private data."""
        ...

    def settings(self) -> dict[str, float]:
        """What it was made with beside its state: a part of the run's identity."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class FactoredScaling:
    """Factors v^(−power), from second moments v that are kept as row and column means.

    Guarantee: `scales` is a function of the public moments that it was made with and of released gradients. With a
    decay of 1 it never changes.

    The factors of all tensors together are such that a public unit's gradient has the mean square norm after
    them that it had before, so that a clip norm means about the same with and without scaling.

    Args:
      moments: what each trainable parameter's coordinates squared come to, from public data (`public_moments`).
      power: ½ makes all coordinates equally large; ¼ gives the least noise in all (AdaClip, Pichapati et al. 2019,
        arXiv 1908.07643); 0 is no scaling.
      decay: share of the moments that stays when a released gradient is observed, in (0, 1].

    Raises:
      ConfigError: a power or decay out of range.
    """

    def __init__(self, moments: Mapping[nn.Parameter, Tensor], *, power: float = 0.5, decay: float = 1.0) -> None:
        if not 0 <= power <= 1 or not 0 < decay <= 1:
            raise ConfigError(
                f"scaling: power={power:g}, decay={decay:g}; expected a power in [0, 1] and a decay in (0, 1]"
            )
        self._power, self._decay = power, decay
        self._rows = {parameter: _row_means(moment) for parameter, moment in moments.items()}
        self._columns = {parameter: _column_means(moment) for parameter, moment in moments.items()}
        self._scales = self._factors()

    @property
    def scales(self) -> Mapping[nn.Parameter, Scale]:
        return self._scales

    def observe(self) -> None:
        if self._decay == 1:
            return
        for parameter in self._rows:
            if parameter.grad is None:
                continue
            squares = parameter.grad.detach().float().square()
            self._rows[parameter].lerp_(_row_means(squares), 1 - self._decay)
            self._columns[parameter].lerp_(_column_means(squares), 1 - self._decay)
        self._scales = self._factors()

    def settings(self) -> dict[str, float]:
        return {"power": self._power, "decay": self._decay}

    def state_dict(self) -> dict[str, Any]:
        """The moments, in the order of the parameters."""
        return {"rows": list(self._rows.values()), "columns": list(self._columns.values())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        for kept, loaded in ((self._rows, state["rows"]), (self._columns, state["columns"])):
            for parameter, moment in zip(list(kept), loaded, strict=True):
                kept[parameter] = moment.to(kept[parameter].device)
        self._scales = self._factors()

    def _factors(self) -> dict[nn.Parameter, Scale]:
        found, before, after = {}, 0.0, 0.0
        for parameter, rows in self._rows.items():
            columns = self._columns[parameter]
            mean = float(rows.mean())
            if mean == 0:
                continue
            # v ≈ rows · columns ÷ mean: the best product of two vectors in Shazeer & Stern's sense
            rows = rows.clamp(min=_FLOOR * mean)
            columns = columns.clamp(min=_FLOOR * float(columns.mean()))
            scale = Scale((rows / mean) ** -self._power, columns**-self._power)
            moment = (rows / mean).view(-1, *[1] * columns.dim()) * columns
            before += float(moment.sum())
            after += float((moment * scale.full().square()).sum())
            found[parameter] = scale
        whole = (before / after) ** 0.5 if after > 0 else 1.0
        return {parameter: Scale(scale.rows, scale.columns * whole) for parameter, scale in found.items()}


def _row_means(squares: Tensor) -> Tensor:
    return squares.flatten(1).mean(1) if squares.dim() > 1 else squares.clone()


def _column_means(squares: Tensor) -> Tensor:
    return squares.mean(0)
