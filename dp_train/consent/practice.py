"""What runs did, in sentences for a privacy officer: each follows from a fact, and says no more than it does.

A run that does not say how it was made is counted as one that did without: nothing is claimed for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dp_train.consent.suppression import SMALL


@dataclass(frozen=True, slots=True, kw_only=True)
class Practice:
    """What the run folders here say of how they were made; each a number of runs, but for `tables`.

    Attributes:
      runs: all of them. tasks: task → runs that learnt it.
      public: those that learnt from the words of people who agreed to publication.
      research: those on public benchmarks, whose people were never asked.
      names_off, patterns_off: those that left names, or patterns of personal data, as they were.
      more_finders: those in which another recogniser looked for people and patterns as well.
      without_privacy: those without noise. per_example: those with noise, whose unit is not the person.
      no_ledger: those that no line of the ledger was reserved for.
      listed: those that list their people, privately. tables: private tables of tokenised rows in their folders.
      samples: those that leave samples in the tracking store. statistics: those that leave statistics there that no ε
        covers.
      people_held, rows_unread: what imports set aside.
    """

    runs: int = 0
    tasks: Mapping[str, int] = field(default_factory=dict)
    public: int = 0
    research: int = 0
    names_off: int = 0
    patterns_off: int = 0
    more_finders: int = 0
    without_privacy: int = 0
    per_example: int = 0
    no_ledger: int = 0
    listed: int = 0
    tables: int = 0
    samples: int = 0
    statistics: int = 0
    people_held: int = 0
    rows_unread: int = 0


_DATA = {"meeting_summary": "transcripts and summaries of meetings", "chat_compose": "chat messages"}


def data_read(practice: Practice) -> str:
    """What kinds of text were learnt from."""
    if not practice.runs:
        return "no run is here: nothing was learnt from yet; pseudonymous consent records"
    kinds = [f"{_DATA.get(task, f'the data of {task}')} ({count} runs)" for task, count in practice.tasks.items()]
    return "; ".join([*kinds, "pseudonymous consent records"])


def people_in_it(practice: Practice) -> str:
    """Whose words it is, and which runs that does not hold for."""
    said = (
        "people who take part in meetings or chats and agreed; the gate leaves out what guests without an account, and "
        "people under 16 without a guardian's consent, say themselves; what others say of them may be in it"
    )
    if practice.public:
        said += f"; {practice.public} runs learnt from people who agreed to publication"
    if practice.research:
        said += f"; {practice.research} runs also learnt from public benchmarks, whose people were never asked"
    return said


def asked_first(practice: Practice) -> str:
    """When consent is asked about, and which runs asked nobody."""
    said = "consent is checked before anything is read; default deny; re-checked on resume and promotion"
    return f"{said}; {practice.research} runs on public benchmarks asked nobody" if practice.research else said


def rows_kept(practice: Practice) -> str:
    """Whether tokenised rows lie on disk."""
    if practice.tables:
        return (
            f"kept: {practice.tables} private tables of tokenised rows lie beside the runs; a withdrawal deletes all "
            "of them"
        )
    return "no table of them lies beside the runs: between corpus and model they live in memory"


def people_listed(practice: Practice) -> str:
    """Whether a person's runs can be found."""
    if not practice.listed:
        return "no run here lists its people"
    return (
        f"private, in the folders of {practice.listed} of {practice.runs} runs, so that a person's runs can be told; "
        "an erased person's line is taken out"
    )


def samples_kept(practice: Practice) -> str:
    """What samples lie in the tracking store."""
    if not practice.samples:
        return "no run here leaves samples in the tracking store"
    return (
        f"of {practice.samples} runs, of people who agreed to publication, replaced as the training text is; no list "
        "says of whom, so all of a run's are taken out by hand where one of them withdraws"
    )


def given_away(practice: Practice) -> str:
    """Who gets training data, or what was computed from it without a bound."""
    said = "nobody, by dp_train: it is read where the model is trained"
    if practice.statistics:
        said += f"; the tracking store has statistics of {practice.statistics} runs that no ε covers"
    return said


def models_left(practice: Practice, retired: int) -> str:
    """What becomes of models, and of how many it did."""
    said = "not unlearnt; retrained, blocked or retired under the withdrawal policy"
    return f"{said}; {retired} of {practice.runs} are out of use" if practice.runs else f"{said}; there is none yet"


def anonymised(practice: Practice) -> list[str]:
    """One sentence for names and one for patterns, each with the runs that it does not hold for."""
    if not practice.runs:
        return ["no run is here: nothing can be said of what was replaced before training"]
    lines = []
    for what, off in (
        ("names of a conversation's people", practice.names_off),
        ("patterns of personal data", practice.patterns_off),
    ):
        lines.append(
            _but_for(
                f"{what} were replaced before training", f"{what} were NOT replaced before training", off, practice
            )
        )
    if practice.more_finders:
        lines.append(f"in {practice.more_finders} runs another recogniser looked for people and patterns as well")
    return lines


def bounded(practice: Practice) -> list[str]:
    """What privacy was promised, and the runs that it was not promised in."""
    if not practice.runs:
        return ["differential privacy per person, accounted in a ledger before the first step; no run is here yet"]
    weak = practice.without_privacy + practice.per_example
    lines = [_but_for("differential privacy per person", "NO differential privacy per person", weak, practice)]
    if practice.without_privacy:
        lines.append(f"{practice.without_privacy} runs added no noise: what they learnt of a person has no bound")
    if practice.per_example:
        lines.append(f"{practice.per_example} runs are bounded per example, which bounds nobody who has several")
    ledger = "accounted in a ledger before the first step"
    return [*lines, _but_for(ledger, f"NOT {ledger}", practice.no_ledger, practice)]


def set_aside(practice: Practice) -> list[str]:
    """What imports could not read, and what follows."""
    held, unread = practice.people_held, practice.rows_unread
    lines = ["a record of consent that cannot be read denies its person until an officer has decided"]
    if held:
        count = str(held) if held >= SMALL else f"fewer than {SMALL}"
        lines.append(f"{count} people are denied so now")
    if unread:
        lines.append(f"{unread} rows of imports could not be told whose they are; each may be a no")
    return lines


def missed(practice: Practice) -> str:
    """What reaches a model in spite of redaction, or for want of it."""
    off = max(practice.names_off, practice.patterns_off)
    said = "names and patterns that redaction misses reach the model"
    if off:
        said += f", and in {off} of {practice.runs} runs those that it was not asked to replace"
    return f"{said}; recall below"


def _but_for(holds: str, fails: str, runs: int, practice: Practice) -> str:
    if runs >= practice.runs:
        return f"{fails}, in any of {practice.runs} runs"
    return f"{holds}, but for {runs} of {practice.runs} runs" if runs else f"{holds}, in all {practice.runs} runs"
