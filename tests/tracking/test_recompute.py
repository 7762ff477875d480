"""A card follows from the ledger alone, figure by figure; what was changed by hand is named."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from card_facts import FACTS, PLAN, claim

from dp_train.engines.cross_check import opinions
from dp_train.errors import StoreError
from dp_train.privacy.composition import compose, event_from_json
from dp_train.privacy.ledger.ledger import Ledger
from dp_train.privacy.ledger.lines import RunFacts
from dp_train.tracking.card import card_document
from dp_train.tracking.recompute import EARLIER, differences, guarantee_curve, ledger_section

STEPS = 120  # of 300: the run was ended early


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'store.db'}")
    ledger.declare("people", epsilon=9.0, delta=1e-5, label="everybody")
    yield ledger
    ledger.close()


@pytest.fixture
def card(ledger: Ledger) -> dict[str, Any]:
    ledger.reserve(PLAN.replace(steps=10), "people").commit(10)
    facts = RunFacts(consent_root=FACTS.consent_root)
    reservation = ledger.reserve(PLAN, "people", facts=facts)
    reservation.abort(STEPS)
    book = ledger.book()
    document = card_document(
        replace(
            FACTS,
            claim=replace(claim(PLAN.epsilon()), steps=STEPS),
            cross_check=opinions(PLAN),
            curve=guarantee_curve(PLAN, PLAN.steps),
            ledger=ledger_section(book, reservation.identifier),
        )
    )
    written: dict[str, Any] = json.loads(json.dumps(document))
    return written


def test_every_figure_follows_from_the_ledger(card: dict[str, Any], ledger: Ledger) -> None:
    assert list(differences(card, ledger.book(until=card["ledger"]["head"]))) == []


def test_later_runs_change_nothing_on_an_older_card(card: dict[str, Any], ledger: Ledger) -> None:
    ledger.reserve(PLAN.replace(steps=5), "people").commit(5)
    assert list(differences(card, ledger.book(until=card["ledger"]["head"]))) == []


@pytest.mark.parametrize(
    ("section", "figure"),
    [
        ("claim", "epsilon"),
        ("claim", "delta"),
        ("plan", "noise_multiplier"),
        ("plan", "sample_rate"),
        ("plan", "steps run"),
        ("accounting", "ε of the plan by pld"),
        ("guarantee as a curve", "δ=1e-05"),
        ("ledger", "ε of all 2 runs on these people"),
        ("ledger", "δ of all runs"),
    ],
)
def test_a_figure_changed_by_hand_is_the_first_that_differs(
    card: dict[str, Any], ledger: Ledger, section: str, figure: str
) -> None:
    true = card[section][figure]
    card[section][figure] = true * 0.9
    (found,) = differences(card, ledger.book(until=card["ledger"]["head"]))
    assert found.figure == f"{section}, {figure}"
    assert (found.on_card, found.derived) == (true * 0.9, pytest.approx(true, rel=1e-5))


def test_a_card_of_another_consent_is_found(card: dict[str, Any], ledger: Ledger) -> None:
    card["consent"]["snapshot root"] = "00" * 32
    (found,) = differences(card, ledger.book(until=card["ledger"]["head"]))
    assert found.figure == "consent, snapshot root"


def test_a_head_that_the_ledger_never_had_is_refused(ledger: Ledger) -> None:
    with pytest.raises(StoreError, match="no row has the hash ababababab"):
        ledger.book(until="ab" * 32)


def test_a_claim_over_phases_follows_from_the_lines_of_all_of_them(card: dict[str, Any], ledger: Ledger) -> None:
    book = ledger.book(until=card["ledger"]["head"])
    first = book.of("people")[0].event
    spent = compose([PLAN.event(), event_from_json(first)], PLAN.neighboring_relation, PLAN.delta).epsilon
    card["claim"] |= {"epsilon": round(spent, 6), EARLIER: [first]}
    assert list(differences(card, book)) == []
    card["claim"][EARLIER] = [first.replace("0.02", "0.01")]
    assert next(differences(card, book)).figure == f"claim, {EARLIER}"
