"""Whose texts a run is scored on, and on whose settings are chosen, from its evaluation population."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from dp_train.consent.gate import ConsentedCorpus
from dp_train.conversations import Example
from dp_train.runs.names import TuneOn
from dp_train.runs.recipe import Recipe
from dp_train.tasks.base import Task
from dp_train.tasks.evaluation_people import Apart, sample_over_people, set_apart


def evaluation_examples(
    config: Recipe,
    task: Task,
    scored: ConsentedCorpus | None,
    *,
    public: Callable[[], Iterable[Sequence[Example]]] = tuple,
) -> Apart:
    """Samples of the evaluation population: to report, and to choose settings on (`evaluation.tune_on`).

    Both are empty where there is no file of it.

    Args:
      scored: the evaluation population.
      public: reads published examples, for `evaluation.tune_on=public`.
    """
    if scored is None:
        return Apart(tuning=(), reported=())
    asked, found = config.evaluation, tuple(task.examples(scored))
    apart = Apart(tuning=found, reported=found)
    if asked.tune_on is TuneOn.SPLIT:
        apart = set_apart(found, share=asked.tune_share, seed=asked.seed)
    elif asked.tune_on is TuneOn.PUBLIC:
        apart = Apart(tuning=tuple(example for unit in public() for example in unit), reported=found)

    def sample(examples: Sequence[Example], most: int) -> tuple[Example, ...]:
        return sample_over_people(examples, most=most, per_person=asked.per_person, seed=asked.seed)

    return Apart(tuning=sample(apart.tuning, asked.tune_examples), reported=sample(apart.reported, asked.examples))


__all__ = ["evaluation_examples"]
