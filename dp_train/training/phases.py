"""What a model has learnt before: runs that trained the same weights compose, and a claim has to say so.

A model that is trained in phases (some layers first, then all; few steps at much noise, then more) has spent what all
phases spent. Each phase has a plan of its own; together they are the adaptive composition of their events, which were
fixed before the first of them or are priced as if they had been (`privacy.composition`).

Models are known by the object, for as long as it lives, and by what `note` says of one that was loaded from a folder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import WeakKeyDictionary

from torch import nn

from dp_train.atomic import write_text
from dp_train.errors import CheckpointError, ModelError
from dp_train.privacy.composition import compose, event_from_json, event_json
from dp_train.privacy.monitor import EpsilonClaim
from dp_train.privacy.plan import NeighboringRelation, PrivacyPlan, Unit

_PHASES: WeakKeyDictionary[nn.Module, tuple[Phase, ...]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One run that trained a model; public numbers alone.

    Attributes:
      population: population_id of its people.
      event: JSON of the `DpEvent` of the steps that ran; None where there is no bound per person.
      relation: under which the event is accounted.
    """

    population: str
    event: str | None
    relation: NeighboringRelation

    def values(self) -> dict[str, str | None]:
        """As JSON has it, for a checkpoint or an exported model."""
        return {"population": self.population, "event": self.event, "relation": self.relation.value}

    @classmethod
    def of(cls, values: dict[str, str | None]) -> Phase:
        """What `values` wrote."""
        population, relation = values["population"], values["relation"]
        if population is None:
            raise ValueError
        return cls(population=population, event=values["event"], relation=NeighboringRelation(relation))


def phase(plan: PrivacyPlan, claim: EpsilonClaim, population: str) -> Phase:
    """The phase that a run was."""
    bounded = claim.private and not claim.withheld and plan.unit is Unit.USER
    return Phase(
        population=population,
        event=event_json(plan.event(claim.steps)) if bounded else None,
        relation=plan.neighboring_relation,
    )


def phases_of(model: nn.Module) -> tuple[Phase, ...]:
    """Runs that trained the model before."""
    return _PHASES.get(model, ())


def note(model: nn.Module, phases: Sequence[Phase]) -> None:
    """Say which runs trained the model, in place of what was known."""
    _PHASES[model] = tuple(phases)


def together(claim: EpsilonClaim, plan: PrivacyPlan, before: Sequence[Phase], population: str) -> EpsilonClaim:
    """The claim of a run, for everything that trained its model on the same people.

    | before, on the same people | the claim |
    |---|---|
    | nothing | as it is |
    | runs with an ε per person | the composed ε of all of them |
    | a run without privacy, per example, or withheld | withheld |
    """
    same = [earlier for earlier in before if earlier.population == population]
    if not same or not claim.private:
        return claim
    events = tuple(earlier.event for earlier in same if earlier.event is not None)
    if len(events) < len(same) or plan.unit is not Unit.USER:
        reason = "an earlier run that trained this model on the same people has no ε per person"
        return replace(claim, spent=None, withheld=(*claim.withheld, reason))
    if claim.withheld:
        return claim
    relation = plan.neighboring_relation
    if any(earlier.relation is NeighboringRelation.REPLACE_SPECIAL for earlier in same):
        relation = NeighboringRelation.REPLACE_SPECIAL
    spent = compose([plan.event(claim.steps), *map(event_from_json, events)], relation, claim.delta).epsilon
    return replace(claim, spent=spent, earlier=events)


FILE = "dp_train.json"
"""In the folder of an exported model: what trained it."""


def write_phases(model: nn.Module, folder: Path) -> None:
    """Leave what trained a model beside its weights.

    Raises:
      CheckpointError: the folder cannot be written.
    """
    try:
        write_text(folder / FILE, json.dumps({"phases": [one.values() for one in phases_of(model)]}) + "\n")
    except OSError as error:
        raise CheckpointError(f"run folder: {folder} cannot be written ({error.strerror}); free space") from error


def read_phases(model: nn.Module, folder: Path) -> None:
    """Take up what `write_phases` left, if this is such a folder.

    Raises:
      ModelError: the file is damaged, so that nobody can tell what the model spent.
    """
    path = folder / FILE
    if not path.is_file():
        return
    try:
        note(model, [Phase.of(values) for values in json.loads(path.read_text())["phases"]])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"model {folder}: {FILE} cannot be read, which says what trained it; export the model again"
        ) from error


__all__ = ["Phase", "note", "phase", "phases_of", "read_phases", "together", "write_phases"]
