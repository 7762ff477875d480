"""What `scripts/bench_redaction.py --write` measured of this package's anonymisation, for cards and reports."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

NOT_COVERED = (
    "people on no roster, readings of Chinese characters, a street without a number, a date of birth or a document's "
    "number without a word beside it, numbers in words, and what identifies by what it tells"
)
"""What no recogniser looks for, said wherever recall is."""


@dataclass(frozen=True, kw_only=True)
class RecallFigures:
    """Recall and precision of each type, as they were measured before this version was packed.

    Attributes:
      command: what gave the figures. date: the day, ISO 8601.
      generated: type → recall, labelled, precision, replaced; lines made of Faker's values in five locales.
      labelled: the same on 200 lines of the embedded corpus.
      hand: the same on lines of 38 locales written by hand. held_out: on the half of them that nobody tuned on.
      ordinary: sentences that identify nobody, and in how many of them something was replaced.
      residual: shares of messages of a public chat with a participant's name, or None where it was not there.
    """

    command: str
    date: str
    generated: dict[str, dict[str, Any]]
    labelled: dict[str, dict[str, Any]]
    hand: dict[str, dict[str, Any]]
    held_out: dict[str, dict[str, Any]]
    ordinary: dict[str, Any]
    residual: dict[str, Any] | None

    def recall(self) -> float:
        """Of all labelled places in the generated lines, the share that was replaced."""
        counts = [
            (row["recall"] * row["labelled"], row["labelled"]) for row in self.generated.values() if row["labelled"]
        ]
        return float(sum(found for found, _ in counts) / sum(there for _, there in counts))

    def describe(self) -> str:
        """One line with its limits, per type: what was found of lines written by hand, mistakes, what is not covered.

        Such as "recall 0.985 on generated lines, lowest: PERSON nickname 0.47; on lines by hand: ADDRESS 0.93, …".
        """
        kind, row = min(
            ((kind, row) for kind, row in self.generated.items() if row["labelled"]), key=lambda item: item[1]["recall"]
        )
        written = {kind: row["recall"] for kind, row in self.hand.items() if row["labelled"]}
        by_hand = ", ".join(
            f"{kind} {recall:.2f}" for kind, recall in sorted(written.items(), key=lambda item: item[1])
        )
        return (
            f"recall {self.recall():.3f} on generated lines, lowest: {kind} {row['recall']:.2f}; "
            f"on lines by hand: {by_hand}; "
            f"ordinary sentences changed by mistake: {self.ordinary['share']:.2%} ({self.date}); "
            f"not covered: {NOT_COVERED}"
        )


@cache
def recall_figures() -> RecallFigures:
    """The packaged figures."""
    return RecallFigures(
        **json.loads(files("dp_train.anonymize").joinpath("recall_figures.json").read_text(encoding="utf-8"))
    )
