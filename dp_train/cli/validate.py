"""`dp-train validate`: is this configuration whole, and can its files be read? Trains nothing and writes nothing."""

from __future__ import annotations

from argparse import Namespace

from dp_train.cli.load_config import compose_from, without_hydra
from dp_train.cli.plan import plan_table
from dp_train.cli.show import config_tree, console, gate_table
from dp_train.runs.plan import make_plan, warnings


def run(options: Namespace) -> int:
    """Compose, calibrate, and pass every file of conversations and consent through the gate once."""
    config, tree = compose_from(options)
    out = console()
    out.print(config_tree(without_hydra(tree)))
    plan = make_plan(config)
    out.print(plan_table(plan))
    for line in warnings(config, plan):
        out.print(line)
    from dp_train.runs.populations import look, populations
    from dp_train.runs.prepare import model_spec

    model_spec(config)
    if not config.corpus.embedded:
        out.print(gate_table(populations(config, look(config)).reports))
    out.print("valid")
    return 0
