"""Null batches: what a run's own engine adds to nothing, and to sums that are known, is the planned noise.

N releases of the run's engine on fresh seeds; half of them are of empty draws, half of one public microbatch whose sum
without noise is taken off again, so that noise which is left out only where there is something to hide is seen too. The
law of the mechanism is undone (`privacy.correlation`), which leaves independent standard normals z:

- size: Σ z² of each tensor is χ² with as many degrees of freedom as there are elements, at both kinds of release;
- shape: a Kolmogorov–Smirnov test of all of them;
- across steps: Σ zₛ zₜ ÷ √n is standard normal for each distance t − s;
- across tensors: the same for each tensor and the next.

Elements are drawn anew for each audit, so that code which noises some alone cannot know them. No private data is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dp_train.audit.checks import Check
from dp_train.audit.subject import Subject, attached
from dp_train.engines.base import MicroBatch
from dp_train.engines.scaling import Scale
from dp_train.errors import ModelError
from dp_train.privacy.correlation import NoiseLaw, column_norms, strategy_coefficients
from dp_train.training.batches import make_batches
from dp_train.training.method import Setup

NAME = "null batches"
_RELEASES = 12
_ELEMENTS = 4096
"""Of each tensor: with 12 releases its variance is known to 0.6 %."""
_SHAPE = 20_000
_UNITS = 4
_SILENT = 1e-12
"""Noise multiplier that hides nothing and keeps the private path of the engine."""


def null_batches(subject: Subject, random: np.random.Generator) -> Check:
    """Test size, shape and independence of the noise of the run's engine."""
    releases = min(_RELEASES, subject.plan.steps)
    known = _sum_of(subject)
    setup = subject.make(subject.plan).setup
    noise = _noise(setup, subject, known, releases, random)
    law = setup.plan.mechanism.noise
    z = [whitened(one, law) for one in noise.values()]
    p: dict[str, float] = {}
    kinds = {"on empty draws": slice(0, None, 2), "over a known sum": slice(1, None, 2)}
    for name, found in zip(noise, z, strict=True):
        for kind, rows in kinds.items():
            if found[rows].size:
                p[f"size of the noise of {name}, {kind}"] = size_p(found[rows])
    every = np.concatenate([found.ravel() for found in z])
    p["shape of the noise"] = shape_p(random.choice(every, min(_SHAPE, len(every)), replace=False))
    p |= {f"noise {lag} steps apart": lagged_p(z, lag) for lag in range(1, releases)}
    p |= {
        f"noise of {one} and of {other}": product_p(*_overlap(first, second))
        for (one, first), (other, second) in pairwise(zip(noise, z, strict=True))
    }
    return Check(
        name=NAME,
        compared=f"{releases} releases of the run's engine, of nothing and of a known public sum, with the planned "
        "noise at random elements of every trainable tensor",
        p_values=p,
    )


def whitened(noise: NDArray[np.float64], law: NoiseLaw) -> NDArray[np.float64]:
    """(releases, elements) noise in units of its std, from step 0 on → the independent noise that it is made of."""
    if law.independent:
        return noise
    steps = len(noise)
    coefficients = strategy_coefficients(law.bands)
    rows = noise / column_norms(coefficients, law.steps)[:steps, None]
    found = np.array(rows)
    for step in range(steps):
        for back in range(1, min(step, law.bands - 1) + 1):
            found[step] += coefficients[back] * rows[step - back]
    return found


def size_p(z: NDArray[np.float64]) -> float:
    """Two-sided p-value of Σ z² under χ²."""
    from scipy.stats import chi2

    total = float(np.square(z).sum())
    return float(min(1.0, 2 * min(chi2.cdf(total, z.size), chi2.sf(total, z.size))))


def shape_p(z: NDArray[np.float64]) -> float:
    """P-value of the Kolmogorov–Smirnov distance from the standard normal law."""
    from scipy.stats import kstest

    return float(kstest(z, "norm").pvalue) if np.isfinite(z).all() else 0.0


def lagged_p(z: Sequence[NDArray[np.float64]], lag: int) -> float:
    """P-value of the correlation of noise with that of the same elements `lag` releases later."""
    return product_p(
        *(np.concatenate([one[part].ravel() for one in z]) for part in (slice(None, -lag), slice(lag, None)))
    )


def product_p(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Two-sided p-value of Σ of products, of variance n under independence."""
    from scipy.stats import norm

    statistic = float((one * other).sum()) / math.sqrt(max(one.size, 1))
    return float(2 * norm.sf(abs(statistic))) if math.isfinite(statistic) else 0.0


def _overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The elements that lie at the same positions of two tensors: `_positions` begins with those."""
    shared = min(one.shape[1], other.shape[1])
    return one[:, :shared], other[:, :shared]


def _positions(sizes: Sequence[int], random: np.random.Generator) -> list[NDArray[np.int64]]:
    """Positions in each flat tensor; small tensors whole, else the same random ones at every size, then more.

    Noise that is drawn from one stream for two tensors is then met at the same position of both.
    """
    least = min(sizes)
    shared = random.choice(least, min(least, _ELEMENTS // 2), replace=False).astype(np.int64)
    found = []
    for size in sizes:
        more = random.choice(size, min(size, _ELEMENTS), replace=False).astype(np.int64)
        rest = more[~np.isin(more, shared)]
        found.append(np.concatenate([shared, rest]))
    return found


def _public_batches(setup: Setup, subject: Subject) -> list[MicroBatch]:
    """The same few public units for every release that is not empty."""
    public, execution = subject.public.whole, setup.execution
    batches = make_batches(
        public,
        setup.task,
        packing=setup.method.packing,
        rows=execution.microbatch_rows,
        tokens=execution.microbatch_tokens,
        device=setup.device,
    )
    return list(batches(np.arange(min(_UNITS, len(public)), dtype=np.int64)))


def _sum_of(subject: Subject) -> Mapping[str, torch.Tensor]:
    """What those units give without noise."""
    setup = subject.make(subject.plan.replace(noise_multiplier=_SILENT)).setup
    with attached(setup, subject.public.whole) as (_, engine):
        for batch in _public_batches(setup, subject):
            engine.accumulate(batch)
        engine.release(0)
        return released(setup)


def released(setup: Setup) -> dict[str, torch.Tensor]:
    """What a release left for the optimizer, as the sum that it was: × divisor, float64.

    Raises:
      ModelError: a trainable tensor was given nothing.
    """
    found = {}
    for name, parameter in setup.model.named_parameters():
        if parameter.requires_grad:
            if parameter.grad is None:
                raise ModelError(
                    f"audit: {name} is trainable and a release leaves it no gradient; expected noise at least"
                )
            found[name] = parameter.grad.detach().double() * setup.plan.expected_units
    return found


def _noise(
    setup: Setup,
    subject: Subject,
    known: Mapping[str, torch.Tensor],
    releases: int,
    random: np.random.Generator,
) -> dict[str, NDArray[np.float64]]:
    """Tensor → (releases, elements) of noise ÷ its planned std, before the law is undone."""
    plan = setup.plan
    std = plan.calibrated_noise_multiplier * plan.clip_norm
    scales: Mapping[nn.Parameter, Scale] = {} if setup.scaling is None else dict(setup.scaling.scales)
    named = {name: one for name, one in setup.model.named_parameters() if one.requires_grad}
    places = [torch.from_numpy(one) for one in _positions([one.numel() for one in named.values()], random)]
    seen: dict[str, list[NDArray[np.float64]]] = {name: [] for name in named}
    batches = _public_batches(setup, subject)
    with attached(setup, subject.public.whole) as (_, engine):
        for step in range(releases):
            if step % 2:
                for batch in batches:
                    engine.accumulate(batch)
            engine.release(step)
            for (name, total), positions in zip(released(setup).items(), places, strict=True):
                added = total - known[name] if step % 2 else total
                if named[name] in scales:
                    added = added * scales[named[name]].full()
                seen[name].append((added.reshape(-1)[positions.to(added.device)] / std).cpu().numpy())
                named[name].grad = None
    return {name: np.stack(rows) for name, rows in seen.items()}


__all__ = ["lagged_p", "null_batches", "product_p", "released", "shape_p", "size_p", "whitened"]
