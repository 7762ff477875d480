"""The draw of a step, derived once more: right batch sizes with the wrong people in them have another.

It shares no code with `privacy.sampling`, so that a mistake there does not excuse itself. One unit after the other,
in O(q·n) scalar steps; a check asks for few.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

import numpy as np

from dp_train.privacy.plan import PrivacyPlan

_WORD = 2.0**64
_TIE = 1e-6
"""Gaps that lie so close to a whole number may round to either side."""


def planned_draw(plan: PrivacyPlan, step: int, num_units: int, seed: bytes) -> frozenset[int] | None:
    """The units that the plan's sampler has to draw at `step`; None where rounding could decide.

    Args:
      num_units, seed: private, as in `sampling.PoissonSampler.draw`; so is the answer.
    """
    law = plan.mechanism.draw_law
    units = range(num_units) if law.groups == 1 else _turn(law.groups, step, num_units, seed)
    drawn: list[int] = []
    if law.rate >= 1:
        drawn = list(units)
    else:
        position = -1
        for exponential in _exponentials(seed, step):
            gap = exponential / -math.log1p(-law.rate)
            if gap < num_units and abs(gap - round(gap)) < _TIE:
                return None
            position += int(min(gap, num_units)) + 1
            if position >= len(units):
                break
            drawn.append(units[position])
    if law.cap is not None and len(drawn) > law.cap:
        places = _words(seed, step, b"left out", len(drawn))
        order = sorted(range(len(drawn)), key=lambda index: (places[index], index))
        drawn = [drawn[index] for index in order[: law.cap]]
    return frozenset(drawn)


def _exponentials(seed: bytes, step: int) -> Iterator[float]:
    stream = _stream(seed, step, b"sampling")
    while True:
        for word in stream.random_raw(64).tolist():
            if word < 2**63:
                yield -math.log1p(-(word + 0.5) / _WORD)
            else:
                yield -math.log((2**64 - 1 - word + 0.5) / _WORD)


def _turn(groups: int, step: int, num_units: int, seed: bytes) -> list[int]:
    digest = hashlib.blake2b(key=seed, person=b"groups", digest_size=16).digest()
    dice = np.random.Philox(key=int.from_bytes(digest, "big")).random_raw(num_units)
    return [unit for unit, die in enumerate(dice.tolist()) if die % groups == step % groups]


def _words(seed: bytes, step: int, stream: bytes, count: int) -> list[int]:
    found: list[int] = _stream(seed, step, stream).random_raw(count).tolist()
    return found


def _stream(seed: bytes, step: int, stream: bytes) -> np.random.Philox:
    digest = hashlib.blake2b(step.to_bytes(8, "big"), key=seed, person=stream, digest_size=16).digest()
    return np.random.Philox(key=int.from_bytes(digest, "big"))


__all__ = ["planned_draw"]
