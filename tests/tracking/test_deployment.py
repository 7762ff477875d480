"""The registry's entry says what the card says, in the registry's words."""

from dataclasses import replace

import pytest
import yaml
from card_facts import FACTS, claim

from dp_train.errors import EpsilonWithheld
from dp_train.tracking.card import card_document
from dp_train.tracking.deployment import deployment_yaml

# Of the registry's template: required sections, in its order.
SECTIONS = ["product", "dp_flavor", "privacy_loss", "model", "accounting", "implementation", "resources"]


def test_the_entry_has_the_registrys_sections_and_the_cards_figures() -> None:
    entry = yaml.safe_load(deployment_yaml(card_document(FACTS)))
    assert list(entry["deployment"]) == SECTIONS
    loss = entry["deployment"]["privacy_loss"]
    assert loss["privacy_parameters"] == {"epsilon": 3.0, "delta": 1e-6}
    assert loss["privacy_unit"] == "User-level"
    assert "who met whom" in entry["deployment"]["dp_flavor"]["unprotected_quantities"]


def test_a_run_without_a_claim_makes_no_entry() -> None:
    with pytest.raises(EpsilonWithheld, match="a step is missing"):
        deployment_yaml(card_document(replace(FACTS, claim=claim(None, withheld=("a step is missing",)))))
