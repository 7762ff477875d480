"""What one part of a conformance audit found: public facts alone, with the p-values of its tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dp_train.errors import DpTrainError, ModelError, PlanError

FAMILY_LEVEL = 1e-4
"""Probability that all tests of one conformance audit together call a correct trainer wrong."""

_TOLD = 2
"""Of the tests of a part that fail, so many are told, the smallest p first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One part of a conformance audit. All of it is public.

    Attributes:
      name: of the part. compared: what was compared with what.
      p_values: of its tests, by what they test; a correct trainer gives uniform ones.
      findings: what no correct trainer does, in public words; empty if nothing was found.
      skipped: why the part does not apply to this run; "" if it does.
      error: why the part could not be run, which says nothing of the claim; "" if it could.
    """

    name: str
    compared: str
    p_values: Mapping[str, float] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    skipped: str = ""
    error: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Conformance:
    """All parts of a conformance audit, and what they say together.

    Guarantee: the p-values of a correct trainer make `findings` non-empty with probability at most `level` (Bonferroni
    over all tests, whatever hangs together); its other checks never do.
    """

    checks: tuple[Check, ...]
    level: float = FAMILY_LEVEL

    @property
    def tests(self) -> int:
        """How many p-values there are."""
        return sum(len(check.p_values) for check in self.checks)

    @property
    def least(self) -> tuple[str, float] | None:
        """The smallest p-value, with what it tests; None if nothing was tested."""
        every = [(f"{check.name}: {what}", p) for check in self.checks for what, p in check.p_values.items()]
        return min(every, key=lambda one: one[1], default=None)

    @property
    def findings(self) -> tuple[str, ...]:
        """What refutes the claim that the trainer does as planned; empty if all is consistent with it."""
        return tuple(f"{check.name}: {finding}" for check in self.checks for finding in self.findings_of(check))

    @property
    def errors(self) -> tuple[str, ...]:
        """Parts that could not be run, and why: the audit is then incomplete."""
        return tuple(f"{check.name}: {check.error}" for check in self.checks if check.error)

    def findings_of(self, check: Check) -> tuple[str, ...]:
        """What one part found, its p-values compared with the level of the whole family."""
        bound = self.level / max(self.tests, 1)
        small = sorted((p, what) for what, p in check.p_values.items() if not p >= bound)
        told = [f"{what} (p={p:.1e})" for p, what in small[:_TOLD]]
        rest = [f"{len(small) - _TOLD} tests more"] if len(small) > _TOLD else []
        return (*check.findings, *told, *rest)

    def values(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "family_wise_level": self.level,
            "tests": self.tests,
            "findings": list(self.findings),
            "checks": [
                {
                    "name": check.name,
                    "compared": check.compared,
                    "p_values": {what: float(f"{p:.3g}") for what, p in check.p_values.items()},
                    "findings": list(self.findings_of(check)),
                    "skipped": check.skipped or None,
                    "error": check.error or None,
                    "seconds": round(check.seconds, 2),
                }
                for check in self.checks
            ],
        }


def timed(name: str, part: Callable[[], Check], *, refuses: bool = False) -> Check:
    """Run one part and note its seconds.

    Args:
      refuses: whether an error is what the part looks for, as of the self-check; else it says that the part could not
        be run, and nothing of the claim.
    """
    begun = time.perf_counter()
    try:
        found = part()
    except DpTrainError as error:
        said = str(error)
        found = Check(
            name=name,
            compared="the part did not come to its end",
            findings=(said,) if refuses and isinstance(error, ModelError | PlanError) else (),
            error="" if refuses and isinstance(error, ModelError | PlanError) else said,
        )
    return replace(found, seconds=time.perf_counter() - begun)


__all__ = ["FAMILY_LEVEL", "Check", "Conformance", "timed"]
