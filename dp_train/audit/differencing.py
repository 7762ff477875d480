"""Add/remove differencing: one person's words, from conversations on, move a clipped sum by at most C.

Conversations of the run, and the same in which one person says nothing, go through gate, anonymisation, units and the
run's own engine; the noise is so small that the release shows the sum. Compared are sums over the units that differ
with nothing beside them, with one other unit and with several; as they are and with the person's losses a thousand
times as large; at the plan's clip norm and at one that every unit reaches. The sums are private: what is said of them
is whether the bound holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dp_train.audit.checks import Check
from dp_train.audit.null_batches import released
from dp_train.audit.subject import Neighbours, Subject, attached
from dp_train.engines.as_found import as_found
from dp_train.engines.base import Engine, MicroBatch
from dp_train.privacy.tables import Tokens
from dp_train.privacy.units import Units
from dp_train.tasks.base import PacksRows, Task
from dp_train.training.batches import Batches, make_batches
from dp_train.training.method import Setup

NAME = "add/remove differencing"
_BESIDE = (0, 1, 8)
_HEAVY, _REACHED = 1e3, 1e-3
_SILENT = 1e-12
_SLACK, _SLACK_OF_COARSE = 1e-4, 2e-2
"""What rounding may add: a correct sum of float32 is off by 1e-6, one in bfloat16 by 1e-2."""


def differencing(subject: Subject, random: np.random.Generator) -> Check:
    """Compare sums with and without one person, for each of the subject's neighbours."""
    plan = subject.plan
    most = plan.max_contributions if plan.max_contributions > 1 else 1
    findings: list[str] = []
    compared = 0
    for pair in subject.neighbours:
        differ = Differ.of(pair, subject.make(plan).setup.task)
        if len(differ.gone) > most or len(differ.new) > 0:
            findings.append(f"one person's silence changes more than the {most} units that the plan allows a person")
            continue
        if differ.gone:
            compared += 1
            findings += _sums(subject, pair, differ, most, random)
    return Check(
        name=NAME,
        compared=f"sums of the run's engine over {len(subject.neighbours)} pairs of conversations that differ in one "
        f"person's words, with {most} × the clip norm",
        findings=tuple(dict.fromkeys(findings)),
        error="" if compared or findings else "nothing was compared: no unit goes with a person's words; audit again",
    )


@dataclass(frozen=True, slots=True)
class Differ:
    """Which units two data sets share and which not: indices into the whole and into the emptied one."""

    gone: tuple[int, ...]
    new: tuple[int, ...]
    shared: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, pair: Neighbours, task: Task) -> Differ:
        """Compare rows by their tokens."""
        whole, emptied = (_rows(units, task) for units in (pair.whole, pair.emptied))
        left: dict[Any, list[int]] = {}
        for index, rows in enumerate(emptied):
            left.setdefault(rows, []).append(index)
        gone, shared = [], []
        for index, rows in enumerate(whole):
            if left.get(rows):
                shared.append((index, left[rows].pop(0)))
            else:
                gone.append(index)
        return cls(tuple(gone), tuple(index for rest in left.values() for index in rest), tuple(shared))


def _rows(units: Units, task: Task) -> list[tuple[Tokens, ...]]:
    return [units.tokens(index, task.encode) for index in range(len(units))]


def _sums(subject: Subject, pair: Neighbours, differ: Differ, most: int, random: np.random.Generator) -> list[str]:
    findings = []
    for clip in (subject.plan.clip_norm, _REACHED * subject.plan.clip_norm):
        plan = subject.plan.replace(noise_multiplier=_SILENT, clip_norm=clip, loss_noise_ratio=None)
        for heavy in (1.0, _HEAVY):
            setup = subject.make(plan).setup
            slack = _SLACK if setup.method.autocast is None else _SLACK_OF_COARSE
            for moved in _moves(setup, pair, differ, heavy, random):
                if not moved <= most * clip * (1 + slack):
                    kind = "one person's loss made large" if heavy > 1 else "rows as they are"
                    reach = "every unit clipped" if clip < subject.plan.clip_norm else "the plan's clip norm"
                    findings.append(f"a sum moves by more than {most} × the clip norm ({kind}; {reach})")
                    break
    return findings


def _moves(
    setup: Setup, pair: Neighbours, differ: Differ, heavy: float, random: np.random.Generator
) -> Iterable[float]:
    """‖sum(S ∪ u) − sum(S)‖ for some S."""
    marks = _marks(_batches(setup, pair.whole)(np.array(differ.gone, dtype=np.int64)))
    if heavy > 1 and marks is None:
        return
    with as_found(setup.engine, setup.model):
        loud = setup if marks is None else replace(setup, task=heavy_task(setup.task, marks, heavy))
        with attached(loud, pair.whole) as (_, engine):
            whole, emptied = _batches(loud, pair.whole), _batches(loud, pair.emptied)
            for step, beside in enumerate(min(count, len(differ.shared)) for count in _BESIDE):
                chosen = random.permutation(len(differ.shared))[:beside]
                shared = [differ.shared[index] for index in chosen]
                with_u = _sum(loud, engine, whole(_draw([*differ.gone, *(one for one, _ in shared)])), 2 * step)
                without = _sum(loud, engine, emptied(_draw([other for _, other in shared])), 2 * step + 1)
                squares = (float((with_u[name] - without[name]).square().sum()) for name in with_u)
                yield float(np.sqrt(sum(squares)))


def _draw(indices: Sequence[int]) -> NDArray[np.int64]:
    return np.array(sorted(indices), dtype=np.int64)


def _sum(setup: Setup, engine: Engine, batches: Iterable[MicroBatch], step: int) -> dict[str, Tensor]:
    """What the engine releases of some microbatches, stretched as it clips it."""
    for batch in batches:
        engine.accumulate(batch)
    engine.release(step)
    found = released(setup)
    scales = {} if setup.scaling is None else setup.scaling.scales
    named = dict(setup.model.named_parameters())
    for name in found:
        if named[name] in scales:
            found[name] = found[name] * scales[named[name]].full()
        named[name].grad = None
    return found


def _batches(setup: Setup, units: Units) -> Batches:
    return make_batches(
        units,
        setup.task,
        packing=setup.method.packing,
        rows=setup.execution.microbatch_rows,
        tokens=setup.execution.microbatch_tokens,
        device=setup.device,
    )


def heavy_task(task: Task, marks: Tensor, factor: float) -> Task:
    """Return the task with the losses of some rows, known by their labels, `factor` times as large."""
    kind = _HeavyPacked if isinstance(task, PacksRows) else _Heavy
    return cast("Task", kind(task, marks, factor))


class _Heavy:
    """All else is as the task has it."""

    def __init__(self, task: Task, marks: Tensor, factor: float) -> None:
        self._task, self._marks, self._factor = task, marks, factor

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # a copy asks for some before there is a task
            raise AttributeError(name)
        return getattr(self._task, name)

    def row_losses(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """The task's losses, those of the marked rows `factor` times as large."""
        found = self._task.row_losses(model, inputs)
        marked = torch.isin(_fingerprints(inputs["labels"]), self._marks.to(found.device))
        return torch.where(marked, self._factor * found, found)


class _HeavyPacked(_Heavy):
    """Of a task whose rows can share a sequence."""

    def collate_packed(self, *arguments: Any) -> dict[str, Tensor]:
        return cast("dict[str, Tensor]", self._task.collate_packed(*arguments))  # type: ignore[attr-defined]

    def check_packing(self, model: nn.Module) -> None:
        self._task.check_packing(model)  # type: ignore[attr-defined]


def _marks(batches: Iterable[MicroBatch]) -> Tensor | None:
    found = [_fingerprints(batch.inputs["labels"]) for batch in batches if "labels" in batch.inputs]
    return torch.cat(found) if found else None


def _fingerprints(labels: Tensor) -> Tensor:
    """(rows,) int64 of the tokens in each row, wherever padding puts them."""
    flat = labels.reshape(len(labels), -1).long()
    mixed = (flat * 2_654_435_761 + 97) % 2_147_483_647
    return torch.where(flat >= 0, mixed * mixed % 1_000_003, 0).sum(1)


__all__ = ["Differ", "differencing", "heavy_task"]
