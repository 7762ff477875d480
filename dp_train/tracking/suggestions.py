"""The picture of suggestions: what is taken, and what is saved, as more of them are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dp_train.errors import TrackingError
from dp_train.tracking.figures import STYLE

if TYPE_CHECKING:
    from dp_train.tasks.metrics import TriggerPoint

# Okabe and Ito, with line styles, as in the frontier.
_LINES = (("#0072B2", "-"), ("#D55E00", "--"), ("#009E73", "-."), ("#CC79A7", ":"), ("#E69F00", "-"), ("#333333", "--"))


def draw_trigger_curves(curves: Mapping[str, Sequence[TriggerPoint]], path: Path) -> tuple[Path, Path]:
    """Draw the curves of several models into one picture and write ``<path>.png`` and ``<path>.svg``.

    Left: share of all places at which the suggestion is taken, under the line of a model that is always right.
    Right: share of the letters that is saved.

    Raises:
      TrackingError: there is no curve, or the folder cannot be written.
    """
    if not curves or not all(curves.values()):
        raise TrackingError("figure: no curve of suggestions; expected at least one point each")
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 3.2), layout="constrained")
        FigureCanvasAgg(figure)
        taken, saved = figure.subplots(1, 2)
        for number, (name, curve) in enumerate(curves.items()):
            color, style = _LINES[number % len(_LINES)]
            shown = [100 * point.shown for point in curve]
            taken.plot(shown, [100 * point.accepted for point in curve], style, color=color, label=name)
            saved.plot(shown, [100 * point.saved for point in curve], style, color=color, label=name)
        top = max(100 * point.accepted for curve in curves.values() for point in curve) or 1.0
        taken.plot([0, 100], [0, 100], color="#BBBBBB", linewidth=0.9, zorder=1)
        taken.set_ylim(0, 1.15 * top)
        taken.text(1.02 * top, 1.06 * top, "all right", fontsize=7.5, color="#8A8A8A", clip_on=True)
        taken.set_ylabel("suggestions taken, % of places")
        saved.set_ylabel("letters saved, %")
        saved.set_ylim(bottom=0)
        for axes in (taken, saved):
            axes.set_xlim(0, 100)
            axes.set_xlabel("suggestions shown, % of places, the surest first")
            axes.grid(axis="y", color="#E6E6E6", linewidth=0.7)
            axes.set_axisbelow(True)
        names, labels = taken.get_legend_handles_labels()
        figure.legend(names, labels, loc="outside upper left", ncols=min(len(labels), 4), frameon=False, fontsize=8)
        written = (path.with_name(f"{path.name}.png"), path.with_name(f"{path.name}.svg"))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(written[0], dpi=200)
            figure.savefig(written[1], metadata={"Date": None})
        except OSError as error:
            raise TrackingError(f"figure: {path.parent} cannot be written ({error.strerror})") from error
    return written
