"""`dp-train plan`: what a configuration would spend, and what each bound k keeps; nothing is trained or spent.

The plan follows from public numbers alone. The share kept follows from who owns what in the consented corpus, which
the guarantee takes as fixed; its counts go to the screen of whoever asks, and to no log, store or card.
"""

from __future__ import annotations

import json
import math
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from dp_train.cli.load_config import compose_from
from dp_train.cli.show import console, show_beside, show_funnel, table
from dp_train.errors import ConfigError
from dp_train.privacy.plan import PrivacyPlan, Unit
from dp_train.privacy.rounding import rounded_up
from dp_train.runs.plan import make_plan, warnings
from dp_train.runs.recipe import Recipe
from dp_train.runs.reservation import describe_left, left_after

if TYPE_CHECKING:
    from dp_train.consent.gate import ConsentedExamples
    from dp_train.privacy.contribution_tradeoff import Choice

_BOUNDS = (1, 2, 4, 8)
"""The k that are compared, beside the one of the configuration."""


def facts(plan: PrivacyPlan) -> dict[str, Any]:
    """The plan as JSON values, with what follows from it.

    `signal_to_noise` is what the mean of `expected_units` unit gradients of full norm has over the std of its
    noise in one coordinate: B ÷ σ in one step, √T · B ÷ σ over the run.
    """
    values = plan.describe()
    if plan.private:
        ratio = plan.expected_units / plan.calibrated_noise_multiplier
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
    rows.append(("units of a step", plan.mechanism.sampler.described))
    if plan.max_batch_units is not None:
        rows.append(("most units of a step", f"{plan.max_batch_units}"))
    if plan.private:
        per = "person" if plan.unit is Unit.USER else "example"
        rows += [
            ("ε", f"{rounded_up(values['epsilon'])} per {per}, at δ={plan.delta:g}"),
            ("noise multiplier σ", f"{plan.calibrated_noise_multiplier:.6g}"),
            ("clip norm C", f"{plan.clip_norm:g}"),
            (
                "signal to noise",
                f"{values['signal_to_noise']:.3g} a step, {values['signal_to_noise_of_run']:.3g} a run",
            ),
            ("examples a person may own k", f"{plan.max_contributions}"),
            ("rows of a person in a unit G", f"{plan.rows_per_unit}"),
            ("noise correlated over steps b", f"{plan.bands}"),
            ("neighbouring relation", plan.neighboring_relation.value),
        ]
        if plan.loss_noise_ratio is not None:
            noisy = plan.loss_noise_std / plan.expected_units
            rows.append(("noisy training loss", f"released each step, std {noisy:.3g}; the ε covers it"))
    else:
        rows.append(("privacy", "none: no clipping, no noise, no ε"))
    return table(("", ""), rows, title="plan")


def bounds_of(config: Recipe, plan: PrivacyPlan, examples: ConsentedExamples) -> tuple[Choice, ...]:
    """What each k keeps of the consented examples, and its σ at the ε asked (or its ε at the σ given)."""
    from dp_train.privacy.contribution_tradeoff import choices

    ks = sorted({*_BOUNDS, plan.max_contributions})
    return choices(examples, plan, ks, epsilon=config.privacy.epsilon)


def choices_table(found: Sequence[Choice]) -> Table:
    """PastRun share and σ against k."""
    rows = [
        (
            str(choice.max_contributions),
            f"{choice.selection.examples_share:.1%}",
            f"{choice.selection.people_share:.1%}",
            _possible(choice.selection.share_of_possible),
            f"{choice.plan.calibrated_noise_multiplier:.4g}" if choice.plan.private else "–",
            rounded_up(choice.epsilon) if choice.plan.private else "–",
            f"{choice.signal:.2f}",
        )
        for choice in found
    ]
    columns = ("k", "examples kept", "people kept", "of what k allows", "σ", "ε", "signal ÷ noise, relative")
    return table(columns, rows, title="examples a person may own", numbers=True)


def choices_facts(found: Sequence[Choice]) -> list[dict[str, Any]]:
    """The same as JSON values, with the share kept by how many people an example belongs to. For the screen alone."""
    return [
        {
            "max_contributions": choice.max_contributions,
            "examples_kept_share": choice.selection.examples_share,
            "people_kept_share": choice.selection.people_share,
            "share_of_possible": choice.selection.share_of_possible,
            "kept_share_by_owners": {str(part.owners): part.kept / part.seen for part in choice.selection.by_owners},
            "noise_multiplier": choice.plan.calibrated_noise_multiplier if choice.plan.private else None,
            "epsilon": choice.epsilon if math.isfinite(choice.epsilon) else None,
            "relative_signal_to_noise": choice.signal,
        }
        for choice in found
    ]


def draw_choices(found: Sequence[Choice], path: Path) -> None:
    """PastRun share and σ against k, as a PNG.

    Raises:
      ConfigError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left = figure.subplots()
    ks = [choice.max_contributions for choice in found]
    left.plot(ks, [100 * choice.selection.examples_share for choice in found], "o-", color="#0072B2", label="examples")
    left.plot(ks, [100 * choice.selection.people_share for choice in found], "s--", color="#56B4E9", label="people")
    left.set_xscale("log", base=2)
    left.set_xticks(ks, [str(k) for k in ks])
    left.set(xlabel="k, examples a person may own", ylabel="kept, %", ylim=(0, 105))
    private = [choice for choice in found if choice.plan.private]
    if private:
        right = left.twinx()
        right.plot(
            [choice.max_contributions for choice in private],
            [choice.plan.calibrated_noise_multiplier for choice in private],
            "^-",
            color="#D55E00",
            label="σ",
        )
        right.set_ylabel("noise multiplier σ")
        right.set_ylim(bottom=0)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    try:
        figure.savefig(path, format="png", dpi=150)
    except OSError as error:
        raise ConfigError(
            f"plan: --picture {path} cannot be written ({error.strerror}); expected a file in a folder that can"
        ) from error


def _possible(share: float | None) -> str:
    return "–" if share is None else f"≥ {share:.1%}"


def run(options: Namespace) -> int:
    """Print the plan, as a table or as JSON."""
    config, _ = compose_from(options)
    plan = make_plan(config)
    found: tuple[Choice, ...] = ()
    if not options.without_people:
        from dp_train.runs.populations import consented_examples

        examples = consented_examples(config)
        found = bounds_of(config, plan, examples)
    if options.picture:
        if not found:
            raise ConfigError("plan: --picture draws what k keeps of people's examples; leave --without-people out")
        draw_choices(found, Path(options.picture))
    for choice in found:  # after what may refuse: an error is one line
        if choice.max_contributions == plan.max_contributions or len(found) == 1:
            show_funnel(config, plan, examples.report, choice.selection)
            show_beside(config, plan, choice.selection)
    if options.json:
        values = {
            **facts(plan),
            "choices": choices_facts(found),
            "ledger": left_after(config, plan),
            "warnings": warnings(config, plan),
        }
        print(json.dumps(values, indent=2))
        return 0
    out = console()
    out.print(plan_table(plan))
    if found:
        out.print(choices_table(found))
        out.print("kept is counted from who met whom, which the guarantee takes as fixed: it spends nothing;")
        out.print("the counts behind it are for you alone, and small meetings are kept more often than large ones")
    for line in warnings(config, plan):
        out.print(line)
    out.print(describe_left(left_after(config, plan)))
    return 0
