"""The privacy plan of a recipe; light to import, so that `dp-train plan` answers at once."""

from __future__ import annotations

from dp_train.privacy.plan import PrivacyPlan
from dp_train.runs.names import PrivacyMode
from dp_train.runs.recipe import Recipe


def make_plan(config: Recipe) -> PrivacyPlan:
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
        bands=privacy.bands,
        max_batch_units=trainer.max_batch_units,
        population=None if trainer.max_batch_units is None else trainer.population,
        loss_noise_ratio=privacy.loss_noise_ratio,
        loss_bound=privacy.loss_bound,
    )
    if privacy.mode is PrivacyMode.NONE:
        return plan.without_privacy()
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
    return found
