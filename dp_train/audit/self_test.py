"""Does the audit find what it is there to find? Plants the bugs of `plants` one by one, and shows which part sees each.

The trainer is that of `letters`: small enough for all bugs in a few seconds. A bug that no part sees, or a part that
sees something in the trainer without a bug, makes the self-test fail.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dp_train.audit.checks import Conformance
from dp_train.audit.conformance import conformance
from dp_train.audit.letters import PLAN, LetterModel, LetterTask, units_of
from dp_train.audit.planting import Plant, Run, planted
from dp_train.audit.plants import PLANTS
from dp_train.audit.subject import Neighbours, Subject
from dp_train.engines.base import EngineName
from dp_train.privacy.plan import PrivacyPlan
from dp_train.training.batches import Packing
from dp_train.training.callbacks import Callback
from dp_train.training.checkpoint import CheckpointFolder
from dp_train.training.method import Execution, Method
from dp_train.training.optimizers import adamw
from dp_train.training.trainer import Trainer

NO_BUG = "no bug"
_ENGINE = EngineName.BOOKKEEPING
_SILENT = (3, 17)
"""People of `letters` whose words are taken away; both wrote two messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caught:
    """A bug, and the parts of the audit that see it."""

    bug: str
    parts: tuple[str, ...]
    seconds: float

    @property
    def as_it_should(self) -> bool:
        """Whether at least one part sees the bug; none, where there is none."""
        return not self.parts if self.bug == NO_BUG else bool(self.parts)


def self_test(
    plants: Sequence[Plant] | None = None, *, seed: int | None = None, say: Callable[[str], None] = lambda line: None
) -> list[Caught]:
    """Run the conformance audit on a trainer without a bug, then with each of `plants` (all that are known) in it."""
    found = []
    for plant in (
        None,
        *(plant for plant in (PLANTS if plants is None else plants) if not plant.not_on(_ENGINE, Packing.NONE)),
    ):
        name = NO_BUG if plant is None else plant.name
        say(name)
        begun = time.perf_counter()
        seen = audited(plant, seed=seed)
        parts = tuple(check.name for check in seen.checks if seen.findings_of(check) or check.error)
        found.append(Caught(bug=name, parts=parts, seconds=time.perf_counter() - begun))
    return found


def audited(plant: Plant | None, *, seed: int | None = None) -> Conformance:
    """Audit the letter trainer with a bug in it, which is taken out again."""
    with _one_thread(), planted(plant, LetterModel(), LetterTask()) as run:
        return conformance(letter_subject(run), seed=seed)


def letter_subject(run: Run) -> Subject:
    """The letter trainer as an audit takes it; read at each call, for a plant may change what is in `run`."""
    start = {name: one.clone() for name, one in run.model.state_dict().items()}

    def make(
        plan: PrivacyPlan,
        *,
        checkpoint: Path | None = None,
        callbacks: Sequence[Callback] = (),
        self_check: bool = False,
    ) -> Trainer:
        run.model.load_state_dict(start)
        return Trainer(
            run.model,
            run.task,
            plan,
            optimizer=adamw(lr=0.01),
            method=Method(engine=_ENGINE, schedule=run.schedule),
            execution=Execution(
                callbacks=[*callbacks, *run.callbacks],
                checkpoint=None if checkpoint is None else CheckpointFolder(checkpoint),
                self_check=self_check,
            ),
        )

    def units(silent: int | None) -> Any:
        return units_of(run.task.purpose, run.unit, PLAN.rows_per_unit, silent)

    pairs = [Neighbours(whole=units(None), emptied=units(person)) for person in _SILENT]
    return Subject(make=make, plan=PLAN, units=units(None), public=pairs[0], neighbours=pairs)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def table_of(found: Sequence[Caught]) -> Mapping[str, str]:
    """Bug → who sees it, for people."""
    return {one.bug: ", ".join(one.parts) or "nothing" for one in found}


__all__ = ["NO_BUG", "Caught", "audited", "letter_subject", "self_test", "table_of"]
