"""Scores, exposure and rates: what each has to be, and the table of docs/privacy.md."""

from __future__ import annotations

import doctest
import importlib
import math

import numpy as np
import pytest
from audit_table import bounds as bounds_of_table
from hypothesis import given
from hypothesis import strategies as st

from dp_train.audit import (
    Claim,
    Exposure,
    area_interval,
    banded_scores,
    chance_of_ranks,
    clopper_pearson,
    exposure_of,
    f_dp,
    mechanism_scores,
    planned_guesses,
    rmia,
    roc_curve,
    sampled_gaussian_scores,
    seen_noise,
    simulate,
)
from dp_train.errors import DataError
from dp_train.privacy.plan import PrivacyPlan

PLAN = PrivacyPlan(sample_rate=0.1, expected_units=10, steps=24, delta=1e-5, noise_multiplier=0.7)


@pytest.mark.parametrize("name", ["bounds", "exposure", "roc", "scores"])
def test_examples_in_docstrings_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"dp_train.audit.{name}"))
    assert result.attempted
    assert not result.failed


def test_one_band_is_independent_noise() -> None:
    seen = np.random.default_rng(1).standard_normal((24, 50))
    one = sampled_gaussian_scores(seen, noise_multiplier=0.7, sample_rate=0.1)
    assert banded_scores(seen, noise_multiplier=0.7, sample_rate=0.1, bands=1) == pytest.approx(one)


@pytest.mark.parametrize("changes", [{}, {"bands": 4}, {"max_contributions": 3}, {"epoch_steps": 10, "bands": 16}])
def test_scores_are_likelihood_ratios_of_what_is_simulated(changes: dict[str, int]) -> None:
    # E[e^score | out] = 1 and E[e^−score | in] = 1 for a likelihood ratio, and for nothing else that separates.
    plan, m = PLAN.replace(noise_multiplier=2.0, **changes), 200_000
    included = np.arange(m) % 2 == 0
    scores = mechanism_scores(simulate(plan, included, seed=2), plan)
    assert np.exp(scores[~included]).mean() == pytest.approx(1, abs=0.03)
    assert np.exp(-scores[included]).mean() == pytest.approx(1, abs=0.03)
    assert scores[included].mean() > scores[~included].mean()


def test_a_reader_who_knows_the_turns_tells_more_and_no_more_than_the_claim_allows() -> None:
    # b-banded noise with known turns is accounted as T/b releases at rate b·q: the same law of scores.
    plan, m = PLAN.replace(bands=4), 40_000
    random = np.random.default_rng(3)
    included, turns = random.random(m) < 0.5, random.integers(4, size=m)
    observed = simulate(plan, included, seed=4, turns=turns)
    known = mechanism_scores(observed, plan, turns=turns)
    assert np.exp(known[~included]).mean() == pytest.approx(1, abs=0.2)
    area = roc_curve(known, included).area
    assert area > roc_curve(mechanism_scores(observed, plan), included).area + 0.02
    accounted = PLAN.replace(steps=6, sample_rate=0.4)
    alike = roc_curve(mechanism_scores(simulate(accounted, included, seed=5), accounted), included).area
    assert area == pytest.approx(alike, abs=0.01)


@pytest.mark.parametrize("turns", [[0], [0, 4], [0, -1], [0.0, 1.0]])
def test_turns_that_no_canary_can_have_are_refused(turns: list[float]) -> None:
    with pytest.raises(DataError, match="turns"):
        mechanism_scores(np.zeros((24, 2)), PLAN.replace(bands=4), turns=turns)


def test_white_noise_seen_through_the_strategy_tells_more_than_the_sums_as_they_are() -> None:
    plan = PLAN.replace(bands=4)
    included = np.random.default_rng(3).random(20_000) < 0.5
    observed = simulate(plan, included, seed=4)
    whitened = roc_curve(mechanism_scores(observed, plan), included).area
    plain = sampled_gaussian_scores(observed, noise_multiplier=0.7, sample_rate=0.1)
    assert whitened > roc_curve(plain, included).area + 0.02


@pytest.mark.parametrize("bands", [1, 4])
@pytest.mark.parametrize("scale", [0.25, 0.5, 2.0])
def test_the_noise_that_is_there_is_seen(bands: int, scale: float) -> None:
    plan = PLAN.replace(bands=bands)
    included = np.random.default_rng(5).random(5000) < 0.5
    assert seen_noise(simulate(plan, included, seed=6), plan) == plan.noise_multiplier
    assert seen_noise(simulate(plan, included, seed=6, noise_scale=scale), plan) == pytest.approx(scale * 0.7, rel=0.08)


def test_the_table_is_reproduced_at_its_ends_and_half_the_noise_is_refuted_there() -> None:
    # All of it, with medians of seeds: scripts/audit_table.py.
    by_any, by_family = bounds_of_table(8.0, 1.0, seed=0)
    assert 2.4 < by_any < by_family < 8
    assert by_family > 3.8
    for epsilon in (1.0, 8.0):
        assert bounds_of_table(epsilon, 0.5, seed=1)[1] > epsilon


def test_a_bound_under_correlated_noise_stays_below_the_claim_and_half_of_it_does_not() -> None:
    plan = PrivacyPlan(sample_rate=0.1, expected_units=10, steps=40, delta=1e-5, bands=4).calibrate(epsilon=4.0)
    random = np.random.default_rng(7)
    included, turns = random.random(4000) < 0.5, random.integers(4, size=4000)
    found = []
    for scale in (1.0, 0.5):
        observed = simulate(plan, included, seed=8, noise_scale=scale, turns=turns)
        scores = mechanism_scores(observed, plan, noise_multiplier=seen_noise(observed, plan), turns=turns)
        guesses = planned_guesses(plan, len(included))
        counts = guesses.planned, guesses.violated
        found.append(f_dp(scores, included, claim=Claim.of(plan), guesses=counts, centre=0.0).epsilon)
    assert 1.0 < found[0] < 4.0 < found[1]


def test_observations_of_other_steps_are_refused() -> None:
    with pytest.raises(DataError, match="24"):
        mechanism_scores(np.zeros((23, 5)), PLAN)


def test_rmia_is_a_share_of_the_population_and_knows_what_was_trained_on() -> None:
    random = np.random.default_rng(9)
    hard = random.exponential(2, 600)
    references = hard + 0.1 * random.standard_normal((4, 600))
    losses = hard - 0.5 * (np.arange(600) < 200) + 0.1 * random.standard_normal(600)
    scores = rmia(losses[:400], references[:, :400], losses[400:], references[:, 400:])
    assert scores.min() >= 0
    assert scores.max() <= 1
    assert roc_curve(scores, np.arange(400) < 200).area > 0.95
    assert roc_curve(-losses[:400], np.arange(400) < 200).area < 0.7  # the loss alone mostly tells how hard a text is


@given(st.lists(st.integers(0, 5), min_size=2, max_size=40))
def test_ranks_of_all_candidates_are_all_places(losses: list[int]) -> None:
    ranks = [exposure_of(losses, index).rank for index in range(len(losses))]
    assert sum(ranks) == pytest.approx(len(losses) * (len(losses) + 1) / 2)


def test_first_of_512_is_nine_bits_and_chance_gives_no_small_p_value() -> None:
    losses = np.arange(512.0)
    assert exposure_of(losses, 0).bits == 9
    assert exposure_of(losses, 511).bits == 0
    random = np.random.default_rng(10)
    chances = [
        chance_of_ranks([Exposure(rank=float(rank), candidates=512) for rank in random.integers(1, 513, 3)])
        for _ in range(400)
    ]
    assert np.mean(np.array(chances) < 0.05) < 0.09
    assert chance_of_ranks([Exposure(rank=1.0, candidates=512)] * 3) < 1e-5


def test_area_is_the_chance_that_a_member_scores_higher() -> None:
    random = np.random.default_rng(11)
    members, others = np.round(random.normal(1, 1, 50), 1), np.round(random.normal(0, 1, 70), 1)
    scores, truth = np.concatenate([members, others]), np.arange(120) < 50
    pairs = (members[:, None] > others).mean() + (members[:, None] == others).mean() / 2
    assert roc_curve(scores, truth).area == pytest.approx(pairs)
    interval = area_interval(scores, truth, draws=300)
    assert interval.value == pytest.approx(pairs)
    assert interval.low < interval.value < interval.high


def test_an_interval_over_people_is_wider_than_one_over_their_scores() -> None:
    random = np.random.default_rng(12)
    people = np.repeat(np.arange(60), 20)
    scores = np.repeat(random.standard_normal(60), 20) + 0.01 * random.standard_normal(1200)
    truth = people < 30
    over_people = area_interval(scores, truth, people=people, draws=200)
    over_scores = area_interval(scores, truth, draws=200)
    assert over_people.high - over_people.low > 2 * (over_scores.high - over_scores.low)


def test_tpr_counts_no_more_false_alarms_than_allowed() -> None:
    scores, truth = np.array([5.0, 4.0, 3.0, 2.0, 1.0]), np.array([True, False, True, False, True])
    curve = roc_curve(scores, truth)
    assert curve.tpr_at(0.0).value == pytest.approx(1 / 3)
    assert curve.tpr_at(0.49).value == pytest.approx(1 / 3)
    assert curve.tpr_at(0.5).value == pytest.approx(2 / 3)
    assert curve.tpr_at(1.0).value == 1


@pytest.mark.parametrize("rate", [0.01, 0.3])
def test_clopper_pearson_covers_the_rate(rate: float) -> None:
    hits = np.random.default_rng(13).binomial(80, rate, 400)
    covered = [(found := clopper_pearson(int(one), 80)).low <= rate <= found.high for one in hits]
    assert np.mean(covered) > 0.93
    assert clopper_pearson(0, 0).high == 1
    assert math.isnan(clopper_pearson(0, 0).value)
