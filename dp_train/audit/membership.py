"""Membership inference: does a model tell whose words it was trained on, by the loss of all rows of a person?

Score of a person: the mean, over their rows, of the loss at the public start minus the loss of the trained model, so
that words which are easy for any model do not count (Carlini et al. 2022, arXiv 2112.03570, difficulty calibration).
Members are people of the run who agree now, others the people of the evaluation population, cut into units alike.

**Private**: it is computed from private data, and no ε covers it. What it cannot see: where the two populations differ
in more than membership, that shows as well, as an area beside ½ without any leak, or one that hides it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dp_train.audit.roc import Interval, area_interval, roc_curve
from dp_train.conversations import Example
from dp_train.errors import DataError
from dp_train.tasks.base import Row, Task
from dp_train.tasks.sequences import evaluating

RATES = (0.001, 0.01)
_ROWS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """What the attack reached. Private.

    Attributes:
      area: under the ROC; ½ is guessing. tpr: true positives at each of `RATES` of false ones.
      members, others: people.
      curve: (false positives, true positives), rising.
    """

    area: Interval
    tpr: Mapping[float, Interval]
    members: int
    others: int
    curve: Sequence[tuple[float, float]]

    def values(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "area": interval_values(self.area),
            **{f"tpr_at_{rate:g}": interval_values(found) for rate, found in self.tpr.items()},
            "members": self.members,
            "others": self.others,
            "roc": [[round(x, 6), round(y, 6)] for x, y in self.curve],
        }


def membership(
    start: nn.Module,
    trained: nn.Module,
    task: Task,
    members: Sequence[Sequence[Example]],
    others: Sequence[Sequence[Example]],
) -> Membership:
    """Attack `trained` with the rows of its people and of people outside.

    Args:
      start: the model before it saw anyone's words. members, others: units, each of one or more rows.

    Raises:
      DataError: one of the sides is empty, or someone is on both.
    """
    inside, outside = rows_of_people(members), rows_of_people(others)
    if not inside or not outside or inside.keys() & outside.keys():
        raise DataError(
            "membership: expected people of the run, and other people in corpus.evaluation, who agree now; "
            "give the run an evaluation population"
        )
    people = [*inside.items(), *outside.items()]
    scores = _scores(start, trained, task, [rows for _, rows in people])
    included = np.array([True] * len(inside) + [False] * len(outside))
    roc = roc_curve(scores, included)
    return Membership(
        area=area_interval(scores, included),
        tpr={rate: roc.tpr_at(rate) for rate in RATES},
        members=len(inside),
        others=len(outside),
        curve=list(zip(roc.fpr.tolist(), roc.tpr.tolist(), strict=True)),
    )


def rows_of_people(units: Sequence[Sequence[Example]]) -> dict[str, list[Example]]:
    """Person → every row that holds words of theirs."""
    found: dict[str, list[Example]] = {}
    for unit in units:
        for example in unit:
            for person in sorted(example.owners):
                found.setdefault(person, []).append(example)
    return found


def _scores(
    start: nn.Module, trained: nn.Module, task: Task, people: Sequence[Sequence[Example]]
) -> NDArray[np.float64]:
    """Of each person, the mean over rows by which training lowered the loss."""
    distinct = {id(example): example for rows in people for example in rows}
    rows = [task.encode(example) for example in distinct.values()]
    gained = losses(start, task, rows) - losses(trained, task, rows)
    by_row = dict(zip(distinct, gained, strict=True))
    return np.array([np.mean([by_row[id(example)] for example in rows]) for rows in people])


def losses(model: nn.Module, task: Task, rows: Sequence[Row]) -> NDArray[np.float64]:
    """The loss of each row, in order."""
    found = np.empty(len(rows))
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].input_ids))
    device = next(model.parameters()).device
    with evaluating(model), torch.no_grad():
        for begin in range(0, len(order), _ROWS):
            chosen = order[begin : begin + _ROWS]
            inputs = {name: one.to(device) for name, one in task.collate([rows[index] for index in chosen]).items()}
            found[chosen] = task.row_losses(model, inputs).double().cpu().numpy()
    return found


def interval_values(interval: Interval) -> dict[str, float]:
    """As JSON has it."""
    return {"value": round(interval.value, 6), "low": round(interval.low, 6), "high": round(interval.high, 6)}


__all__ = ["RATES", "Membership", "interval_values", "losses", "membership", "rows_of_people"]
