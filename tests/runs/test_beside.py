"""Laws of warnings beside what files hold: what is far is said with a nearer number, on the error stream alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp_train.cli.load_config import compose
from dp_train.conversations import Example
from dp_train.privacy.units import SelectionReport, selection_report
from dp_train.runs.beside import EYES, warnings_beside
from dp_train.runs.plan import make_plan
from dp_train.runs.proposal import coarse, delta_for, expected_units_for
from dp_train.runs.recipe import Recipe

RECIPE, _ = compose(["task=chat_compose", "trainer.steps=4"])


def rows(people: int, each: int, kept: int, owners: int = 1) -> SelectionReport:
    """Of `people` with `each` rows, `kept` rows each."""
    seen = [
        Example(
            example_id=f"{person}/{number}",
            prompt="",
            target="x",
            owners=frozenset(f"p{(person + step) % people}" for step in range(owners)),
        )
        for person in range(people)
        for number in range(each)
    ]
    return selection_report(seen, [one for one in seen if int(one.example_id.partition("/")[2]) < kept])


def lines(recipe: Recipe, found: SelectionReport) -> list[str]:
    return warnings_beside(recipe, make_plan(recipe), found)


def test_a_population_that_is_far_off_is_said_with_what_a_step_draws_and_a_nearer_number() -> None:
    (line,) = lines(RECIPE, rows(50, 1, 1))
    assert "trainer.population=2000 is far from the 50 people" in line
    assert "draws 1.6 of them on average and is divided by trainer.expected_units=64" in line
    assert "nearer, and rounded: trainer.expected_units=20 trainer.population=50" in line
    assert EYES in line


@given(people=st.integers(1, 400))
def test_what_is_proposed_instead_is_not_warned_of(people: int) -> None:
    trainer = replace(RECIPE.trainer, expected_units=expected_units_for(people), population=coarse(people))
    near = replace(
        RECIPE,
        trainer=trainer,
        privacy=replace(RECIPE.privacy, epsilon=None, noise_multiplier=1.0, delta=delta_for(people)),
    )
    assert lines(near, rows(people, 1, 1)) == []


def test_a_bound_that_keeps_little_names_the_key_that_keeps_more() -> None:
    near = replace(RECIPE, trainer=replace(RECIPE.trainer, expected_units=20, population=50))
    (line,) = lines(near, rows(50, 15, 1))
    assert (
        "privacy.rows_per_unit=1 keeps 6.7% of the rows; privacy.rows_per_unit=2 keeps more, at no more noise" in line
    )
    assert lines(near, rows(50, 2, 1)) == []
    (line,) = lines(near, rows(50, 15, 1, owners=2))
    assert "privacy.max_contributions=1 keeps 6.7% of the rows; privacy.max_contributions=2 keeps more, at more" in line


def test_a_delta_above_one_over_the_people_of_the_file_is_said() -> None:
    trainer = replace(RECIPE.trainer, expected_units=20, population=50)
    near = replace(RECIPE, trainer=trainer, privacy=replace(RECIPE.privacy, delta=1 / 55))
    (line,) = lines(near, rows(60, 1, 1))
    assert "is not below 1 ÷ 60" in line
    assert "privacy.delta=1e-05 is" in line
    assert lines(near, rows(50, 1, 1)) == []


def test_rows_of_several_people_are_compared_by_rows() -> None:
    rate = replace(RECIPE.trainer, expected_units=20, population=None, sample_rate=0.4)
    assert lines(replace(RECIPE, trainer=rate), rows(25, 2, 2, owners=2)) == []
    (line,) = lines(replace(RECIPE, trainer=rate), rows(400, 2, 2, owners=2))
    assert "trainer.sample_rate=0.4 is far from the 800 rows" in line
    assert "trainer.sample_rate=0.1" in line


@pytest.mark.parametrize("people", [1000, 4000, 3900])
def test_a_number_within_a_factor_of_two_is_near(people: int) -> None:
    assert lines(RECIPE, rows(people, 1, 1)) == []
