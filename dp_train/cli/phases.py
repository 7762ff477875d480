"""How long each part of a long verb took, for whoever waits for it."""

from __future__ import annotations

import time

from rich.console import Console


class Phases:
    """Wall-clock seconds of phases that follow one another; `begin` ends the one before."""

    def __init__(self, first: str) -> None:
        self._begun = [(first, time.monotonic())]

    def begin(self, name: str) -> None:
        """Begin the next phase."""
        self._begun.append((name, time.monotonic()))

    def show(self, out: Console) -> None:
        """Print what each phase took, and all of them together."""
        ends = [*(began for _, began in self._begun[1:]), time.monotonic()]
        parts = [f"{name} {end - began:.0f} s" for (name, began), end in zip(self._begun, ends, strict=True)]
        out.print(f"done in {ends[-1] - self._begun[0][1]:.0f} s: {', '.join(parts)}")
