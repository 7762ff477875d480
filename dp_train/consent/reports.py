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

from dp_train.consent.events import Purpose
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
class Practice:
    """What the run folders here say of how they were made; each a number of runs, but for `tables`.

    Attributes:
      runs: all of them. names_off, patterns_off: those that left names, or patterns of personal data, as they were.
      research: those on public benchmarks, whose people were never asked.
      tables: private tables of tokenised rows that lie in the folders of the runs.
      people_held, rows_unread: what imports set aside.
    """

    runs: int = 0
    names_off: int = 0
    patterns_off: int = 0
    research: int = 0
    tables: int = 0
    people_held: int = 0
    rows_unread: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFacts:
    """What reports are made from.

    Attributes:
      as_of: of the counts. tallies: exact; only what `publish` lets through gets out.
      consent_chain, ledger_chain: as a walk along them found it; None where there is no ledger.
      runs, populations: of the ledger. retired: how many models here are out of use.
      redaction: recall of each type of personal data, and where that was measured; `redaction_note` in one line.
      practice: what the run folders say; no sentence here says more than they do.
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
            "people": _people(facts.practice),
            "data": "transcripts of meetings and chat messages; pseudonymous consent records",
            "special categories": "not sought; free text may hold some: " + FILL_IN,
        },
        "(d) recipients": {
            "of models": FILL_IN,
            "of training data": "nobody, by dp_train: it is read where the model is trained",
        },
        "(e) transfers to third countries": FILL_IN,
        "(f) erasure": {
            "consent records": "append-only; erasure destroys a person's link to them, and they are events of nobody",
            "training rows": _rows_kept(facts.practice),
            "samples in MLflow": "of people who agreed to publication, anonymised; no list says of whom, so all of a "
            "run's are taken out by hand where one of them withdraws",
            "lists of a run's people": "private, in the run's folder; an erased person's line is taken out",
            "models": "not unlearnt; retrained, blocked or retired under the withdrawal policy",
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
    lines = [
        "consent is checked before anything is read; default deny; re-checked on resume and promotion",
        *_anonymised(facts.practice),
        *_set_aside(facts.practice),
        "differential privacy per person, accounted in a ledger before the first step",
        "pseudonyms by HMAC, the key outside the database; private files for their owner alone",
        "consent events and ledger in hash chains; receipts of withdrawals signed (Ed25519)",
    ]
    return [*lines, f"redaction: {facts.redaction_note}"] if facts.redaction_note else lines


def _people(practice: Practice) -> str:
    asked = (
        "people who take part in meetings or chats and agreed; the gate leaves out what guests without an account, and "
        "people under 16 without a guardian's consent, say themselves; what others say of them may be in it"
    )
    if practice.research:
        return f"{asked}; {practice.research} runs also learnt from public benchmarks, whose people were never asked"
    return asked


def _rows_kept(practice: Practice) -> str:
    if practice.tables:
        return (
            f"kept: {practice.tables} private tables of tokenised rows lie beside the runs; a withdrawal deletes all "
            "of them"
        )
    return "no table of them lies beside the runs: between corpus and model they live in memory"


def _anonymised(practice: Practice) -> list[str]:
    """One sentence for names and one for patterns, each with the runs that it does not hold for."""
    if not practice.runs:
        return ["no run is here: nothing can be said of what was replaced before training"]
    lines = []
    for what, off in (
        ("names of a conversation's people", practice.names_off),
        ("patterns of personal data", practice.patterns_off),
    ):
        if off == practice.runs:
            lines.append(f"{what} were NOT replaced before training, in any of {practice.runs} runs")
        elif off:
            lines.append(f"{what} were replaced before training, but for {off} of {practice.runs} runs")
        else:
            lines.append(f"{what} were replaced before training, in all {practice.runs} runs")
    return lines


def _set_aside(practice: Practice) -> list[str]:
    held, unread = practice.people_held, practice.rows_unread
    lines = ["a record of consent that cannot be read denies its person until an officer has decided"]
    if held:
        count = str(held) if held >= SMALL else f"fewer than {SMALL}"
        lines.append(f"{count} people are denied so now")
    if unread:
        lines.append(f"{unread} rows of imports could not be told whose they are; each may be a no")
    return lines


def _dpia(facts: ReportFacts) -> Document:
    return {
        "title": "Evidence for a data protection impact assessment (GDPR Art. 35(7))",
        "as of": facts.as_of.isoformat(timespec="seconds"),
        "(a) what is processed": [
            *(f"{purpose.value}: {_PURPOSES[purpose]}" for purpose in _spoken_of(facts)),
            "what a model learns from is listed privately for each run, so that a person's runs can be told",
        ],
        "(b) necessity and proportionality: consent": {
            f"share of those asked who agree: {purpose.value}": _coverage(facts.tallies, purpose)
            for purpose in _spoken_of(facts)
        },
        "(c) risks": [
            "a model tells what people said: bounded per person by (ε, δ) below; who met whom is not covered",
            "several people together are bounded by (kε, δ·(e^{kε}−1)/(e^ε−1)), which loosens with k",
            "names and patterns that redaction misses reach the model, within that bound; recall below",
            "an ε is evidence, not proof, of anonymity (EDPB opinion 28/2024)",
            "a withdrawal does not take out what was learnt",
        ],
        "(d) measures": _measures(facts),
        "(d) measures: budgets of people's data": {"table": [_population(each) for each in facts.populations]},
        "(d) measures: runs in the ledger": {"table": [_run(each) for each in facts.runs]},
        "(d) measures: recall of redaction by type": {
            name: f"{recall:.3f}" for name, recall in facts.redaction.items()
        },
        "(d) measures: withdrawal": {"models out of use here": facts.retired},
        "residual risk, and the controller's decision": FILL_IN,
    }


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
