"""The price of choosing (docs/privacy.md, What also spends), and the laws that the number of trials is drawn from."""

import numpy as np
import pytest

from dp_train.errors import PlanError
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.private_selection import Selection, SelectionRule

LAWS = [SelectionRule.LOGARITHMIC, SelectionRule.GEOMETRIC, SelectionRule.POISSON]
BASE = PrivacyPlan(sample_rate=0.05, expected_units=512, steps=1000, delta=1e-5, noise_multiplier=3.5268)


@pytest.mark.parametrize(("mean", "costs"), [(10, [3.38, 4.00, 4.50]), (50, [3.85, 4.77, 12.3])])
def test_choosing_costs_what_the_specification_measured(mean: int, costs: list[float]) -> None:
    found = [Selection(rule=rule, mean_trials=mean).price(BASE) for rule in LAWS]
    assert [price.epsilon for price in found] == pytest.approx(costs, rel=4e-3)
    assert {price.accountant for price in found} == {"rdp"}


@pytest.mark.parametrize("rule", LAWS)
@pytest.mark.parametrize("mean", [2.0, 10.0])
def test_the_number_of_trials_has_the_declared_mean(rule: SelectionRule, mean: float) -> None:
    selection, rng = Selection(rule=rule, mean_trials=mean), np.random.default_rng(3)
    draws = np.array([selection._draw(rng) for _ in range(20_000)])
    assert draws.mean() == pytest.approx(mean, abs=5 * draws.std() / np.sqrt(len(draws)))
    assert draws.min() >= (0 if rule is SelectionRule.POISSON else 1)


def test_the_number_of_trials_is_drawn_from_the_system() -> None:
    selection = Selection(rule=SelectionRule.POISSON, mean_trials=1000)
    assert len({selection.draw() for _ in range(8)}) > 1


def test_a_choice_that_nobody_can_price_is_refused() -> None:
    with pytest.raises(PlanError, match="max_contributions=1"):
        Selection(rule=SelectionRule.GEOMETRIC, mean_trials=10).event(BASE.replace(max_contributions=4))
    with pytest.raises(PlanError, match="mean_trials"):
        Selection(rule=SelectionRule.GEOMETRIC, mean_trials=1)
    with pytest.raises(PlanError, match="is no choice"):
        Selection(rule=SelectionRule.NONE, mean_trials=10)
