"""What an organisation does about a model whose people leave: a few rules from a file, the strictest of which holds."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from dp_train.consent.rule_file import read_rule_rows
from dp_train.errors import ConfigError


class Action(Enum):
    """What to do with a model, the mildest first."""

    NONE = "none"
    RETRAIN = "retrain"
    """Train a successor without them by a date; until then it stays in use."""
    BLOCK_PROMOTION = "block_promotion"
    """The same, and it may not be registered for use until then."""
    RETIRE = "retire"
    """Out of use: nothing generates with it any more."""

    @property
    def severity(self) -> int:
        return list(Action).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """An action and from when on it is due.

    Attributes:
      people: how many left, ≥ 1. group_epsilon: ε of all of them together, > 0. None asks for nothing.
      days: to act in, from the withdrawal; None without a date.
    """

    action: Action
    people: int | None = None
    group_epsilon: float | None = None
    days: int | None = None

    def __post_init__(self) -> None:
        if self.people is None and self.group_epsilon is None:
            raise ConfigError("withdrawal policy: a rule without a threshold; expected people, group_epsilon or both")
        if self.people is not None and self.people < 1:
            raise ConfigError(f"withdrawal policy: people={self.people}; expected at least 1")
        if self.group_epsilon is not None and not self.group_epsilon > 0:
            raise ConfigError(f"withdrawal policy: group_epsilon={self.group_epsilon}; expected a number > 0")
        if self.days is not None and self.days < 0:
            raise ConfigError(f"withdrawal policy: days={self.days}; expected 0 or more")

    def applies(self, people: int, group_epsilon: float) -> bool:
        """Whether so many left, who are bounded by so much."""
        if people == 0:
            return False
        enough = self.people is None or people >= self.people
        return enough and (self.group_epsilon is None or group_epsilon >= self.group_epsilon)

    def describe(self) -> str:
        """The thresholds: "people ≥ 3"."""
        parts = [f"people ≥ {self.people}"] if self.people is not None else []
        parts += [f"group ε ≥ {self.group_epsilon:g}"] if self.group_epsilon is not None else []
        return " and ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What a policy asks for: an action, in how many days, and by which rules."""

    action: Action
    days: int | None
    because: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawalPolicy:
    """Rules, of which the strictest that applies holds, and the nearest date of those that apply.

    Guarantee: more people, or a larger ε, never lead to less, nor later.
    """

    rules: tuple[Rule, ...]

    def due(self, people: int, group_epsilon: float) -> Due:
        """What follows from so many people who left, bounded together by `group_epsilon` (inf for no bound)."""
        found = [rule for rule in self.rules if rule.applies(people, group_epsilon)]
        if not found:
            return Due(action=Action.NONE, days=None, because=())
        strictest = max((rule.action for rule in found), key=lambda action: action.severity)
        days = min((rule.days for rule in found if rule.days is not None), default=None)
        because = tuple(rule.describe() for rule in found if rule.action is strictest)
        return Due(action=strictest, days=days, because=because)

    @property
    def digest(self) -> str:
        """Names the policy in receipts and tags: 16 hex digits of SHA-256."""
        text = "\n".join(f"{rule.action.value} {rule.describe()} {rule.days}" for rule in self.rules)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


_FIELDS = ("action", "people", "group_epsilon", "days")


def read_policy(path: str | os.PathLike[str]) -> WithdrawalPolicy:
    """The policy of a YAML file: `rules`, a list of mappings with the fields of `Rule`.

    Raises:
      ConfigError: the file cannot be read, or a rule is none; names the rule.
    """
    rows = read_rule_rows(path, what="withdrawal policy")
    return WithdrawalPolicy(rules=tuple(_rules(rows, path)))


def _rules(rows: Sequence[Any], path: str | os.PathLike[str]) -> list[Rule]:
    rules = []
    for number, row in enumerate(rows, start=1):
        where = f"withdrawal policy {path}, rule {number}"
        if not isinstance(row, Mapping) or not set(row) <= set(_FIELDS) or "action" not in row:
            raise ConfigError(f"{where}: expected action and one or more of {', '.join(_FIELDS[1:])}")
        try:
            action = Action(row["action"])
        except ValueError:
            known = ", ".join(action.value for action in Action)
            raise ConfigError(f"{where}: action={row['action']!r}; expected one of {known}") from None
        for name in ("people", "days"):
            if row.get(name) is not None and (not isinstance(row[name], int) or isinstance(row[name], bool)):
                raise ConfigError(f"{where}: {name}={row[name]!r}; expected a whole number")
        epsilon = row.get("group_epsilon")
        if epsilon is not None and (isinstance(epsilon, bool) or not isinstance(epsilon, int | float)):
            raise ConfigError(f"{where}: group_epsilon={epsilon!r}; expected a number")
        if epsilon is not None and math.isnan(epsilon):
            raise ConfigError(f"{where}: group_epsilon={epsilon!r}; expected a number")
        rules.append(Rule(action=action, people=row.get("people"), group_epsilon=epsilon, days=row.get("days")))
    return rules
