"""The end of a trade-off: table, picture, and the address of the view in MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from dp_train.cli.show import samples, table
from dp_train.corpora.adapters.benchmark import WARNING
from dp_train.privacy.plan import Unit
from dp_train.privacy.rounding import rounded_up
from dp_train.runs.baselines import Baseline, baseline_of
from dp_train.runs.folder import RunFolder
from dp_train.runs.result import RunResult
from dp_train.runs.study_report import StudyReport
from dp_train.tracking.figures import FrontierPanel, FrontierRow, draw_frontier, frontier_rows
from dp_train.tracking.run import TrackedRun
from dp_train.tracking.suggestions import draw_trigger_curves
from dp_train.tracking.ui import DEFAULT_PORT, ui_url

_AXES = {"rougeL": "ROUGE-L F1", "perplexity": "perplexity per word"}
_UNITS = {Unit.USER: "person", Unit.EXAMPLE: "example"}
_WHAT = (
    "Medians of the repeats; lowest and highest in brackets; [95 % over the people scored]. Shares are of the gain of "
    "*best without bounds* over the start. Scores are of people outside training"
)
_COLUMNS = ("task", "run", "ε", "δ", "unit", "σ", "steps", "score", "of best's gain", "time")


def draw(reports: Sequence[StudyReport], path: Path, parent: TrackedRun | None) -> Path | None:
    """The frontier as PNG and SVG, in the folder and on the parent run; None where nothing has a score."""
    panels = [
        FrontierPanel(
            task=report.config.task.name.replace("_", " "),
            axis=_AXES.get(report.metric, report.metric),
            higher_is_better=report.higher_is_better,
            points=report.points,
            delta=report.config.privacy.delta,
            unit=report.config.privacy.unit,
            starting_point=report.start_score,
            start="public start" if report.public_start else "untuned",
            agreed=not report.config.corpus.research_only,
            baselines=report.baselines,
            people=report.people,
            doubted=any(chosen.doubts for chosen in report.without_privacy.values()),
        )
        for report in reports
        if report.points
    ]
    if not panels:
        return None
    written: tuple[Path, ...] = draw_frontier(panels, path)
    curves = {outcome.label: outcome.curve for report in reports for outcome in report.compared[::-1] if outcome.curve}
    if curves:  # of repeats, the first
        written += draw_trigger_curves(dict(reversed(curves.items())), path.with_name("suggestions"))
    if parent is not None:
        parent.log_files(*written)
        points = [point for report in reports for point in report.points]
        parent.log_frontier(points, {report.metric: _references(report) for report in reports})
        parent.log_picture(written[0])
    return written[0]


def _references(report: StudyReport) -> dict[str, float]:
    """The horizontal lines of a task's chart, by the names that the saved view knows."""
    found: dict[str, float] = {}
    for row in frontier_rows(report.points):
        if row.epsilon is None:
            found[(Baseline.BEST if row.best else Baseline.NONE).title] = row.median
    if report.start_score is not None:
        found["public start"] = report.start_score
    if report.baselines:
        best = max if report.higher_is_better else min
        found["best baseline"] = best(report.baselines.values())
    return found


def note_on_cards(reports: Sequence[StudyReport], tracked: bool) -> None:
    """Write what the baselines gave on the card of every run, and on its copy in the tracker.

    Raises:
      TrackingError: a card or the store cannot be written.
    """
    from dp_train.runs.audit import tracked as record_of
    from dp_train.tracking.compared_card import write_compared

    for report in reports:
        for outcome in report.outcomes if report.without_privacy else ():
            written = write_compared(outcome.folder.path, report.compared_with())
            record = record_of(outcome.folder) if tracked else None
            if record is not None:
                record.log_files(*written)


def show_reports(reports: Sequence[StudyReport], claims: Sequence[str], out: Console) -> None:
    """The table, what its ε mean, and samples of each task at its largest ε."""
    _show_table(reports, out)
    for claim in claims:
        out.print(claim)
    for report in reports:
        if report.compared:
            chosen = ([outcome for outcome in report.compared if outcome.plan.private] or report.compared)[-1]
            out.print(f"[bold]{chosen.label}[/]")
            samples(out, chosen.samples)


def write_table(
    reports: Sequence[StudyReport],
    claims: Sequence[str],
    folder: RunFolder,
    command: str,
    figure: Path | None,
    parent: TrackedRun | None,
) -> None:
    """``frontier.md``: the table under the command that gives it again, with what its ε mean; for `experiments/`.

    Raises:
      CheckpointError: the file cannot be written.
    """
    lines = [f"    {command}", ""]
    for report in reports:
        lines += [line for line in (report.config.question, report.config.hypothesis) if line]
    shown = len(_COLUMNS) - 1  # how long it took says little about another machine
    lines += ["", f"| {' | '.join(_COLUMNS[:shown])} |", "|" + "---|" * shown]
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row[:shown])} |" for row in _rows(reports)]
    asked = not any(report.config.corpus.research_only for report in reports)
    what = f"{_WHAT} who agreed to that." if asked else f"{_WHAT}. {WARNING.capitalize()}."
    lines += ["", what, "", *(f"- {claim}" for claim in claims)]
    if figure is not None:
        lines += ["", f"![utility against ε]({figure.name})"]
    folder.write("frontier.md", "\n".join(lines) + "\n")
    if parent is not None:
        parent.log_files(folder.path / "frontier.md")


def _show_table(reports: Sequence[StudyReport], out: Console) -> None:
    out.print(table(_COLUMNS, _rows(reports), title="utility against ε"))


def _rows(reports: Sequence[StudyReport]) -> list[tuple[str, ...]]:
    """One row a baseline, the public starting point, and each ε with the median of its repeats."""
    rows: list[tuple[str, ...]] = []
    for report in reports:
        task = report.config.task.name
        better = "↑" if report.higher_is_better else "↓"

        def row(run: str, *cells: str, task: str = task) -> tuple[str, ...]:
            return (task, run, *cells)

        blank = ("",) * 5
        simple = dict(report.baselines)
        if report.start_score is not None:
            simple["public starting point" if report.public_start else "untuned model"] = report.start_score
        for name, score in simple.items():
            rows.append(row(name.replace("_", " "), *blank, f"{report.metric} {score:.4g} {better}", "", ""))
        for found in frontier_rows(report.points):
            outcome = _of_row(report, found)
            plan, share = outcome.plan, report.share(found.median)
            spread = f" ({found.lowest:.4g} – {found.highest:.4g})" if found.trials > 1 else ""
            people = f" [{found.interval[0]:.4g}, {found.interval[1]:.4g}]" if found.interval else ""
            rows.append(
                row(
                    _name_of(report, outcome) + (f" × {found.trials}" if spread else ""),
                    rounded_up(outcome.epsilon),
                    f"{plan.delta:g}" if plan.private else "",
                    _UNITS[plan.unit] if plan.private else "",
                    f"{plan.calibrated_noise_multiplier:.3g}" if plan.private else "",
                    f"{plan.steps}",
                    f"{report.metric} {found.median:.4g}{spread}{people} {better}",
                    "–" if share is None else f"{share:.0%}",
                    f"{outcome.result.seconds:.0f} s",
                )
            )
        rows += [
            row(outcome.label, *blank, outcome.result.epsilon.describe(), "", "")
            for outcome in report.outcomes
            if outcome.result.epsilon.withheld
        ]
    return rows


def _of_row(report: StudyReport, row: FrontierRow) -> RunResult:
    """The first of the runs that a row is the median of."""
    return next(
        outcome
        for outcome in report.compared
        if outcome.config.privacy.epsilon == row.epsilon
        and (baseline_of(outcome.config) is Baseline.BEST) == row.best
        and (row.epsilon is not None or not outcome.plan.private)
    )


def _name_of(report: StudyReport, outcome: RunResult) -> str:
    """What a row is called; † where a baseline may be weaker than it need be."""
    baseline = baseline_of(outcome.config)
    if baseline is None:
        return "private"
    return baseline.title + (" †" if report.without_privacy[baseline].doubts else "")


def own_claims(reports: Sequence[StudyReport]) -> list[str]:
    """What the ε of the table mean, one claim of each task in full, and how its baselines were chosen."""
    lines = []
    for report in reports:
        private = [outcome for outcome in report.outcomes if outcome.epsilon is not None]
        if private:
            lines.append(f"{private[-1].label}: {private[-1].result.epsilon.describe()}")
        for chosen in report.without_privacy.values():
            mark = "† " if chosen.doubts else ""
            lines.append(f"{mark}{report.config.task.name} {chosen.describe()}")
    return lines


def show_address(parent: TrackedRun, out: Console) -> None:
    """The command that starts the UI, and the address that opens the saved view."""
    out.print(f"MLflow: start the UI with [bold]dp-train ui --port {DEFAULT_PORT}[/], then open")
    out.print(ui_url(parent.experiment_id), soft_wrap=True, markup=False)
