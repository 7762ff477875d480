"""`dp-train plan`: what a configuration would spend, from public numbers alone; nothing is read or trained."""

from __future__ import annotations

import json
import math
from argparse import Namespace
from typing import Any

from rich.table import Table

from dp_train.cli.compose import compose_from
from dp_train.cli.config import TrainConfig
from dp_train.cli.names import PrivacyMode
from dp_train.cli.show import console, rounded_up, table
from dp_train.privacy.plan import PrivacyPlan, Unit


def make_plan(config: TrainConfig) -> PrivacyPlan:
    """The plan of a configuration: calibrated to ε, with the given σ, or without privacy."""
    privacy, trainer = config.privacy, config.trainer
    plan = PrivacyPlan(
        sample_rate=trainer.rate,
        expected_units=trainer.expected_units,
        steps=trainer.steps,
        delta=privacy.delta,
        clip_norm=privacy.clip_norm,
        noise_multiplier=privacy.noise_multiplier,
        unit=privacy.unit,
        max_contributions=privacy.max_contributions,
        rows_per_unit=privacy.rows_per_unit,
    )
    if privacy.mode is PrivacyMode.NONE:
        return plan.without_privacy()
    return plan if privacy.epsilon is None else plan.calibrate(epsilon=privacy.epsilon)


def facts(plan: PrivacyPlan) -> dict[str, Any]:
    """The plan as JSON values, with what follows from it.

    `signal_to_noise` is what the mean of `expected_units` unit gradients of full norm has over the std of its
    noise in one coordinate: B ÷ σ in one step, √T · B ÷ σ over the run.
    """
    values = plan.describe()
    if plan.private:
        ratio = plan.expected_units / plan.sigma
        values["epsilon"] = plan.epsilon()
        values["signal_to_noise"] = ratio
        values["signal_to_noise_of_run"] = ratio * math.sqrt(plan.steps)
    return values


def plan_table(plan: PrivacyPlan) -> Table:
    """The plan for people; no row names a private number."""
    values = facts(plan)
    rows = [
        ("steps T", f"{plan.steps}"),
        ("expected units B a step", f"{plan.expected_units}"),
        ("sample rate q", f"{plan.sample_rate:.6g}"),
    ]
    if plan.private:
        per = "person" if plan.unit is Unit.USER else "example"
        rows += [
            ("ε", f"{rounded_up(values['epsilon'])} per {per}, at δ={plan.delta:g}"),
            ("noise multiplier σ", f"{plan.sigma:.6g}"),
            ("clip norm C", f"{plan.clip_norm:g}"),
            (
                "signal to noise",
                f"{values['signal_to_noise']:.3g} a step, {values['signal_to_noise_of_run']:.3g} a run",
            ),
            ("examples a person may own k", f"{plan.max_contributions}"),
            ("rows of a person in a unit G", f"{plan.rows_per_unit}"),
            ("neighbouring relation", plan.neighboring_relation.value),
        ]
    else:
        rows.append(("privacy", "none: no clipping, no noise, no ε"))
    return table(("", ""), rows, title="plan")


def warnings(config: TrainConfig, plan: PrivacyPlan) -> list[str]:
    """What is allowed and still unwise; compares with the declared population alone."""
    population = config.trainer.population
    if plan.private and population is not None and plan.delta >= 1 / population:
        return [
            f"warning: privacy.delta={plan.delta:g} is not below 1 ÷ trainer.population={1 / population:.2g}; "
            "releasing one person whole would be within the guarantee"
        ]
    return []


def run(options: Namespace) -> int:
    """Print the plan, as a table or as JSON."""
    config, _ = compose_from(options)
    plan = make_plan(config)
    if options.json:
        print(json.dumps({**facts(plan), "warnings": warnings(config, plan)}, indent=2))
        return 0
    out = console()
    out.print(plan_table(plan))
    for line in warnings(config, plan):
        out.print(line)
    return 0
