"""Prints the table at the end of a run."""

from __future__ import annotations

from typing import Any

from sabotage_table import NOTICED, table


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if NOTICED:
        terminalreporter.section("planted bug → who notices")
        terminalreporter.write_line(table({bug: "; ".join(sorted(set(who))) for bug, who in NOTICED.items()}))
