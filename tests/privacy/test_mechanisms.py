"""A mechanism answers for itself: nothing else asks which one it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import dp_train
from dp_train.errors import PlanError
from dp_train.privacy.accounting import price
from dp_train.privacy.mechanisms.banded import Banded
from dp_train.privacy.mechanisms.base import Mechanism
from dp_train.privacy.mechanisms.epochs import Epochs
from dp_train.privacy.mechanisms.multi_owner import MultiOwner
from dp_train.privacy.mechanisms.poisson import Poisson
from dp_train.privacy.mechanisms.truncated import Truncated
from dp_train.privacy.plan import PrivacyPlan, Unit

PACKAGE = Path(dp_train.__file__).parent
PLAN = PrivacyPlan(sample_rate=0.05, expected_units=50, steps=40, delta=1e-5, noise_multiplier=2.0)
PLANS = {
    Poisson: PLAN,
    Banded: PLAN.replace(bands=4),
    Truncated: PLAN.replace(max_batch_units=80, population=1000),
    MultiOwner: PLAN.replace(max_contributions=3),
    Epochs: PLAN.replace(epoch_steps=20),
}
SEED = bytes(range(32))


def asked(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            if owner.endswith("plan"):
                yield node.attr


@pytest.mark.parametrize("room", ["training", "engines", "tracking", "privacy/ledger"])
def test_no_room_asks_a_plan_for_its_mechanism_by_its_fields(room: str) -> None:
    for path in sorted((PACKAGE / room).rglob("*.py")):
        assert not {"bands", "max_batch_units", "population"} & set(asked(path)), path
        assert "max_contributions" not in set(asked(path)), path


def test_what_draws_again_and_what_attacks_goes_by_the_laws_of_draws_and_noise() -> None:
    for room in ("audit", "runs", "privacy"):
        for path in sorted((PACKAGE / room).glob("*.py")):
            assert path.name == "plan.py" or not {"bands", "max_batch_units", "epoch_steps"} & set(asked(path)), path


@pytest.mark.parametrize("plan", PLANS.values(), ids=lambda plan: type(plan.mechanism).__name__)
def test_a_bound_above_one_leaves_out_what_has_no_event_with_it(plan: PrivacyPlan) -> None:
    assert isinstance(plan.with_contributions(4).mechanism, MultiOwner)
    assert plan.with_contributions(1) == plan.replace(max_contributions=1)


@pytest.mark.parametrize("kind", PLANS, ids=lambda kind: kind.__name__)
def test_a_plan_has_the_mechanism_of_its_fields(kind: type[Mechanism]) -> None:
    plan = PLANS[kind]
    assert isinstance(plan.mechanism, kind)
    assert plan.event(7) == plan.mechanism.event(7)
    assert plan.epsilon(7) == price([plan.event(7)], plan.mechanism.relation, plan.delta).epsilon
    assert (
        plan.replace(unit=Unit.EXAMPLE, max_contributions=3).mechanism
        == PLANS[kind].replace(unit=Unit.EXAMPLE, max_contributions=1).mechanism
    )


@pytest.mark.parametrize("kind", PLANS, ids=lambda kind: kind.__name__)
def test_a_mechanism_passes_its_own_draws_and_no_constant_ones(kind: type[Mechanism]) -> None:
    mechanism = PLANS[kind].mechanism
    honest = [
        (len(mechanism.sampler.draw(step, 1000, SEED)), *mechanism.observe(step, 1000, SEED)) for step in range(40)
    ]
    assert mechanism.violations(honest, 1000) == []
    assert mechanism.violations([], 1000) == []
    assert mechanism.violations([(50, *rest) for _, *rest in honest], 1000)


@pytest.mark.parametrize("kind", PLANS, ids=lambda kind: kind.__name__)
def test_a_released_curve_goes_with_every_mechanism_and_costs_more(kind: type[Mechanism]) -> None:
    plan = PLANS[kind]
    assert plan.replace(loss_noise_ratio=3.0).epsilon(8) > plan.epsilon(8)
    assert isinstance(plan.replace(loss_noise_ratio=3.0).mechanism, kind)


@pytest.mark.parametrize("one", [Banded, Truncated, MultiOwner, Epochs])
@pytest.mark.parametrize("other", [Banded, Truncated, MultiOwner, Epochs])
def test_two_mechanisms_at_once_are_refused_in_one_line(one: type[Mechanism], other: type[Mechanism]) -> None:
    if one is other or {one, other} == {Banded, Epochs}:  # epochs go with any number of bands
        return
    first, second = (
        {name: value for name, value in PLANS[kind].describe().items() if PLAN.describe().get(name) != value}
        for kind in (one, other)
    )
    changes = {name: value for name, value in (first | second).items() if name != "neighboring_relation"}
    with pytest.raises(PlanError, match="no event of both is known") as told:
        PLAN.replace(**changes)
    assert "\n" not in str(told.value)


def test_what_has_no_noise_or_none_yet_bounds_nothing() -> None:
    for plan in (PLAN.without_privacy(), PLAN.replace(noise_multiplier=None)):
        assert price([plan.mechanism.event(1)], plan.neighboring_relation, plan.delta).epsilon == float("inf")
