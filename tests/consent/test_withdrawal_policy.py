"""What follows when people leave: rules from a file, and the bound of several people together."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp_train.consent.impact import group_bound
from dp_train.consent.policy import Action, Rule, WithdrawalPolicy, read_policy
from dp_train.errors import ConfigError

RULES = st.builds(
    Rule,
    action=st.sampled_from(Action),
    people=st.integers(1, 50),
    group_epsilon=st.none() | st.floats(0.1, 100),
    days=st.none() | st.integers(0, 90),
)


@given(st.floats(0, 20), st.floats(0, 0.1, allow_subnormal=False), st.integers(1, 40))
def test_group_bound_is_what_one_step_more_gives(epsilon: float, delta: float, people: int) -> None:
    """Group privacy by induction: δ_{k+1} = e^ε·δ_k + δ (Vadhan 2017, Lemma 2.2)."""
    expected = 0.0
    for _ in range(people):
        expected = min(1.0, math.exp(epsilon) * expected + delta)
    bound = group_bound(epsilon, delta, people)
    assert bound.epsilon == pytest.approx(people * epsilon)
    assert bound.delta == pytest.approx(expected, rel=1e-6, abs=1e-300)


def test_group_bound_at_its_ends() -> None:
    assert group_bound(3, 1e-5, 0).delta == 0
    assert (group_bound(3.0, 1e-5, 1).epsilon, group_bound(3.0, 1e-5, 1).delta) == (3.0, 1e-5)
    assert group_bound(8, 1e-5, 10_000).delta == 1
    assert group_bound(math.inf, 1e-5, 2).delta == 1


@given(st.lists(RULES, max_size=6), st.integers(0, 60), st.integers(0, 60), st.floats(0, 99), st.floats(0, 99))
def test_more_people_or_more_epsilon_never_lead_to_less(
    rules: list[Rule], people: int, more: int, epsilon: float, further: float
) -> None:
    policy = WithdrawalPolicy(rules=tuple(rules))
    mild, strict = policy.due(people, epsilon), policy.due(people + more, epsilon + further)
    assert strict.action.severity >= mild.action.severity
    assert mild.days is None or (strict.days is not None and strict.days <= mild.days)


def test_nothing_follows_where_nobody_left() -> None:
    assert WithdrawalPolicy(rules=(Rule(action=Action.RETIRE, group_epsilon=1),)).due(0, math.inf).action is Action.NONE


def test_shipped_policy_retires_what_bounds_nothing() -> None:
    policy = read_policy(Path(__file__).parents[2] / "conf/withdrawal.yaml")
    assert policy.due(1, 2.0).action is Action.RETRAIN
    assert policy.due(1, math.inf).action is Action.RETIRE


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("rules: 3", "a list of rules"),
        ("rule: []", "one key, rules"),
        ("rules: [{action: burn, people: 1}]", "rule 1: action='burn'"),
        ("rules: [{action: retire}]", "without a threshold"),
        ("rules: [{action: retire, people: 0}]", "people=0"),
        ("rules: [{action: retire, people: 1.5}]", "people=1.5"),
        ("rules: [{action: retire, people: 1, until: 3}]", "expected action and one or more"),
        ("rules: [{action: retire, group_epsilon: -1}]", "group_epsilon=-1"),
        ("rules: [{action: retire, group_epsilon: .nan}]", "group_epsilon=nan"),
        ("rules: [{action: retire, people: 1, days: -1}]", "days=-1"),
        ("rules: [", "not YAML"),
    ],
)
def test_a_policy_that_says_nothing_clear_is_refused_in_one_line(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"^withdrawal policy") as error:
        read_policy(path)
    assert why in str(error.value)
    assert "\n" not in str(error.value)
