"""What a model has learnt before: runs that trained the same weights compose, and a claim has to say so.

A model that is trained in phases (some layers first, then all; few steps at much noise, then more) has spent what all
phases spent. Each phase has a plan of its own; together they are the adaptive composition of their events, which were
fixed before the first of them or are priced as if they had been (`privacy.composition`).

A model is known by the contents of its tensors (`models.weights`): a copy, a `load_state_dict`, a peft wrapper or a
part of the weights bring along what trained them. This process remembers what it trained; a ledger, what others did;
an exported folder, what trained the model in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from dp_train.atomic import write_text
from dp_train.errors import CheckpointError, ModelError
from dp_train.models.weights import Marks, declare_names, has_known_origin, mark_tensors, names_of
from dp_train.privacy.composition import compose, event_from_json, event_json
from dp_train.privacy.ledger.lines import Line
from dp_train.privacy.monitor import EpsilonClaim
from dp_train.privacy.plan import NeighboringRelation, PrivacyPlan, Unit

_LEARNT: dict[str, tuple[Phase, ...]] = {}
"""Mark of a tensor → the runs that trained it, as far as this process knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One run that trained a model; public numbers alone.

    Attributes:
      run: public name of the run, by which it is counted once.
      population: population_id of its people.
      event: JSON of the `DpEvent` of the run; None where there is no bound per person.
      relation: under which the event is accounted.
    """

    run: str
    population: str
    event: str | None
    relation: NeighboringRelation

    def values(self) -> dict[str, str | None]:
        """As JSON has it, for a checkpoint, a ledger or an exported model."""
        return {
            "run": self.run,
            "population": self.population,
            "event": self.event,
            "relation": self.relation.value,
        }

    @classmethod
    def of(cls, values: Mapping[str, str | None]) -> Phase:
        """What `values` wrote; a phase that an older version wrote has no name, and gets one of its own."""
        population, relation = values["population"], values["relation"]
        if population is None:
            raise ValueError
        run = values.get("run") or hashlib.blake2b(json.dumps(dict(values)).encode(), digest_size=16).hexdigest()
        return cls(run=run, population=population, event=values["event"], relation=NeighboringRelation(relation))


def as_phase(plan: PrivacyPlan, claim: EpsilonClaim, population: str, run: str) -> Phase:
    """Return the phase that a run was; one that was stopped early counts in full, as its claim does."""
    bounded = claim.private and not claim.withheld and plan.unit is Unit.USER
    return Phase(
        run=run,
        population=population,
        event=event_json(plan.event(plan.charged(claim.steps))) if bounded else None,
        relation=plan.neighboring_relation,
    )


def phases_of(marks: Marks, lines: Iterable[Line] = ()) -> tuple[Phase, ...]:
    """Return the runs that trained any tensor of a model, each once.

    Args:
      marks: of the model, from `mark_tensors`.
      lines: of a ledger, whose runs say what their weights were when they ended.
    """
    lines = tuple(lines)
    names, found = names_of(marks), dict[str, Phase]()
    for line in lines:
        if names.isdisjoint(line.end.weights):
            continue
        event = line.event if line.bounded and not line.withheld else None
        own = Phase(
            run=line.identity or line.reservation, population=line.population, event=event, relation=line.relation
        )
        for phase in (*map(Phase.of, line.before), own):
            found.setdefault(phase.run, phase)
    for name in sorted(names.intersection(_LEARNT)):
        for phase in _LEARNT[name]:
            found.setdefault(phase.run, phase)
    # What was written when a run went on with a model may have been said too early: an audit comes later.
    unbounded = {line.identity for line in lines if line.withheld}
    return tuple(replace(one, event=None) if one.run in unbounded else one for one in found.values())


def record_phases(names: Iterable[str], phases: Sequence[Phase]) -> None:
    """Remember which runs trained the tensors that have these marks."""
    if phases:
        for name in names:
            known = {phase.run: phase for phase in _LEARNT.get(name, ())}
            _LEARNT[name] = tuple({**known, **{phase.run: phase for phase in phases}}.values())


def compose_claims(
    claim: EpsilonClaim, plan: PrivacyPlan, before: Sequence[Phase], populations: Collection[str]
) -> EpsilonClaim:
    """Return the claim of a run, for everything that trained its model on the same people.

    | before, on the same people | the claim |
    |---|---|
    | nothing | as it is; runs on populations that are not known to share people are said |
    | runs with an ε per person | the composed ε of all of them |
    | a run without privacy, per example, or withheld | withheld |

    Args:
      populations: the run's, and those that its ledger knows to share people with it, under whatever keys.
    """
    same = [earlier for earlier in before if earlier.population in populations]
    claim = replace(claim, elsewhere=len(before) - len(same))
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
    own = plan.event(plan.charged(claim.steps))
    spent = compose([own, *map(event_from_json, events)], relation, claim.delta).epsilon
    return replace(claim, spent=spent, earlier=events)


FILE = "dp_train.json"
"""In the folder of an exported model: what trained it."""


def write_phases(model: nn.Module, folder: Path, *, identity: str = "") -> None:
    """Leave beside a model's weights what trained them, by which marks they are known, and the run's public name.

    Raises:
      CheckpointError: the folder cannot be written.
    """
    marks = mark_tensors(model)
    values = {
        "identity": identity,
        "phases": [phase.values() for phase in phases_of(marks)],
        "trained": sorted(names_of(marks).intersection(_LEARNT)),
        "known_origin": has_known_origin(marks),
    }
    try:
        write_text(folder / FILE, json.dumps(values) + "\n")
    except OSError as error:
        raise CheckpointError(f"run folder: {folder} cannot be written ({error.strerror}); free space") from error


def read_phases(model: nn.Module, folder: Path) -> None:
    """Remember what `write_phases` left, if this is such a folder, for the tensors of the model as they are now.

    Where none of them has a mark that was written, as after adapters were merged, it is said of every tensor whose
    origin is not known. The others are of known origin where the run knew that of all that it left.

    Raises:
      ModelError: the file is damaged, so that what the model spent is unknown.
    """
    path = folder / FILE
    if not path.is_file():
        return
    try:
        values = json.loads(path.read_text())
        phases = [Phase.of(one) for one in values["phases"]]
        trained = frozenset(str(name) for name in values.get("trained", ()))
        known = bool(values.get("known_origin", False))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"model {folder}: {FILE} cannot be read, which says what trained it; export the model again"
        ) from error
    marks = mark_tensors(model)
    here = names_of(marks) & trained
    unknown = {name: mark for name, mark in marks.items() if not has_known_origin({name: mark})}
    record_phases(here or names_of(unknown), phases)
    if known and here:
        declare_names(names_of(marks))


__all__ = ["Phase", "as_phase", "compose_claims", "phases_of", "read_phases", "record_phases", "write_phases"]
