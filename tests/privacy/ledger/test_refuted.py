"""A claim that an audit refuted, or that is withheld, is charged as before and bounds nothing, wherever it stands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dp_train.cli.consent_report import _populations, _runs
from dp_train.cli.ledger_values import line_row, line_values
from dp_train.errors import PrivacyError
from dp_train.models.weights import mark_tensors, names_of
from dp_train.privacy.composition import event_json
from dp_train.privacy.ledger.budget import standing
from dp_train.privacy.ledger.ledger import Ledger
from dp_train.privacy.ledger.lines import RunEnd
from dp_train.privacy.plan import PrivacyPlan
from dp_train.tracking.recompute import ledger_section
from dp_train.training.phases import Phase, phases_of

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


Seen = Callable[[Ledger, str], object]

VIEWS: dict[str, Seen] = {
    "a card: ε of this run": lambda ledger, run: ledger_section(ledger.book(), run)["ε of this run"],
    "a card: ε of the procedure": lambda ledger, run: next(
        value for name, value in ledger_section(ledger.book(), run).items() if name.startswith("ε of the procedure")
    ),
    "a card: ε of all runs": lambda ledger, run: ledger_section(ledger.book(), run)["ε of all 1 runs on these people"],
    "ledger show": lambda ledger, run: line_row(ledger.book().lines[run])[5],
    "ledger show --json": lambda ledger, run: line_values(ledger.book().lines[run])["epsilon"],
    "consent report: the run": lambda ledger, run: _runs(ledger.book())[0].epsilon,
    "consent report: the population": lambda ledger, run: _populations(ledger.book())[0].spent,
    "joint ε": lambda ledger, run: ledger.standing(PEOPLE).joint.epsilon,
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("refuted", [True, False])
def test_no_view_shows_an_epsilon_where_it_is_withheld(ledger: Ledger, view: str, refuted: bool) -> None:
    reservation = ledger.reserve(PLAN, PEOPLE)
    reservation.begin(resumed=False, identity="run")
    shown = VIEWS[view](ledger, reservation.identifier)
    assert isinstance(shown, float) or float(str(shown)) > 0
    reservation.commit(20, RunEnd(weights=("a mark",), withheld=not refuted))
    if refuted:
        ledger.refute(reservation.identifier, "a bound above the claim", audit={})
    found = VIEWS[view](ledger, reservation.identifier)
    assert found is None or str(found).startswith(("none: ", "withheld", "refuted"))


def test_what_departed_has_departed_whatever_the_rest_of_the_run_did(ledger: Ledger) -> None:
    reservation = ledger.reserve(PLAN, PEOPLE)
    reservation.begin(resumed=False, identity="run")
    reservation.abort(10, RunEnd(weights=("left at step 10",), withheld=True))
    again = ledger.take_up(reservation.identifier, PLAN)
    assert again is not None
    again.begin(resumed=True, identity="run")
    again.commit(20, RunEnd(weights=("left at the end",)))
    assert ledger.book().lines[reservation.identifier].withheld


def test_a_verdict_reaches_models_that_went_on_before_it_was_known(ledger: Ledger) -> None:
    first = committed(ledger)
    before = [
        Phase(run="run", population=PEOPLE, event=event_json(PLAN.event()), relation=PLAN.neighboring_relation).values()
    ]
    marks = mark_tensors(torch.nn.Linear(70, 70))
    second = ledger.reserve(PLAN, PEOPLE)
    second.begin(resumed=False, identity="run that went on", before=before)
    second.commit(20, RunEnd(weights=tuple(names_of(marks))))

    def bounded() -> dict[str, bool]:
        return {one.run: one.event is not None for one in phases_of(marks, ledger.book().lines.values())}

    assert bounded() == {"run": True, "run that went on": True}
    ledger.refute(first, "a bound above the claim", audit={})
    assert bounded() == {"run": False, "run that went on": True}
