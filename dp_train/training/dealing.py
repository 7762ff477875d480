"""How a step's units are dealt to the processes that share it: whole, by cost, so that all finish together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dp_train.engines.ranks import Ranks
from dp_train.errors import PrivacyError


def deal(draw: NDArray[np.int64], cost: Callable[[int], int], hands: int) -> tuple[NDArray[np.int64], ...]:
    """Deal the units of a draw: the dearest first, each to the hand that has cost least so far.

    Guarantee: every unit is in exactly one hand, in the order of the draw. A hand may be empty. Depends on the
    arguments alone, so that every process deals alike.

    Args:
      cost: of a unit, about what its gradient takes.
    """
    costs = [cost(int(unit)) for unit in draw]
    taken, owner = [0] * hands, np.zeros(len(draw), dtype=np.int64)
    for place in sorted(range(len(draw)), key=lambda place: (-costs[place], place)):
        hand = min(range(hands), key=lambda one: (taken[one], one))
        owner[place] = hand
        taken[hand] += costs[place]
    return tuple(draw[owner == hand] for hand in range(hands))


def own_share(step: int, draw: NDArray[np.int64], cost: Callable[[int], int], ranks: Ranks) -> NDArray[np.int64]:
    """Return what of a step's draw is this process' to sum; all of it where it is alone.

    Raises:
      PrivacyError: the processes drew other units, or dealt them otherwise, so that one may count twice.
    """
    if ranks.size == 1:
        return draw
    hands = deal(draw, cost, ranks.size)
    dealt = hashlib.blake2b(repr((step, [hand.tolist() for hand in hands])).encode(), digest_size=16).digest()
    if len(set(ranks.each(dealt))) != 1:
        raise PrivacyError(
            "processes: they drew different units for a step, or dealt them otherwise; expected one draw; resume with "
            "the same version and data in each"
        )
    return hands[ranks.rank]
