"""From a run's folder to what an audit needs: its trainer at its start, published text, and neighbours of its data.

Consent is asked as of now: who took it back since the run is in no part of an audit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dp_train.audit.subject import MakeTrainer, Neighbours, Subject
from dp_train.consent.events import Purpose
from dp_train.consent.gate import ConsentedCorpus, gate
from dp_train.conversations import Conversation, Corpus, Turn
from dp_train.corpora.files import PRIVATE, PUBLIC
from dp_train.corpora.spec import TrainOn
from dp_train.errors import DataError
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.units import Units, build_units
from dp_train.runs.populations import anonymizer_of, directory_of, policy_of, snapshot_of
from dp_train.runs.prepare import Parts, make_scaling, make_trainer
from dp_train.runs.starting import make_model
from dp_train.training.callbacks import Callback
from dp_train.training.trainer import Trainer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CONVERSATIONS, _PUBLIC_CONVERSATIONS = 48, 240
"""So many conversations, drawn at random, stand for a corpus: what is compared holds for any."""

_PAIRS = 3


def subject_of(parts: Parts, random: np.random.Generator) -> Subject:
    """Make the subject of an audit.

    Args:
      random: which conversations and people are looked at.

    Raises:
      DataError: no published text is left of which a unit can be made.
    """
    model, _ = make_model(parts.recipe, parts.data)
    return Subject(
        make=maker(parts, model),
        plan=parts.plan,
        units=parts.data.units,
        public=public_pair(parts, random),
        neighbours=neighbours(parts, random),
    )


def maker(parts: Parts, model: PreTrainedModel) -> MakeTrainer:
    """Return what makes the run's trainer, with `model` as it is now."""
    start = {name: one.detach().clone() for name, one in model.state_dict().items()}
    scaling = make_scaling(parts.recipe, model, parts.data)
    moments = None if scaling is None else scaling.state_dict()

    def make(
        plan: PrivacyPlan,
        *,
        checkpoint: Path | None = None,
        callbacks: Sequence[Callback] = (),
        self_check: bool = False,
    ) -> Trainer:
        model.load_state_dict(start)
        if scaling is not None and moments is not None:
            scaling.load_state_dict(moments)
        recipe = replace(parts.recipe, trainer=replace(parts.recipe.trainer, self_check=self_check))
        return make_trainer(
            recipe, model, parts.data.task, plan, callbacks=callbacks, checkpoint=checkpoint, scaling=scaling
        )

    return make


def neighbours(parts: Parts, random: np.random.Generator) -> list[Neighbours]:
    """Some conversations of the run, with and without the words of one of their people. Private."""
    recipe = parts.recipe
    on = PUBLIC if recipe.corpus.train_on is TrainOn.PUBLIC else PRIVATE
    raw = Some.of(recipe.corpus.corpora(recipe.task.spec().kinds)[on], _CONVERSATIONS, random)
    purpose = parts.data.populations.private.purpose
    return list(_pairs(parts, raw, on, purpose, random, _PAIRS))


def public_pair(parts: Parts, random: np.random.Generator) -> Neighbours:
    """Published text in units of the plan, with and without the words of one person.

    Raises:
      DataError: there is none.
    """
    recipe = parts.recipe
    raw = Some.of(recipe.corpus.corpora(recipe.task.spec().kinds)[PUBLIC], _PUBLIC_CONVERSATIONS, random)
    for pair in _pairs(parts, raw, PUBLIC, Purpose.PUBLISH, random, 1):
        return pair
    raise DataError("audit: no published conversation gives a unit for this task; expected some in corpus.public")


@dataclass(frozen=True, slots=True)
class Some:
    """A few conversations of a corpus, held in memory; one person may say nothing in them."""

    kept: tuple[Conversation, ...]
    silent: str | None = None
    name: str = "some conversations"

    @classmethod
    def of(cls, corpus: Corpus, count: int, random: np.random.Generator) -> Some:
        """Draw `count` of them, all alike likely, in one pass (reservoir sampling)."""
        kept: list[Conversation] = []
        for number, conversation in enumerate(corpus.conversations()):
            if number < count:
                kept.append(conversation)
            elif (place := int(random.integers(number + 1))) < count:
                kept[place] = conversation
        return cls(tuple(kept))

    def conversations(self) -> Iterator[Conversation]:
        """Each of them, the silent person's turns empty in their places."""
        for conversation in self.kept:
            turns = tuple(map(self._heard, conversation.turns))
            yield conversation if turns == conversation.turns else replace(conversation, turns=turns)

    def _heard(self, turn: Turn) -> Turn:
        return replace(turn, text="", mentions=()) if turn.person_id == self.silent else turn


def _pairs(
    parts: Parts, raw: Some, population: str, purpose: Purpose, random: np.random.Generator, count: int
) -> Iterator[Neighbours]:
    """Pairs of units that one person's silence tells apart, people in a random order."""
    whole = _units(parts, _consented(parts, raw, population, purpose))
    people = sorted(whole.people)
    random.shuffle(people)
    for person in people[:count]:
        silent = replace(raw, silent=person)
        yield Neighbours(whole=whole, emptied=_units(parts, _consented(parts, silent, population, purpose)))


def _consented(parts: Parts, corpus: Corpus, population: str, purpose: Purpose) -> ConsentedCorpus:
    """What of them passes the gate, as of the snapshot of the audit, anonymised as the run's text is."""
    decided = snapshot_of(parts.recipe, population, parts.data.populations.decided)
    policy, directory = policy_of(parts.recipe, purpose), directory_of(parts.recipe)
    return gate(corpus, decided, policy, directory=directory).redact(anonymizer_of(parts.recipe))


def _units(parts: Parts, corpus: ConsentedCorpus) -> Units:
    privacy = parts.recipe.privacy
    return build_units(
        parts.data.task.examples(corpus),
        unit=privacy.unit,
        max_contributions=privacy.max_contributions,
        rows_per_unit=privacy.rows_per_unit,
    )


__all__ = ["Some", "maker", "neighbours", "public_pair", "subject_of"]
