"""What one person or organisation decided, packed: cells of purpose, content kinds, reason and data window."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from dp_train.consent.decisions import REASONS, Outcome

CELL = struct.Struct("<BHBqq")
"""Purpose index, bit mask of kinds, reason index, data window in µs: 20 bytes."""

_REASON_INDEX = {reason: index for index, reason in enumerate(REASONS)}


def pack_cells(cells: Iterable[tuple[int, int, Outcome]]) -> bytes:
    """The cells of one person or organisation, 20 bytes each; empty where all is NO_RECORD."""
    return b"".join(CELL.pack(p, kinds, _REASON_INDEX[o.reason], o.data_from, o.data_to) for p, kinds, o in cells)


def unpack_cells(packed: bytes) -> Iterable[tuple[int, int, Outcome]]:
    """What `pack_cells` packed."""
    return ((p, kinds, Outcome(REASONS[code], a, b)) for p, kinds, code, a, b in CELL.iter_unpack(packed))
