"""Poisson sampling: one coin per unit and step, thrown in O(q·n), and the test that tells it from anything else.

References: geometric skips, Devroye 1986, "Non-Uniform Random Variate Generation", ch. XII; Philox, Salmon et al. 2011.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from dp_train.errors import PlanError

FALSE_ALARM = 1e-9
"""Probability with which a correct run is taken for a wrong one by `is_poisson`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawLaw:
    """What a draw is, in public numbers; checks that share no code with a sampler go by them.

    Attributes:
      rate: with which a unit enters in its turn.
      groups: into how many groups units are dealt, which take turns; 1 where it is everyone's turn.
      cap: most units of a step; None for no cap.
    """

    rate: float
    groups: int = 1
    cap: int | None = None


class Sampler(Protocol):
    """Draws the units of a step.

    Guarantee: a draw is a pure function of (seed, step, unit index).
    """

    @property
    def name(self) -> str:
        """Short, for the ledger."""

    @property
    def described(self) -> str:
        """What it assumes, for the card."""

    def draw(self, step: int, num_units: int, seed: bytes) -> NDArray[np.int64]:
        """Sorted indices of the units that enter `step`; may be empty. Arguments as of `PoissonSampler.draw`."""


@dataclass(frozen=True, slots=True)
class PoissonSampler:
    """Draws each unit with probability `sample_rate`, independently over units and steps.

    Guarantee: a draw is a pure function of (seed, step, unit index). It is the same in every process and
    after every resume, and a draw over n units is the draw over n + 1 units without the last one, so
    that adding a unit changes no other unit's coin.

    The distance to the next drawn unit is geometric: ⌊E ÷ −log(1 − q)⌋ for E exponential. E is made from 64
    random bits with full resolution at both ends, so a gap's distribution function is exact up to 2⁻⁶⁴ and the
    rounding of the logarithm (2⁻⁵² of the gap). The inclusion probability is thus q(1 ± 2⁻⁵²/q): for q ≥ 1e-6 it is
    right to nine digits. Gaps above 45/q never occur, which have probability 2⁻⁶⁴.

    The stream is Philox under a 128-bit key hashed from the seed. Philox is fast, and not meant for
    cryptography: draws are as secret as the data and never leave. NumPy promises the raw stream for all versions.
    """

    sample_rate: float
    name: ClassVar[str] = "poisson"
    described: ClassVar[str] = "Poisson sampling"

    def __post_init__(self) -> None:
        if not 0 < self.sample_rate <= 1:
            raise PlanError(f"sampler: sample_rate={self.sample_rate!r}; expected a probability in (0, 1]")

    def draw(self, step: int, num_units: int, seed: bytes) -> NDArray[np.int64]:
        """Sorted indices of the units that enter `step`; may be empty.

        Args:
          step: index of the step, 0 … 2⁶⁴ − 1.
          num_units: how many units there are. Private, hence an argument.
          seed: 16–64 secret bytes; publishing them voids the guarantee.
        """
        if num_units < 0:
            raise PlanError("sampler: the number of units is negative; expected 0 or more")
        stream = np.random.Philox(key=_key(seed, step))
        if self.sample_rate == 1:
            return np.arange(num_units, dtype=np.int64)
        blocks: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
        position = -1
        while position < num_units - 1:
            expected = self.sample_rate * (num_units - position)
            raw = stream.random_raw(int(expected + 4 * math.sqrt(expected)) + 8)
            with np.errstate(over="ignore"):  # at rates near 1e-308 a gap is inf, and cut with the rest
                gaps = np.floor(_exponential(raw) / -math.log1p(-self.sample_rate))
            # A gap beyond the end is cut to the end: nothing that is kept changes, and the sum stays an int64.
            block = position + np.cumsum(np.minimum(gaps, num_units).astype(np.int64) + 1)
            position = int(block[-1])
            blocks.append(block)
        indices = np.concatenate(blocks)
        return indices[: np.searchsorted(indices, num_units)]


@dataclass(frozen=True, slots=True)
class CyclicPoissonSampler:
    """Deals units into `groups` groups that take turns, and draws within the group whose turn it is.

    Guarantee: a unit takes part in at most every `groups`-th step, each time with probability `groups` × `sample_rate`,
    independently over units and turns. Which group a unit is in is a fair die of its own, so that adding a unit
    moves no other. A draw is a pure function of (seed, step, unit index), with one group as that of `PoissonSampler`.

    A step expects `sample_rate` of all units, however many groups there are.
    """

    sample_rate: float
    groups: int
    name: ClassVar[str] = "cyclic poisson"
    described: ClassVar[str] = "Poisson sampling by turns"

    def __post_init__(self) -> None:
        if self.groups < 1 or not 0 < self.groups * self.sample_rate <= 1:
            raise PlanError(
                f"sampler: groups={self.groups}, sample_rate={self.sample_rate!r}; expected groups × rate in (0, 1]"
            )

    def members(self, step: int, num_units: int, seed: bytes) -> NDArray[np.int64]:
        """Sorted indices of the units whose turn it is at `step`. As private as a draw. O(n)."""
        return dealt(seed, num_units, self.groups)[step % self.groups]

    def draw(self, step: int, num_units: int, seed: bytes) -> NDArray[np.int64]:
        """Sorted indices of the units that enter `step`; may be empty. Arguments as of `PoissonSampler.draw`."""
        if num_units < 0:
            raise PlanError("sampler: the number of units is negative; expected 0 or more")
        if self.groups == 1:
            return PoissonSampler(self.sample_rate).draw(step, num_units, seed)
        members = self.members(step, num_units, seed)
        return members[PoissonSampler(self.groups * self.sample_rate).draw(step, len(members), seed)]


@dataclass(frozen=True, slots=True)
class TruncatedPoissonSampler:
    """Throws a coin for each unit, and where more than `max_batch_units` come up leaves some of those out at random.

    Guarantee: `coins` is the draw of `PoissonSampler`; which units of it are left out is a uniform choice that depends
    on (seed, step) and on how many came up. It costs more than Poisson sampling: a person more can push others out
    (Ganesh et al. 2025, arXiv 2508.15089).
    """

    sample_rate: float
    max_batch_units: int
    name: ClassVar[str] = "truncated poisson"
    described: ClassVar[str] = "Poisson sampling with a cap, of no more units than declared"

    def coins(self, step: int, num_units: int, seed: bytes) -> NDArray[np.int64]:
        """Sorted indices of all units whose coin came up. As private as a draw."""
        return PoissonSampler(self.sample_rate).draw(step, num_units, seed)

    def draw(self, step: int, num_units: int, seed: bytes) -> NDArray[np.int64]:
        """Sorted indices of the units that enter `step`, at most `max_batch_units`; see `PoissonSampler.draw`."""
        drawn = self.coins(step, num_units, seed)
        if len(drawn) <= self.max_batch_units:
            return drawn
        places = np.random.Philox(key=_key(seed, step, b"left out")).random_raw(len(drawn))
        kept: NDArray[np.int64] = np.sort(drawn[np.argsort(places, kind="stable")[: self.max_batch_units]])
        return kept


@dataclass(frozen=True, slots=True)
class ShuffledSampler:
    """Takes every unit once a pass, `batch_units` at a time, in a new order each pass.

    What is left of a pass is dropped. A draw is a pure function of (seed, step, number of units). Nothing accounts for
    it: it is for runs without privacy alone.
    """

    batch_units: int
    name: ClassVar[str] = "shuffled"
    described: ClassVar[str] = "shuffled passes"

    def draw(self, step: int, num_units: int, seed: bytes) -> NDArray[np.int64]:
        """Sorted indices of the units that enter `step`: all of them where there are fewer than a batch."""
        if num_units <= self.batch_units:
            return np.arange(num_units, dtype=np.int64)
        this_pass, place = divmod(step, num_units // self.batch_units)
        order = _shuffled(seed, num_units, this_pass)
        drawn: NDArray[np.int64] = np.sort(order[place * self.batch_units : (place + 1) * self.batch_units])
        return drawn


@lru_cache(maxsize=2)
def _shuffled(seed: bytes, num_units: int, this_pass: int) -> NDArray[np.int64]:
    """The order of a pass: that of 64 random bits a unit."""
    places = np.random.Philox(key=_key(seed, this_pass, b"passes")).random_raw(num_units)
    return np.argsort(places, kind="stable")


@lru_cache(maxsize=2)
def dealt(seed: bytes, num_units: int, groups: int) -> tuple[NDArray[np.int64], ...]:
    """Deal units into groups, by a fair die a unit; sorted indices of each. As private as a draw.

    The remainder of 64 random bits by `groups` is fair up to groups ÷ 2⁶⁴.
    """
    digest = hashlib.blake2b(key=seed, person=b"groups", digest_size=16).digest()
    raw = np.random.Philox(key=int.from_bytes(digest, "big")).random_raw(num_units)
    turn = np.asarray(raw, dtype=np.uint64) % np.uint64(groups)
    return tuple(np.flatnonzero(turn == group) for group in range(groups))


def _key(seed: bytes, step: int, stream: bytes = b"sampling") -> int:
    if step < 0:
        raise PlanError(f"sampler: step={step}; expected 0 or more")
    if not 16 <= len(seed) <= 64:
        raise PlanError(
            "sampler: seed is too short or too long; expected 16 to 64 secret bytes, as of secrets.token_bytes(32)"
        )
    digest = hashlib.blake2b(step.to_bytes(8, "big"), key=seed, person=stream, digest_size=16).digest()
    return int.from_bytes(digest, "big")


def _exponential(raw: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Standard exponential variates; small ones and large ones alike keep a resolution of 64 bits."""
    low = (raw.astype(np.float64) + 0.5) * 2.0**-64
    high = ((~raw).astype(np.float64) + 0.5) * 2.0**-64  # 1 − low, without cancellation
    return np.where(raw < np.uint64(2**63), -np.log1p(-np.minimum(low, 0.5)), -np.log(high))


def is_poisson(sizes: Sequence[int], *, num_units: int, sample_rate: float, false_alarm: float = FALSE_ALARM) -> bool:
    """Whether realised batch sizes can be Poisson draws of `num_units` units at `sample_rate`.

    Guarantee: sizes of a correct sampler are refused with probability at most `false_alarm`, for every number of
    units, rate and number of steps. The five bounds hold exactly, with no normal approximation:

    - each size lies in the range that Binomial(n, q) leaves with negligible probability;
    - so does their total, which is Binomial(T·n, q);
    - Σ(Bₜ − nq)² ÷ (nq(1 − q)), about χ²_T for large nq, is neither too large nor too small (Chernoff's bound with the
      binomial's own moment generating function);
    - no single size comes up too often. Shuffling gives batches of one size, and a shorter one at an epoch's end.

    Power: batches of the constant size nq are refused from 8 steps on at nq = 64, 14 at nq = 4 and 23 at nq = 1;
    a doubled rate from 1, about 20 and about 60 steps. Right sizes with the wrong people in them pass.

    Args:
      sizes: units drawn at each step. Private, as is `num_units`; so is the answer, where it is False.
    """
    from scipy.special import logsumexp
    from scipy.stats import binom

    steps = len(sizes)
    if steps == 0:
        return True
    realised = np.asarray(sizes, dtype=np.float64)
    share = false_alarm / 5
    law = binom(num_units, sample_rate)
    lowest, highest = law.ppf(share / (2 * steps)), law.isf(share / (2 * steps))
    if realised.min() < lowest or realised.max() > highest:
        return False
    total = binom(steps * num_units, sample_rate)
    if not total.ppf(share / 2) <= realised.sum() <= total.isf(share / 2):
        return False
    mean, variance = num_units * sample_rate, num_units * sample_rate * (1 - sample_rate)
    if variance == 0:
        return True

    support = np.arange(lowest, highest + 1)
    most = np.unique(realised, return_counts=True)[1].max()
    if binom.sf(most - 1, steps, law.pmf(support)).sum() < share:
        return False
    squares, log_mass = (support - mean) ** 2 / variance, law.logpmf(support)
    statistic = float(((realised - mean) ** 2).sum() / variance)

    def log_tail(exponents: NDArray[np.float64]) -> float:
        moments = logsumexp(exponents[:, None] * squares + log_mass, axis=1)
        return float((steps * moments - exponents * statistic).min())

    too_small = log_tail(-np.geomspace(1e-3, 100 * (1 + variance), 200))
    too_large = log_tail(np.geomspace(1e-4, 10, 200))
    return min(too_small, too_large) >= math.log(share)
