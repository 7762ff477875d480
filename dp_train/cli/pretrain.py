"""`dp-train pretrain`: a small model that learns from published text alone, for others to start from."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from dp_train.cli.load_config import compose_from
from dp_train.cli.show import ShowRun, console, samples, scores_table


def run(options: Namespace) -> int:
    """Train, store and score it."""
    recipe, _ = compose_from(options)
    from dp_train.runs.pretraining import pretrain

    out = console()
    progress = ShowRun(out).progress(f"{recipe.task.name}: public starting point")
    made = pretrain(recipe, Path(options.to), words=options.overrides, callbacks=progress)
    facts = made.published.facts
    baselines = {
        f"{rule}: {name}": value for rule, found in facts["baselines"].items() for name, value in found.items()
    }
    out.print(scores_table({**facts["scores"], **baselines}))
    samples(out, made.samples)
    out.print(f"starting point: {options.to} ({facts['parameters']:,} parameters); take it by:")
    out.print(f"dp-train train start=published start.name={options.to}", markup=False)
    return 0
