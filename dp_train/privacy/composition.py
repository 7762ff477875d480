"""What several runs on the same people cost together, whether they were planned together or one after the other.

Two questions, two answers:

- **Declared together.** Parameters of all runs were fixed before the first of them read anything. Their privacy loss
  distributions compose exactly, also when *what* is asked is chosen on the way (`compose`).
- **Chosen on the way.** Somebody saw results and then chose σ, q, T or whether to go on. Composing the loss
  distributions or trade-off curves as if they had been fixed is then *not valid* (Tran et al. 2026, arXiv 2602.06756);
  a Rényi filter is (`RenyiFilter`).

References: Rogers et al. 2016 (arXiv 1605.08294) on filters; Feldman & Zrnic 2021 (arXiv 2008.11193) on the Rényi
filter; Whitehouse et al. 2023 (arXiv 2203.05481); Haney et al. 2023 (arXiv 2309.05901) on runs that overlap in time;
Canonne et al. 2020 (arXiv 2004.00010), Prop. 12, on the way from Rényi to (ε, δ).
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dp_train.errors import PlanError
from dp_train.privacy.plan import NeighboringRelation

_HALF_OCTAVES = range(-4, 5)
"""Orders of the filter: the one that suits the budget best, and four on each side, α−1 a factor √2 apart."""

_SAMPLED = 2**-0.75
"""How much lower α−1 is at its best for Poisson-sampled Gaussians than for Gaussians; found on twenty-two plans."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """An ε, by which accountant, over which discretisation interval (None for Rényi); always an upper bound."""

    epsilon: float
    accountant: str
    interval: float | None


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


def renyi(event: Any, orders: Sequence[float]) -> NDArray[np.float64]:
    """Rényi divergence of an event at each order, the larger of both directions; inf where nobody knows it.

    dp_accounting gives it for Poisson-sampled Gaussians, for Gaussians and for repeated selection. Mixtures of
    Gaussians are integrated here: their dominating pair is one-dimensional (Choquette-Choo et al. 2024, arXiv
    2310.15526), and what dominates in every (ε, δ) dominates in every Rényi divergence (Zhu et al. 2022, 2106.08567).
    """
    return np.array(_renyi(event_json(event), tuple(float(order) for order in orders)))


def compose(events: Sequence[Any], relation: NeighboringRelation, delta: float) -> Price:
    """ε at `delta` of events that were declared together, by PLD; by Rényi where PLD does not know one of them.

    Args:
      events: as `event_from_json` gives them.
      relation: under which all of them are accounted. `REPLACE_SPECIAL` takes the runs of one person a unit too:
        to remove a unit from a sum, or to replace it by nothing, is the same.
    """
    return _compose(tuple(sorted(map(event_json, events))), relation, delta)


@dataclass(frozen=True, slots=True)
class RenyiFilter:
    """Says whether one more run may follow, whatever was seen before it was chosen.

    Guarantee: if every run was admitted when all runs so far and itself were within `allows`, all of them together are
    (`epsilon`, `delta`)-DP, though their parameters were chosen adaptively and though they overlap in time.

    Proof. Orders αⱼ and weights wⱼ with Σ wⱼ ≤ 1 depend on the budget alone. For each, exp((αⱼ−1)(L − Sⱼ)) is a
    supermartingale of mean at most 1, where L is the privacy loss so far and Sⱼ the sum of the Rényi divergences of the
    runs so far, each chosen given the past. At the end some j has Sⱼ ≤ Bⱼ, where cⱼ exp((αⱼ−1)(Bⱼ−ε)) = wⱼδ and
    cⱼ = (1−1/αⱼ)^(αⱼ−1) / αⱼ. As (1−e^(ε−L))₊ ≤ cⱼ exp((αⱼ−1)(L−ε)), the expected left side is at most Σ wⱼδ ≤ δ.

    Half the weight goes to the order that suits this budget and sampled Gaussians: log 2 ÷ (α−1) dearer in ε.
    """

    epsilon: float
    delta: float

    @property
    def orders(self) -> tuple[float, ...]:
        """αⱼ, rising."""
        tail = math.log(1 / self.delta)
        best = _SAMPLED * math.sqrt(tail) / (math.sqrt(self.epsilon + tail) - math.sqrt(tail))
        return tuple(1 + max(best * 2 ** (step / 2), 0.05) for step in _HALF_OCTAVES)

    def spent(self, events: Sequence[Any]) -> float:
        """The least ε at which a filter with these orders and weights would have admitted the events; inf if none."""
        total = np.zeros(len(_HALF_OCTAVES))
        for event in events:
            total = total + renyi(event, self.orders)
        found = math.inf
        for step, order, sum_ in zip(_HALF_OCTAVES, self.orders, total, strict=True):
            weight = 0.5 if step == 0 else 2.0 ** -(abs(step) + 2)
            share = math.log(weight * self.delta * order) / (order - 1)
            found = min(found, float(sum_) + math.log1p(-1 / order) - share)
        return max(found, 0.0) if any(_spends(event) for event in events) else 0.0

    def allows(self, events: Sequence[Any]) -> bool:
        """Whether the runs so far and the next, `events` together, are within the budget."""
        return self.spent(events) <= self.epsilon


def _spends(event: Any) -> bool:
    from dp_accounting import dp_event

    return not isinstance(event, dp_event.NoOpDpEvent)


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


@lru_cache(maxsize=4096)
def _renyi(text: str, orders: tuple[float, ...]) -> tuple[float, ...]:
    from dp_accounting import NeighboringRelation as Relation
    from dp_accounting import dp_event
    from dp_accounting.rdp import RdpAccountant
    from dp_accounting.rdp.rdp_privacy_accountant import DEFAULT_RDP_ORDERS

    event = event_from_json(text)
    if isinstance(event, dp_event.SelfComposedDpEvent):
        return tuple(event.count * value for value in _renyi(event_json(event.event), orders))
    if isinstance(event, dp_event.ComposedDpEvent):
        parts = [_renyi(event_json(part), orders) for part in event.events]
        return tuple(sum(values) for values in zip(*parts, strict=True)) if parts else (0.0,) * len(orders)
    if isinstance(event, dp_event.MixtureOfGaussiansDpEvent):
        return tuple(_mixture(event, order) for order in orders)
    # Repeated selection is the better, the more orders it can choose its own second one from.
    all_orders = sorted({*orders, *map(float, DEFAULT_RDP_ORDERS)}) if _selects(event) else list(orders)
    accountant = RdpAccountant(all_orders, Relation.REPLACE_SPECIAL)
    if not accountant.supports(event):
        return (math.inf,) * len(orders)
    with quiet_accountant():
        accountant.compose(event)
    found = dict(zip(all_orders, (float(value) for value in accountant.rdp), strict=True))
    return tuple(found[order] if not math.isnan(found[order]) else math.inf for order in orders)


def _selects(event: Any) -> bool:
    from dp_accounting import dp_event

    return isinstance(event, dp_event.RepeatAndSelectDpEvent)


def _mixture(event: Any, order: float) -> float:
    """Rényi divergence of a mixture of Gaussians from a Gaussian, and back; by the trapezoid rule.

    The rule's error falls faster than any power of the step for integrands like these; 0.02 standard deviations leave
    the twelfth digit as it is.
    """
    from scipy.special import logsumexp

    sigma = event.standard_deviation
    shifts = np.asarray(event.sensitivities, dtype=float) / sigma
    logs = np.log(np.asarray(event.sampling_probs, dtype=float))
    far = float(shifts.max())
    points = np.arange(-15 - (order - 1) * far, 15 + order * far, 0.02)
    if len(points) * len(shifts) > 50_000_000:
        return math.inf  # so little noise, or so high an order, that the answer would be no use
    ratio = logsumexp(logs[:, None] + shifts[:, None] * points - shifts[:, None] ** 2 / 2, axis=0)
    base = -(points**2) / 2 + math.log(0.02 / math.sqrt(2 * math.pi))
    return max(float(logsumexp(base + power * ratio)) for power in (order, 1 - order)) / (order - 1)


@lru_cache(maxsize=1024)
@np.errstate(over="ignore", divide="ignore")
def _compose(texts: tuple[str, ...], relation: NeighboringRelation, delta: float) -> Price:
    from dp_accounting import NeighboringRelation as Relation
    from dp_accounting import dp_event
    from dp_accounting.pld import PLDAccountant

    events = [event for event in map(event_from_json, texts) if _spends(event)]
    if not events:
        return Price(epsilon=0.0, accountant="pld", interval=None)
    if any(isinstance(event, dp_event.NonPrivateDpEvent) for event in events):
        return Price(epsilon=math.inf, accountant="pld", interval=None)
    rough = renyi_epsilon(events, delta)
    if rough > 1e4:
        return Price(epsilon=math.inf, accountant="rdp", interval=None)
    interval = _interval(rough, mixed=any("Mixture" in text for text in texts))
    accountant = PLDAccountant(Relation[relation.name], value_discretization_interval=interval)
    if not all(accountant.supports(event) for event in events):
        return Price(epsilon=rough, accountant="rdp", interval=None)
    for event in events:
        accountant.compose(event)
    return Price(epsilon=float(accountant.get_epsilon(delta)), accountant="pld", interval=interval)


_WIDE = (*(1 + x / 10 for x in range(1, 20, 3)), 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 128, 256)


def renyi_epsilon(events: Sequence[Any], delta: float) -> float:
    """ε of events declared together by Rényi: an upper bound, if a loose one; it knows repeated selection."""
    from dp_accounting.rdp.rdp_privacy_accountant import DEFAULT_RDP_ORDERS, compute_epsilon

    orders = DEFAULT_RDP_ORDERS if any(map(_selects, events)) else _WIDE
    total = np.zeros(len(orders))
    for event in events:
        total = total + renyi(event, [float(order) for order in orders])
    finite = [(order, value) for order, value in zip(orders, total, strict=True) if math.isfinite(value)]
    if not finite:
        return math.inf
    with quiet_accountant():
        return float(compute_epsilon([o for o, _ in finite], [v for _, v in finite], delta)[0])


def _interval(rough: float, *, mixed: bool) -> float:
    """As fine as some 50,000 points allow, a tenth of them for mixtures; any interval gives an upper bound."""
    if not math.isfinite(rough):
        return 1e-3
    usual = 1e-3 if mixed else 1e-4
    if rough < 0.1:
        return usual / 10
    return usual if rough < 30 else usual * 10 if rough < 300 else usual * 100


@contextmanager
def quiet_accountant() -> Iterator[None]:
    """dp_accounting logs each order whose series does not converge and leaves it out: a larger ε at worst."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
