"""`dp-train validate`: would this train? Asks what `train` asks before it spends; trains nothing and writes nothing."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from dp_train.cli.load_config import compose_from, without_hydra
from dp_train.cli.plan import plan_table
from dp_train.cli.show import config_tree, console, gate_table, show_beside, show_funnel
from dp_train.runs.plan import make_plan, warnings


def run(options: Namespace) -> int:
    """Compose, calibrate, and ask every check of `runs.checks`, cheapest first.

    Raises:
      DpTrainError: why the configuration would not be trained.
    """
    config, tree = compose_from(options)
    out = console()
    out.print(config_tree(without_hydra(tree)))
    plan = make_plan(config)
    out.print(plan_table(plan))
    for line in warnings(config, plan):
        out.print(line)
    from dp_train.runs.checks import check_budget, check_parts, check_recipe
    from dp_train.runs.populations import look
    from dp_train.runs.prepare import material

    check_recipe(config, tell=out.print)
    # Without tables of tokens, which are files.
    data = material(replace(config, corpus=replace(config.corpus, tables=None)), moment=look(config))
    out.print(gate_table(data.populations.reports))
    check_parts(config, data, [plan], folder=Path(tree.hydra.run.dir), tell=out.print)
    check_budget(config, plan)
    # After what may refuse: an error is one line.
    show_funnel(config, plan, data.populations.private.report, data.units.selection)
    show_beside(config, plan, data.units.selection)
    out.print("valid")
    return 0
