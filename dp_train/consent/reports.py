"""What a privacy officer hands on: transparency report, record of processing, evidence for a DPIA, state of the log.

Each is one document of plain values, of which JSON and Markdown are written, so that they cannot differ. They hold
no content and no identity: counts of people are suppressed (`suppression`), free text of events, budgets and
runs is left out, and what only the controller knows says TO FILL IN.

References: GDPR Art. 30(1), 35(7); EDPB opinion 28/2024.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from dp_train.consent import practice
from dp_train.consent.events import Purpose
from dp_train.consent.practice import Practice
from dp_train.consent.suppression import SMALL, publish
from dp_train.consent.tallies import Answer, Tallies
from dp_train.store.chain import Verified

Document = Mapping[str, Any]
FILL_IN = "TO FILL IN"
HIDDEN = "hidden"


class ReportKind(Enum):
    """Which report."""

    TRANSPARENCY = "transparency"
    ART30 = "art30"
    DPIA = "dpia"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigure:
    """One line of the ledger as a report tells it; ε None where nothing is bounded per person."""

    reservation: str
    population: str
    purpose: str
    state: str
    steps: int
    epsilon: float | None
    delta: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PopulationFigure:
    """What the runs of a population spent together; `budget` and `left` None where none is declared."""

    population: str
    budget: float | None
    spent: float | None
    delta: float
    left: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFacts:
    """What reports are made from.

    Attributes:
      as_of: of the counts. tallies: exact; only what `publish` lets through gets out.
      consent_chain, ledger_chain: as a walk along them found it; None where there is no ledger.
      runs, populations: of the ledger. retired: how many models here are out of use.
      redaction: recall of each type of personal data, and where that was measured; `redaction_note` in one line.
      practice: what the run folders say; no sentence says more than they do (`dp_train.consent.practice`).
    """

    as_of: datetime
    tallies: Tallies
    consent_chain: Verified
    ledger_chain: Verified | None
    runs: Sequence[RunFigure] = ()
    populations: Sequence[PopulationFigure] = ()
    retired: int = 0
    redaction: Mapping[str, float] = field(default_factory=dict)
    redaction_note: str = ""
    practice: Practice = field(default_factory=Practice)


def report(kind: ReportKind, facts: ReportFacts) -> Document:
    """The document of one report: sections in reading order."""
    make = {
        ReportKind.TRANSPARENCY: _transparency,
        ReportKind.ART30: _art30,
        ReportKind.DPIA: _dpia,
        ReportKind.AUDIT: _audit,
    }[kind]
    return make(facts)


def _transparency(facts: ReportFacts) -> Document:
    return {
        "title": "Transparency report: who was asked, and what they said",
        "as of": facts.as_of.isoformat(timespec="seconds"),
        **{f"people by answer: {purpose.value}": _answers(facts.tallies, purpose) for purpose in _spoken_of(facts)},
        "what was done with it": [
            f"data: {practice.data_read(facts.practice)}",
            f"people: {practice.people_in_it(facts.practice)}",
            *_measures(facts),
            f"training rows: {practice.rows_kept(facts.practice)}",
            f"samples: {practice.samples_kept(facts.practice)}",
            f"lists of a run's people: {practice.people_listed(facts.practice)}",
            f"recipients of training data: {practice.given_away(facts.practice)}",
            f"models: {practice.models_left(facts.practice, facts.retired)}",
        ],
        "recall of redaction by type": _by_type(facts),
        "what is promised: budgets of people's data": {"table": [_population(each) for each in facts.populations]},
        "what is promised: runs in the ledger": {"table": [_run(each) for each in facts.runs]},
        "how to read it": [
            "a person is counted once for each purpose, by the newest thing they said of it and its jurisdiction; "
            "'asked' is everybody who said anything",
            f"counts from 1 to {SMALL - 1} are hidden, and others with them, so that no hidden small count can be "
            "derived from a table; two reports of nearly the same day may tell more together",
            "who was erased is counted, and nobody can tell who it was; organisations are not counted",
        ],
    }


def _spoken_of(facts: ReportFacts) -> list[Purpose]:
    found = {purpose for purpose, _, _ in facts.tallies.people}
    return [purpose for purpose in Purpose if purpose in found]


def _answers(tallies: Tallies, purpose: Purpose) -> dict[str, Any]:
    places, counts = tallies.table(purpose)
    shown = publish(counts)
    rows = [
        {"answer": answer.value, **dict(zip(places, map(_count, row), strict=True)), "all": _count(total)}
        for answer, row, total in zip(Answer, shown.rows, shown.row_totals, strict=True)
    ]
    asked = {"answer": "asked", **dict(zip(places, map(_count, shown.column_totals), strict=True))}
    return {"table": [{**asked, "all": _count(shown.total)}, *rows]}


def _count(value: int | None) -> int | str:
    return HIDDEN if value is None else value


def _art30(facts: ReportFacts) -> Document:
    return {
        "title": "Record of processing activities: training of language models (GDPR Art. 30(1))",
        "as of": facts.as_of.isoformat(timespec="seconds"),
        "(a) controller": {"name and contact": FILL_IN, "data protection officer": FILL_IN},
        "(b) purposes": [
            *(f"{purpose.value}: {_PURPOSES[purpose]}" for purpose in _spoken_of(facts)),
            "legal basis: consent, Art. 6(1)(a), of each person; organisations can only deny",
        ],
        "(c) people and data": {
            "people": practice.people_in_it(facts.practice),
            "data": practice.data_read(facts.practice),
            "special categories": "not sought; free text may hold some: " + FILL_IN,
        },
        "(d) recipients": {
            "of models": FILL_IN,
            "of training data": practice.given_away(facts.practice),
        },
        "(e) transfers to third countries": FILL_IN,
        "(f) erasure": {
            "consent records": "append-only; erasure destroys a person's link to them, and they are events of nobody",
            "training rows": practice.rows_kept(facts.practice),
            "samples": practice.samples_kept(facts.practice),
            "lists of a run's people": practice.people_listed(facts.practice),
            "models": practice.models_left(facts.practice, facts.retired),
            "time limits": FILL_IN,
        },
        "(g) security measures": _measures(facts),
    }


_PURPOSES = {
    Purpose.TRAIN_MEETING_SUMMARY: "a model that summarises meetings",
    Purpose.TRAIN_CHAT_COMPOSE: "a model that suggests how a message goes on",
    Purpose.PROVIDE_FEATURE: "to provide a feature to the person",
    Purpose.PUBLISH: "text that may be shown outside, for evaluation and public starting points",
}


def _measures(facts: ReportFacts) -> list[str]:
    return [
        practice.asked_first(facts.practice),
        *practice.anonymised(facts.practice),
        *practice.set_aside(facts.practice),
        *practice.bounded(facts.practice),
        "pseudonyms by HMAC, the key outside the database; private files for their owner alone",
        f"consent events in a hash chain, which {_holds(facts.consent_chain)}",
        "receipts of withdrawals are signed (Ed25519)",
        "there is no ledger here"
        if facts.ledger_chain is None
        else f"the ledger in a hash chain, which {_holds(facts.ledger_chain)}",
        _recall(facts),
    ]


def _holds(found: Verified) -> str:
    return f"holds ({found.rows} rows)" if found.broken is None else "does NOT hold: see the state of the audit logs"


def _recall(facts: ReportFacts) -> str:
    return f"redaction: {facts.redaction_note}" if facts.redaction_note else "redaction: its recall was not measured"


def _dpia(facts: ReportFacts) -> Document:
    return {
        "title": "Evidence for a data protection impact assessment (GDPR Art. 35(7))",
        "as of": facts.as_of.isoformat(timespec="seconds"),
        "(a) what is processed": [
            *(f"{purpose.value}: {_PURPOSES[purpose]}" for purpose in _spoken_of(facts)),
            f"data: {practice.data_read(facts.practice)}",
            f"people: {practice.people_in_it(facts.practice)}",
            f"lists of a run's people: {practice.people_listed(facts.practice)}",
            f"training rows: {practice.rows_kept(facts.practice)}",
            f"samples: {practice.samples_kept(facts.practice)}",
            f"recipients of training data: {practice.given_away(facts.practice)}",
        ],
        "(b) necessity and proportionality: consent": {
            f"share of those asked who agree: {purpose.value}": _coverage(facts.tallies, purpose)
            for purpose in _spoken_of(facts)
        },
        "(c) risks": [
            _told(facts.runs),
            "several people together are bounded by (kε, δ·(e^{kε}−1)/(e^ε−1)), which loosens with k",
            practice.missed(facts.practice),
            "an ε is evidence, not proof, of anonymity (EDPB opinion 28/2024)",
            f"models: {practice.models_left(facts.practice, facts.retired)}",
        ],
        "(d) measures": _measures(facts),
        "(d) measures: budgets of people's data": {"table": [_population(each) for each in facts.populations]},
        "(d) measures: runs in the ledger": {"table": [_run(each) for each in facts.runs]},
        "(d) measures: recall of redaction by type": _by_type(facts),
        "residual risk, and the controller's decision": FILL_IN,
    }


def _told(runs: Sequence[RunFigure]) -> str:
    """The first risk, and for how many lines of the ledger it has a bound."""
    free = sum(run.epsilon is None for run in runs)
    said = "a model tells what a person said: "
    if not runs:
        return said + "no run is in the ledger, so nothing is bounded there"
    if free == len(runs):
        return said + f"NOT bounded per person, in any of {free} runs of the ledger"
    but = f", but for {free} of {len(runs)} runs of the ledger" if free else f", in all {len(runs)} runs of the ledger"
    return said + f"bounded per person by (ε, δ) below{but}; who met whom is not covered"


def _by_type(facts: ReportFacts) -> dict[str, str]:
    return {name: f"{recall:.3f}" for name, recall in facts.redaction.items()} or {"all types": "not measured"}


def _coverage(tallies: Tallies, purpose: Purpose) -> str:
    shown = publish(tallies.table(purpose)[1])
    granted = shown.row_totals[list(Answer).index(Answer.GRANTED)]
    if granted is None or not shown.total:
        return HIDDEN
    return f"{granted / shown.total:.3f} of {shown.total:,}"


def _population(figure: PopulationFigure) -> dict[str, Any]:
    return {
        "population": figure.population[:12],
        "budget ε": "none declared" if figure.budget is None else figure.budget,
        "spent ε": "unbounded" if figure.spent is None else round(figure.spent + 5e-4, 3),
        "δ": figure.delta,
        "left ε": "" if figure.left is None else round(figure.left - 5e-4, 3),
    }


def _run(figure: RunFigure) -> dict[str, Any]:
    return {
        "reservation": figure.reservation,
        "population": figure.population[:12],
        "purpose": figure.purpose,
        "state": figure.state,
        "steps": figure.steps,
        "ε": "no bound per person" if figure.epsilon is None else round(figure.epsilon + 5e-4, 3),
        "δ": figure.delta,
    }


def _audit(facts: ReportFacts) -> Document:
    return {
        "title": "State of the audit logs",
        "as of": facts.as_of.isoformat(timespec="seconds"),
        "consent events": _chain(facts.consent_chain),
        "ledger of privacy spent": "there is none here" if facts.ledger_chain is None else _chain(facts.ledger_chain),
        "how to check it": [
            "dp-train consent verify --head HASH and dp-train ledger verify --expect HASH walk the chains again and "
            "must pass through these heads; kept elsewhere, they show a log that was cut off as well",
            "dp-train consent export FILE --audit writes every event with its hash, without pseudonyms",
        ],
    }


def _chain(found: Verified) -> dict[str, Any]:
    holds = "yes" if found.broken is None else f"no: {found.broken.reason}"
    return {"rows": found.rows, "head": found.head, "holds": holds}


def report_json(document: Document) -> str:
    """The document as JSON."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def report_markdown(document: Document) -> str:
    """The document for people."""
    lines = [f"# {document['title']}", "", f"As of {document['as of']}."]
    for name, part in document.items():
        if name in ("title", "as of"):
            continue
        lines += ["", f"## {name}", ""]
        if isinstance(part, str):
            lines.append(part)
        elif isinstance(part, list):
            lines += [f"- {sentence}" for sentence in part]
        elif "table" in part:
            lines += _table(part["table"])
        else:
            lines += [f"- {key}: {value}" for key, value in part.items()]
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return ["nothing yet"]
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([str(row[name]) for name in head] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]
