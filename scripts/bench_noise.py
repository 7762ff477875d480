"""How fast noise is made: a thread a tensor, as before, and blocks over threads, in turns in one process.

    python scripts/bench_noise.py
    python scripts/bench_noise.py --threads 2 --rounds 9 --models one 14M

Prints for each model the median seconds of a release's noise in both ways, their ratio, and millions of numbers a
second of the new one. What else runs on the machine slows both, and takes cores away: so the processor time of the
busiest thread stands beside it, which is what the release takes where every thread has a core.
"""

from __future__ import annotations

import argparse
import os
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from dp_train.engines.noise import NoiseSource, SecureNoise, SeededNoise, add_in_parts
from dp_train.engines.parts import shares

Way = Callable[[NoiseSource, Sequence[Tensor], int], None]

MODELS: dict[str, Callable[[], list[int]]] = {
    # One table alone, as where adapters are left out and embeddings are trained.
    "one": lambda: [1 << 24],
    # Tied decoders, as in scripts/bench_step.py: table, then 12 d² a layer.
    "14M": lambda: decoder(vocabulary=8192, width=384, layers=6),
    "135M": lambda: decoder(vocabulary=49152, width=576, layers=30),
}


def decoder(*, vocabulary: int, width: int, layers: int) -> list[int]:
    """Sizes of the tensors of a decoder."""
    layer = [3 * width * width, width * width, 4 * width * width, 4 * width * width, 4 * width, width, width]
    return [vocabulary * width, *(size for _ in range(layers) for size in layer)]


def a_thread_a_tensor(noise: NoiseSource, tensors: Sequence[Tensor], step: int) -> None:
    """What the noise of a release was before it was cut into blocks."""
    order = sorted(range(len(tensors)), key=lambda index: -tensors[index].numel())

    def add(index: int) -> None:
        noise.add(tensors[index], 1.0, step=step, index=index)

    with ThreadPoolExecutor(max_workers=torch.get_num_threads()) as threads:
        for _ in threads.map(add, order):
            pass


def blocks_over_threads(noise: NoiseSource, tensors: Sequence[Tensor], step: int) -> None:
    """What it is."""
    (whole,) = shares([tensor.numel() for tensor in tensors], 1)
    add_in_parts(noise, tensors, whole, 1.0, step=step)


class Timed:
    """A noise source that adds up the processor time of each thread."""

    def __init__(self, noise: NoiseSource) -> None:
        self._noise = noise
        self.of_threads: Counter[int] = Counter()

    def add(self, tensor: Tensor, std: float, *, step: int, index: int, block: int = 0) -> None:
        """As of `NoiseSource`."""
        start = time.thread_time_ns()
        self._noise.add(tensor, std, step=step, index=index, block=block)
        self.of_threads[threading.get_ident()] += time.thread_time_ns() - start


def seconds(make: Way, noise: NoiseSource, tensors: Sequence[Tensor], step: int) -> tuple[float, float]:
    """How long a release's noise takes by the clock, and the processor time of its busiest thread."""
    timed, start = Timed(noise), time.perf_counter()
    make(timed, tensors, step)
    return time.perf_counter() - start, max(timed.of_threads.values()) / 1e9


def main() -> None:
    """Measure each model and source in turns, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=["one", "14M"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads: seconds by the clock, then the busiest thread's processor time")
    ways_named = f"{'a tensor':>10} {'blocks':>10} {'ratio':>6}"
    print(f"{'model':6} {'source':8} {ways_named} {ways_named} {'M/s':>6}")
    for name in options.models:
        tensors = [torch.zeros(size) for size in MODELS[name]()]
        count = sum(tensor.numel() for tensor in tensors)
        sources: dict[str, NoiseSource] = {"seeded": SeededNoise(os.urandom(32)), "secure": SecureNoise()}
        for kind, noise in sources.items():
            ways: dict[str, Way] = {"before": a_thread_a_tensor, "after": blocks_over_threads}
            found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
            for step in range(options.rounds + 1):
                for way, make in ways.items():
                    took = seconds(make, noise, tensors, step)
                    found[way] += [took] if step else []  # the first round warms up
            clock, busy = (
                [statistics.median(took[which] for took in found[way]) for way in ways] for which in range(2)
            )
            columns = [f"{before:9.3f}s {after:9.3f}s {before / after:6.2f}" for before, after in (clock, busy)]
            print(f"{name:6} {kind:8} {' '.join(columns)} {count / clock[1] / 1e6:6.0f}", flush=True)


if __name__ == "__main__":
    main()
