"""A privacy card as an entry of the OpenDP deployments registry.

The registry asks the same questions of every deployment of differential privacy; the fields, their order and
the values that it enumerates are those of its data repository (opendp/deployments-registry-data). What a run
cannot know (region, publication date, who answers for it) is left to be filled in: the entry is a draft.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from dp_train.errors import EpsilonWithheld
from dp_train.tasks.spec import TASKS
from dp_train.tracking.card import Document

_TO_FILL_IN = "TO FILL IN"


def deployment_entry(card: Document) -> dict[str, Any]:
    """The entry as plain values, in the registry's order.

    Raises:
      EpsilonWithheld: the card makes no claim that could stand in a registry.
    """
    claim, plan, setting = card["claim"], card["plan"], card["setting"]
    if "epsilon" not in claim:
        raise EpsilonWithheld(
            f"card of {card['run']['name']}: {claim['statement']}; a registry takes runs with an ε alone"
        )
    task = card["run"]["task"]
    per_person = plan["unit"] == "user"
    return {
        "url_slug": re.sub(r"[^a-z0-9]+", "-", f"{task}-{plan['digest'][:8]}".lower()).strip("-"),
        "status": "Draft",
        "tier": 2,
        "deployment": {
            "product": {
                "name": card["run"]["name"],
                "data_curators": [_TO_FILL_IN],
                "intended_use": _intended_use(task),
                "data_product_type": "Machine learning model",
                "data_product_region": _TO_FILL_IN,
                "description": f"{card['run']['model']}, trained for {task} on conversations whose people agreed to it",
                "publication_date": _TO_FILL_IN,
                "data_product_sector": "Technology",
            },
            "dp_flavor": {
                "name": "Approximate DP",
                "input_metric": setting["neighbouring relation"],
                "output_measure": "Hockey-stick divergence",
                "data_domain": "Conversations whose people consented to this purpose, as of the snapshot "
                f"{card['consent']['snapshot root'][:16]}",
                "unprotected_quantities": _lines(card["the ε does not cover"]),
            },
            "privacy_loss": {
                "privacy_unit": "User-level" if per_person else "Record-level",
                "privacy_unit_description": setting["what is protected"],
                "privacy_parameters": {"epsilon": claim["epsilon"], "delta": claim["delta"]},
                "privacy_parameters_description": claim["statement"],
            },
            "model": {
                "model_name": "Central",
                "model_name_description": setting["trust model"],
                "release_type": "One release",
                "release_type_description": setting["what is released"],
                "data_source_type": "Static",
                "access_type": "Non-interactive",
            },
            "accounting": {
                "post_processing": "Scores and samples are of people outside training.",
                "composition": _lines(
                    [
                        f"{plan['steps run']} Gaussian releases, rate {plan['sample_rate']}, "
                        f"noise multiplier {plan['noise_multiplier']}, clip norm {plan['clip_norm']}",
                        *(f"{name}: {value}" for name, value in card["accounting"].items()),
                        *_ledger(card["ledger"]),
                    ]
                ),
            },
            "implementation": {
                "pre_processing_eda_hyperparameter_tuning": _lines(
                    [f"anonymised before training: {card['consent']['anonymised before training']}"]
                ),
                "mechanisms": _lines(
                    [f"DP-SGD, clipped sums by engine {card['run']['engine']}", setting["noise"], setting["seeds"]]
                ),
                "justification": _TO_FILL_IN,
            },
            "resources": {"sources": _lines([f"{name}: {value}" for name, value in card["code"].items()])},
        },
        "registry_authors": [_TO_FILL_IN],
    }


def deployment_yaml(card: Document) -> str:
    """The entry as the registry's YAML."""
    return yaml.safe_dump(deployment_entry(card), sort_keys=False, allow_unicode=True, width=110)


def _intended_use(task: str) -> str:
    """What a built-in task says of its models."""
    found = getattr(TASKS.find(task), "use", _TO_FILL_IN) if TASKS.is_builtin(task) else _TO_FILL_IN
    return str(found)


def _ledger(section: Any) -> list[str]:
    return [section] if isinstance(section, str) else [f"{name}: {value}" for name, value in section.items()]


def _lines(sentences: list[str]) -> str:
    return "".join(f"- {sentence}\n" for sentence in sentences)
