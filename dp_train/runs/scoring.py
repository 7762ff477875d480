"""What a finished model is: exported, scored on public people, and compared with its training text for the owner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dp_train.consent.manifest import PRIVATE
from dp_train.runs.folder import RunFolder
from dp_train.runs.load import ship
from dp_train.runs.prepare import Parts, RunData
from dp_train.runs.result import TUNING, Scored
from dp_train.tasks.base import Sample
from dp_train.tasks.chat_compose import ChatCompose
from dp_train.tasks.metrics import Scores, TriggerPoint
from dp_train.tasks.verbatim import verbatim_overlap

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STATISTICS = "statistics.json"
"""In a run's private folder: what was computed from the training text and no ε covers."""


def export(parts: Parts, model: PreTrainedModel, folder: RunFolder, *, identity: str = "") -> PreTrainedModel:
    """Leave RUN/model, and return what a user loads from it: that is what is scored. See `runs.load.ship`."""
    return ship(parts.recipe, model, parts.data.task, parts.data.tokenizer, folder.model, identity=identity)


def score(parts: Parts, model: PreTrainedModel, folder: RunFolder, *, tune: bool = False) -> Scored:
    """Score a model on the evaluation population; nothing where there is none.

    Args:
      tune: whether the primary score on the tuning people is wanted as well: something is chosen by it.
    """
    data, evaluation = parts.data, parts.recipe.evaluation
    if not data.evaluation:
        return Scored()
    curve: Sequence[TriggerPoint] = ()
    if isinstance(data.task, ChatCompose):
        scores, curve = data.task.scores_and_curve(model, data.evaluation)
    else:
        scores = data.task.evaluate(model, data.evaluation)
    if tune and data.tuning:
        chosen = data.task.evaluate(model, data.tuning, scores=Scores.PRIMARY)[data.task.metric]
        scores = {**scores, f"{TUNING}{data.task.metric}": chosen}
    generated = data.task.samples(model, data.evaluation, max(evaluation.samples, evaluation.overlap_examples))
    return Scored(
        scores=scores,
        samples=generated[: evaluation.samples],
        curve=curve,
        private=_overlap(data, generated[: evaluation.overlap_examples], folder),
    )


def _overlap(data: RunData, generated: Sequence[Sample], folder: RunFolder) -> dict[str, float]:
    """Compare what is generated, and the references of the same examples, with the training text.

    It is private: it goes beside the list of people, and is the caller's to log or not.
    """
    if not generated:
        return {}
    found: dict[str, float] = {}
    for of, texts in (("output", [s.output for s in generated]), ("reference", [s.reference for s in generated])):
        overlap = verbatim_overlap(texts, data.units, data.tokenizer, data.task.encode)
        found |= {f"verbatim_{of}_longest": float(overlap.longest), f"verbatim_{of}_mean": overlap.mean}
    RunFolder(folder.path / PRIVATE).write_json(STATISTICS, found)
    return found


__all__ = ["STATISTICS", "export", "score"]
