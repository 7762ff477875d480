"""Does a configured run's own trainer do what its plan says? The parts of a conformance audit, one after the other.

1. the self-check and the bounds of the units, before anything is drawn (`engines.self_check`, `privacy.units`);
2. encodings of made-up texts in two orders (`encodings`); 3. add/remove differencing from conversations
(`differencing`); 4. null batches (`null_batches`); 5. batch sizes (`draws`); 6. a short run that is watched, killed and
resumed (`short_run`).

Nothing here is a proof: what is found refutes a claim, and what is not found is consistent with it (docs/audit.md).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

import numpy as np

from dp_train.audit import differencing, draws, encodings, null_batches
from dp_train.audit.checks import Check, Conformance, timed
from dp_train.audit.short_run import WATCHED, short_runs
from dp_train.audit.subject import Subject
from dp_train.training.public_probe import try_engine

SELF_CHECK = "self-check and units"
_REFUSING = SELF_CHECK, encodings.NAME
"""Parts that call the product's own checks: what those refuse is a finding."""


def conformance(
    subject: Subject, *, seed: int | None = None, say: Callable[[str], None] = lambda line: None
) -> Conformance:
    """Run every part on `subject`.

    Guarantee: nothing is released. The model is afterwards one that `subject.make` sets back, no ledger but one in a
    temporary folder is written, and the result holds public facts alone.

    Args:
      seed: which elements, units and coins are looked at; drawn from the system if not given, so that code which means
        to pass cannot know them.
      say: hears which part begins.
    """
    seed = secrets.randbits(32) if seed is None else seed
    random = np.random.default_rng(seed)
    parts: tuple[tuple[str, Callable[[], Check]], ...] = (
        (SELF_CHECK, lambda: _before_data(subject)),
        (encodings.NAME, lambda: encodings.encodings(subject, random)),
        (differencing.NAME, lambda: differencing.differencing(subject, random)),
        (null_batches.NAME, lambda: null_batches.null_batches(subject, random)),
        (draws.NAME, lambda: draws.batch_sizes(subject)),
    )
    found = []
    for name, part in parts:
        say(name)
        found.append(timed(name, part, refuses=name in _REFUSING))
    say(WATCHED)
    return Conformance(checks=(*found, *_short(subject, seed)))


def _before_data(subject: Subject) -> Check:
    """What a run itself checks before it reads private data."""
    subject.units.check(subject.plan)
    try_engine(subject.make(subject.plan).setup)
    return Check(
        name=SELF_CHECK,
        compared="the engine with plain autograd on rows that nobody wrote, and the units with what the plan allows",
    )


def _short(subject: Subject, seed: int) -> list[Check]:
    """The checks of the short runs, which share their seconds."""
    made: list[Check] = []

    def run() -> Check:
        made.extend(short_runs(subject, seed))
        return made[0]

    first = timed(WATCHED, run)
    return [first, *made[1:]]


__all__ = ["SELF_CHECK", "conformance"]
