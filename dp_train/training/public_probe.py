"""Try the engine on rows that nobody wrote, before anything private is read."""

from __future__ import annotations

import numpy as np

from dp_train.conversations import Example
from dp_train.engines.self_check import self_check
from dp_train.training.batches import make_batches
from dp_train.training.method import Setup

_PUBLIC_ROWS = tuple(
    Example(example_id=target, prompt=prompt, target=target, owners=frozenset({"nobody"}))
    for prompt, target in (
        ("Ann: when do we ship\nBob: on the first Friday of May", "ship on Friday, not before noon"),
        ("Eve: seven plums and two pears", "quick brown foxes jump over it"),
        ("Kim: zinc, wax and glass", "the harbour was closed because of fog"),
    )
)


def try_engine(setup: Setup) -> None:
    """Check the engine of a run on two public units, the second of two rows where the plan has such.

    Raises:
      ModelError: the engine gets this model wrong, or a trainable tensor is used by no loss.
    """
    several = setup.plan.rows_per_unit > 1
    units = [_PUBLIC_ROWS[:1], _PUBLIC_ROWS[1:] if several else _PUBLIC_ROWS[1:2]]
    execution = setup.execution
    batches = make_batches(
        units,
        setup.task,
        packing=setup.method.packing,
        rows=execution.microbatch_rows,
        tokens=execution.microbatch_tokens,
        device=setup.device,
    )
    self_check(
        setup.engine,
        model=setup.model,
        row_losses=setup.row_losses,
        plan=setup.plan,
        batches=list(batches(np.arange(len(units)))),
        alone=[list(batches(np.array([unit]))) for unit in range(len(units))],
        clipping=setup.method.clipping,
        scaling=setup.scaling,
    )
