"""Who belongs to which population of a public corpus, and what a person is called there."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from dp_train.corpora.synthetic import Population
from dp_train.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleSplit:
    """Three populations without a person in common, by a public hash of the person's id.

    Guarantee: which population a person belongs to depends on the id alone: not on what anybody wrote, nor on who
    else is there.

    Args:
      public, evaluation: share of the people in these two, ≥ 0 and together below 1; everybody else is PRIVATE.

    Raises:
      ConfigError: the shares are impossible.
    """

    public: float = 0.2
    evaluation: float = 0.1

    def __post_init__(self) -> None:
        if min(self.public, self.evaluation) < 0 or self.public + self.evaluation >= 1:
            raise ConfigError(
                f"split: public={self.public} and evaluation={self.evaluation}; expected shares that leave some private"
            )

    def __call__(self, person_id: str) -> Population:
        place = int.from_bytes(hashlib.sha256(f"dp_train split 1 {person_id}".encode()).digest()[:7]) / 2**56
        if place < self.evaluation:
            return Population.EVALUATION
        return Population.PUBLIC if place < self.evaluation + self.public else Population.PRIVATE


def pseudonym(source: str, person: str) -> str:
    """Stable id of a person of a public corpus in place of the id or name that they have there.

    A hash without a secret: who has the corpus can tell who it is, as they could before. The consent layer
    puts its keyed pseudonym on top.
    """
    return f"{source}-{hashlib.sha256(f'dp_train person 1 {source} {person}'.encode()).hexdigest()[:20]}"


def read_aliases(path: Path) -> dict[str, str]:
    """Account or nick → person, from csv with a header `id,person` or jsonl of `{"id": …, "person": …}`.

    Several accounts of one person name the same `person`, any label; accounts that are not in it are persons of
    their own.

    Raises:
      DataError: the file cannot be read, a row is not such a pair, or an id stands there for two persons.
    """
    expected = 'expected csv with the header id,person or jsonl of {"id": …, "person": …}'
    aliases: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = map(json.loads, filter(str.strip, lines)) if path.suffix == ".jsonl" else csv.DictReader(lines)
            for number, row in enumerate(rows, start=1):
                pair = (row.get("id"), row.get("person")) if isinstance(row, dict) else ()
                if len(pair) != 2 or not all(isinstance(value, str) and value for value in pair):
                    raise DataError(f"aliases {path.name} row {number}: no id and person; {expected}")
                if aliases.setdefault(str(pair[0]), str(pair[1])) != pair[1]:
                    raise DataError(f"aliases {path.name} row {number}: its id stands for two persons; expected one")
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"aliases {path.name}: cannot be read; {expected}") from error
    return aliases
