"""How an ε is written, alike in claims, tables, pictures and lines: spent never below its value, left never above."""

from __future__ import annotations

import math


def rounded_up(epsilon: float | None) -> str:
    """ε with three significant digits and at least two decimals, never below its value; empty where there is none.

    >>> rounded_up(12.345), rounded_up(8.0), rounded_up(0.00123), rounded_up(0.0), rounded_up(math.inf)
    ('12.35', '8.00', '0.00123', '0', 'unbounded')
    """
    if epsilon is None:
        return ""
    if epsilon == 0:
        return "0"
    if math.isinf(epsilon):
        return "unbounded"
    decimals = max(2, 2 - math.floor(math.log10(epsilon)))
    # The tolerance keeps 3.0 from becoming 3.01 through the last bit of a product.
    return f"{math.ceil(epsilon * 10**decimals * (1 - 1e-12)) / 10**decimals:.{decimals}f}"


def rounded_down(epsilon: float) -> str:
    """What is left of a budget, with three decimals: never more than there is, and never below 0.

    >>> rounded_down(1.2345), rounded_down(3.0), rounded_down(-0.1)
    ('1.234', '3', '0')
    """
    return f"{max(0, math.floor(epsilon * 1000) / 1000):.3f}".rstrip("0").rstrip(".")
