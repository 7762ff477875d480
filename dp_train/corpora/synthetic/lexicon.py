"""The phrases that the synthetic people use, read from `phrases/*.toml`.

There are two registers. The general one is how most of the public population speaks, writes and keeps
minutes. The house's is how the private and the evaluation population do: other matters, other idioms and
one style of summaries, shared by many people, which is what a model can learn from all of them together.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Matter:
    """One field that people meet about; any subject goes with any other entry.

    Subjects follow "the", facts and concerns are clauses, decisions and tasks follow "to", reasons
    follow "until", states follow "is"; `{name}` is a slot.
    """

    subjects: tuple[str, ...]
    facts: tuple[str, ...]
    concerns: tuple[str, ...]
    decisions: tuple[str, ...]
    tasks: tuple[str, ...]
    reasons: tuple[str, ...]
    states: tuple[str, ...]
    questions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """What people differ in: each has a few of these as habits of their own."""

    openers: tuple[str, ...]
    fillers: tuple[str, ...]
    tags: tuple[str, ...]
    assents: tuple[str, ...]
    signoffs: tuple[str, ...]
    pets: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """Sentences of a meeting by what they do; digressions and objections are remark and reply."""

    hello: tuple[str, ...]
    first: tuple[str, ...]
    next: tuple[str, ...]
    fact: tuple[str, ...]
    concern: tuple[str, ...]
    propose: tuple[str, ...]
    agree: tuple[str, ...]
    objections: tuple[tuple[str, ...], ...]
    answer: tuple[str, ...]
    decline: tuple[str, ...]
    decide: tuple[str, ...]
    assign: tuple[str, ...]
    accept: tuple[str, ...]
    volunteer: tuple[str, ...]
    thank: tuple[str, ...]
    park: tuple[str, ...]
    ask_state: tuple[str, ...]
    tell_state: tuple[str, ...]
    react: tuple[str, ...]
    absent: tuple[str, ...]
    close: tuple[str, ...]
    chat: tuple[str, ...]
    share: tuple[str, ...]
    digressions: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """A way to write minutes: one sentence or two for each outcome of a topic."""

    share: float
    decided: tuple[str, ...]
    tasked: tuple[str, ...]
    parked: tuple[str, ...]
    stated: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One message of a chat thread: who of the first three writes it, and how it may read."""

    by: int
    say: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """All phrases of a way to speak and write."""

    slots: Mapping[str, tuple[str, ...]]
    matters: tuple[Matter, ...]
    habits: Habits
    frames: Frames
    styles: tuple[Style, ...]
    flows: tuple[tuple[Step, ...], ...]
    reactions: tuple[str, ...]
    smileys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Names of people and companies, rare facts, and the sentences that personal data stands in."""

    first: tuple[str, ...]
    family: tuple[str, ...]
    companies: tuple[str, ...]
    branches: tuple[str, ...]
    facts: tuple[str, ...]
    code_words: tuple[str, ...]
    pii: Mapping[str, tuple[str, ...]]


@cache
def general_register() -> Register:
    """How most of the public population speaks and writes."""
    return _register("general")


@cache
def house_register() -> Register:
    """How the private and the evaluation population speak and write."""
    return _register("house")


@cache
def names() -> Names:
    """Names and sentences that all populations share."""
    raw = _read("names")
    sentences = {kind: tuple(lines) for kind, lines in raw.pop("pii").items()}
    return Names(pii=sentences, **_tuples(raw))


def _register(name: str) -> Register:
    speech = _read(f"{name}_speech")
    return Register(
        slots=_tuples(speech["slots"]),
        matters=tuple(Matter(**_tuples(matter)) for matter in _read(f"{name}_matters").values()),
        habits=Habits(**_tuples(speech["habits"])),
        frames=Frames(**_tuples(speech["meeting"])),
        styles=tuple(Style(**_tuples(style)) for style in speech["styles"]),
        flows=tuple(tuple(Step(**_tuples(step)) for step in flow["steps"]) for flow in speech["flows"]),
        reactions=tuple(speech["chat"]["reactions"]),
        smileys=tuple(speech["chat"]["smileys"]),
    )


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((files(__package__) / "phrases" / f"{name}.toml").read_text(encoding="utf-8"))


def _tuples(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The same values with lists, and lists in lists, as tuples."""

    def frozen(value: Any) -> Any:
        return tuple(frozen(entry) for entry in value) if isinstance(value, list) else value

    return {key: frozen(value) for key, value in raw.items()}
