"""The files that begin a project of one's own: a recipe, and a template of consent that grants nothing.

Recipe: only declared and coarse numbers, names of files and of columns; no count, no id. Template: one row a person, by
the ids of the files, for their owner's eyes (mode 600).
"""

from __future__ import annotations

import csv
import io
import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dp_train.atomic import write_text
from dp_train.consent.events import EntityRole, EventState
from dp_train.corpora.columns import ColumnsConfig
from dp_train.errors import ConfigError
from dp_train.runs.proposal import Proposal
from dp_train.runs.survey import Survey, purpose_of

NOTICE = "own-notice"
"""What the template calls the text that people agree to, until its owner calls it otherwise."""

_BASES = {"meeting_summary": "summary/quickstart", "chat_compose": "compose/quickstart"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """A project's files by name, as they stand in the recipe."""

    files: Sequence[str]
    columns: ColumnsConfig
    consent: str
    key: str


def recipe_text(own: Own, proposal: Proposal, name: str) -> str:
    """The recipe as YAML, with a comment above every number that is declared."""
    return _RECIPE.format(
        name=name,
        base=_BASES[proposal.task],
        source=_SOURCES[Path(own.files[0]).suffix.lower()],
        corpus="\n".join(_corpus(own)),
        consent=_quoted(own.consent),
        key=_quoted(own.key),
        delta=_power(proposal.delta),
        units="rows; a row belongs to everyone in it" if proposal.shared else "people",
        sampling=(_SHARED if proposal.shared else _OWNED).format(
            population=proposal.population, rate=f"{proposal.sample_rate:.4g}"
        ),
        **{key: f"{getattr(proposal, key):g}" for key in ("epsilon", *_NUMBERS)},
    )


_SOURCES = {".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet"}
_NUMBERS = ("max_contributions", "rows_per_unit", "bands", "steps", "expected_units")

_RECIPE = """\
# @package _global_
# dp-train validate experiments={name}    checks everything, and trains nothing
# dp-train train experiments={name}
#
# Written by dp-train init. The numbers below are declared: they stand in cards, in the ledger and in the tracking
# store. So none of them is a count: each is one of 1, 2, 5, 10, 20, 50 … or a power of two, and that rounding is what
# keeps the private count out of this file. Change one for a public reason, and round it as coarsely. (ε, δ) holds
# whatever your files hold; with numbers that are far off, only the model gets worse.
defaults:
  - {base}  # model, starting point and optimizer that were tried for this task
  - override /corpus: {source}
  - _self_
question: ""
hypothesis: ""

corpus:
{corpus}
  # Other people, who agreed to publication: what is scored. Without it nothing is.
  evaluation: null
consent:
  # Who agreed to what. Without an event a person has not agreed.
  events: {consent}
  # The secret that turns ids into pseudonyms: keep a copy, and never publish it.
  key: {key}

privacy:
  # ε, how much one person's data may move what is released: 1 is strict, 8 is usual, above 20 bounds hardly anything.
  epsilon: {epsilon}
  # δ, the chance that ε does not hold: well below 1 ÷ the number of people.
  delta: {delta}
  # k, how many rows one person may be in, where rows have several owners. More keeps more rows, and takes more noise.
  max_contributions: {max_contributions}
  # G, how many rows of one person enter a step, where each row has one owner. More keeps more rows, at no more noise.
  rows_per_unit: {rows_per_unit}
  # Over how many steps noise is correlated; above 1 it needs k = 1, and B well below the population.
  bands: {bands}
trainer:
  # T. More steps learn more, and take more noise in each.
  steps: {steps}
  # B, what a step draws on average ({units}). More is more signal, and more time.
  expected_units: {expected_units}
{sampling}
"""

_OWNED = """\
  # People, rounded, from which q = B ÷ population: the chance of each to enter a step. Never counted when a run trains.
  population: {population}
  sample_rate: null"""

_SHARED = """\
  # q = B ÷ {population} rows, rounded: the chance of each to enter a step. Never counted when a run trains.
  sample_rate: {rate}
  population: null"""


def _corpus(own: Own) -> Iterator[str]:
    yield "  # Learnt from, through the gate of consent."
    yield f"  private: {_quoted(own.files[0])}"
    if len(own.files) > 1:
        yield f"  more: [{', '.join(map(_quoted, own.files[1:]))}]"
    if not own.columns.nothing:
        yield "  # What the files call their fields, which columns are kept out, and what is the same in all rows."
        yield "  columns:"
        for key, value in _said(own.columns):
            yield f"    {key}: {json.dumps(value, ensure_ascii=False)}"


def consent_rows(survey: Survey, task: str, *, now: datetime) -> Iterable[dict[str, str]]:
    """A row a person and organisation, for a task's purpose, without an answer yet: none of them allows anything.

    What has to be filled in for a yes: `event_state` and, of a person, `age_band`. What it says of the notice, and from
    when on the notice lets content be used, is for the owner of the files to put right.
    """
    asked_of = survey.rows[task]
    kinds = ";".join(sorted(kind.value for kind in asked_of.kinds))
    first = survey.first or now
    asked = {
        "event_state": EventState.REQUESTED.value,
        "purpose": purpose_of(task).value,
        "content_kind": kinds,
        "event_time": now.isoformat(timespec="seconds"),
        "recorded_time": now.isoformat(timespec="seconds"),
        "data_from": first.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0).isoformat(),
    }
    for organisation in dict.fromkeys(asked_of.people.values()):
        yield {
            **asked,
            "org_id": organisation,
            "entity_role": EntityRole.ORG_ADMIN.value,
            "collection_method": "admin_console",
            "record_id": f"init-{secrets.token_hex(8)}",
        }
    for person, organisation in asked_of.people.items():
        yield {
            **asked,
            "person_id": person,
            "org_id": organisation,
            "entity_role": EntityRole.SELF.value,
            "age_band": "unknown",
            "notice_id": NOTICE,
            "notice_version": "1",
            "collection_method": "form",
            "record_id": f"init-{secrets.token_hex(8)}",
        }


TEMPLATE = (
    "person_id",
    "event_state",
    "age_band",
    "org_id",
    "entity_role",
    "purpose",
    "content_kind",
    "event_time",
    "recorded_time",
    "data_from",
    "notice_id",
    "notice_version",
    "collection_method",
    "record_id",
)
"""Columns of the template: what is to be filled in comes first."""


def write_new(path: Path, text: str, *, private: bool, replace: bool) -> None:
    """Write a file whole.

    Raises:
      ConfigError: it is there and was not to be replaced, or it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text, mode=0o600 if private else 0o666, replace=replace)
    except FileExistsError:
        raise ConfigError(f"init: {path} exists; choose another name, or --force to write it anew") from None
    except OSError as error:
        raise ConfigError(f"init: {path}: {error.strerror}; choose a folder that can be written") from error


def template_text(rows: Iterable[dict[str, str]]) -> str:
    """The template as csv."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, TEMPLATE, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _said(columns: ColumnsConfig) -> Iterator[tuple[str, object]]:
    """The parts that say something."""
    for key in ("names", "left_out", "constants"):
        value = getattr(columns, key)
        if value:
            yield key, value


def _quoted(text: str) -> str:
    """A name as it stands in YAML, in quotes where it needs them; `$` would begin a reference to another key."""
    plain = text.replace("/", "").replace(".", "").replace("-", "").replace("_", "")
    return text if plain.isalnum() and plain.isascii() and not plain.isdigit() else json.dumps(text, ensure_ascii=False)


def _power(number: float) -> str:
    """A power of ten as YAML reads a number."""
    mantissa, _, exponent = f"{number:.0e}".partition("e")
    return f"{mantissa}.0e{int(exponent)}"


__all__ = ["NOTICE", "TEMPLATE", "Own", "consent_rows", "recipe_text", "template_text", "write_new"]
