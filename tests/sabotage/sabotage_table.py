"""What the run found, for the table "planted bug → who notices"."""

from __future__ import annotations

from collections.abc import Mapping

NOTICED: dict[str, list[str]] = {}
"""Planted bug → who noticed, case by case."""


def table(rows: Mapping[str, str]) -> str:
    """In Markdown."""
    return "\n".join(
        ["| planted bug | who notices |", "|---|---|", *(f"| {bug} | {who} |" for bug, who in rows.items())]
    )
