"""Several processes are one run: the coins, noise, claim, charge and folder of one, whatever their number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shared_runs import PLAN, Shared, Trained, train
from together import ended, together

from dp_train.engines.base import EngineName
from dp_train.engines.noise import NoiseKind
from dp_train.errors import BudgetError, CheckpointError, ModelError, PrivacyError, ProcessesError
from dp_train.privacy.ledger.ledger import Ledger
from dp_train.privacy.ledger.lines import State
from dp_train.training.callbacks import RunStatus
from dp_train.training.dealing import deal


def one_run(size: int, asked: Shared) -> Trained:
    """Train in `size` processes, which end alike, and return what the first one had."""
    found = [train(asked)] if size == 1 else together(size, train, asked)
    for other in found[1:]:
        assert other.result == found[0].result
        assert torch.equal(other.weights, found[0].weights)
        assert other.heard == 0  # the first one alone speaks
    return found[0]


def close(one: Trained, other: Trained) -> bool:
    return torch.allclose(one.weights, other.weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "asked",
    [
        Shared(),
        Shared(engine=EngineName.BOOKKEEPING, plan=PLAN.replace(loss_noise_ratio=2.0), only="weights"),
        Shared(plan=PLAN.replace(bands=3, steps=11), settings={"average": 0.8}),
        Shared(plan=PLAN.replace(sample_rate=0.02, expected_units=1)),
        Shared(plan=PLAN.without_privacy()),
    ],
    ids=["naive", "book-keeping with a curve", "correlated noise and an average", "empty hands", "without privacy"],
)
def test_any_number_of_processes_is_the_same_run(asked: Shared) -> None:
    alone = one_run(1, replace(asked, only=""))
    for size in (2, 3):
        found = one_run(size, asked)
        assert found.units == alone.units  # the same coins
        assert close(found, alone)  # the same noise, and sums up to rounding
        assert found.result.epsilon == alone.result.epsilon
        assert found.result.identity == alone.result.identity
    if asked.plan.private:
        assert alone.result.epsilon.unwrap() == asked.plan.epsilon()
    if asked.plan.expected_units == 1:
        assert 0 in alone.units


def test_secure_noise_is_one_release_in_all_processes() -> None:
    found = one_run(2, Shared(settings={"noise": NoiseKind.SECURE}, plan=PLAN.replace(loss_noise_ratio=2.0)))
    assert found.result.epsilon.unwrap() > 0


def test_a_run_goes_on_with_any_number_of_processes_and_is_charged_once(tmp_path: Path) -> None:
    asked = Shared(folder=tmp_path / "run", ledger=f"sqlite:///{tmp_path / 'ledger.db'}")
    alone = one_run(1, Shared())
    first = one_run(2, replace(asked, stop=4))
    assert (first.result.status, first.result.steps) == (RunStatus.KILLED, 4)
    second = one_run(1, replace(asked, stop=8, seeds=False))
    assert (second.result.status, second.result.steps) == (RunStatus.KILLED, 8)
    last = one_run(3, replace(asked, seeds=False))
    assert last.result.status is RunStatus.FINISHED
    assert [*first.units, *second.units, *last.units] == alone.units
    assert close(last, alone)
    (line,) = Ledger.open(str(asked.ledger)).book().lines.values()
    assert (line.state, line.steps) == (State.COMMITTED, PLAN.steps)
    assert last.result.epsilon == replace(alone.result.epsilon, in_ledger=True)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_process_that_is_killed_ends_all_and_the_run_goes_on_with_the_same_draws(tmp_path: Path, lost: int) -> None:
    asked = Shared(folder=tmp_path / "run", ledger=f"sqlite:///{tmp_path / 'ledger.db'}")
    alone = one_run(2, Shared())
    found = ended(2, train, replace(asked, kill=(lost, 7)))
    assert found[lost].killed
    assert isinstance(found[1 - lost].error, ProcessesError)
    ledger = Ledger.open(str(asked.ledger))
    (line,) = ledger.book().lines.values()
    # Process 0 closes the line with the steps that began; where it is lost itself the line stays open, in full.
    assert (line.state, line.steps) == ((State.OPEN, PLAN.steps) if lost == 0 else (State.ABORTED, 8))
    assert line.event == line.full_event
    last = one_run(2, replace(asked, seeds=False))
    assert torch.equal(last.weights, alone.weights)
    assert last.units == alone.units[6:]  # from the checkpoint of step 6
    (line,) = ledger.book().lines.values()
    assert (line.state, line.steps) == (State.COMMITTED, PLAN.steps)


def test_a_process_that_does_not_answer_ends_the_run() -> None:
    found = ended(2, train, Shared(hang=1, wait_seconds=4.0))
    assert isinstance(found[0].error, ProcessesError)
    assert "did not answer" in str(found[0].error)


@pytest.mark.parametrize(
    ("only", "part"), [("optimizer", "another optimizer"), ("people", "another consented units")], ids=lambda one: one
)
def test_processes_that_would_train_something_else_are_refused_in_each(only: str, part: str) -> None:
    for one in ended(2, train, Shared(only=only)):
        assert isinstance(one.error, ProcessesError)
        assert part in str(one.error)
        assert "process 1" in str(one.error)


def test_one_process_alone_reserves(tmp_path: Path) -> None:
    found = ended(2, train, Shared(only="reservation", ledger=f"sqlite:///{tmp_path / 'ledger.db'}"))
    assert isinstance(found[1].error, BudgetError)
    assert isinstance(found[0].error, ProcessesError)


@pytest.mark.parametrize(
    ("only", "reason"),
    [
        ("half the noise", "the noise of a tensor is not of the planned size"),
        ("noise for the rest too", "noise was drawn for a release that is not in the plan"),
        ("somebody else", "the rows that entered a step are not those of the units that were drawn"),
        ("one left out", "a step did not sum the units that were drawn"),
    ],
)
def test_what_goes_wrong_in_one_process_withholds_the_claim_of_all(only: str, reason: str, tmp_path: Path) -> None:
    found = one_run(2, Shared(only=only, folder=tmp_path, plan=PLAN.replace(steps=24)))
    assert any(reason in why for why in found.result.epsilon.withheld), found.result.epsilon.withheld
    assert train(
        Shared(only=only, folder=tmp_path, plan=PLAN.replace(steps=24))
    ).result.epsilon.withheld  # and for good


@pytest.mark.parametrize(
    ("only", "error"), [("dealt otherwise", PrivacyError), ("weights moved", ModelError)], ids=lambda one: str(one)
)
def test_processes_that_part_are_stopped(only: str, error: type[Exception]) -> None:
    assert all(isinstance(one.error, error) for one in ended(2, train, Shared(only=only)))


def test_with_dropout_the_number_of_processes_is_a_part_of_the_run(tmp_path: Path) -> None:
    asked = Shared(folder=tmp_path, dropout=0.1)
    assert one_run(2, replace(asked, stop=4)).result.status is RunStatus.KILLED
    with pytest.raises(CheckpointError, match="another dropout"):
        train(asked)
    assert one_run(2, asked).result.status is RunStatus.FINISHED


@given(costs=st.lists(st.integers(0, 500), max_size=60), hands=st.integers(1, 9))
def test_each_unit_is_dealt_once_and_no_hand_waits_long(costs: list[int], hands: int) -> None:
    draw = np.arange(len(costs))[::-1] * 3
    dealt = deal(draw, lambda unit: costs[unit // 3], hands)
    assert sorted(np.concatenate(dealt).tolist()) == sorted(draw.tolist())
    assert all(list(hand) == sorted(hand, reverse=True) for hand in dealt)
    loads = [sum(costs[unit // 3] for unit in hand.tolist()) for hand in dealt]
    assert max(loads) - min(loads) <= max(costs, default=0)


def test_a_process_that_fails_says_why_and_the_others_that_it_is_gone(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    first, second = ended(2, train, Shared(folder=blocked / "run"))
    assert isinstance(first.error, CheckpointError)
    assert isinstance(second.error, ProcessesError)
