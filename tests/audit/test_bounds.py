"""Lower bounds: closed forms, validity by Monte Carlo, and no gain from how scores are handed in."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm

from dp_train.audit import Claim, LowerBound, f_dp, steinke, tightest, two_run, verdict
from dp_train.audit.bounds import f_dp_epsilon, guess_counts, refutes_curve, steinke_epsilon
from dp_train.errors import ConfigError, DataError
from dp_train.privacy.accounting import loss_distribution
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.trade_off import TradeOff, _deltas

TRIALS = 200


def by_chance(errors: int, trials: int = TRIALS) -> bool:
    """Whether that many bounds above the truth can be chance at 5 % each."""
    return bool(binom.sf(errors - 1, trials, 0.05) > 1e-3)


def responses(epsilon: float, included: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Randomized response: each bit told truly with probability e^ε ÷ (1 + e^ε)."""
    truthful = random.random(len(included)) < 1 / (1 + math.exp(-epsilon))
    return np.where(truthful == included, 1.0, -1.0)


def gaussian(sigma: float) -> PrivacyPlan:
    """A claim of one Gaussian release."""
    return PrivacyPlan(sample_rate=1.0, expected_units=10, steps=1, delta=1e-5, noise_multiplier=sigma)


@pytest.mark.parametrize("right", [20, 100])
def test_all_right_without_delta_is_the_closed_form(right: int) -> None:
    share = 0.05 ** (1 / right)
    assert steinke_epsilon(right, right, right, 0.0, 0.05) == pytest.approx(math.log(share / (1 - share)), abs=1e-3)


def test_delta_only_loosens_the_bound() -> None:
    bounds = [steinke_epsilon(1000, 200, 180, delta, 0.05) for delta in (0.0, 1e-6, 1e-5, 1e-4, 1e-3)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] > bounds[-1]


@pytest.mark.parametrize("guesses", [None, 100, (50, 200)])
def test_steinke_stays_below_the_truth_of_randomized_response(guesses: object) -> None:
    random, above = np.random.default_rng(1), 0
    for _ in range(TRIALS):
        included = random.random(200) < 0.5
        scores = responses(1.0, included, random) * (1 + random.random(200))
        above += steinke(scores, included, delta=0.0, guesses=guesses, centre=0.0).epsilon > 1.0  # type: ignore[arg-type]
    assert by_chance(above)


def test_steinke_comes_close_to_the_truth_of_randomized_response() -> None:
    random = np.random.default_rng(2)
    included = random.random(20_000) < 0.5
    bound = steinke(responses(1.0, included, random), included, delta=0.0, guesses=20_000, centre=0.0)
    assert 0.9 < bound.epsilon < 1.0


def test_f_dp_stays_below_the_truth_of_the_gaussian_mechanism_and_comes_close_to_it() -> None:
    plan = gaussian(0.8)
    truth, claim = plan.epsilon(), Claim.of(plan)
    random, found = np.random.default_rng(3), []
    for _ in range(TRIALS // 2):
        included = random.random(500) < 0.5
        scores = included - 0.5 + 0.8 * random.standard_normal(500)
        found.append(f_dp(scores, included, claim=claim, guesses=150, centre=0.0).epsilon)
    assert by_chance(sum(epsilon > truth for epsilon in found), len(found))
    assert np.median(found) > 0.45 * truth


def test_f_dp_is_above_steinke_on_the_mechanism_that_is_claimed() -> None:
    random = np.random.default_rng(4)
    included = random.random(2000) < 0.5
    scores = included - 0.5 + 0.8 * random.standard_normal(2000)
    plan = gaussian(0.8)
    by_curve = f_dp(scores, included, claim=Claim.of(plan), guesses=400, centre=0.0)
    assert by_curve.epsilon > steinke(scores, included, delta=1e-5, guesses=400, centre=0.0).epsilon


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_one_guess_at_one_coin_is_refuted_beyond_the_best_accuracy(sigma: float) -> None:
    # Of N(0, σ²) and N(1, σ²) no test is right more often than Φ(1 ÷ 2σ).
    curve, best = Claim.of(gaussian(sigma)).curve(), norm.cdf(0.5 / sigma)
    assert refutes_curve(curve, 1, 1, 1, best + 0.01)
    assert not refutes_curve(curve, 1, 1, 1, best - 0.01)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0, 1))
def test_the_kept_lines_are_the_largest_everywhere(deltas: list[float], chance: float) -> None:
    logs = np.linspace(-3, 3, len(deltas))
    largest = max((chance - delta) * math.exp(-log) for log, delta in zip(logs, deltas, strict=True))
    assert TradeOff.of(1.0, logs, np.array(deltas)).least(chance) == pytest.approx(max(0.0, largest), abs=1e-9)


@pytest.mark.parametrize(("rate", "sigma", "steps"), [(1.0, 1.0, 1), (0.1, 0.7, 40), (0.01, 2.0, 500)])
def test_the_curve_is_that_of_the_accountant_in_both_directions(rate: float, sigma: float, steps: int) -> None:
    plan = PrivacyPlan(sample_rate=rate, expected_units=10, steps=steps, delta=1e-5, noise_multiplier=sigma)
    loss = loss_distribution([plan.event()], plan.neighboring_relation, 1e-5, coarseness=10.0)
    assert loss is not None
    epsilons = np.concatenate([[0.0], np.geomspace(1e-3, 30, 60)])
    for direction in (loss._pmf_remove, loss._pmf_add):
        slowly = direction.get_delta_for_epsilon(epsilons.tolist())
        assert _deltas(direction, epsilons) == pytest.approx(slowly, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(("epsilon", "rate", "steps"), [(0.1, 0.01, 1000), (1.0, 0.1, 100)])
def test_guesses_that_do_not_refute_the_claim_bound_less_than_it(epsilon: float, rate: float, steps: int) -> None:
    # The curve is coarse, and its own ε is up to a tenth too large; a bound has the ε by which claims are priced.
    plan = PrivacyPlan(sample_rate=rate, expected_units=10, steps=steps, delta=1e-5).calibrate(epsilon=epsilon)
    claim, m = Claim.of(plan), 20_000
    curve, few, many = claim.curve(), m // 2, m
    while many - few > 1:  # `few` right guesses are the most that do not refute it
        middle = (few + many) // 2
        few, many = (few, middle) if refutes_curve(curve, m, m, middle, 0.05) else (middle, many)
    assert 0.9 * plan.epsilon() < f_dp_epsilon(claim, m, m, few, 0.05) < plan.epsilon()


def test_with_what_is_no_number_nothing_is_consistent() -> None:
    with pytest.raises(ConfigError, match="not a number"):
        verdict(LowerBound("f-dp", 2.0, 1e-5, 0.95, 10, 9), math.nan)


@given(st.integers(1, 40), st.data())
def test_more_right_guesses_refute_no_less(guesses: int, data: st.DataObject) -> None:
    curve = Claim.of(gaussian(1.0)).curve()
    right = data.draw(st.integers(0, guesses))
    if right and refutes_curve(curve, 40, guesses, right - 1, 0.05):
        assert refutes_curve(curve, 40, guesses, right, 0.05)


def test_two_run_stays_below_the_truth_and_needs_no_threshold() -> None:
    plan = gaussian(1.0)
    truth, random, found = plan.epsilon(), np.random.default_rng(5), []
    for _ in range(TRIALS):
        included = random.random(1000) < 0.5
        found.append(two_run(included + random.standard_normal(1000), included, delta=1e-5).epsilon)
    assert by_chance(sum(epsilon > truth for epsilon in found))
    assert np.median(found) > 0.5


def test_a_perfect_attack_by_two_runs_is_the_closed_form() -> None:
    included = np.arange(2000) % 2 == 0
    bound = two_run(included.astype(float), included, delta=0.0, threshold=0.5)
    # 1,000 of 1,000 and 0 of 1,000: each rate is bounded at 2.5 %.
    edge = 1 - 0.025 ** (1 / 1000)
    assert bound.epsilon == pytest.approx(math.log((1 - edge) / edge))


def test_members_handed_in_first_gain_nothing_from_equal_scores() -> None:
    included = np.arange(1000) < 500
    assert steinke(np.zeros(1000), included, delta=1e-6).epsilon == 0
    assert steinke(np.round(np.random.default_rng(6).random(1000)), included, delta=1e-6).epsilon < 0.5


@settings(max_examples=30)
@given(st.permutations(range(64)))
def test_order_does_not_matter_where_scores_differ(order: list[int]) -> None:
    scores = np.random.default_rng(7).standard_normal(64)
    included = scores + 0.5 * np.random.default_rng(8).standard_normal(64) > 0
    assert steinke(scores, included, delta=0.0) == steinke(scores[order], included[order], delta=0.0)


def test_the_grid_halves_and_every_count_pays_its_share() -> None:
    assert guess_counts(5000) == (5000, 2500, 1250, 625, 312, 156, 78, 39, 19, 9)
    included = np.random.default_rng(9).random(64) < 0.5
    tried = steinke(included.astype(float), included, delta=0.0, centre=0.5)
    assert tried.epsilon == pytest.approx(steinke_epsilon(64, 64, 64, 0.0, 0.05 / len(guess_counts(64))))


def test_the_tightest_of_several_holds_at_what_they_all_may_err() -> None:
    one = LowerBound("f-dp", 2.0, 1e-5, 0.97, 10, 9)
    other = LowerBound("steinke", 1.0, 1e-5, 0.98, 10, 9)
    assert tightest([other, one]).epsilon == 2.0
    assert tightest([other, one]).confidence == pytest.approx(0.95)
    with pytest.raises(ConfigError, match="0 bounds"):
        tightest([])


def test_a_claim_is_refuted_above_it_and_infinity_never() -> None:
    bound = LowerBound("f-dp", 2.0, 1e-5, 0.95, 10, 9)
    assert (verdict(bound, 1.99), verdict(bound, 2.0), verdict(bound, math.inf)) == (
        "refutes",
        "consistent with",
        "consistent with",
    )


@pytest.mark.parametrize(
    ("scores", "included", "error"),
    [([1.0], [True, False], DataError), ([], [], DataError), ([math.nan], [True], DataError), ([1.0], [3], DataError)],
)
def test_what_is_no_score_is_refused(scores: list[float], included: list[int], error: type[Exception]) -> None:
    with pytest.raises(error):
        steinke(scores, included, delta=1e-5)


def test_another_delta_than_the_claim_has_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected the same"):
        f_dp([1.0, 0.0], [True, False], claim=Claim.of(gaussian(1.0)), delta=1e-6)
