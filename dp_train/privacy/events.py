"""What happened, apart from what it costs: `DpEvent`s of dp_accounting as text, and as counts of equal steps."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from dp_train.errors import PlanError

Grouped = tuple[tuple[str, int], ...]
"""(JSON of one step, how often it happened), each step once, in the order of the texts."""


def event_json(event: Any) -> str:
    """A `DpEvent` as JSON that `event_from_json` turns into an equal one; sorted keys, so equal events give equal text.

    Raises:
      PlanError: an event that is no dataclass of dp_accounting.
    """
    return json.dumps(_values(event), sort_keys=True, separators=(",", ":"), allow_nan=False)


def event_from_json(text: str) -> Any:
    """The event that `event_json` wrote. Only events of dp_accounting are made, whatever the text says.

    Raises:
      PlanError: the text is no event.
    """
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError
        return _event(values)
    except (ValueError, TypeError, KeyError) as error:
        raise PlanError(
            "event: the stored text is no DpEvent; expected what this version or an older one wrote"
        ) from error


def grouped(events: Iterable[Any]) -> Grouped:
    """Return the steps that the events consist of, equal ones counted together.

    Composition does not depend on order, and a run of 300 steps is 300 equal steps: runs that share a step share its
    privacy loss distribution, however long each of them is. Events that release nothing are left out.
    """
    counts: Counter[str] = Counter()
    for event in events:
        _count(event, 1, counts)
    return tuple(sorted(counts.items()))


def sampled_gaussian(event: Any) -> tuple[float, float, int] | None:
    """(noise multiplier, sample rate, steps) of Poisson-sampled Gaussians, as Opacus' accountants take them; else None.

    | event | answer |
    |---|---|
    | T equal Poisson-sampled Gaussian steps | (σ, q, T) |
    | steps of two kinds, a mixture, a truncated draw, no step at all | None |
    """
    from dp_accounting import dp_event

    steps = grouped([event])
    if len(steps) != 1:
        return None
    ((text, count),) = steps
    step = event_from_json(text)
    if not (isinstance(step, dp_event.PoissonSampledDpEvent) and isinstance(step.event, dp_event.GaussianDpEvent)):
        return None
    return float(step.event.noise_multiplier), float(step.sampling_probability), count


def _count(event: Any, times: int, counts: Counter[str]) -> None:
    from dp_accounting import dp_event

    if isinstance(event, dp_event.NoOpDpEvent) or times == 0:
        return
    if isinstance(event, dp_event.SelfComposedDpEvent):
        _count(event.event, times * event.count, counts)
    elif isinstance(event, dp_event.ComposedDpEvent):
        for part in event.events:
            _count(part, times, counts)
    elif not (isinstance(event, dp_event.PoissonSampledDpEvent) and event.sampling_probability == 0):
        counts[event_json(event)] += times


def _values(value: Any) -> Any:
    import attr
    from dp_accounting import dp_event

    if isinstance(value, dp_event.DpEvent):
        if getattr(dp_event, type(value).__name__, None) is not type(value):
            raise PlanError(f"event: {type(value).__name__} is none of dp_accounting's; it cannot be stored")
        fields = {field.name: _values(getattr(value, field.name)) for field in attr.fields(type(value))}
        return {"event": type(value).__name__, **{f"of_{name}": item for name, item in fields.items()}}
    if isinstance(value, list | tuple):
        return [_values(item) for item in value]
    if isinstance(value, float) and math.isinf(value):
        return "inf"
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, np.integer | np.floating):
        return value.item()
    raise PlanError(f"event: a field of type {type(value).__name__} cannot be stored; expected numbers and events")


def _event(values: Any) -> Any:
    from dp_accounting import dp_event

    if isinstance(values, Mapping):
        kind = getattr(dp_event, str(values["event"]), None)
        if not (isinstance(kind, type) and issubclass(kind, dp_event.DpEvent)):
            raise ValueError
        return kind(**{name.removeprefix("of_"): _event(item) for name, item in values.items() if name != "event"})
    if isinstance(values, list):
        return [_event(item) for item in values]
    if values == "inf":
        return math.inf
    if isinstance(values, int | float):
        return values
    raise ValueError


__all__ = ["Grouped", "event_from_json", "event_json", "grouped", "sampled_gaussian"]
