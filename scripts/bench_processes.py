"""What several processes gain: a step of one process, and the same step shared, in turns in the same processes.

    python scripts/bench_processes.py
    python scripts/bench_processes.py --case decoder_tied --processes 2 --microbatches 8 --rounds 5

Every process has one thread. In each round process 0 takes the step alone while the others wait; then all share it:
each sums its microbatches and makes the noise of its share. Prints the median seconds of both and their ratio by the
clock, and by the processor time of the busiest process, which is what the clock shows where each has a core to itself.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from bench_step import CASES, ROWS, build_model, make_inputs, row_losses

from dp_train.engines.base import EngineName, MicroBatch
from dp_train.engines.build import build_engine
from dp_train.engines.noise import SeededNoise
from dp_train.engines.ranks import ALONE, Ranks, joined
from dp_train.privacy.plan import PrivacyPlan


def make_step(case: str, microbatches: range, ranks: Ranks) -> Callable[[int], None]:
    """Steps over those microbatches, of a model of their own."""
    model = build_model(CASES[case])
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=1e-4)
    plan = PrivacyPlan(sample_rate=0.01, expected_units=64, steps=1000, delta=1e-6, clip_norm=1.0, noise_multiplier=1.0)
    engine = build_engine(
        EngineName.BOOKKEEPING,
        model=model,
        row_losses=row_losses,
        plan=plan,
        noise=SeededNoise(bytes(range(32))),
        optimizer=optimizer,
        ranks=ranks,
    )
    batches = [
        MicroBatch(inputs=make_inputs(CASES[case], number, "cpu"), units=torch.arange(ROWS), num_units=ROWS)
        for number in microbatches
    ]

    def step(number: int) -> None:
        for batch in batches:
            engine.accumulate(batch)
        engine.release(number)
        optimizer.step()

    return step


def timed(step: Callable[[int], None], number: int) -> tuple[float, float]:
    """Seconds of one step by the clock, and of this process."""
    clock, own = time.perf_counter(), time.process_time()
    step(number)
    return time.perf_counter() - clock, time.process_time() - own


def work(rank: int, options: argparse.Namespace, folder: str) -> None:
    """What one process does; the first one prints."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=options.processes)
    with joined(wait_seconds=3600) as ranks:
        share = range(rank, options.microbatches, options.processes)
        shared = make_step(options.case, share, ranks)
        alone = make_step(options.case, range(options.microbatches), ALONE) if ranks.first else None
        found: list[tuple[float, ...]] = []
        for number in range(options.rounds + 1):
            one = timed(alone, number) if alone is not None else (0.0, 0.0)
            ranks.most(0)  # the others wait here
            clock, own = timed(shared, number)
            if number:  # the first round is checked against autograd, and warms up
                found.append((*one, clock, max(ranks.each(own))))
            else:
                ranks.each(own)
        if ranks.first:
            clock_alone, own_alone, clock, busiest = (statistics.median(column) for column in zip(*found, strict=True))
            tokens = options.microbatches * ROWS * CASES[options.case].positions
            print(f"{options.case}, {options.processes} processes of one thread, {tokens} tokens a step")
            print(f"by the clock      {clock_alone:7.2f} s alone {clock:7.2f} s shared, {clock_alone / clock:5.2f} ×")
            print(f"processor time    {own_alone:7.2f} s alone {busiest:7.2f} s busiest, {own_alone / busiest:4.2f} ×")


def main() -> None:
    """Start the processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=list(CASES), default="decoder_tied")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--microbatches", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(work, (options, str(Path(folder))), nprocs=options.processes)


if __name__ == "__main__":
    main()
