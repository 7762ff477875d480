"""Privacy units: whatever is drawn, clipped and protected as one (docs/privacy.md, One plan)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray

from dp_train.conversations import Example
from dp_train.errors import ConsentError, PlanError
from dp_train.privacy.contribution_bounding import Ownership, Selected, ids_of
from dp_train.privacy.plan import NeighboringRelation, PrivacyPlan, Unit
from dp_train.privacy.tables import Encode, Tokens, TokenTable, UnitTables, encoding_digest, in_cohort

if TYPE_CHECKING:
    from dp_train.consent.events import Purpose
    from dp_train.consent.gate import ConsentedExamples

_SEAL = object()

_TELLING = 100
"""From so many on, a whole per cent is not a count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnersShare:
    """What was kept of the examples that belong to `owners` people each."""

    owners: int
    seen: int
    kept: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionReport:
    """What bounding the contributions kept.

    All of it follows from who owns what, which the guarantee takes as fixed and does not protect. The counts
    still tell how many people consented: they are for the screen of whoever runs the training, and enter no log.
    `public_facts` is what a report may print.

    Attributes:
      most_possible: no selection within the bound keeps more examples than this; None where there was no choice.
      by_owners: the same counts by how many people an example belongs to, rising.
    """

    examples_seen: int
    examples_kept: int
    people_seen: int
    people_kept: int
    most_possible: int | None = None
    by_owners: tuple[OwnersShare, ...] = ()

    @property
    def examples_share(self) -> float:
        """Share of the examples that were kept; 0 where there were none."""
        return self.examples_kept / self.examples_seen if self.examples_seen else 0.0

    @property
    def people_share(self) -> float:
        """Share of the people of whom something was kept; 0 where there were none."""
        return self.people_kept / self.people_seen if self.people_seen else 0.0

    @property
    def share_of_possible(self) -> float | None:
        """What was kept ÷ a bound on what any selection could keep; None where there was no choice."""
        return None if not self.most_possible else self.examples_kept / self.most_possible

    def public_facts(self, relation: NeighboringRelation) -> dict[str, int | str | None]:
        """Whole per cents for a report: a share, and no count. Nothing where the relation protects who is there.

        | relation | |
        |---|---|
        | replace_special | they would be the same whatever anybody had said, so they cost no ε |
        | add_or_remove_one | one heavy writer more takes a share from 100 to 38 %: a private count, and not told |

        They are rounded so that they do not tell how many people there are. None stands for a share of fewer than 100
        people or examples, where a per cent would be a count.
        """
        if relation is NeighboringRelation.ADD_OR_REMOVE_ONE:
            return {}
        enough = min(self.examples_seen, self.people_seen) >= _TELLING
        return {
            "examples kept, %": round(100 * self.examples_share) if enough else None,
            "people kept, %": round(100 * self.people_share) if enough else None,
            "leans to": "examples of few people" if self._leans else None,
        }

    @property
    def _leans(self) -> bool:
        """Whether a kept example has fewer owners than one that was seen, on average."""
        seen = sum(share.owners * share.seen for share in self.by_owners)
        kept = sum(share.owners * share.kept for share in self.by_owners)
        return kept * self.examples_seen < seen * self.examples_kept


def selection_report(
    seen: Sequence[Example], kept: Sequence[Example], *, most_possible: int | None = None
) -> SelectionReport:
    """The counts of a selection."""
    sizes, kept_sizes = (Counter(len(example.owners) for example in some) for some in (seen, kept))
    return SelectionReport(
        examples_seen=len(seen),
        examples_kept=len(kept),
        people_seen=_people(seen),
        people_kept=_people(kept),
        most_possible=most_possible,
        by_owners=tuple(OwnersShare(owners=size, seen=sizes[size], kept=kept_sizes[size]) for size in sorted(sizes)),
    )


class Units(Sequence[tuple[Example, ...]]):
    """The units of a training run; each is a tuple of one or more examples. Only `build_units` makes one.

    With tables (`privacy.tables`) the examples lie tokenised on disk: `tokens` reads them, and indexing is refused.

    Guarantee: every example came through the consent gate, no person owns rows of more than `max_contributions` units
    (without limit for `Unit.EXAMPLE`), and the order depends on public ids alone.

    Attributes:
      unit: what a unit stands for.
      max_contributions: k that the selection kept to; 1 where a unit is all of one person's rows.
      rows_per_unit: G that the selection kept to; 1 where a unit is one example.
      consent_root: Merkle root of the consent snapshot that the gate decided by.
      population: names the people whom a ledger charges, the same for every snapshot of them.
      purpose: what the people agreed to.
      selection: what was kept; its `public_facts` may be printed.
    """

    def __init__(
        self,
        rows: Sequence[tuple[Example, ...]] | TokenTable,
        *,
        unit: Unit,
        max_contributions: int,
        rows_per_unit: int,
        consent_root: str,
        population: str,
        purpose: Purpose,
        selection: SelectionReport,
        people: frozenset[str] = frozenset(),
        ends: NDArray[np.int64] | None = None,
        encoding: str | None = None,
        seal: object = None,
    ) -> None:
        if seal is not _SEAL:
            raise ConsentError("units: made by hand; call build_units on what the consent gate let through")
        self._rows = rows if isinstance(rows, TokenTable) else tuple(rows)
        self._ends = ends
        self._encoding = encoding
        self._people = people
        self.unit = unit
        self.max_contributions = max_contributions
        self.rows_per_unit = rows_per_unit
        self.consent_root = consent_root
        self.population = population
        self.purpose = purpose
        self.selection = selection

    def __len__(self) -> int:
        return len(self._rows) if self._ends is None else len(self._ends) - 1

    @property
    def people(self) -> frozenset[str]:
        """Everybody who owns a row. Private."""
        return self._people

    @property
    def tabled(self) -> bool:
        """Whether the rows lie tokenised on disk, without their text."""
        return isinstance(self._rows, TokenTable)

    @property
    def cohort(self) -> str:
        """Names the very units: which examples, of whom. A consent snapshot that yields them again is as good."""
        if isinstance(self._rows, TokenTable):
            return self._rows.cohort
        digest = hashlib.sha256()
        for unit in self._rows:
            for _ in in_cohort(digest, unit):
                pass
        return digest.hexdigest()

    def tokens(self, index: int, encode: Encode) -> tuple[Tokens, ...]:
        """Token ids and labels of a unit's rows: from the table, or by `encode`. See `check_encoding`."""
        if isinstance(self._rows, TokenTable):
            assert self._ends is not None
            return tuple(self._rows[row] for row in range(int(self._ends[index]), int(self._ends[index + 1])))
        rows = (encode(example) for example in self._rows[index])
        return tuple((row.input_ids, row.labels) for row in rows)

    def check_encoding(self, encode: Encode) -> None:
        """Hold the table against the task that is to be trained.

        Raises:
          PlanError: it was tokenised otherwise.
        """
        if self._encoding is not None and self._encoding != encoding_digest(encode):
            raise PlanError(
                "units: their table was tokenised by another task or tokenizer than the one to train; build them with "
                "UnitTables(…, encode=task.encode)"
            )

    @overload
    def __getitem__(self, index: int) -> tuple[Example, ...]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[tuple[Example, ...]]: ...

    def __getitem__(self, index: int | slice) -> tuple[Example, ...] | Sequence[tuple[Example, ...]]:
        if isinstance(self._rows, TokenTable):
            raise PlanError("units: a table keeps tokens and no text; use tokens(), or build them without tables")
        return self._rows[index]

    def first(self, count: int) -> Units:
        """The first `count` units in the public order, bounded as these are. Not of a table."""
        return self._of_rows(self._texts()[:count])

    def joined(self, others: Units) -> Units:
        """These units, and after them `others` of other people: for shadow runs with canaries (`dp_train.audit`).

        Guarantee: every example came through the gate, and a person owns no more than in the one of both that has
        them. Population and consent are those of these units, whose people the ones to protect are.

        Raises:
          ConsentError: someone is in both, or they agreed to something else. PlanError: the units are of another kind,
            or lie in a table.
        """
        if not self.people.isdisjoint(others.people):
            raise ConsentError("units: someone is in both; expected other people, for each is bounded in one alone")
        if others.purpose is not self.purpose:
            raise ConsentError(
                f"units: consented for {self.purpose.value} and {others.purpose.value}; expected one purpose"
            )
        if others.unit is not self.unit:
            raise PlanError(f"units: built per {self.unit.value} and per {others.unit.value}; expected one kind")
        return self._of_rows(
            (*self._texts(), *others._texts()),
            max_contributions=max(self.max_contributions, others.max_contributions),
            rows_per_unit=max(self.rows_per_unit, others.rows_per_unit),
        )

    def _texts(self) -> tuple[tuple[Example, ...], ...]:
        if isinstance(self._rows, TokenTable):
            raise PlanError("units: they lie in a table; build them without tables to join or cut them")
        return self._rows

    def _of_rows(
        self,
        rows: Sequence[tuple[Example, ...]],
        *,
        max_contributions: int | None = None,
        rows_per_unit: int | None = None,
    ) -> Units:
        examples = [example for unit in rows for example in unit]
        return Units(
            rows,
            unit=self.unit,
            max_contributions=max_contributions or self.max_contributions,
            rows_per_unit=rows_per_unit or self.rows_per_unit,
            consent_root=self.consent_root,
            population=self.population,
            purpose=self.purpose,
            selection=selection_report(examples, examples),
            people=frozenset(person for example in examples for person in example.owners),
            seal=_SEAL,
        )

    def __repr__(self) -> str:
        """No numbers: how many units there are is private."""
        return f"Units(unit={self.unit.value}, consent_root={self.consent_root[:12]})"

    def check(self, plan: PrivacyPlan) -> None:
        """Hold the units against the plan that is to be trained with.

        Raises:
          PlanError: the plan protects another unit, allows fewer contributions or rows than the units have, or was
            made for fewer units, so that its ε would be too small.
        """
        if plan.unit is not self.unit:
            raise PlanError(f"units: built per {self.unit.value}; the plan is per {plan.unit.value}; build them anew")
        for name in ("max_contributions", "rows_per_unit"):
            built, planned = getattr(self, name), getattr(plan, name)
            if built > planned:
                raise PlanError(
                    f"units: built with {name}={built}; the plan allows {planned}; build them with {planned}"
                )
        if plan.population is not None and len(self) > plan.population:
            raise PlanError(
                f"units: more than the declared population={plan.population}, for which the cap on a step was "
                "accounted; declare a larger one"
            )


def build_units(
    examples: ConsentedExamples,
    *,
    unit: Unit,
    max_contributions: int = 1,
    rows_per_unit: int = 1,
    tables: UnitTables | None = None,
) -> Units:
    """Units of consented examples, bounded so that the plan's event is true of them.

    | unit | owners of an example | a unit is | bound |
    |---|---|---|---|
    | USER | one, for every example | one person's rows | at most `rows_per_unit` rows |
    | USER | several, for at least one | one example | a person owns at most `max_contributions` units |
    | EXAMPLE | any | one example | none: the ε is per example |

    Which of the first two rows applies follows from who owns what, which the guarantee takes as fixed
    (fixed-graph DP): it protects what people said, not who met whom.

    Guarantee, from conversations on (`dp_train.consent.gate`, `dp_train.tasks.examples`): let one person who agreed
    say nothing, their turns empty in their places. Then the units that they own are gone, at most one with one owner
    and `max_contributions` with several, and every other unit is the same to a byte. With one owner it is the same if
    their turns are not there at all, on a roster or on none; docs/gate.md says which links and which share of a thread
    are of the graph. Places (`Example`) hold the selection still and become no unit.

    Args:
      examples: from `ConsentedCorpus.examples`; nothing else is accepted.
      max_contributions: k, ≥ 1; counts where examples have several owners.
      rows_per_unit: G, ≥ 1; counts where every example has one owner.
      tables: tokenise now, onto disk, and keep no text in memory; the same units, for corpora that do not fit.

    Raises:
      ConsentError: the examples did not come through the gate.
      DataError: two examples share an id.
      PlanError: k or G is below 1.
      CheckpointError: the tables cannot be written.
    """
    from dp_train.consent.gate import ConsentedExamples

    if not isinstance(examples, ConsentedExamples):
        raise ConsentError("units: examples have no consent; take them from gate(…).examples(…)")

    def select(ownership: Ownership, ids: Callable[[], Iterable[str]]) -> Selected:
        return ownership.select(ids, unit=unit, max_contributions=max_contributions, rows_per_unit=rows_per_unit)

    rows: Sequence[tuple[Example, ...]] | TokenTable
    if tables is None:
        seen = list(examples.places())
        ownership = Ownership.of(seen)
        selected = select(ownership, lambda: ids_of(seen))
        rows = [tuple(seen[index] for index in members) for members in selected.units()]
    else:
        tabled = tables.take(examples, select)
        ownership, selected, rows = tabled.ownership, tabled.selected, tabled.table
    people = ownership.people(selected.examples)
    chosen = len(people) if len(selected.chosen) == len(selected.examples) else len(ownership.people(selected.chosen))
    return Units(
        rows,
        unit=unit,
        max_contributions=selected.max_contributions,
        rows_per_unit=selected.rows_per_unit,
        consent_root=examples.root,
        population=examples.population_id,
        purpose=examples.purpose,
        selection=_report(ownership, selected, chosen),
        people=people,
        ends=None if tables is None else selected.ends,
        encoding=None if tables is None else tables.encoding,
        seal=_SEAL,
    )


def _report(ownership: Ownership, selected: Selected, people_kept: int) -> SelectionReport:
    seen, kept = (np.bincount(sizes) for sizes in (ownership.sizes, ownership.sizes[selected.chosen]))
    kept = np.pad(kept, (0, len(seen) - len(kept)))
    return SelectionReport(
        examples_seen=len(ownership),
        examples_kept=len(selected.chosen),
        people_seen=ownership.num_people,
        people_kept=people_kept,
        most_possible=selected.upper_bound,
        by_owners=tuple(
            OwnersShare(owners=int(size), seen=int(seen[size]), kept=int(kept[size])) for size in seen.nonzero()[0]
        ),
    )


def _people(examples: Iterable[Example]) -> int:
    return len({person for example in examples for person in example.owners})
