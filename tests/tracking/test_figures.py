"""The frontier figure shows every run, every line and its own limits."""

import dataclasses
import re
from pathlib import Path

import pytest

from dp_train.errors import TrackingError
from dp_train.privacy.plan import Unit
from dp_train.tasks.metrics import TriggerPoint
from dp_train.tracking.figures import FrontierPanel, FrontierPoint, draw_frontier, frontier_rows
from dp_train.tracking.suggestions import draw_trigger_curves


def point(epsilon: float | None, score: float, trial: int = 0) -> FrontierPoint:
    return FrontierPoint(task="summary", metric="rougeL", epsilon=epsilon, score=score, trial=trial)


POINTS = [point(8.0, 0.28), point(None, 0.34), point(1.0, 0.23), point(8.0, 0.30, 1), point(8.0, 0.25, 2)]
PANEL = FrontierPanel(
    task="Meeting summary",
    axis="ROUGE-L F1",
    higher_is_better=True,
    points=POINTS,
    delta=2e-6,
    starting_point=0.2,
    baselines={"lead-3": 0.17, "random": 0.001, "unigram": 1330.4},
)
COMPOSE = FrontierPanel(
    task="Chat compose", axis="perplexity per word", higher_is_better=False, points=[point(8.0, 81.0)], delta=1e-5
)


def test_rows_are_medians_by_rising_epsilon_with_no_privacy_last() -> None:
    rows = frontier_rows(POINTS)
    assert [(row.epsilon, row.median, row.trials) for row in rows] == [(1.0, 0.23, 1), (8.0, 0.28, 3), (None, 0.34, 1)]
    assert (rows[1].lowest, rows[1].highest) == (0.25, 0.30)


def test_both_files_are_written_and_the_picture_is_wide_enough_for_a_readme(tmp_path: Path) -> None:
    from matplotlib.image import imread

    png, svg = draw_frontier([PANEL, COMPOSE], tmp_path / "new" / "frontier")
    assert (png.name, svg.name) == ("frontier.png", "frontier.svg")
    height, width = imread(png).shape[:2]
    assert 1600 <= width <= 2400
    assert height < width / 2
    assert svg.read_text().startswith("<?xml")


def test_the_same_figure_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (draw_frontier([PANEL], tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_every_line_unit_and_limit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib as mpl

    monkeypatch.setitem(mpl.rcParams, "svg.fonttype", "none")
    text = draw_frontier([PANEL, COMPOSE], tmp_path / "frontier")[1].read_text()
    for words in (
        "Meeting summary",
        "Chat compose",
        "ROUGE-L F1  (higher is better)",
        "perplexity per word  (lower is better)",
        "per person",
        "∞",
        "without privacy 0.340",
        "public start 0.200",
        "lead-3 0.170",
        "random 0.00100 ↓",
        "unigram 1,330 ↑",
        "median of up to 3 trials",
        "meeting graph fixed",
    ):
        assert words in text, words


def test_both_baselines_their_doubts_and_how_sure_scores_are_stand_in_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import matplotlib as mpl

    monkeypatch.setitem(mpl.rcParams, "svg.fonttype", "none")
    best = dataclasses.replace(point(None, 0.36), best=True, low=0.33, high=0.40)
    sure = [dataclasses.replace(one, low=one.score - 0.02, high=one.score + 0.02) for one in POINTS]
    rows = frontier_rows([*sure, best])
    assert [(row.epsilon, row.best) for row in rows] == [(1.0, False), (8.0, False), (None, False), (None, True)]
    assert rows[1].interval == pytest.approx((0.26, 0.30))  # of the run whose score is the median
    panel = dataclasses.replace(PANEL, points=[*sure, best], people=21, doubted=True)
    drawn = draw_frontier([panel], tmp_path / "frontier")[1].read_text()
    text = re.sub(r"<[^>]*>", " ", drawn)  # wherever the caption is broken into lines
    for words in (
        "without privacy † 0.340",
        "best without bounds † 0.360",
        "Thin bars: 95 %",
        "21 people",
        "weaker",
    ):
        assert words in " ".join(text.split()), words
    plain = draw_frontier([PANEL], tmp_path / "plain")[1].read_text()
    assert "†" not in plain
    assert "Thin bars" not in plain


@pytest.mark.parametrize("points", [[point(4.0, 0.25)], [point(None, 0.25)], [point(1.0, 0.0), point(2.0, 0.0)]])
def test_a_thin_panel_is_drawn_too(points: list[FrontierPoint], tmp_path: Path) -> None:
    panel = FrontierPanel(task="t", axis="score", higher_is_better=True, points=points, delta=1e-5)
    assert all(path.stat().st_size > 0 for path in draw_frontier([panel], tmp_path / "thin"))


@pytest.mark.parametrize("agreed", [True, False])
def test_a_picture_says_agreed_of_those_alone_who_were_asked(
    agreed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import matplotlib as mpl

    monkeypatch.setitem(mpl.rcParams, "svg.fonttype", "none")
    panel = dataclasses.replace(PANEL, agreed=agreed, start="untuned")
    svg = draw_frontier([COMPOSE, panel], tmp_path / "frontier")[1].read_text()
    assert ("agreed" in svg) is agreed
    assert ("asked" in svg) is not agreed
    assert "untuned" in svg


def test_per_person_and_per_example_share_no_figure(tmp_path: Path) -> None:
    example = FrontierPanel(
        task="t", axis="s", higher_is_better=True, points=[point(1.0, 0.25)], delta=1e-5, unit=Unit.EXAMPLE
    )
    with pytest.raises(TrackingError, match="cannot share a figure"):
        draw_frontier([PANEL, example], tmp_path / "mixed")


def test_nothing_to_draw_and_nowhere_to_write_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="no point"):
        draw_frontier([], tmp_path / "empty")
    (tmp_path / "file").write_text("")
    with pytest.raises(TrackingError, match=r"^figure: \S+ cannot be written \(.+\)$"):
        draw_frontier([PANEL], tmp_path / "file" / "frontier")


def test_a_curve_of_suggestions_is_drawn_for_every_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib as mpl

    monkeypatch.setitem(mpl.rcParams, "svg.fonttype", "none")
    curve = [TriggerPoint(threshold=0.5, shown=0.5, accepted=0.25, saved=0.125)]
    svg = draw_trigger_curves({"ε=8": curve, "without privacy": curve}, tmp_path / "suggestions")[1].read_text()
    for words in ("ε=8", "without privacy", "suggestions taken, % of places", "letters saved, %"):
        assert words in svg
    with pytest.raises(TrackingError, match="no curve"):
        draw_trigger_curves({"ε=8": []}, tmp_path / "suggestions")
