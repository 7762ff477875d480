"""A ledger reserves before it spends, never under-counts, and is held to its chain."""

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import processes
import pytest
import sqlalchemy as sa
from dp_accounting.pld import PLDAccountant

from dp_train.errors import BudgetError, PrivacyError, StoreError
from dp_train.privacy.ledger.ledger import Ledger
from dp_train.privacy.ledger.lines import RunFacts, State
from dp_train.privacy.ledger.requests import Request
from dp_train.privacy.plan import PrivacyPlan, Unit

PEOPLE = "7c1e" * 8
OTHERS = "aaaa" * 8
TWO = PrivacyPlan(sample_rate=0.05, expected_units=512, steps=1000, delta=1e-5, noise_multiplier=3.2787)


@pytest.fixture
def ledger(store_url: str) -> Iterator[Ledger]:
    opened = Ledger.open(_url(store_url))
    yield opened
    opened.close()


def _url(store_url: str) -> str:
    from dp_train.store.database import absolute_url

    return absolute_url(store_url, Path())


def test_a_reservation_is_written_before_it_returns_and_counts_in_full(ledger: Ledger) -> None:
    ledger.reserve(TWO, PEOPLE)
    standing = ledger.standing(PEOPLE)
    assert standing.lines[0].state is State.OPEN
    assert standing.spent == pytest.approx(2.0, abs=0.01)


def test_five_runs_are_shown_as_they_compose(ledger: Ledger) -> None:
    for _ in range(5):
        ledger.reserve(TWO, PEOPLE).commit(1000)
    assert ledger.standing(PEOPLE).declared.epsilon == pytest.approx(4.95, abs=0.01)
    assert ledger.recompute(PEOPLE)["together"] == pytest.approx(4.95, abs=0.01)
    assert ledger.recompute(PEOPLE, accountant="rdp")["together"] > 4.95


def test_an_aborted_run_is_charged_in_full_once_a_step_ran_and_keeps_how_many_did(ledger: Ledger) -> None:
    ledger.reserve(TWO, PEOPLE).abort(100)
    assert ledger.standing(PEOPLE).spent == pytest.approx(TWO.epsilon(), rel=0.02)
    assert ledger.standing(PEOPLE).lines[0].steps == 100
    ledger.reserve(TWO, OTHERS).abort(0)
    assert ledger.standing(OTHERS).spent == 0


def test_a_run_beyond_the_budget_is_refused_and_told_what_is_left_and_what_fits(ledger: Ledger) -> None:
    ledger.declare(PEOPLE, epsilon=3.0, delta=1e-5, label="acme")
    ledger.reserve(TWO, PEOPLE).commit(1000)
    with pytest.raises(
        BudgetError, match=r'"acme".*needs ε=2.00 .*is left, by a filter.*fits: trainer.steps=(\d+)'
    ) as told:
        ledger.reserve(TWO, PEOPLE)
    assert len(ledger.book().lines) == 1
    steps = int(str(told.value).partition("trainer.steps=")[2].split(" ")[0])
    ledger.reserve(TWO.replace(steps=steps), PEOPLE)


def test_what_is_told_to_fit_by_more_noise_fits(ledger: Ledger) -> None:
    ledger.declare(PEOPLE, epsilon=1.0, delta=1e-5)
    with pytest.raises(BudgetError, match=r"by exact composition; what fits:.*noise_multiplier=([\d.]+)") as told:
        ledger.reserve(TWO, PEOPLE)
    sigma = float(str(told.value).partition("noise_multiplier=")[2].split(" ")[0])
    ledger.reserve(TWO.replace(noise_multiplier=sigma), PEOPLE)


def test_runs_declared_together_are_composed_exactly_and_later_ones_by_the_filter(ledger: Ledger) -> None:
    ledger.declare(PEOPLE, epsilon=3.0, delta=1e-5)
    ledger.reserve_together([Request(plan=TWO), Request(plan=TWO)], PEOPLE)  # 2.94 exactly, 3.38 by the filter
    tiny = TWO.replace(noise_multiplier=100.0)
    with pytest.raises(BudgetError, match="filter"):
        ledger.reserve(tiny, PEOPLE)


def test_a_declaration_that_only_exact_composition_admits_counts_in_full_even_if_it_ended_early(ledger: Ledger) -> None:
    ledger.declare(PEOPLE, epsilon=3.0, delta=1e-5)
    first, second = ledger.reserve_together([Request(plan=TWO), Request(plan=TWO)], PEOPLE)
    first.abort(10)
    second.abort(10)
    with pytest.raises(BudgetError):
        ledger.reserve(TWO.replace(noise_multiplier=100.0), PEOPLE)


def test_what_ended_at_step_zero_spent_nothing(ledger: Ledger) -> None:
    ledger.declare(PEOPLE, epsilon=2.0, delta=1e-5)
    ledger.reserve(TWO, PEOPLE).abort(0)
    ledger.reserve(TWO, PEOPLE)


def test_all_runs_of_a_declaration_are_reserved_or_none(ledger: Ledger) -> None:
    ledger.declare(PEOPLE, epsilon=2.5, delta=1e-5)
    with pytest.raises(BudgetError, match="2 runs together need ε=2"):
        ledger.reserve_together([Request(plan=TWO), Request(plan=TWO)], PEOPLE)
    assert not ledger.book().lines


def test_populations_do_not_share_a_budget(ledger: Ledger) -> None:
    ledger.declare(PEOPLE, epsilon=2.0, delta=1e-5)
    ledger.reserve(TWO, PEOPLE)
    ledger.reserve(TWO, OTHERS)
    assert ledger.standing(OTHERS).left is None


def test_raising_a_budget_needs_a_reason_and_every_declaration_stays(ledger: Ledger) -> None:
    ledger.declare(PEOPLE, epsilon=2.0, delta=1e-5)
    with pytest.raises(BudgetError, match="--reason"):
        ledger.declare(PEOPLE, epsilon=3.0, delta=1e-5)
    ledger.declare(PEOPLE, epsilon=3.0, delta=1e-5, reason="second task")
    ledger.declare(PEOPLE, epsilon=1.0, delta=1e-5)
    assert [budget.epsilon for budget in ledger.book().budgets[PEOPLE]] == [2.0, 3.0, 1.0]


def test_a_budget_raised_after_a_run_is_told_since_its_filter_was_for_another(ledger: Ledger) -> None:
    ledger.declare(PEOPLE, epsilon=2.5, delta=1e-5)
    ledger.declare(PEOPLE, epsilon=5.0, delta=1e-5, reason="before anything ran")
    ledger.reserve(TWO, PEOPLE)
    assert not ledger.standing(PEOPLE).raised
    ledger.declare(PEOPLE, epsilon=9.0, delta=1e-5, reason="after a run")
    assert ledger.standing(PEOPLE).raised


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("nan"), float("inf")])
def test_a_budget_is_a_positive_number(ledger: Ledger, epsilon: float) -> None:
    with pytest.raises(BudgetError, match="expected a number"):
        ledger.declare(PEOPLE, epsilon=epsilon, delta=1e-5)


def test_runs_without_a_bound_per_person_are_recorded_apart(ledger: Ledger) -> None:
    ledger.declare(PEOPLE, epsilon=2.0, delta=1e-5)
    ledger.reserve(TWO.without_privacy(), PEOPLE).commit(1000)
    ledger.reserve(TWO.replace(unit=Unit.EXAMPLE), PEOPLE).commit(1000)
    standing = ledger.standing(PEOPLE)
    assert (standing.without_bound, standing.spent) == (2, 0.0)


@pytest.mark.parametrize(
    ("other", "reason"),
    [(TWO.without_privacy(), "had no privacy"), (TWO.replace(unit=Unit.EXAMPLE), "per person and some per example")],
)
def test_a_run_without_a_bound_leaves_all_runs_on_these_people_without_an_epsilon(
    ledger: Ledger, other: PrivacyPlan, reason: str
) -> None:
    ledger.reserve(TWO, PEOPLE).commit(1000)
    assert ledger.standing(PEOPLE).joint.epsilon == ledger.standing(PEOPLE).declared.epsilon
    ledger.reserve(other, PEOPLE).abort(0)
    assert ledger.standing(PEOPLE).joint.epsilon is not None
    ledger.reserve(other, PEOPLE).commit(1000)
    (why,) = ledger.standing(PEOPLE).joint.why_none
    assert reason in why


def test_a_line_costs_what_its_run_claims(ledger: Ledger) -> None:
    for plan in (TWO, TWO.replace(max_contributions=3, noise_multiplier=9.0), TWO.replace(noise_multiplier=0.2)):
        ledger.reserve(plan, PEOPLE)
        price = ledger.standing(PEOPLE).lines[-1].price
        assert price is not None
        assert price.epsilon == plan.epsilon()


def test_equal_runs_among_unlike_ones_are_priced_a_kind_at_a_time(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dp_train.privacy import accounting

    unlike = [TWO.replace(noise_multiplier=sigma, steps=50) for sigma in (2.5, 4.0)]
    ledger.reserve_together([Request(plan=plan) for plan in [TWO] * 30 + unlike], PEOPLE)
    made: list[str] = []
    inner = accounting._step_loss.__wrapped__
    accounting._price.cache_clear()
    monkeypatch.setattr(
        accounting,
        "_step_loss",
        lru_cache(lambda text, relation, interval: made.append(text) or inner(text, relation, interval)),
    )
    declared = ledger.standing(PEOPLE).declared
    assert len(made) == 3
    accountant = PLDAccountant(value_discretization_interval=declared.interval)
    for plan, count in ((TWO, 30), *((plan, 1) for plan in unlike)):
        accountant.compose(plan.event(), count)
    assert declared.epsilon == pytest.approx(accountant.get_epsilon(TWO.delta), rel=1e-6)


def test_a_run_that_was_killed_and_goes_on_spends_once(ledger: Ledger) -> None:
    reservation = ledger.reserve(TWO, PEOPLE)  # … SIGKILL
    again = ledger.take_up(reservation.identifier, TWO)
    assert again == reservation
    assert again is not None
    again.commit(1000)
    assert again.commit(1000) == ledger.book().head
    assert len(ledger.standing(PEOPLE).lines) == 1


def test_a_run_that_was_ended_is_charged_in_full_again_when_it_goes_on(ledger: Ledger) -> None:
    reservation = ledger.reserve(TWO, PEOPLE)
    reservation.abort(100)
    assert ledger.take_up(reservation.identifier, TWO)
    assert ledger.standing(PEOPLE).spent == pytest.approx(2.0, abs=0.01)


def test_a_run_that_gave_its_line_back_is_refused_where_others_spent_it(ledger: Ledger) -> None:
    ledger.declare(PEOPLE, epsilon=3.0, delta=1e-5)
    reservation = ledger.reserve(TWO, PEOPLE)
    reservation.abort(0)
    ledger.reserve(TWO, PEOPLE)
    with pytest.raises(BudgetError, match="does not fit any more"):
        ledger.take_up(reservation.identifier, TWO)


def test_a_reservation_is_for_one_plan_and_one_population(ledger: Ledger) -> None:
    reservation = ledger.reserve(TWO, PEOPLE)
    with pytest.raises(BudgetError, match="for plan"):
        reservation.check(TWO.replace(steps=999), PEOPLE)
    with pytest.raises(BudgetError, match="for population"):
        reservation.check(TWO, OTHERS)
    with pytest.raises(BudgetError, match="for plan"):
        ledger.take_up(reservation.identifier, TWO.replace(steps=999))
    assert ledger.take_up("unknown", TWO) is None


def test_a_line_is_closed_once_and_never_with_more_than_was_reserved(ledger: Ledger) -> None:
    reservation = ledger.reserve(TWO, PEOPLE)
    with pytest.raises(PrivacyError, match="at most the steps"):
        reservation.commit(1001)
    reservation.commit(1000)
    with pytest.raises(PrivacyError, match="closed before"):
        reservation.abort(10)


def test_a_line_keeps_facts_and_no_private_number(ledger: Ledger) -> None:
    facts = RunFacts(run="chat ε=2", engine="bookkeeping", cohort="ab", versions={"torch": "2"}, artifacts=("model",))
    ledger.reserve(TWO, PEOPLE, facts=facts)
    (line,) = ledger.book().lines.values()
    assert line.facts == facts
    assert json.loads(line.event)["event"] == "SelfComposedDpEvent"
    assert line.plan["steps"] == 1000


def test_a_chain_broken_by_hand_is_found_and_named_and_nothing_is_reserved_on_it(
    ledger: Ledger, store_url: str
) -> None:
    for _ in range(3):
        ledger.reserve(TWO, PEOPLE)
    engine = sa.create_engine(_url(store_url))
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE ledger SET body = replace(body, '0.05', '0.01') WHERE seq = 2"))
    engine.dispose()
    broken = ledger.verify().broken
    assert broken is not None
    assert (broken.seq, broken.reason) == (2, "row 2 was changed after it was written")
    with pytest.raises(StoreError, match="row 2 was changed"):
        ledger.reserve(TWO, PEOPLE)


def test_an_end_that_was_cut_off_is_found_by_a_head_kept_elsewhere(ledger: Ledger, store_url: str) -> None:
    ledger.reserve(TWO, PEOPLE)
    head = ledger.reserve(TWO, PEOPLE).head
    assert ledger.verify(expected_head=head).broken is None
    engine = sa.create_engine(_url(store_url))
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM ledger WHERE seq = 2"))
    engine.dispose()
    assert ledger.verify().broken is None
    broken = ledger.verify(expected_head=head).broken
    assert broken is not None
    assert "cut off" in broken.reason


def test_an_epsilon_that_its_event_does_not_give_is_found_though_the_chain_holds(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dp_train.privacy.ledger import requests as module

    true = module.compose
    monkeypatch.setattr(module, "compose", lambda *words: replace(true(*words), epsilon=0.5))
    ledger.reserve(TWO, PEOPLE)
    monkeypatch.undo()
    broken = ledger.verify().broken
    assert broken is not None
    assert "does not give its ε" in broken.reason


def _race(url: str, environment: dict[str, str], start: object, results: object) -> None:
    os.environ.update(environment)
    ledger = Ledger.open(url)
    start.wait()  # type: ignore[attr-defined]
    try:
        ledger.reserve(TWO, PEOPLE)
        results.put("got it")  # type: ignore[attr-defined]
    except BudgetError:
        results.put("refused")  # type: ignore[attr-defined]
    except Exception as error:
        results.put(repr(error))  # type: ignore[attr-defined]


def test_of_eight_processes_that_race_for_the_last_slice_one_gets_it(ledger: Ledger, store_url: str) -> None:
    ledger.declare(PEOPLE, epsilon=3.7, delta=1e-5)
    ledger.reserve(TWO, PEOPLE).commit(1000)  # room for one more
    context = processes.context()
    start, results = context.Barrier(8), context.Queue()
    racers = [context.Process(target=_race, args=(_url(store_url), dict(os.environ), start, results)) for _ in range(8)]
    for racer in racers:
        racer.start()
    said = sorted(results.get(timeout=120) for _ in racers)
    for racer in racers:
        racer.join()
    assert said == ["got it", *["refused"] * 7]
    assert len(ledger.standing(PEOPLE).lines) == 2
    assert ledger.verify().broken is None


def _reserve_and_die(url: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    Ledger.open(url).reserve(TWO, PEOPLE)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_after_reserving_is_charged_in_full(ledger: Ledger, store_url: str) -> None:
    victim = processes.context().Process(target=_reserve_and_die, args=(_url(store_url), dict(os.environ)))
    victim.start()
    victim.join()
    assert victim.exitcode == -signal.SIGKILL
    standing = ledger.standing(PEOPLE)
    assert (standing.open_lines, round(standing.spent, 2)) == (1, 2.0)


def test_a_ledger_that_cannot_be_written_says_so_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    ledger = Ledger.open(f"sqlite:///{path}")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    from dp_train.store.database import Database

    with pytest.raises(StoreError, match="locked"):
        Ledger(Database(f"sqlite:///{path}", wait_seconds=0.1))
    holder.close()
    ledger.close()


def test_looking_makes_no_store(tmp_path: Path) -> None:
    assert Ledger.peek(f"sqlite:///{tmp_path / 'none.db'}") is None
    assert not list(tmp_path.iterdir())
