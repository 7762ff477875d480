"""The privacy plan of a recipe; light to import, so that `dp-train plan` answers at once."""

from __future__ import annotations

from dataclasses import fields

from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.rounding import rounded_up
from dp_train.runs.names import PrivacyMode
from dp_train.runs.recipe import Recipe

_WEAK, _STRICT = 20.0, 0.05
"""Above and below these an ε is allowed and seldom what was meant."""


def make_plan(config: Recipe) -> PrivacyPlan:
    """The plan of a configuration: calibrated to ε, with the given σ, or without privacy."""
    privacy, trainer = config.privacy, config.trainer
    # A field of the plan that a recipe names the same passes as it is, so that a new mechanism's field needs no line.
    names = {field.name for field in fields(PrivacyPlan)}
    same = {name: value for group in (trainer, privacy) for name, value in vars(group).items() if name in names}
    rate = {"sample_rate": trainer.rate, "population": trainer.population if trainer.max_batch_units else None}
    plan = PrivacyPlan(**{**same, **rate})
    if privacy.mode is PrivacyMode.NONE:
        return plan.without_privacy(shuffled=trainer.shuffle)
    return plan if privacy.epsilon is None else plan.calibrate(epsilon=privacy.epsilon)


def warnings(config: Recipe, plan: PrivacyPlan) -> list[str]:
    """What is allowed and still unwise; compares with the declared population alone."""
    from dp_train.corpora.adapters.benchmark import WARNING

    found = [f"warning: {WARNING}"] if config.corpus.research_only else []
    population = config.trainer.population
    if plan.private and population is not None and plan.delta >= 1 / population:
        found.append(
            f"warning: privacy.delta={plan.delta:g} is not below 1 ÷ trainer.population={1 / population:.2g}; "
            "releasing one person whole would be within the guarantee"
        )
    epsilon = config.privacy.epsilon
    if plan.private and epsilon is None:
        epsilon = plan.epsilon()
    if epsilon is not None and epsilon > _WEAK:
        found.append(
            f"warning: ε={rounded_up(epsilon)} bounds hardly anything: an attacker's odds about one person may change "
            f"by a factor of e^ε; {_WEAK:g} or less is what is usually called private"
        )
    elif epsilon is not None and epsilon < _STRICT:
        found.append(
            f"warning: ε={rounded_up(epsilon)} leaves next to nothing of what people teach: "
            f"σ={plan.calibrated_noise_multiplier:.3g}; the model will hardly differ from its starting point"
        )
    return found
