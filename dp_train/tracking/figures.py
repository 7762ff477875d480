"""The frontier figure: what privacy costs in utility, one panel a task."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from dp_train.errors import TrackingError
from dp_train.privacy.plan import Unit
from dp_train.privacy.rounding import rounded_up

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito: told apart with every common colour blindness; line styles tell them apart in grey too.
_PRIVATE, _OPEN, _BEST, _START, _BASELINE = "#0072B2", "#D55E00", "#009E73", "#333333", "#8A8A8A"
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.edgecolor": "#555555",
    "figure.facecolor": "white",
    "svg.hashsalt": "dp_train",  # the same figure gives the same bytes
}
_PER = {Unit.USER: "per person", Unit.EXAMPLE: "per example"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierPoint:
    """The final score of one run; `trial` numbers repetitions from 0.

    `epsilon` None is a baseline without privacy: the same loop, or with `best` what the same text gives without bounds.
    `low` and `high` are the ends of the score's interval over people; None where it has none.
    """

    task: str
    metric: str
    epsilon: float | None
    score: float
    trial: int = 0
    best: bool = False
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierPanel:
    """All that one task's panel shows.

    Attributes:
      task: title of the panel, for people.
      axis: the score with its unit, e.g. "ROUGE-L F1".
      points: runs whose ε is not withheld, and runs without privacy.
      delta, unit: what the ε of the points is about; ε of different units never share a figure.
      starting_point: score before training. start: what that is called.
      agreed: whoever is scored agreed to publication; not so in a public benchmark.
      baselines: name → score of methods that learn nothing.
      people: how many are scored. doubted: that a baseline without privacy may be weaker than it need be.
    """

    task: str
    axis: str
    higher_is_better: bool
    points: Sequence[FrontierPoint]
    delta: float
    unit: Unit = Unit.USER
    starting_point: float | None = None
    start: str = "public start"
    agreed: bool = True
    baselines: Mapping[str, float] = field(default_factory=dict)
    people: int | None = None
    doubted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierRow:
    """The trials at one ε, or of one baseline: a row of the table, a mark of the figure.

    `interval` is the one over people of the trial whose score is the median, or next below it.
    """

    epsilon: float | None
    median: float
    lowest: float
    highest: float
    trials: int
    best: bool = False
    interval: tuple[float, float] | None = None


def frontier_rows(points: Sequence[FrontierPoint]) -> tuple[FrontierRow, ...]:
    """Trials gathered by ε, rising, without privacy after them, `best` last.

    >>> [row.median for row in frontier_rows([FrontierPoint(task="t", metric="m", epsilon=1.0, score=0.25)])]
    [0.25]
    """
    gathered: dict[tuple[float, bool], list[FrontierPoint]] = {}
    for point in points:
        epsilon = math.inf if point.epsilon is None else point.epsilon
        gathered.setdefault((epsilon, point.best), []).append(point)
    return tuple(_row(gathered[key]) for key in sorted(gathered))


def _row(points: Sequence[FrontierPoint]) -> FrontierRow:
    ranked = sorted(points, key=lambda point: point.score)
    middle = ranked[(len(ranked) - 1) // 2]
    return FrontierRow(
        epsilon=middle.epsilon,
        median=median(point.score for point in ranked),
        lowest=ranked[0].score,
        highest=ranked[-1].score,
        trials=len(ranked),
        best=middle.best,
        interval=None if middle.low is None or middle.high is None else (middle.low, middle.high),
    )


def draw_frontier(panels: Sequence[FrontierPanel], path: Path) -> tuple[Path, Path]:
    """Draw the panels side by side and write ``<path>.png`` and ``<path>.svg``.

    ε is on a logarithmic axis; the baselines without privacy are at ∞, behind a break, and dashed lines; the starting
    point is dotted; faint marks are trials, joined by their spread, strong marks their median, thin bars with ends the
    interval over people.

    Raises:
      TrackingError: nothing to draw, panels with different units of privacy, or the folder cannot be written.
    """
    if not panels or not all(panel.points for panel in panels):
        raise TrackingError("figure: a panel has no point; expected at least one run whose ε is not withheld")
    if len({panel.unit for panel in panels}) > 1:
        raise TrackingError("figure: ε per person and ε per example cannot share a figure; draw them apart")
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        # Without pyplot: no display, no global state, safe in a notebook and in a worker.
        figure = Figure(figsize=(4.6 * max(len(panels), 1.35), 3.5), layout="constrained")
        FigureCanvasAgg(figure)
        every_axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, panel in zip(every_axes, panels, strict=True):
            _draw_panel(axes, panel)
        caption = textwrap.fill(_caption(panels), width=int(17 * figure.get_figwidth()))
        figure.supxlabel(caption, fontsize=7.5, color="#444444", x=0.01, ha="left")
        written = (path.with_name(f"{path.name}.png"), path.with_name(f"{path.name}.svg"))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(written[0], dpi=200)
            figure.savefig(written[1], metadata={"Date": None})
        except OSError as error:
            raise TrackingError(f"figure: {path.parent} cannot be written ({error.strerror})") from error
    return written


def _draw_panel(axes: Axes, panel: FrontierPanel) -> None:
    from matplotlib.patheffects import withStroke

    rows = frontier_rows(panel.points)
    private = [(row.epsilon, row) for row in rows if row.epsilon is not None]
    without = [row for row in rows if row.epsilon is None]
    epsilons = [epsilon for epsilon, _ in private] or [1.0]
    low, high = min(epsilons), max(epsilons)
    room = max(high / low, 2.0) ** 0.22
    infinity = high * room**1.7

    axes.set_xscale("log")
    axes.set_xlim(low / room, infinity * room if without else high * room)
    axes.set_ylim(*_heights(panel))
    lines: list[tuple[float, str, str]] = []
    for name, score in panel.baselines.items():
        axes.axhline(score, color=_BASELINE, linewidth=0.9, alpha=0.7, zorder=1)
        lines.append((score, name.replace("_", " "), "#666666"))
    if panel.starting_point is not None:
        axes.axhline(panel.starting_point, color=_START, linewidth=1.3, linestyle=":", zorder=2)
        lines.append((panel.starting_point, panel.start, _START))
    for point in panel.points:
        x, color = (infinity, _BEST if point.best else _OPEN) if point.epsilon is None else (point.epsilon, _PRIVATE)
        axes.plot(x, point.score, "o", color=color, alpha=0.35, markersize=4.5, markeredgewidth=0, zorder=3)
    for row in rows:
        x, color = (infinity, _BEST if row.best else _OPEN) if row.epsilon is None else (row.epsilon, _PRIVATE)
        axes.vlines(x, row.lowest, row.highest, color=color, alpha=0.35, linewidth=2.5, zorder=3)
        if row.interval is not None:
            ends = [[row.median - min(row.interval[0], row.median)], [max(row.interval[1], row.median) - row.median]]
            axes.errorbar(x, row.median, yerr=ends, fmt="none", ecolor=color, elinewidth=0.8, capsize=3, zorder=3)
    for row in without:
        color, style, mark = (_BEST, (0, (5, 1)), "s") if row.best else (_OPEN, "--", "D")
        axes.axhline(row.median, color=color, linewidth=1.3, linestyle=style, zorder=2)
        axes.plot(infinity, row.median, mark, color=color, markersize=6, zorder=4)
        name = ("best without bounds" if row.best else "without privacy") + (" †" if panel.doubted else "")
        lines.append((row.median, name, color))
    if private:
        axes.plot(
            epsilons,
            [row.median for _, row in private],
            "o-",
            color=_PRIVATE,
            linewidth=1.8,
            markersize=6.5,
            markeredgecolor="white",
            markeredgewidth=0.8,
            zorder=5,
        )
    # Beside the mark, away from the line: it comes in from above on a falling curve and leaves upwards on a rising one.
    rise = private[-1][1].median - private[0][1].median if private else 0.0
    shift = math.copysign(9, -rise) if rise else 0
    for epsilon, row in private if len(private) <= 6 else []:
        axes.annotate(
            _three_digits(row.median),
            xy=(epsilon, row.highest),
            xytext=(shift, 6),
            textcoords="offset points",
            ha="center",
            fontsize=7.5,
            color=_PRIVATE,
            zorder=6,
        ).set_path_effects([withStroke(linewidth=2, foreground="white")])
    _ticks(axes, epsilons, infinity if without else None)
    _label_lines(axes, lines)
    axes.set_title(panel.task, loc="left", fontweight="bold")
    axes.set_xlabel(f"privacy loss ε {_PER[panel.unit]}, δ = {_power_of_ten(panel.delta)} (log scale)")
    axes.set_ylabel(f"{panel.axis}  ({'higher' if panel.higher_is_better else 'lower'} is better)")
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.7)
    axes.set_axisbelow(True)


def _heights(panel: FrontierPanel) -> tuple[float, float]:
    """Limits that show all runs, the start, and the baselines near them; a far baseline would flatten the curve."""
    core = [end for point in panel.points for end in (point.low, point.high, point.score) if end is not None]
    if panel.starting_point is not None:
        core.append(panel.starting_point)
    low, high = min(core), max(core)
    span = (high - low) or abs(high) or 1.0
    near = [score for score in panel.baselines.values() if low - 0.5 * span <= score <= high + 0.5 * span]
    low, high = min([low, *near]), max([high, *near])
    return low - 0.12 * (high - low or span), high + 0.12 * (high - low or span)


def _ticks(axes: Axes, epsilons: Sequence[float], infinity: float | None) -> None:
    """A tick at every ε that was run, and ∞ behind a break in the axis."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    places = [*epsilons, *([infinity] if infinity else [])]
    labels = [*(f"{float(rounded_up(epsilon)):g}" for epsilon in epsilons), *(["∞"] if infinity else [])]
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_major_formatter(FixedFormatter(labels))
    axes.xaxis.set_minor_locator(NullLocator())
    if infinity:
        gap = math.sqrt(max(epsilons) * infinity)
        axes.text(gap, 0, "∕∕", transform=axes.get_xaxis_transform(), ha="center", va="center", color="#555555")


def _label_lines(axes: Axes, lines: Sequence[tuple[float, str, str]]) -> None:
    """Name the horizontal lines at the right edge, moved apart where they would overlap, with arrows to far ones."""
    if not lines:
        return
    low, high = axes.get_ylim()
    least = 0.065  # of the height of the axes: one line of text
    wanted = []
    for score, name, color in sorted(lines):
        far = " ↑" if score > high else " ↓" if score < low else ""
        anchor = min(max((score - low) / (high - low), 0.0), 1.0)
        wanted.append((anchor, f"{name} {_three_digits(score)}{far}", color))
    places: list[float] = []
    for place, _, _ in wanted:
        places.append(max(place, places[-1] + least) if places else place)
    # What was pushed above the top goes down again, pushing the others before it.
    ceiling = 1.03
    for index in range(len(places) - 1, -1, -1):
        places[index] = min(places[index], ceiling)
        ceiling = places[index] - least
    leader = {"arrowstyle": "-", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0}
    options: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "axes fraction", "annotation_clip": False}
    for place, (anchor, name, color) in zip(places, wanted, strict=True):
        axes.annotate(
            name,
            xy=(1.0, anchor),
            xytext=(1.025, place),
            color=color,
            fontsize=8,
            va="center",
            arrowprops=None if name[-1] in "↑↓" else leader | {"color": color},
            **options,
        )


def _three_digits(score: float) -> str:
    if abs(score) >= 1000:
        return f"{float(f'{score:.2e}'):,.0f}"
    return f"{score:#.3g}".rstrip(".")


def _power_of_ten(value: float) -> str:
    """2e-06 as 2×10⁻⁶, for matplotlib."""
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    factor = f"{float(mantissa):g}"
    return f"$10^{{{int(exponent)}}}$" if factor == "1" else f"${factor}\\times 10^{{{int(exponent)}}}$"


def _caption(panels: Sequence[FrontierPanel]) -> str:
    trials = {row.trials for panel in panels for row in frontier_rows(panel.points)}
    most = max(trials)
    what = (
        "One run at each ε."
        if most == 1
        else f"Strong marks: median of up to {most} trials; faint marks and bars: each trial, and their spread."
    )
    limits = (
        " ε is per person with the meeting graph fixed." if panels[0].unit is Unit.USER else " ε is not per person."
    )
    agreed = " who agreed to publication." if all(panel.agreed for panel in panels) else "; nobody was asked."
    if any(row.interval is not None for panel in panels for row in frontier_rows(panel.points)):
        what += " Thin bars: 95 % over the people scored."
    doubted = " † may be weaker than it need be, see the table." if any(panel.doubted for panel in panels) else ""
    counts = dict.fromkeys(f"{panel.people}" for panel in panels if panel.people is not None)
    whose = f"{' and '.join(counts)} people" if counts else "people"
    return f"{what}{limits} Scores: {whose} outside training{agreed}{doubted}"
