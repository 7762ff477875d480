"""Privacy units: whatever is drawn, clipped and protected as one (PRIVACY.md §2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from dp_train.conversations import Example
from dp_train.errors import ConsentError, PlanError
from dp_train.privacy.plan import PrivacyPlan, Unit
from dp_train.privacy.selection import bounded_contributions, in_public_order, rows_by_owner

if TYPE_CHECKING:
    from dp_train.consent.events import Purpose
    from dp_train.consent.gate import ConsentedExamples

_SEAL = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionReport:
    """What bounding the contributions kept. Private numbers: they are not logged unless the user asks for it."""

    examples_seen: int
    examples_kept: int
    people_seen: int
    people_kept: int

    @property
    def examples_share(self) -> float:
        """Share of the examples that were kept; 0 where there were none."""
        return self.examples_kept / self.examples_seen if self.examples_seen else 0.0

    @property
    def people_share(self) -> float:
        """Share of the people of whom something was kept; 0 where there were none."""
        return self.people_kept / self.people_seen if self.people_seen else 0.0


class Units(Sequence[tuple[Example, ...]]):
    """The units of a training run; each is a tuple of one or more examples. Only `build_units` makes one.

    Guarantee: every example came through the consent gate, nobody owns rows of more than `max_contributions` units
    (without limit for `Unit.EXAMPLE`), and the order depends on public ids alone.

    Attributes:
      unit: what a unit stands for.
      max_contributions: k that the selection kept to; 1 where a unit is all of one person's rows.
      rows_per_unit: G that the selection kept to; 1 where a unit is one example.
      consent_root: Merkle root of the consent snapshot that the gate decided by.
      purpose: what the people agreed to.
      selection: what was kept; private.
    """

    def __init__(
        self,
        rows: Sequence[tuple[Example, ...]],
        *,
        unit: Unit,
        max_contributions: int,
        rows_per_unit: int,
        consent_root: str,
        purpose: Purpose,
        selection: SelectionReport,
        seal: object = None,
    ) -> None:
        if seal is not _SEAL:
            raise ConsentError("units: made by hand; call build_units on what the consent gate let through")
        self._rows = tuple(rows)
        self.unit = unit
        self.max_contributions = max_contributions
        self.rows_per_unit = rows_per_unit
        self.consent_root = consent_root
        self.purpose = purpose
        self.selection = selection

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> tuple[Example, ...]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[tuple[Example, ...]]: ...

    def __getitem__(self, index: int | slice) -> tuple[Example, ...] | Sequence[tuple[Example, ...]]:
        return self._rows[index]

    def __repr__(self) -> str:
        """No numbers: how many units there are is private."""
        return f"Units(unit={self.unit.value}, consent_root={self.consent_root[:12]})"

    def check(self, plan: PrivacyPlan) -> None:
        """Hold the units against the plan that is to be trained with.

        Raises:
          PlanError: the plan protects another unit, or allows fewer contributions or rows than the units have,
            so that its ε would be too small.
        """
        if plan.unit is not self.unit:
            raise PlanError(f"units: built per {self.unit.value}; the plan is per {plan.unit.value}; build them anew")
        for name in ("max_contributions", "rows_per_unit"):
            built, planned = getattr(self, name), getattr(plan, name)
            if built > planned:
                raise PlanError(
                    f"units: built with {name}={built}; the plan allows {planned}; build them with {planned}"
                )


def build_units(
    examples: ConsentedExamples, *, unit: Unit, max_contributions: int = 1, rows_per_unit: int = 1
) -> Units:
    """Units of consented examples, bounded so that the plan's event is true of them.

    | unit | owners of an example | a unit is | bound |
    |---|---|---|---|
    | USER | one, for every example | one person's rows | at most `rows_per_unit` rows |
    | USER | several, for at least one | one example | a person owns at most `max_contributions` units |
    | EXAMPLE | any | one example | none: the ε is per example |

    Which of the first two rows applies follows from who owns what, which the guarantee takes as fixed
    (fixed-graph DP): it protects what people said, not who met whom.

    Args:
      examples: from `ConsentedCorpus.examples`; nothing else is accepted.
      max_contributions: k, ≥ 1; counts where examples have several owners.
      rows_per_unit: G, ≥ 1; counts where every example has one owner.

    Raises:
      ConsentError: the examples did not come through the gate.
      DataError: two examples share an id.
      PlanError: k or G is below 1.
    """
    from dp_train.consent.gate import ConsentedExamples

    if not isinstance(examples, ConsentedExamples):
        raise ConsentError("units: examples have no consent; take them from gate(…).examples(…)")
    for name, bound in (("max_contributions", max_contributions), ("rows_per_unit", rows_per_unit)):
        if bound < 1:
            raise PlanError(f"units: {name}={bound}; expected at least 1")
    seen = list(examples)
    k = g = 1
    rows: list[tuple[Example, ...]]
    if unit is Unit.EXAMPLE:
        rows = [(example,) for example in in_public_order(seen)]
    elif all(len(example.owners) == 1 for example in seen):
        rows, g = rows_by_owner(seen, rows_per_unit), rows_per_unit
    else:
        rows, k = [(example,) for example in bounded_contributions(seen, max_contributions)], max_contributions
    kept = [example for unit_rows in rows for example in unit_rows]
    return Units(
        rows,
        unit=unit,
        max_contributions=k,
        rows_per_unit=g,
        consent_root=examples.root,
        purpose=examples.purpose,
        selection=SelectionReport(
            examples_seen=len(seen),
            examples_kept=len(kept),
            people_seen=_people(seen),
            people_kept=_people(kept),
        ),
        seal=_SEAL,
    )


def _people(examples: Iterable[Example]) -> int:
    return len({person for example in examples for person in example.owners})
