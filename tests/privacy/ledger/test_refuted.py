"""A claim that an audit refuted is an entry of the chain: charged as before, bounding nothing, for good."""

from __future__ import annotations

from pathlib import Path

import pytest

from dp_train.errors import PrivacyError
from dp_train.privacy.ledger.budget import standing
from dp_train.privacy.ledger.ledger import Ledger
from dp_train.privacy.ledger.lines import RunEnd
from dp_train.privacy.plan import PrivacyPlan
from dp_train.tracking.recompute import ledger_section
from dp_train.training.phases import phases_of

PEOPLE = "7c1e" * 8
PLAN = PrivacyPlan(sample_rate=0.05, expected_units=512, steps=20, delta=1e-5, noise_multiplier=3.0)


def committed(ledger: Ledger) -> str:
    reservation = ledger.reserve(PLAN, PEOPLE)
    reservation.begin(resumed=False, identity="run")
    reservation.commit(20, RunEnd(weights=("a mark",)))
    return reservation.identifier


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(f"sqlite:///{tmp_path / 'store.db'}")


def test_the_entry_stays_in_the_chain_and_a_second_one_changes_nothing(ledger: Ledger) -> None:
    run = committed(ledger)
    head = ledger.refute(run, "null batches: too little noise", audit={"tests": 12})
    assert ledger.verify(expected_head=head).broken is None
    rows = ledger.book().rows
    assert ledger.refute(run, "another reason", audit={}) == head
    assert ledger.book().rows == rows
    assert ledger.book().lines[run].refuted == "null batches: too little noise"


def test_a_refuted_line_counts_as_planned_and_bounds_nothing(ledger: Ledger) -> None:
    run = committed(ledger)
    before = ledger.standing(PEOPLE)
    assert before.joint.epsilon is not None
    ledger.refute(run, "a bound above the claim", audit={})
    after = standing(ledger.book(), PEOPLE)
    assert (after.spent, after.refuted) == (before.spent, 1)
    assert after.joint.epsilon is None
    section = ledger_section(ledger.book(), run)
    assert str(section["ε of this run"]).startswith("none: an audit refuted it")
    assert str(section["ε of all 1 runs on these people"]).startswith("none: ")


def test_a_model_that_goes_on_from_a_refuted_run_has_no_claim(ledger: Ledger) -> None:
    import torch

    from dp_train.models.weights import mark_tensors, names_of

    model = torch.nn.Linear(70, 70)
    marks = mark_tensors(model)
    reservation = ledger.reserve(PLAN, PEOPLE)
    reservation.begin(resumed=False, identity="run")
    reservation.commit(20, RunEnd(weights=tuple(names_of(marks))))
    assert [phase.event is None for phase in phases_of(marks, ledger.book().lines.values())] == [False]
    ledger.refute(reservation.identifier, "a bound above the claim", audit={})
    assert [phase.event is None for phase in phases_of(marks, ledger.book().lines.values())] == [True]


def test_a_line_that_is_not_there_is_not_refuted(ledger: Ledger) -> None:
    committed(ledger)
    with pytest.raises(PrivacyError, match="is unknown"):
        ledger.refute("f" * 16, "x", audit={})
