"""People are charged once, whatever keys named them: populations of one store that share some count together."""

from __future__ import annotations

import stat
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from dp_train.consent.principals import normalised_id
from dp_train.errors import BudgetError
from dp_train.privacy.composition import compose
from dp_train.privacy.ledger.ledger import Ledger, Request
from dp_train.privacy.ledger.people import Secret
from dp_train.privacy.plan import PrivacyPlan
from dp_train.tracking.recompute import ledger_section

PLAN = PrivacyPlan(sample_rate=0.01, expected_units=10, steps=100, delta=1e-5, noise_multiplier=0.7)
OLD, NEW, THIRD = "a" * 32, "b" * 32, "c" * 32
PEOPLE = [f"user-{number}" for number in range(40)]


def ledger_at(folder: Path) -> Ledger:
    return Ledger.open(f"sqlite:///{folder / 'store.db'}")


def spend(ledger: Ledger, population: str, people: list[str]) -> None:
    ledger.enter(population, people)
    ledger.reserve(PLAN, population).commit(PLAN.steps)


def test_another_key_is_no_fresh_budget(tmp_path: Path) -> None:
    ledger = ledger_at(tmp_path)
    ledger.declare(OLD, epsilon=1.5 * PLAN.epsilon(), delta=1e-5)
    spend(ledger, OLD, PEOPLE)
    ledger.enter(NEW, [" USER-3 "])
    with pytest.raises(BudgetError, match="1 other populations count, that share people"):
        ledger.reserve(PLAN, NEW)
    ledger.enter(THIRD, ["a stranger"])
    ledger.reserve(PLAN, THIRD)


def test_a_study_that_was_declared_before_its_people_were_known_is_refused_when_they_are(tmp_path: Path) -> None:
    ledger = ledger_at(tmp_path)
    ledger.declare(OLD, epsilon=1.5 * PLAN.epsilon(), delta=1e-5)
    spend(ledger, OLD, PEOPLE)
    (declared,) = ledger.reserve_together([Request(plan=PLAN)], NEW)
    ledger.enter(NEW, PEOPLE[:10])
    with pytest.raises(BudgetError, match="share people"):
        ledger.take_up(declared.identifier, PLAN)


def test_ids_that_are_linked_are_one_person_before_and_after(tmp_path: Path) -> None:
    ledger = ledger_at(tmp_path)
    for population, people in ((OLD, ["ann"]), (NEW, ["anna"])):
        spend(ledger, population, people)
    assert not ledger.standing(OLD).joined
    ledger.link_people("ann", "anna")
    ledger.link_people("anna", "a.berg")
    spend(ledger, THIRD, ["a.berg"])
    assert ledger.standing(OLD).joined == 2
    assert len(ledger.standing(THIRD).lines) == 3
    assert ledger.verify().broken is None


@pytest.mark.parametrize("lost", ["secret", "block"])
def test_where_it_cannot_know_populations_count_together(lost: str, tmp_path: Path) -> None:
    ledger = ledger_at(tmp_path)
    spend(ledger, OLD, PEOPLE)
    if lost == "secret":
        (tmp_path / "runs" / "people.key").unlink()
    else:
        with ledger.database.writing("ledger") as connection:
            connection.execute(sa.text("DELETE FROM ledger_people"))
    spend(ledger, NEW, ["a stranger"])
    assert ledger.standing(NEW).joined == 1


def test_the_database_alone_tells_no_id_and_no_number(tmp_path: Path) -> None:
    ledger = ledger_at(tmp_path)
    ledger.enter(OLD, PEOPLE)
    ledger.enter(NEW, [])
    key = tmp_path / "runs" / "people.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert Secret(key).digest("ann") != Secret(tmp_path / "elsewhere").digest("ann")
    with ledger.database.reading() as connection:
        sizes = {len(data) for (data,) in connection.execute(sa.text("SELECT digests FROM ledger_people"))}
    assert sizes == {8 * 1024}


def test_a_card_says_what_is_known_of_other_keys(tmp_path: Path) -> None:
    ledger = ledger_at(tmp_path)
    spend(ledger, OLD, PEOPLE)
    spend(ledger, NEW, PEOPLE[:1])
    line = ledger.standing(NEW).lines[-1]
    said = ledger_section(ledger.book(), line.reservation)
    assert said["people"].startswith("1 other populations of this store share some")
    assert "other stores" in said["people"]
    assert "ε of all 2 runs on these people" in said


def test_two_hundred_thousand_people_are_compared_in_seconds(tmp_path: Path) -> None:
    import time

    ledger = ledger_at(tmp_path)
    ledger.enter(OLD, (f"p{number}" for number in range(200_000)))
    begun = time.process_time()
    ledger.enter(NEW, (f"p{number}" for number in range(199_999, 400_000)))
    assert time.process_time() - begun < 4  # the work grows as n log n
    assert ledger.standing(NEW).joined == 1


_IDS = ["ann", "Ann ", "anna", "bob", "ＢＯＢ", "carla", "dev", "eve"]


@settings(max_examples=25)
@given(
    runs=st.lists(
        st.tuples(st.sampled_from([OLD, NEW, THIRD]), st.sets(st.sampled_from(_IDS), min_size=1)), max_size=5
    ),
    links=st.lists(st.tuples(st.sampled_from(["ann", "anna", "bob"]), st.sampled_from(["carla", "dev"])), max_size=2),
    linked_first=st.booleans(),
)
def test_no_person_spent_more_than_the_ledger_says(
    runs: list[tuple[str, set[str]]],
    links: list[tuple[str, str]],
    linked_first: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    ledger = ledger_at(tmp_path_factory.mktemp("shared"))
    for step in (0, 1):
        if step == (0 if linked_first else 1):
            for one, other in links:
                ledger.link_people(one, other)
        if step == 0:
            for population, people in runs:
                spend(ledger, population, sorted(people))
    person = {normalised_id(each): normalised_id(each) for each in _IDS}
    for one, other in links:
        old, new = person[one], person[other]
        person = {name: new if found == old else found for name, found in person.items()}
    held: defaultdict[str, int] = defaultdict(int)
    where: defaultdict[str, set[str]] = defaultdict(set)
    for population, people in runs:
        for each in {person[normalised_id(one)] for one in people}:
            held[each] += 1
            where[each].add(population)
    for each, count in held.items():
        truth = compose([PLAN.event()] * count, PLAN.neighboring_relation, 1e-5).epsilon
        assert all(ledger.standing(population).declared.epsilon >= truth * (1 - 1e-9) for population in where[each])


def test_digests_are_of_people_and_not_of_spellings(tmp_path: Path) -> None:
    secret = Secret(tmp_path / "ledger.key")
    assert len(secret.digests(["Ann", "ann ", "ＡＮＮ"])) == 1
    assert secret.digests(["bob", "ann"]).dtype == np.uint64
