"""The attacker's error rates follow from the (ε, δ) pairs."""

import math
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from scipy.stats import norm

from dp_train.errors import TrackingError
from dp_train.privacy.plan import PrivacyPlan
from dp_train.tracking.guarantee import draw_guarantee, tradeoff_bound


def test_one_gaussian_release_has_the_gaussian_tradeoff_curve() -> None:
    """Dong et al. 2019: f(α) = Φ(Φ⁻¹(1 − α) − 1/σ); pairs of a fine grid of δ bound it from below, closely."""
    sigma = 2.0
    plan = PrivacyPlan(sample_rate=1.0, expected_units=1, steps=1, delta=1e-5, noise_multiplier=sigma)
    deltas = [10 ** (-power / 8) for power in range(1, 60)]
    curve = list(zip(plan.delta_curve(deltas), deltas, strict=True))
    alphas = [0.01, 0.05, 0.2, 0.5]
    for alpha, bound in zip(alphas, tradeoff_bound(curve, alphas), strict=True):
        exact = norm.cdf(norm.ppf(1 - alpha) - 1 / sigma)
        assert exact - 0.02 <= bound <= exact + 1e-3


def test_an_attacker_without_alarms_misses_all_but_delta() -> None:
    assert tradeoff_bound([(3.0, 1e-6), (math.inf, 1e-9)], [0.0]) == [pytest.approx(1 - 1e-6)]


def test_the_picture_needs_a_finite_epsilon(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="no finite ε"):
        draw_guarantee([(math.inf, 1e-5)], tmp_path / "card", delta=1e-5, title="")


LONG = (
    "ε=8.00, δ=1e-05 per person (replace_special: k=2 examples, fixed meeting graph; sampler not hardened against "
    "timing; 12 earlier runs on these people are composed in it); 2 of 9 trials unaccounted: claim withheld, see card"
)


def test_the_picture_shows_its_whole_title_and_a_curve_that_only_falls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    draw_guarantee([(0.0, 0.5), (2.0, 1e-5), (0.0, 0.3), (3.0, 1e-7)], tmp_path / "card", delta=1e-5, title=LONG)
    (figure,) = drawn
    figure.canvas.draw()
    title = figure._suptitle
    assert " ".join(title.get_text().split()) == LONG
    assert title.get_window_extent().x1 <= figure.bbox.x1
    epsilons, deltas = figure.axes[0].lines[0].get_data()
    assert list(epsilons) == sorted(set(epsilons))
    assert list(deltas) == sorted(set(deltas), reverse=True)
