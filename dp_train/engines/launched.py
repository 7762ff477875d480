"""Whether a launcher started this process as one of several. No torch."""

from __future__ import annotations

import os

_LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun, and launchers like it, set for each process."""


def processes_launched() -> int:
    """Return how many processes torchrun, or a launcher that sets what it sets, started together; 1 without one."""
    if not all(name in os.environ for name in _LAUNCHED):
        return 1
    count = os.environ["WORLD_SIZE"]
    return int(count) if count.isdigit() else 1


def launched() -> bool:
    """Return whether this process is one of several."""
    return processes_launched() > 1


__all__ = ["launched", "processes_launched"]
