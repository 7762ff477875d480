"""The picture of a guarantee: δ against ε, and what an attacker can reach (docs/privacy.md, What is promised).

One (ε, δ) is a point of a curve. The right panel says the same in an attacker's terms: of all tests that guess whether
a person took part, which pairs of error rates remain possible (Wasserman & Zhou 2010; Dong et al. 2019, arXiv
1905.02383).
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dp_train.errors import TrackingError
from dp_train.privacy.rounding import rounded_up
from dp_train.tracking.figures import STYLE

Curve = Sequence[tuple[float, float]]
"""(ε, δ) pairs that all hold."""


def tradeoff_bound(curve: Curve, false_alarms: Sequence[float]) -> list[float]:
    """Least share of misses at each share of false alarms that the pairs of `curve` leave possible.

    Each (ε, δ) gives the bound max(0, 1 − δ − e^ε·α, e^−ε·(1 − δ − α)); all hold, so the largest counts.

    >>> tradeoff_bound([(0.0, 0.0)], [0.25])
    [0.75]
    """
    least = []
    for alpha in false_alarms:
        bounds = [0.0]
        for epsilon, delta in curve:
            if math.isfinite(epsilon):
                # e^ε overflows for a large ε, where the first bound is 0 anyway.
                bounds.append(1 - delta - math.exp(min(epsilon, 700.0)) * alpha)
                bounds.append(math.exp(-epsilon) * (1 - delta - alpha))
        least.append(max(bounds))
    return least


_TITLE_LETTERS = 110
"""What one line of the picture's title has room for."""


def falling(curve: Curve) -> list[tuple[float, float]]:
    """The pairs with a finite ε, rising in ε and falling in δ: of pairs at one ε the one that says most.

    >>> falling([(0.0, 0.5), (2.0, 1e-5), (0.0, 0.3), (math.inf, 1e-9)])
    [(0.0, 0.3), (2.0, 1e-05)]
    """
    found: list[tuple[float, float]] = []
    for epsilon, delta in sorted(pair for pair in curve if math.isfinite(pair[0])):
        if not found or (epsilon > found[-1][0] and delta < found[-1][1]):
            found.append((epsilon, delta))
    return found


def draw_guarantee(curve: Curve, path: Path, *, delta: float, title: str) -> Path:
    """Draw both panels into ``<path>.png``; `delta` is the δ of the claim and is marked.

    Raises:
      TrackingError: no pair with a finite ε, or the folder cannot be written.
    """
    points = falling(curve)
    if not points:
        raise TrackingError("figure: the guarantee has no finite ε; there is nothing to draw")
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 3.4), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        left.plot(*zip(*points, strict=True), color="#0072B2", linewidth=1.8)
        claimed = min(points, key=lambda point: abs(math.log(point[1] / delta)))
        left.plot(*claimed, "o", color="#0072B2", markersize=6.5)
        left.annotate(
            f"ε={rounded_up(claimed[0])} at δ={claimed[1]:g}",
            xy=claimed,
            xytext=(8, 4),
            textcoords="offset points",
            fontsize=8,
            color="#0072B2",
        )
        left.set_yscale("log")
        left.set_xlabel("ε")
        left.set_ylabel("δ")
        left.set_title("Every pair on the curve holds", loc="left")
        left.grid(color="#E6E6E6", linewidth=0.7)
        alphas = [float(alpha) for alpha in np.concatenate([np.geomspace(1e-6, 1e-2, 60), np.linspace(1e-2, 1, 200)])]
        right.plot(alphas, tradeoff_bound(points, alphas), color="#0072B2", linewidth=1.8, label="this run: at least")
        right.plot([0, 1], [1, 0], color="#333333", linewidth=1.1, linestyle=":", label="guessing")
        right.set_xlabel("attacker's false alarms")
        right.set_ylabel("attacker's misses")
        right.set_title("Did this person take part?", loc="left")
        right.set_xlim(0, 1)
        right.set_ylim(0, 1)
        right.grid(color="#E6E6E6", linewidth=0.7)
        right.legend(frameon=False, fontsize=8)
        figure.suptitle(textwrap.fill(title, width=_TITLE_LETTERS), fontsize=9, x=0.01, ha="left")
        written = path.with_name(f"{path.name}.png")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(written, dpi=160)
        except OSError as error:
            raise TrackingError(f"figure: {path.parent} cannot be written ({error.strerror})") from error
    return written
