"""Try the engine on made-up rows, before anything private is read."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from dp_train.conversations import Example
from dp_train.engines.base import MicroBatch
from dp_train.engines.crowd_check import Crowd
from dp_train.engines.self_check import self_check
from dp_train.training.batches import PackedBatches, Packing, UnitBatches, make_batches
from dp_train.training.method import Setup


def _row(prompt: str, target: str) -> Example:
    return Example(example_id=target, prompt=prompt, target=target, owners=frozenset({"nobody"}))


_FEW = (
    _row("Ann: when do we ship\nBob: on the first Friday of May", "ship on Friday, not before noon"),
    _row("Eve: seven plums and two pears", "quick brown foxes jump over it"),
    _row("Kim: zinc, wax and glass", "the harbour was closed because of fog"),
)
_MANY = 65
"""Units of a crowd: more than a microbatch of the default size holds rows."""

_SIZES = (9, 17, 33)
"""Units of the smaller companies."""

_ROWS = 4
"""Most rows of a unit in a crowd."""

_WORDS = (
    "ship",
    "harbour",
    "fog",
    "noon",
    "plums",
    "zinc",
    "wax",
    "glass",
    "quick",
    "brown",
    "foxes",
    "agenda",
    "pears",
)
_STRANGE = (
    "a",
    "z" * 40,
    "0 0 0 0 0 0 0 0 0 0 0 0",
    "ß 漢字 Ω ж ☂",
    "!!!! ???? ....",
    "QXJW QXJW QXJW QXJW",
)
_LONG = _row("Kim: " + "a line of a long talk, " * 200, "long " * 400)


def try_engine(setup: Setup) -> None:
    """Check the engine of a run on two public units, the second of two rows where the plan has such, and on a crowd.

    Cost: two passes of a short row for each unit of the crowd, and about ten of microbatches of short rows.

    Raises:
      ModelError: the engine gets this model wrong, or a trainable tensor is used by no loss.
    """
    several = setup.plan.rows_per_unit > 1
    units = [_FEW[:1], _FEW[1:] if several else _FEW[1:2]]
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
        crowd=_crowd(setup),
    )


def _crowd(setup: Setup) -> Crowd:
    """Units of one to four rows, and companies of them cut as the run cuts its steps.

    Each unit alone is never packed: so a packed unit's rows are compared with themselves apart, and a unit of several
    rows takes several sequences, which are short here.
    """
    units = _units(min(setup.plan.rows_per_unit, _ROWS))
    execution, device = setup.execution, setup.device
    cut = UnitBatches(units, setup.task, rows=execution.microbatch_rows, device=device)
    if setup.method.packing is Packing.NONE:
        together: UnitBatches | PackedBatches = cut
    else:
        together = PackedBatches(units, setup.task, tokens=execution.microbatch_tokens, length=1, device=device)
    long = len(units) - 1  # stands in the smallest company alone: it makes every row beside it as wide
    companies: list[Sequence[MicroBatch]] = [list(together(np.array([*range(_SIZES[0] - 1), long])))]
    companies += [list(together(np.arange(size))) for size in (*_SIZES[1:], _MANY)]
    return Crowd(alone={unit: next(cut(np.array([unit]))) for unit in range(len(units))}, companies=companies)


def _units(most: int) -> list[tuple[Example, ...]]:
    """`_MANY` units and a long one: the strange ones first, every third of several rows where `most` allows it."""
    words = random.Random(0)

    def text(least: int) -> str:
        return " ".join(words.choices(_WORDS, k=words.randint(least, 9)))

    def rows(unit: int) -> tuple[Example, ...]:
        count = min(most, 2 + unit % 3) if unit % 3 == 0 else 1
        first = _STRANGE[unit] if unit < len(_STRANGE) else text(1)
        return (_row(text(1), first), *(_row(text(1), text(2)) for _ in range(count - 1)))

    return [*(rows(unit) for unit in range(_MANY)), (_LONG,)]
