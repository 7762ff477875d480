"""What private runs of a trade-off are compared with: a baseline's rate, what speaks against it, shares of its gain.

A baseline that is weak makes privacy look cheap. So its rate is chosen among several, by people who are not reported,
for the very number of steps in hand; and whatever speaks against it is said wherever it is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from dp_train.runs.baselines import Baseline, baseline_of, rate_of
from dp_train.runs.names import TuneOn
from dp_train.runs.recipe import Recipe
from dp_train.runs.result import TUNING, RunResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One rate of a baseline: its runs, and the median of what the tuning people gave them; None if they gave none."""

    rate: float
    outcomes: tuple[RunResult, ...]
    tuning: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A baseline at the rate that the tuning people chose.

    Attributes:
      outcomes: its runs at that rate. tried: all rates, rising.
      doubts: why it may be weaker than it need be, each a sentence; empty where nothing speaks against it.
    """

    baseline: Baseline
    rate: float
    outcomes: tuple[RunResult, ...]
    tried: tuple[Tried, ...]
    doubts: tuple[str, ...] = ()

    def describe(self) -> str:
        """Which rate, of which, chosen how, and what speaks against it."""
        steps = self.outcomes[0].plan.steps
        found = f"{self.baseline.title}: rate {self.rate:g}, {steps} steps"
        if len(self.tried) > 1:
            scores = ", ".join(
                f"{one.rate:g}: {'–' if one.tuning is None else f'{one.tuning:.4g}'}" for one in self.tried
            )
            found += f", chosen among rates by the tuning people ({scores})"
        return "; ".join([found, *(f"DOUBT: {doubt}" for doubt in self.doubts)])


def chosen_baselines(
    recipe: Recipe, outcomes: Sequence[RunResult], *, metric: str, higher_is_better: bool
) -> dict[Baseline, Chosen]:
    """Each baseline that has a score, at its chosen rate, with what speaks against it.

    Args:
      recipe: of the trade-off. outcomes: all of its runs of one task.
    """
    found = {}
    for baseline in Baseline:
        own = [one for one in outcomes if baseline_of(one.config) is baseline and metric in one.scores]
        if own:
            found[baseline] = _choose(recipe, baseline, own, metric, higher_is_better)
    return {
        baseline: _doubted(chosen, _beaten(chosen, found, outcomes, metric, higher_is_better))
        for baseline, chosen in found.items()
    }


def share_of_gain(score: float, *, start: float | None, best: float | None, higher_is_better: bool) -> float | None:
    """What part of the gain of `best` over the start a score keeps; None where there is no gain to take part of."""
    if start is None or best is None or not _better(best, start, higher_is_better):
        return None
    return (score - start) / (best - start)


def _choose(
    recipe: Recipe, baseline: Baseline, outcomes: Sequence[RunResult], metric: str, higher_is_better: bool
) -> Chosen:
    by_rate: dict[float, list[RunResult]] = {}
    for outcome in outcomes:
        by_rate.setdefault(rate_of(outcome.config), []).append(outcome)
    tried = tuple(
        Tried(rate=rate, outcomes=tuple(some), tuning=_median(some, f"{TUNING}{metric}"))
        for rate, some in sorted(by_rate.items())
    )
    told = all(one.tuning is not None for one in tried)
    order = max if higher_is_better else min
    if told:
        best = order(tried, key=lambda one: one.tuning if one.tuning is not None else 0.0)
    else:  # nobody to choose on: the reported people have to
        best = order(tried, key=lambda one: median(outcome.scores[metric] for outcome in one.outcomes))
    chosen = Chosen(baseline=baseline, rate=best.rate, outcomes=best.outcomes, tried=tried)
    return _doubted(chosen, _untuned(recipe, chosen, told))


def _untuned(recipe: Recipe, chosen: Chosen, told: bool) -> list[str]:
    """Why the rate may not be the best one for the steps in hand."""
    rates = [one.rate for one in chosen.tried]
    steps = chosen.outcomes[0].plan.steps
    if len(rates) == 1:
        asked = recipe.tradeoff.none if chosen.baseline is Baseline.NONE else recipe.tradeoff.best
        tuned = asked.tuned
        if (tuned.learning_rate, tuned.steps) == (chosen.rate, steps):
            return []
        if tuned.learning_rate is None or tuned.steps is None:
            return [f"not tuned for these {steps} steps, one rate was run; give several in tradeoff.{_key(chosen)}"]
        known = f"rate {tuned.learning_rate:g} was tuned for {tuned.steps} steps"
        return [f"{known}, which is not rate {chosen.rate:g} for these {steps}"]
    found = []
    if chosen.rate in (rates[0], rates[-1]):
        which, beyond = ("lowest", "lower") if chosen.rate == rates[0] else ("highest", "higher")
        found.append(f"its rate is the {which} that was tried, a {beyond} one may be better; add it to {_key(chosen)}")
    if not told or recipe.evaluation.tune_on is TuneOn.REPORTED:
        found.append("its rate was chosen on the people who are reported, which flatters it")
    return found


def _beaten(
    chosen: Chosen,
    found: dict[Baseline, Chosen],
    outcomes: Sequence[RunResult],
    metric: str,
    higher_is_better: bool,
) -> list[str]:
    """What should be worse than a baseline, and is not."""
    own = _score(chosen, metric)
    doubts = []
    none = found.get(Baseline.NONE)
    if (
        chosen.baseline is Baseline.BEST
        and none is not None
        and not _better(own, _score(none, metric), higher_is_better)
    ):
        doubts.append(f"no better than {Baseline.NONE.title}, which has bounds and fewer steps")
    private: dict[float | None, list[RunResult]] = {}
    for outcome in outcomes:
        if baseline_of(outcome.config) is None and metric in outcome.scores:
            private.setdefault(outcome.config.privacy.epsilon, []).append(outcome)
    if any(_better(median(one.scores[metric] for one in some), own, higher_is_better) for some in private.values()):
        doubts.append("a private run scores better")
    return doubts


def _doubted(chosen: Chosen, doubts: Sequence[str]) -> Chosen:
    return Chosen(
        baseline=chosen.baseline,
        rate=chosen.rate,
        outcomes=chosen.outcomes,
        tried=chosen.tried,
        doubts=(*chosen.doubts, *doubts),
    )


def _key(chosen: Chosen) -> str:
    return f"{chosen.baseline.value}.learning_rates"


def _score(chosen: Chosen, metric: str) -> float:
    return median(outcome.scores[metric] for outcome in chosen.outcomes)


def _median(outcomes: Sequence[RunResult], name: str) -> float | None:
    values = [outcome.scores[name] for outcome in outcomes if name in outcome.scores]
    return median(values) if len(values) == len(outcomes) else None


def _better(score: float, other: float, higher_is_better: bool) -> bool:
    return score > other if higher_is_better else score < other


__all__ = ["Chosen", "Tried", "chosen_baselines", "share_of_gain"]
