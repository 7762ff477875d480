#!/usr/bin/env python
"""What packing is worth on chat: tokens of useful text per second, and whether the clipped sums are the same.

Four ways to lay out the messages of one step, timed by turns in one process:

  fixed      every row padded to the task's max_length, microbatches in the order of the draw
  longest    rows padded to the longest of their microbatch, in the order of the draw
  bucketed   as `longest`, units sorted by length first: what trainer.pack=false does
  packed     rows of a person share sequences: what trainer.pack=true does

A useful token is one of the text: it carries loss or is context of one that does; padding is not. Making the
microbatches is part of the time, tokenising is not. The sums of all four must agree to 1e-5, or the exit status is 1.

Messages are those of the embedded corpus, or of `--messages`, a gzipped file of JSON lines with `user_id` and `text`
in order of time, such as a chat archive; a message's context is then the same person's last one.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

SIDES = ("fixed", "longest", "bucketed", "packed")
AGREEMENT = 1e-5


def embedded(args: argparse.Namespace) -> tuple[Any, list[Any]]:
    """A tokenizer and the units of the chat quickstart, from the gate on."""
    from dp_train.cli.load_config import compose, prepare_hydra
    from dp_train.runs.prepare import material

    prepare_hydra()
    sizes = ["corpus.people=1500", "corpus.public_people=1000", f"privacy.rows_per_unit={args.rows_per_unit}"]
    length = [] if args.max_length is None else [f"task.max_length={args.max_length}"]
    config, _ = compose(["experiments=compose/quickstart", "tracking=off", *sizes, *length])
    made = material(config)
    return made.task, list(made.units)


def from_file(args: argparse.Namespace) -> tuple[Any, list[Any]]:
    """A tokenizer learnt from some of the messages, and the first messages of each person."""
    from dp_train.conversations import Example
    from dp_train.models.build import Architecture
    from dp_train.models.tokenizer import train_tokenizer
    from dp_train.tasks.chat_compose import ChatCompose

    said: dict[str, list[str]] = defaultdict(list)
    with gzip.open(args.messages, "rt") as lines:
        for line in lines:
            message = json.loads(line)
            text = " ".join(message["text"].split())
            if text and len(said[message["user_id"]]) < args.rows_per_unit:
                said[message["user_id"]].append(text)
    tokenizer = train_tokenizer([text for texts in list(said.values())[:3000] for text in texts[:5]], vocab_size=2048)
    task = ChatCompose(tokenizer, Architecture.DECODER, max_length=args.max_length or 64)
    units = [
        tuple(
            Example(example_id=f"{person}/{index}", prompt=before, target=text, owners=frozenset({str(person)}))
            for index, (before, text) in enumerate(zip(["", *texts], texts, strict=False))
        )
        for person, texts in enumerate(said.values())
        if len(texts) >= args.least_rows
    ]
    return task, units


def unpacked(task: Any, units: Sequence[Any], rows: int, width: int | None, device: Any) -> Iterator[Any]:
    """Microbatches in the order of the units; with a `width`, padded to it."""
    import torch

    from dp_train.engines.base import MicroBatch

    def collate(chunk: list[Any]) -> Any:
        inputs = task.collate([row for unit in chunk for row in unit])
        missing = 0 if width is None else max(0, width - inputs["input_ids"].shape[1])
        padded = {
            name: torch.nn.functional.pad(tensor, (0, missing), value=-100 if name == "labels" else 0).to(device)
            for name, tensor in inputs.items()
        }
        owner = [position for position, unit in enumerate(chunk) for _ in unit]
        return MicroBatch(inputs=padded, units=torch.tensor(owner, device=device), num_units=len(chunk))

    chunk: list[Any] = []
    for unit in units:
        if chunk and sum(map(len, chunk)) + len(unit) > rows:
            yield collate(chunk)
            chunk = []
        chunk.append(unit)
    if chunk:
        yield collate(chunk)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Medians over the rounds, and the largest difference between two sums."""
    import numpy as np
    import torch

    from dp_train.engines.allocator import keep_freed_memory
    from dp_train.engines.base import EngineName
    from dp_train.engines.build import build_engine
    from dp_train.engines.noise import SeededNoise
    from dp_train.models.build import Architecture, ModelSpec, build_model
    from dp_train.privacy.plan import PrivacyPlan
    from dp_train.training.batches import PackedBatches, UnitBatches

    keep_freed_memory()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task, units = from_file(args) if args.messages else embedded(args)
    draw = np.random.default_rng(0).choice(len(units), min(args.units, len(units)), replace=False)
    drawn = [tuple(task.encode(example) for example in units[index]) for index in draw]
    useful = sum(len(row.input_ids) for unit in drawn for row in unit)
    spec = ModelSpec(
        architecture=Architecture.DECODER,
        layers=args.layers,
        width=args.width,
        heads=max(1, args.width // 16 if args.width < 256 else args.width // 64),
        positions=task.max_length,
    )
    model: Any = build_model(spec, task._tokenizer, seed=0).to(device).train()
    plan = PrivacyPlan(
        sample_rate=0.1, expected_units=args.units, steps=100, delta=1e-5, clip_norm=1.0, noise_multiplier=0.0,
        rows_per_unit=args.rows_per_unit,
    )  # fmt: skip
    engine = EngineName(args.engine)
    built = build_engine(
        engine,
        model=model,
        row_losses=task.row_losses,
        plan=plan.without_privacy() if engine is EngineName.NON_PRIVATE else plan,
        noise=SeededNoise(os.urandom(32)),  # σ = 0: none is drawn
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
    )
    bucketed = UnitBatches(units, task, rows=args.microbatch_rows, device=device)
    packed = PackedBatches(units, task, tokens=args.microbatch_tokens, device=device)
    sides: dict[str, Callable[[], Iterator[Any]]] = {
        "fixed": lambda: unpacked(task, drawn, args.microbatch_rows, task.max_length, device),
        "longest": lambda: unpacked(task, drawn, args.microbatch_rows, None, device),
        "bucketed": lambda: bucketed(draw),
        "packed": lambda: packed(draw),
    }

    def step(side: str) -> tuple[float, int, torch.Tensor, int]:
        if device.type == "cuda":
            torch.cuda.synchronize()
        start, columns = time.perf_counter(), 0
        for batch in sides[side]():
            columns += batch.inputs["input_ids"].numel()
            built.accumulate(batch)
        record = built.release(0)
        total = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start, columns, total.double(), record.clipped_units

    first = {side: step(side) for side in SIDES}
    expected = first["bucketed"][2]
    differences = {side: float((first[side][2] - expected).norm() / expected.norm()) for side in SIDES}
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(args.rounds):
        for side in SIDES:
            seconds[side].append(step(side)[0])
    return {
        "messages": "embedded" if args.messages is None else Path(args.messages).parent.name or args.messages,
        "engine": args.engine,
        "max_length": task.max_length,
        "units": len(drawn),
        "rows": sum(map(len, drawn)),
        "useful_tokens": useful,
        "clipped_units": first["bucketed"][3],
        "device": device.type,
        "largest_difference": max(differences.values()),
        "equal": max(differences.values()) <= AGREEMENT,
        "sides": [
            {
                "side": side,
                "columns_per_token": round(first[side][1] / useful, 2),
                "seconds": round(statistics.median(seconds[side]), 4),
                "tokens_per_second": round(useful / statistics.median(seconds[side])),
                "packed_ratio": round(
                    statistics.median(a / b for a, b in zip(seconds[side], seconds["packed"], strict=True)), 2
                ),
            }
            for side in SIDES
        ],
    }


def main() -> int:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--messages", type=str, help="gzipped JSON lines; the embedded corpus if not given")
    parser.add_argument("--max-length", type=int, help="of the task; 64 if not given")
    parser.add_argument("--rows-per-unit", type=int, default=8, help="most messages of a person")
    parser.add_argument("--least-rows", type=int, default=1, help="of --messages, leave out people with fewer messages")
    parser.add_argument("--units", type=int, default=128, help="people in a step")
    parser.add_argument("--microbatch-rows", type=int, default=64, help="of the three sides that are not packed")
    parser.add_argument("--microbatch-tokens", type=int, default=4096, help="of the packed side")
    parser.add_argument("--engine", default="bookkeeping", help="non_private, naive, hooks, functorch or bookkeeping")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    found = measure(args)
    if args.json:
        print(json.dumps(found, indent=1))
        return 0 if found["equal"] else 1
    print(
        f"{found['messages']}, max_length {found['max_length']}: {found['rows']} messages of {found['units']} people, "
        f"{found['useful_tokens']} useful tokens, {found['clipped_units']} units clipped, {found['engine']} on "
        f"{found['device']}"
    )
    print(f"{'side':10}{'columns ÷ token':>16}{'s/step':>9}{'useful tokens/s':>17}{'packed is ×':>13}")
    for row in found["sides"]:
        print(
            f"{row['side']:10}{row['columns_per_token']:16.2f}{row['seconds']:9.3f}{row['tokens_per_second']:17d}"
            f"{row['packed_ratio']:13.2f}"
        )
    print(f"largest relative difference of clipped sums {found['largest_difference']:.1e}")
    return 0 if found["equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
