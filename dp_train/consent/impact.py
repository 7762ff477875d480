"""What a withdrawal means for the models that the person's data was in (docs/officer.md, A person leaves).

What a model has learnt is not taken out of it. What can be said is a bound: a run with (ε, δ) per person bounds what
it tells of k people together by (kε, δ·(e^{kε}−1)/(e^ε−1)), group privacy (Vadhan 2017, "The Complexity of
Differential Privacy", Lemma 2.2). It loosens quickly with k, which is why a policy asks for a retrain.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dp_train.consent.decisions import Reason
from dp_train.consent.events import Purpose
from dp_train.consent.manifest import Manifest
from dp_train.consent.policy import Action, WithdrawalPolicy
from dp_train.consent.snapshot import ConsentSnapshot

NOT_UNLEARNT = (
    "what a model has learnt is not taken out of it: the bound says how little it can tell of the people who left; "
    "a retrain without them is what ends it, and an ε is evidence, not proof, of anonymity (EDPB opinion 28/2024)"
)
RETRAIN_SPENDS = "a retrain spends its ε again, of everybody who stays"


@dataclass(frozen=True, slots=True)
class GroupBound:
    """(ε, δ) of several people together; δ = 1 bounds nothing."""

    epsilon: float
    delta: float


def group_bound(epsilon: float, delta: float, people: int) -> GroupBound:
    """What a mechanism with (ε, δ) per person bounds of `people` together.

    ε·k, and δ·(e^{kε}−1)/(e^ε−1), at most 1. An ε of inf stays inf, with δ 1.
    """
    if people == 0:
        return GroupBound(0.0, 0.0)
    if math.isinf(epsilon):
        return GroupBound(math.inf, 1.0)
    if people == 1:
        return GroupBound(epsilon, delta)
    exponent = people * epsilon
    if exponent > 700:  # e^700 is past every δ that a float holds
        return GroupBound(exponent, 1.0 if delta > 0 else 0.0)
    ratio = people if epsilon == 0 else math.expm1(exponent) / math.expm1(epsilon)
    return GroupBound(exponent, min(1.0, delta * ratio))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunKept:
    """A run as its folder, its ledger line and the model registry have it.

    Attributes:
      name: its folder. manifest: who is in it; None where the folder has no list.
      epsilon, delta: of its line in the ledger, else of its result; ε is None where nothing is bounded per person.
      finished: whether a model came of it; a run without can no longer be resumed once a person left.
      retired: whether the model is out of use already.
      keeps: what of it there is: "checkpoint", "model".
      versions: registered model versions that came from it, "name/3".
    """

    name: str
    manifest: Manifest | None
    epsilon: float | None
    delta: float
    finished: bool
    retired: bool
    keeps: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunImpact:
    """What is to be done about one run.

    Attributes:
      left: people of it who do not agree any more, the person who is asked about among them.
      bound: of those together; None where nothing bounds them.
      action, act_by, because: by the policy.
    """

    run: RunKept
    left: int
    bound: GroupBound | None
    action: Action
    act_by: datetime | None
    because: tuple[str, ...]

    def values(self) -> dict[str, Any]:
        """As JSON has it."""
        assert self.run.manifest is not None
        return {
            "run": self.run.name,
            "purpose": self.run.manifest.purpose.value,
            "reservation": self.run.manifest.run,
            "keeps": list(self.run.keeps),
            "model_versions": list(self.run.versions),
            "finished": self.run.finished,
            "retired": self.run.retired,
            "people_left": self.left,
            "epsilon": self.run.epsilon,
            "delta": self.run.delta,
            "group_epsilon": None if self.bound is None else self.bound.epsilon,
            "group_delta": None if self.bound is None else self.bound.delta,
            "action": self.action.value,
            "act_by": None if self.act_by is None else self.act_by.isoformat(timespec="seconds"),
            "because": list(self.because),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """The runs that a person's data was in, and how many runs keep no list, of which it is unknown."""

    runs: tuple[RunImpact, ...]
    without_list: int


STAYING = frozenset({Reason.GRANTED, Reason.NO_RECORD})
"""What of a store lets a person stay: a person without a record there was never asked about by it."""


def gone(manifest: Manifest, moment: ConsentSnapshot, *, staying: Collection[Reason] = STAYING) -> set[str]:
    """Pseudonyms of a run's people who do not agree any more; who was erased has none."""
    return {person for person in manifest.people if moment.says(person, manifest.purpose) not in staying}


def assess(
    runs: Sequence[RunKept],
    pseudonym: str,
    moment: ConsentSnapshot,
    policy: WithdrawalPolicy,
    *,
    purposes: Collection[Purpose] = tuple(Purpose),
    since: datetime,
) -> Impact:
    """The impact of a person's withdrawal, whether they made it already or only ask; changes nothing.

    Args:
      moment: a snapshot of the store. purposes: what they withdraw from.
      since: when they withdrew; the dates count from it.
    """
    found = []
    for run in runs:
        if run.manifest is None or not run.manifest.holds(pseudonym):
            continue
        people = gone(run.manifest, moment)
        if run.manifest.purpose in purposes:
            people.add(pseudonym)
        if pseudonym in people:
            found.append(judge(run, len(people) + run.manifest.erased, policy, since=since))
    return Impact(runs=tuple(found), without_list=sum(run.manifest is None for run in runs))


def judge(run: RunKept, people: int, policy: WithdrawalPolicy, *, since: datetime) -> RunImpact:
    """What a policy asks for where so many people of a run left."""
    bound = None if run.epsilon is None else group_bound(run.epsilon, run.delta, people)
    due = policy.due(people, math.inf if bound is None else bound.epsilon)
    act_by = None if due.days is None else since + timedelta(days=due.days)
    return RunImpact(run=run, left=people, bound=bound, action=due.action, act_by=act_by, because=due.because)
