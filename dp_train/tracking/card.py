"""The privacy card of one run: what the ε says, what it rests on, and what it does not cover (docs/privacy.md).

Markdown and JSON are written from one document, so that they cannot differ. It holds public facts only.

References: NIST SP 800-226; Ponomareva et al. 2023, "How to DP-fy ML", §5.3 (arXiv 2303.00654).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dp_train.consent.events import Purpose
from dp_train.consent.suppression import SMALL
from dp_train.errors import TrackingError
from dp_train.privacy.monitor import EpsilonClaim
from dp_train.privacy.plan import NeighboringRelation, PrivacyPlan, Unit
from dp_train.tracking.guarantee import Curve, draw_guarantee
from dp_train.tracking.plain_words import in_plain_words
from dp_train.tracking.recompute import EARLIER, number, plan_section

_SAME = 1e-9

_RELATIONS = {
    NeighboringRelation.ADD_OR_REMOVE_ONE: "two data sets that differ in one unit more or less",
    NeighboringRelation.REPLACE_SPECIAL: "two data sets of the same meetings, in one of which all that one person took "
    "part in count as empty; who met whom stays",
}

_WHO = {
    "a person is": "an id: of someone with two ids each is protected by itself, and not both together",
    "a person's words are": "what they wrote or said; what others say about them is the others'",
}

NO_BOUND = "an empirical lower bound: the last audit was of the trainer alone, and sent no canary"
NO_AUDIT = "an audit: no empirical lower bound and no conformance test was run with this card"
"""Stands on a card until `dp-train audit` has put its section there."""

AUDIT_PICTURE = "audit.png"
_PLAIN = "in plain words"

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """What a card is made from; all of it public.

    Attributes:
      run: name or id of the run.
      task, model, engine: what was trained, and how sums were clipped.
      status: how the run ended, e.g. "FINISHED".
      plan: what was planned. `claim`: what may be said of what ran.
      cross_check: accountant → ε of the plan, as `accounting.cross_check` gives it; empty without privacy.
      curve: (ε, δ) pairs that hold for the steps that ran; empty without privacy.
      selection: what the bound on contributions kept, as `SelectionReport.public_facts` gives it; a share that is
        None was of too few to be told.
      ledger: what the ledger knows of the run, as `recompute.ledger_section` gives it; empty for a run in no ledger.
      seed_is_fixed: whether a user chose the seed. `secure_noise`: whether noise came from the system's CSPRNG.
      research_only: what has to be said of people who never consented; None where people did.
      consent_root: Merkle root of the consent snapshot. `consent_as_of`: its time, ISO 8601. `purpose`: agreed use.
      consent_counts: what the gate counted, by label; counts below 10 are not told.
      anonymized: what was replaced by surrogates, e.g. "names and patterns"; None for nothing.
      starting_point: digest of the public starting point that was made or taken; None where there was none.
      loaded: whether weights and vocabulary were loaded from elsewhere. `trained_before`: how many runs of ours are
        known to have trained these weights before this one.
      trials: how many runs on these people this one is one of, a sweep's or a tradeoff's children together.
      non_private_trials: how many of them had no privacy.
      scores: on the evaluation population.
      private_statistics_logged: whether losses and the like of each step, and verbatim overlap, went into the store.
      versions, commit: what ran. identity: public name of the run, as its checkpoint, ledger line and model have it.
    """

    run: str
    task: str
    model: str
    engine: str
    status: str
    plan: PrivacyPlan
    claim: EpsilonClaim
    cross_check: Mapping[str, float] = field(default_factory=dict)
    curve: Curve = ()
    selection: Mapping[str, Any] = field(default_factory=dict)
    ledger: Mapping[str, Any] = field(default_factory=dict)
    seed_is_fixed: bool
    secure_noise: bool = False
    research_only: str | None = None
    consent_root: str
    consent_as_of: str
    purpose: str
    consent_counts: Mapping[str, int] = field(default_factory=dict)
    anonymized: str | None
    starting_point: str | None
    loaded: bool = False
    trained_before: int = 0
    trials: int = 1
    non_private_trials: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)
    private_statistics_logged: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    identity: str = ""
    commit: str | None = None


def card_document(facts: CardFacts) -> Document:
    """The card as JSON values: sections in reading order, each a mapping or a list of sentences."""
    plan, claim = facts.plan, facts.claim
    return {
        "run": {
            "name": facts.run,
            "status": facts.status,
            "task": facts.task,
            "model": facts.model,
            "engine": facts.engine,
        },
        _PLAIN: in_plain_words(
            claim,
            purpose=facts.purpose,
            as_of=facts.consent_as_of,
            anonymized=facts.anonymized,
            research_only=facts.research_only,
        ),
        "claim": _claim(claim),
        "setting": {
            "trust model": "central: who trains sees the consented text; the ε protects against who gets the model",
            "what is protected": "one person's words" if plan.unit is Unit.USER else "one example, not one person",
            **(_WHO if plan.unit is Unit.USER else {}),
            "neighbouring relation": f"{plan.neighboring_relation.value}: {_RELATIONS[plan.neighboring_relation]}",
            "what is released": "the last model; the models of the steps before it are covered too",
            "who may stop it": _stopped(plan, claim),
            "noise": "from the system's CSPRNG" if facts.secure_noise else "from a seeded generator (Philox)",
            "seeds": "fixed by a user: the ε holds only while that seed is secret"
            if facts.seed_is_fixed
            else "secret, drawn from the system, kept in the private checkpoint alone",
        },
        "plan": plan_section(plan, claim.steps),
        "what the bound kept": _kept(facts),
        "accounting": {
            "published": "privacy loss distributions (dp-accounting)",
            "assumptions": f"{plan.mechanism.sampler.described}, one Gaussian noise draw a step, clipping per "
            "unit, a public divisor",
            "assumptions held in this run": _held(claim),
            **({} if claim.withheld else _cross_check(facts)),
        },
        "guarantee as a curve": {} if claim.withheld else {f"δ={delta:g}": number(e) for e, delta in facts.curve},
        "ledger": facts.ledger or _no_ledger(facts),
        "the ε covers": _covered(facts),
        "the ε does not cover": _not_covered(facts),
        "consent": {
            **({"research only": facts.research_only} if facts.research_only else {}),
            "purpose": facts.purpose,
            "snapshot as of": facts.consent_as_of,
            "snapshot root": facts.consent_root,
            "anonymised before training": facts.anonymized or "nothing",
            **{label: _count(number) for label, number in facts.consent_counts.items()},
        },
        "scores": {name: number(score) for name, score in facts.scores.items()},
        "code": {"run": facts.identity or "unknown", "commit": facts.commit or "unknown", **facts.versions},
    }


def card_markdown(document: Document) -> str:
    """The document for people."""
    lines = [f"# Privacy card: {document['run']['name']}", "", f"**{document['claim']['statement']}**", ""]
    if "research only" in document["consent"]:
        lines += [f"**{document['consent']['research only']}**", ""]
    if document.get(_PLAIN):  # a card of an earlier version has none
        lines += [*(f"- {sentence}" for sentence in document[_PLAIN]), ""]
    if document["guarantee as a curve"]:
        lines += ["![δ against ε, and what an attacker can reach](card.png)", ""]
    for title, section in document.items():
        if not section or title == _PLAIN:
            continue
        lines += [f"## {title[0].upper()}{title[1:]}", ""]
        if title == "audit":
            lines += [f"![The claimed ε with lower bounds, and the ROC of canaries]({AUDIT_PICTURE})", ""]
        if isinstance(section, str):
            lines.append(section)
        elif isinstance(section, Mapping):
            lines += ["| | |", "|---|---|"]
            lines += [f"| {_cell(name)} | {_cell(value)} |" for name, value in section.items()]
        else:
            lines += [f"- {sentence}" for sentence in section]
        lines.append("")
    return "\n".join(lines)


def write_card(facts: CardFacts, folder: Path, *, name: str = "privacy_card") -> tuple[Path, ...]:
    """Write ``<name>.md``, ``<name>.json`` and, of a finished run with a guarantee, its picture into `folder`.

    Raises:
      TrackingError: the folder cannot be written.
    """
    document = card_document(facts)
    written = (folder / f"{name}.md", folder / f"{name}.json")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written[0].write_text(card_markdown(document), encoding="utf-8")
        written[1].write_text(
            json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )
    except OSError as error:
        raise TrackingError(
            f"card: {folder} cannot be written ({error.strerror}); choose another run folder"
        ) from error
    # A run that a signal ended is to be continued, and its process to be gone at once.
    if document["guarantee as a curve"] and facts.status == "FINISHED":
        picture = draw_guarantee(facts.curve, folder / name, delta=facts.plan.delta, title=facts.claim.describe())
        return (*written, picture)
    return written


def _claim(claim: EpsilonClaim) -> dict[str, Any]:
    described: dict[str, Any] = {"statement": claim.describe()}
    if claim.withheld:
        described["withheld because"] = list(claim.withheld)
    elif claim.private:
        described |= {"epsilon": number(claim.unwrap()), "delta": claim.delta, "unit": claim.unit.value}
        if claim.earlier:
            described[EARLIER] = list(claim.earlier)
    else:
        described["statement"] = "no privacy: nothing is promised to anybody about this model"
    return described


def _cross_check(facts: CardFacts) -> dict[str, float | str]:
    found: dict[str, float | str] = {
        f"ε of the plan by {name}": number(epsilon) for name, epsilon in facts.cross_check.items()
    }
    return {**found, **({"accountants": "agree"} if len(found) > 1 else {})}  # where they do not, there is no claim


def _held(claim: EpsilonClaim) -> str:
    if claim.withheld:
        return "no: " + "; ".join(claim.withheld)
    if claim.untried:
        return "yes, as recorded at every step; the engine was not tried on this model first (trainer.self_check=false)"
    return "yes, as recorded at every step" if claim.private else "not applicable"


def _no_ledger(facts: CardFacts) -> str:
    if facts.purpose == Purpose.PUBLISH.value and not facts.loaded and not facts.trained_before:
        return "this run learnt from published text alone: it spends nothing of anybody's budget"
    return "this run is in no ledger: what these people's data spent in all is not known"


def _covered(facts: CardFacts) -> Sequence[str]:
    if not facts.claim.private or facts.claim.withheld:
        return []
    curve = ["the noisy training loss of each step (train/noisy_loss), a part of the plan"]
    return [
        f"training in this run, {facts.claim.steps} steps: every model on the way and the last one",
        *(curve if facts.plan.loss_noise_ratio is not None else ()),
        *_published(facts),
        "the scores, which are of people outside training"
        + (" who agreed to publication" if facts.research_only is None else ""),
    ]


def _published(facts: CardFacts) -> Sequence[str]:
    """What published text alone has made, if it has: weights that were loaded are no such thing."""
    if facts.loaded or facts.trained_before:
        return []
    start = f" (starting point {facts.starting_point[:16]})" if facts.starting_point else " (random weights)"
    return ["the vocabulary and the starting point, which read published text alone" + start]


def _learnt_before(facts: CardFacts) -> Sequence[str]:
    if facts.trained_before:
        runs = f"{facts.trained_before} earlier run{'s' * (facts.trained_before > 1)}"
        same = len(facts.claim.earlier)
        composed = f", of which {same} on these people are in the ε" if same else ""
        return [f"what the weights had learnt before: {runs} trained them{composed}; the others' people spent there"]
    if facts.loaded:
        return ["what the loaded weights and their vocabulary had learnt before, which is not known here"]
    return []


def _stopped(plan: PrivacyPlan, claim: EpsilonClaim) -> str:
    if claim.steps >= plan.steps:
        return "the plan alone: all of its steps ran"
    ran = f"it was ended after {claim.steps} of {plan.steps} steps"
    if not claim.private or claim.spent is None:
        return ran
    if not claim.earlier and claim.spent >= plan.epsilon() * (1 - _SAME):
        return f"{ran}, and is charged in full, whatever whoever ended it had seen"
    return f"{ran}: the ε is of those, and holds only if whoever ended it had seen nothing that the run computed"


def _kept(facts: CardFacts) -> Mapping[str, Any]:
    """Shares are counts of people where the relation protects who is there."""
    if facts.plan.neighboring_relation is NeighboringRelation.ADD_OR_REMOVE_ONE:
        return {"share": "not told: it follows who is there, which this relation protects"}
    return {
        name: "too few to tell" if value is None else value
        for name, value in facts.selection.items()
        if value is not None or "%" in name
    }


def _not_covered(facts: CardFacts) -> Sequence[str]:
    plan, limits = facts.plan, [*_learnt_before(facts)]
    if facts.trials > 1:
        limits.append(
            f"the other {facts.trials - 1} of {facts.trials} runs on these people: each spends its own ε and they "
            "compose; behind a model that was chosen among them stands the composed ε, not this one"
        )
    if facts.non_private_trials:
        limits.append(
            f"{facts.non_private_trials} of these runs had no privacy: such a model and its score promise nothing and "
            "are for comparison alone"
        )
    if facts.private_statistics_logged:
        limits.append(
            "losses, clipped shares and batch sizes of each step, and how much of what the model writes stands in the "
            "training text, which this run logged on request"
        )
    if plan.unit is Unit.EXAMPLE:
        limits.append("a person who owns several examples: the ε is per example")
    else:
        limits.append("who met whom and who wrote in which thread: the meeting graph is taken as fixed")
    limits += [
        "which people consented, and how many",
        "what the public text itself tells about people",
        "floating-point attacks on the noise (not hardened), and timing",
        NO_AUDIT,
    ]
    return limits


def _count(number: int) -> int | str:
    return number if number == 0 or number >= SMALL else f"fewer than {SMALL}"


def _cell(value: Any) -> str:
    if isinstance(value, list | tuple):
        value = "; ".join(str(item) for item in value)
    return "–" if value is None else str(value).replace("|", "\\|").replace("\n", " ")
