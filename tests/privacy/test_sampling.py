"""Laws of the Poisson sampler and of the test that recognises it."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chi2, chisquare

from dp_train.errors import PlanError
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.sampling import (
    CyclicPoissonSampler,
    PoissonSampler,
    TruncatedPoissonSampler,
    is_poisson,
)

SEED = bytes(range(32))
rates = st.floats(min_value=1e-6, max_value=1.0)


def sizes(num_units: int, rate: float, steps: int, seed: bytes = SEED) -> list[int]:
    sampler = PoissonSampler(rate)
    return [len(sampler.draw(step, num_units, seed)) for step in range(steps)]


@given(rate=rates, step=st.integers(0, 2**64 - 1), num_units=st.integers(0, 3000))
def test_draw_is_sorted_unique_and_in_range(rate: float, step: int, num_units: int) -> None:
    drawn = PoissonSampler(rate).draw(step, num_units, SEED)
    assert drawn.dtype == np.int64
    assert (np.diff(drawn) > 0).all()
    assert not len(drawn) or (drawn[0] >= 0 and drawn[-1] < num_units)


@given(rate=rates, step=st.integers(0, 1000), num_units=st.integers(0, 3000), more=st.integers(1, 3000))
def test_one_more_unit_changes_no_other_units_coin(rate: float, step: int, num_units: int, more: int) -> None:
    sampler = PoissonSampler(rate)
    larger = sampler.draw(step, num_units + more, SEED)
    np.testing.assert_array_equal(sampler.draw(step, num_units, SEED), larger[larger < num_units])


def test_draw_is_the_same_in_every_process_and_version() -> None:
    # Values of the first release: a checkpoint has to resume under any later version.
    expected = [5035, 9188, 11387, 22330, 28209, 46768, 52727, 58774]
    expected += [59907, 64728, 67860, 85209, 90799, 94343, 98851]
    assert PoissonSampler(1e-4).draw(0, 100_000, SEED).tolist() == expected
    code = (
        "from dp_train.privacy.sampling import PoissonSampler;"
        "print(PoissonSampler(1e-4).draw(0, 100_000, bytes(range(32))).tolist())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == str(expected)


def test_steps_and_seeds_have_separate_draws() -> None:
    sampler = PoissonSampler(0.5)
    draws = [sampler.draw(step, 200, seed).tobytes() for step in range(3) for seed in (SEED, SEED[::-1])]
    assert len(set(draws)) == len(draws)


def test_rate_one_draws_everybody() -> None:
    np.testing.assert_array_equal(PoissonSampler(1.0).draw(0, 5, SEED), np.arange(5))


@pytest.mark.parametrize("rate", [5e-324, 1e-308, 1e-30])
def test_tiny_rate_draws_nobody(rate: float) -> None:
    assert len(PoissonSampler(rate).draw(0, 10_000_000, SEED)) == 0


def test_nobody_is_drawn_from_nobody() -> None:
    for rate in (1e-3, 0.5, 1.0):
        assert len(PoissonSampler(rate).draw(0, 0, SEED)) == 0


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, float("nan")])
def test_impossible_rate_is_refused(rate: float) -> None:
    with pytest.raises(PlanError, match="sample_rate"):
        PoissonSampler(rate)


def test_bad_arguments_are_refused_without_showing_them() -> None:
    sampler = PoissonSampler(0.5)
    with pytest.raises(PlanError) as short:
        sampler.draw(0, 10, b"secret")
    assert "secret bytes" in str(short.value)
    assert "b'" not in str(short.value)
    with pytest.raises(PlanError, match="step=-1"):
        sampler.draw(-1, 10, SEED)
    with pytest.raises(PlanError) as negative:
        sampler.draw(0, -7, SEED)
    assert "7" not in str(negative.value)


def test_every_unit_is_included_at_the_rate() -> None:
    units, rate, steps = 50, 0.07, 8000
    sampler = PoissonSampler(rate)
    included = np.bincount(np.concatenate([sampler.draw(step, units, SEED) for step in range(steps)]), minlength=units)
    statistic = ((included - steps * rate) ** 2).sum() / (steps * rate * (1 - rate))
    assert 1e-4 < chi2.sf(statistic, units) < 1 - 1e-4


def test_pairs_of_units_are_independent() -> None:
    rate, steps = 0.3, 20_000
    sampler = PoissonSampler(rate)
    outcomes = [sampler.draw(step, 3, SEED) for step in range(steps)]
    codes = np.bincount([int((1 << drawn).sum()) for drawn in outcomes], minlength=8)
    expected = [steps * rate ** bin(code).count("1") * (1 - rate) ** (3 - bin(code).count("1")) for code in range(8)]
    assert chisquare(codes, expected).pvalue > 1e-4


def test_batch_sizes_are_binomial() -> None:
    units, rate, steps = 1000, 0.01, 5000
    counts = np.bincount(sizes(units, rate, steps), minlength=40)
    edges = range(4, 18)
    observed = [counts[: edges[0]].sum(), *counts[edges[0] : edges[-1]], counts[edges[-1] :].sum()]
    law = binom(units, rate)
    expected = [law.cdf(edges[0] - 1), *law.pmf(range(edges[0], edges[-1])), law.sf(edges[-1] - 1)]
    assert chisquare(observed, np.array(expected) * steps).pvalue > 1e-4


def test_ten_million_units_take_no_time() -> None:
    sampler = PoissonSampler(1e-4)
    sampler.draw(0, 10_000_000, SEED)
    times = []
    for step in range(5):
        began = time.perf_counter()
        sampler.draw(step, 10_000_000, SEED)
        times.append(time.perf_counter() - began)
    assert min(times) <= 0.020


@settings(deadline=None, max_examples=60)
@given(
    rate=st.floats(min_value=1e-4, max_value=1.0),
    num_units=st.integers(0, 500),
    steps=st.integers(0, 60),
    seed=st.binary(min_size=16, max_size=16),
)
def test_poisson_draws_pass_at_any_rate_and_size(rate: float, num_units: int, steps: int, seed: bytes) -> None:
    assert is_poisson(sizes(num_units, rate, steps, seed), num_units=num_units, sample_rate=rate)


def test_false_alarms_are_no_more_than_promised() -> None:
    draws = np.random.default_rng(5).binomial(200, 0.01, size=(400, 20))
    alarms = sum(not is_poisson(row.tolist(), num_units=200, sample_rate=0.01, false_alarm=0.1) for row in draws)
    assert alarms <= 55  # 40 expected at most; 55 lies 2.5 standard deviations above


@pytest.mark.parametrize(("num_units", "rate", "steps"), [(640, 0.1, 8), (400, 0.01, 14), (100, 0.01, 23)])
def test_batches_of_one_size_are_not_poisson(num_units: int, rate: float, steps: int) -> None:
    fixed = [round(num_units * rate)] * steps
    assert not is_poisson(fixed, num_units=num_units, sample_rate=rate)
    assert is_poisson(fixed[:2], num_units=num_units, sample_rate=rate)


def test_other_rates_are_seen() -> None:
    assert not is_poisson(sizes(1000, 0.02, 5), num_units=1000, sample_rate=0.01)
    assert not is_poisson(sizes(1000, 0.005, 40), num_units=1000, sample_rate=0.01)
    assert not is_poisson(sizes(1000, 0.011, 1000), num_units=1000, sample_rate=0.01)


def test_long_runs_over_large_populations_are_judged_quickly() -> None:
    draws = np.random.default_rng(6).binomial(10_000_000, 1e-3, size=20_000).tolist()
    began = time.process_time()
    assert is_poisson(draws, num_units=10_000_000, sample_rate=1e-3)
    assert time.process_time() - began < 2


@given(groups=st.integers(1, 7), num_units=st.integers(0, 300))
def test_turns_come_round_and_everybody_has_one(groups: int, num_units: int) -> None:
    sampler = CyclicPoissonSampler(1 / groups, groups)  # within a group everybody is drawn
    drawn = [sampler.draw(step, num_units, SEED) for step in range(2 * groups)]
    everybody = np.sort(np.concatenate(drawn[:groups]))
    np.testing.assert_array_equal(everybody, np.arange(num_units))
    for first, second in zip(drawn[:groups], drawn[groups:], strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_unit_more_moves_no_other_unit_and_no_turn() -> None:
    sampler = CyclicPoissonSampler(0.05, 4)
    for step in range(8):
        more = sampler.draw(step, 501, SEED)
        np.testing.assert_array_equal(sampler.draw(step, 500, SEED), more[more < 500])


def test_turns_are_dealt_fairly_and_by_the_seed() -> None:
    sampler = CyclicPoissonSampler(0.05, 4)
    sizes = np.array([len(sampler.members(group, 40_000, SEED)) for group in range(4)])
    assert np.abs(sizes - 10_000).max() < 6 * np.sqrt(40_000 * 0.25 * 0.75)
    other = sampler.members(0, 40_000, bytes(32))
    shared = len(np.intersect1d(other, sampler.members(0, 40_000, SEED)))
    assert abs(shared - 2_500) < 6 * np.sqrt(40_000 / 16)


def test_draws_within_a_turn_are_poisson_and_a_step_expects_the_same_as_without_turns() -> None:
    sampler, total = CyclicPoissonSampler(0.02, 5), 0
    for group in range(5):
        drawn = [len(sampler.draw(step, 5000, SEED)) for step in range(group, 300, 5)]
        total += sum(drawn)
        assert is_poisson(drawn, num_units=len(sampler.members(group, 5000, SEED)), sample_rate=0.1)
    assert abs(total - 300 * 100) < 6 * np.sqrt(300 * 100)


def test_one_group_is_plain_poisson_sampling() -> None:
    np.testing.assert_array_equal(
        CyclicPoissonSampler(0.1, 1).draw(3, 1000, SEED), PoissonSampler(0.1).draw(3, 1000, SEED)
    )


@pytest.mark.parametrize(("rate", "groups"), [(0.3, 4), (0.1, 0), (0.0, 2)])
def test_turns_that_cannot_be_kept_are_refused(rate: float, groups: int) -> None:
    with pytest.raises(PlanError, match="groups"):
        CyclicPoissonSampler(rate, groups)


def test_a_cap_takes_a_part_of_the_draw_and_no_other_unit() -> None:
    sampler = TruncatedPoissonSampler(0.3, max_batch_units=25)
    sizes, kept = [], np.zeros(100)
    for step in range(2000):
        drawn, coins = sampler.draw(step, 100, SEED), sampler.coins(step, 100, SEED)
        assert len(drawn) == min(len(coins), 25)
        assert set(drawn) <= set(coins)
        sizes.append(len(coins))
        kept[drawn] += 1
    assert max(sizes) > 25 > min(sizes)
    # Who is left out does not depend on the place in the list.
    first, last = kept[:50].sum(), kept[50:].sum()
    assert abs(first - last) < 5 * np.sqrt(kept.sum())


def test_a_plan_names_its_sampler() -> None:
    plan = PrivacyPlan(sample_rate=0.1, expected_units=10, steps=10, delta=1e-5, noise_multiplier=1.0)
    assert plan.replace(max_batch_units=25, population=100).mechanism.sampler == TruncatedPoissonSampler(0.1, 25)
    assert plan.replace(bands=2).mechanism.sampler == CyclicPoissonSampler(0.1, 2)
    several = (plan, plan.replace(bands=2), plan.replace(max_batch_units=25, population=100))
    found = [one.mechanism.sampler.name for one in several]
    assert found == ["poisson", "cyclic poisson", "truncated poisson"]
