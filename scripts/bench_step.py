#!/usr/bin/env python
"""What a private step costs beside an ordinary one: time, peak memory and matrix products, as ratios.

    python scripts/bench_step.py                        # every case, every engine, a table
    python scripts/bench_step.py --json                 # the same as a list of objects
    python scripts/bench_step.py --case lora --engine bookkeeping --rounds 9
    python scripts/bench_step.py --watching --case decoder --rounds 15   # what the checks of a run cost it

1. a process a case holds a model for each engine and takes their steps by turns; a ratio is the median over
   rounds of the engine's time ÷ the non-private time of the same round, so that a noisy machine is noisy to both;
2. a process a case and engine takes two short steps alone and reports the peak of its resident memory;
3. the matrix products of a microbatch are counted, without Opacus' and Python's own work: the physical limit.

All sides have the same allocator (`dp_train.engines.allocator`; `--no-allocator` leaves glibc's defaults), the same
float32 optimizer (AdamW) and the same data. `opacus_hooks`, `opacus_ghost` and `opacus_functorch` are Opacus as it
comes, one clip a row; `opacus_bookkeeping` is the same loop with one word changed. With a GPU, computation is in bf16
(autocast), tokens per second are those of the GPU, and so is the memory; nobody has run that yet.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROWS, POSITIONS, VOCABULARY = 16, 128, 8192
ENGINES = (
    "non_private",
    "bookkeeping",
    "hooks",
    "opacus_bookkeeping",
    "opacus_hooks",
    "opacus_ghost",
    "opacus_functorch",
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model to train and the microbatches of one step."""

    width: int
    layers: int
    tied: bool = False
    seq2seq: bool = False
    pegasus: bool = False
    lora: bool = False
    positions: int = POSITIONS


CASES = {
    "decoder": Case(width=384, layers=6),
    "decoder_tied": Case(width=384, layers=6, tied=True),
    "decoder_768": Case(width=768, layers=4),
    "lora": Case(width=384, layers=6, tied=True, lora=True),
    "seq2seq": Case(width=256, layers=4, tied=True, seq2seq=True),
    # Opacus' own modes run neither T5 (its relative bias) nor BART (an int among a layer's inputs).
    "seq2seq_pegasus": Case(width=256, layers=4, tied=True, seq2seq=True, pegasus=True),
}
GPU_CASES = {**CASES, "decoder_135m": Case(width=768, layers=18, positions=512)}


def build_model(case: Case) -> Any:
    """A model from config, without dropout, in training mode."""
    import torch
    import transformers

    torch.manual_seed(0)
    heads = case.width // 64
    if case.pegasus:
        config: Any = transformers.PegasusConfig(
            vocab_size=VOCABULARY,
            max_position_embeddings=case.positions,
            d_model=case.width,
            encoder_layers=case.layers,
            decoder_layers=case.layers,
            encoder_attention_heads=heads,
            decoder_attention_heads=heads,
            encoder_ffn_dim=4 * case.width,
            decoder_ffn_dim=4 * case.width,
            dropout=0.0,
            tie_word_embeddings=case.tied,
            decoder_start_token_id=0,
            forced_eos_token_id=2,
            pad_token_id=0,
            use_cache=False,
        )
        model: Any = transformers.PegasusForConditionalGeneration(config)
    elif case.seq2seq:
        config = transformers.T5Config(
            vocab_size=VOCABULARY,
            d_model=case.width,
            d_kv=64,
            d_ff=4 * case.width,
            num_layers=case.layers,
            num_heads=heads,
            dropout_rate=0.0,
            tie_word_embeddings=case.tied,
            decoder_start_token_id=0,
            pad_token_id=0,
            use_cache=False,
        )
        model = transformers.T5ForConditionalGeneration(config)
    else:
        config = transformers.GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=case.positions,
            n_embd=case.width,
            n_layer=case.layers,
            n_head=heads,
            attn_pdrop=0.0,
            embd_pdrop=0.0,
            resid_pdrop=0.0,
            tie_word_embeddings=case.tied,
            use_cache=False,
        )
        model = transformers.GPT2LMHeadModel(config)
    if case.lora:
        import peft

        targets = ["c_attn", "c_proj", "c_fc"]
        model = peft.get_peft_model(model, peft.LoraConfig(r=8, target_modules=targets, fan_in_fan_out=True))
    return model.train()


def row_losses(model: Any, inputs: Mapping[str, Any]) -> Any:
    """(rows,) mean token loss."""
    import torch

    ids = inputs["input_ids"]
    with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=ids.device.type == "cuda"):
        if model.config.is_encoder_decoder:
            start = torch.zeros_like(ids[:, :1])
            logits = model(input_ids=ids, decoder_input_ids=torch.cat([start, ids[:, :-1]], 1)).logits
            labels = ids
        else:
            logits = model(input_ids=ids, position_ids=inputs["position_ids"]).logits[:, :-1]
            labels = ids[:, 1:]
    flat = torch.nn.functional.cross_entropy(logits.reshape(-1, VOCABULARY), labels.reshape(-1), reduction="none")
    return flat.view(labels.shape).mean(1)


def make_inputs(case: Case, index: int, device: str) -> dict[str, Any]:
    """Random ids of one microbatch, all positions in use."""
    import torch

    random = torch.Generator().manual_seed(index)
    ids = torch.randint(3, VOCABULARY, (ROWS, case.positions), generator=random)
    # Positions with a batch dimension: Opacus as it comes needs one.
    positions = torch.arange(case.positions).repeat(ROWS, 1)
    return {"input_ids": ids.to(device), "position_ids": positions.to(device)}


Step = Callable[[int], None]
"""One optimizer step over that many microbatches."""


def make_step(case: Case, engine: str, microbatches: int, device: str) -> Step:
    """Steps of an engine over its own copy of the model, with at most `microbatches` microbatches each."""
    import torch

    model = build_model(case).to(device)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    inputs = [make_inputs(case, index, device) for index in range(microbatches)]
    if engine.startswith("opacus_"):
        return _opacus_step(engine.removeprefix("opacus_"), model, optimizer, inputs)

    from dp_train.engines.base import EngineName, MicroBatch
    from dp_train.engines.build import build_engine
    from dp_train.engines.noise import SeededNoise
    from dp_train.privacy.plan import PrivacyPlan

    plan = PrivacyPlan(
        sample_rate=0.1, expected_units=ROWS * microbatches, steps=1000, delta=1e-5, clip_norm=1.0, noise_multiplier=1.0
    )
    built = build_engine(
        EngineName(engine),
        model=model,
        row_losses=row_losses,
        plan=plan.without_privacy() if engine == "non_private" else plan,
        noise=SeededNoise(os.urandom(32)),
        optimizer=optimizer,
    )
    units = torch.arange(ROWS, device=device)
    batches = [MicroBatch(inputs=values, units=units, num_units=ROWS) for values in inputs]
    steps = iter(range(1 << 30))

    def step(count: int) -> None:
        for batch in batches[:count]:
            built.accumulate(batch)
        built.release(next(steps))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _opacus_step(mode: str, model: Any, optimizer: Any, inputs: list[dict[str, Any]]) -> Step:
    """Opacus' own loop for large batches: all but the last microbatch skip the noise."""
    import torch
    from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping
    from torch.utils.data import DataLoader, TensorDataset

    from dp_train.engines.bookkeeping_opacus import BookkeepingPrivacyEngine as PrivacyEngine

    loader = DataLoader(TensorDataset(torch.zeros(ROWS * len(inputs) * 10, 1)), batch_size=ROWS * len(inputs))
    hooks, private, *_ = PrivacyEngine(accountant="rdp").make_private(
        module=model,
        optimizer=optimizer,
        data_loader=loader,
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        poisson_sampling=False,
        grad_sample_mode=mode,
        wrap_model=False,
    )

    def step(count: int) -> None:
        for index, values in enumerate(inputs[:count]):
            private.signal_skip_step(index < count - 1)
            losses = row_losses(model, values)
            if mode == "ghost":
                DPTensorFastGradientClipping(hooks, private, losses, "mean").backward()
            else:
                losses.mean().backward()
            private.step()
            private.zero_grad()

    return step


def measure_times(name: str, engines: list[str], args: argparse.Namespace, device: str) -> dict[str, Any]:
    """Seconds a step by turns, and products a microbatch, for the engines that run."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode, flop_registry

    case, steps, failed, products = GPU_CASES[name], {}, {}, {}
    aten = torch.ops.aten

    def formula(packet: Any) -> Callable[..., int]:
        def count(*values: Any, **named: Any) -> int:
            return int(flop_registry[packet](*values, **named))

        count._get_raw = True  # type: ignore[attr-defined]  # the counter would turn tensors into shapes twice
        return count

    counted = {
        aten._scaled_dot_product_flash_attention_for_cpu: formula(aten._scaled_dot_product_flash_attention),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: formula(
            aten._scaled_dot_product_flash_attention_backward
        ),
    }
    for engine in engines:
        try:
            step = make_step(case, engine, args.microbatches, device)
            step(1)  # engines check themselves with their first microbatch
            with FlopCounterMode(display=False, custom_mapping=counted) as counter:
                step(1)
            steps[engine], products[engine] = step, counter.get_total_flops()
        except Exception as error:
            failed[engine] = f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
            gc.collect()
    for step in steps.values():
        step(args.microbatches)  # until the heap has found its size, new pages are paid for
    seconds: dict[str, list[float]] = {engine: [] for engine in steps}
    for _ in range(args.rounds):
        for engine, step in steps.items():
            _synchronize(device)
            start = time.perf_counter()
            step(args.microbatches)
            _synchronize(device)
            seconds[engine].append(time.perf_counter() - start)
    model = build_model(case)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {"seconds": seconds, "products": products, "failed": failed, "trainable": trainable}


def measure_watching(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """CPU seconds of book-keeping steps on one model by turns: not watched, watched, and looked at closely.

    Watched is all that `training.watch` does to a step but for the rows of the drawn people, which it encodes once
    more. A run is looked at closely at its first steps and then at one in sixteen, so `ratio` is (15 · watched + close)
    ÷ 16 beside a step that is not watched.
    """
    from unittest.mock import patch

    import torch

    from dp_train.engines import company_watch, leaving
    from dp_train.engines import units as engine_units
    from dp_train.engines.base import EngineName, MicroBatch
    from dp_train.engines.build import build_engine
    from dp_train.engines.company_watch import CompanyWatch
    from dp_train.engines.leaving import HeldWeights, LeavingWatch, StillTensors
    from dp_train.engines.noise import SeededNoise
    from dp_train.engines.noise_probe import NoiseWatch
    from dp_train.engines.reference import Reference
    from dp_train.engines.units import trainable_parameters
    from dp_train.privacy.draw_check import planned_draw
    from dp_train.privacy.plan import PrivacyPlan

    torch.manual_seed(0)
    model = build_model(CASES[name])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    per_step, seed, found = ROWS * args.microbatches, os.urandom(32), []
    plan = PrivacyPlan(
        sample_rate=0.01, expected_units=per_step, steps=10_000, delta=1e-6, clip_norm=1.0, noise_multiplier=1.0
    )
    batches = [
        MicroBatch(
            inputs=make_inputs(CASES[name], index, "cpu"),
            units=torch.arange(ROWS),
            num_units=ROWS,
            drawn=tuple(range(index * ROWS, (index + 1) * ROWS)),
        )
        for index in range(args.microbatches)
    ]
    watch = LeavingWatch(optimizer, rates=[1.0] * plan.steps, releases_curve=False, notice=found.append)
    still = StillTensors(model, found.append)
    company = CompanyWatch(
        reference=Reference(model, trainable_parameters(model)),
        in_company=row_losses,
        row_losses=row_losses,
        alone=lambda unit: batches[unit // ROWS].only([unit % ROWS]),
        clip_norm=plan.clip_norm,
        notice=found.append,
    )
    engine = build_engine(
        EngineName.BOOKKEEPING,
        model=model,
        row_losses=row_losses,
        plan=plan,
        noise=watch.counted(SeededNoise(seed)),
        optimizer=optimizer,
    )
    taken = 0

    def step(*, watched: bool, close: bool) -> float:
        nonlocal taken
        watch._weights = None  # steps that were not watched came between
        start = time.process_time()
        if watched:
            company.begin()
        for batch in batches:
            engine.accumulate(batch)
            if watched:
                company.took(batch)
        record = engine.release(taken)
        if watched:
            if close:
                planned_draw(plan, taken, 100 * per_step, seed)
            company.released(record)
            watch.released(record)
        optimizer.step()
        if watched:
            watch.stepped()
            still.glance()
            assert not HeldWeights(model, whole=close).changed
        optimizer.zero_grad(set_to_none=True)
        taken += 1
        return time.process_time() - start

    seconds: dict[str, list[float]] = {"unwatched": [], "watched": [], "close": []}
    for number in range(2 + args.rounds):
        turn = {}
        for kind in seconds:
            close = kind == "close"
            with (
                patch.object(leaving, "look_closely", lambda _, close=close: close),
                patch.object(company_watch, "look_closely", lambda _, close=close: close),
            ):
                if kind != "unwatched":
                    turn[kind] = step(watched=True, close=close)
                    continue
                blind = patch.multiple(NoiseWatch, before=lambda *_: None, after=lambda *_: None)
                with blind, patch.object(engine_units, "released_sample", lambda *_, **__: None):
                    turn[kind] = step(watched=False, close=False)
                watch._noise.taken()  # type: ignore[union-attr]
        if number >= 2:  # pages of the heap, and the self-check of the engine
            for kind, time_taken in turn.items():
                seconds[kind].append(time_taken)
    if found:
        print(f"{name}: {found}", file=sys.stderr)

    def ratio(kind: str) -> float:
        pairs = zip(seconds[kind], seconds["unwatched"], strict=True)
        return statistics.median(one / other for one, other in pairs)

    return {
        "case": name,
        "seconds": round(statistics.median(seconds["unwatched"]), 3),
        "watched": round(ratio("watched"), 4),
        "close": round(ratio("close"), 4),
        "ratio": round((15 * ratio("watched") + ratio("close")) / 16, 4),
    }


def measure_memory(name: str, engine: str, args: argparse.Namespace, device: str) -> dict[str, Any]:
    """Peak bytes of a process that takes steps with one engine alone."""
    import torch

    few = min(2, args.microbatches)  # sums, noise and the optimizer's state are there from the second on
    step = make_step(GPU_CASES[name], engine, few, device)
    step(few)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        step(few)
        return {"peak": torch.cuda.max_memory_allocated()}
    step(few)
    return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def _synchronize(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def child(args: argparse.Namespace) -> None:
    """What the processes of the docstring do; the answer is the last line of standard output."""
    import torch
    import transformers

    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    if not args.no_allocator:
        from dp_train.engines.allocator import keep_freed_memory

        keep_freed_memory()
    torch.set_num_threads(args.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.child == "times":
        answer = measure_times(args.case[0], args.engine, args, device)
    else:
        answer = measure_memory(args.case[0], args.engine[0], args, device)
    print(json.dumps(answer | {"device": device}))


def in_a_process(kind: str, case: str, engines: list[str], args: argparse.Namespace) -> dict[str, Any]:
    """Run this script as a child; an empty answer where it died."""
    command = [sys.executable, __file__, "--child", kind, "--case", case, "--threads", str(args.threads)]
    command += ["--microbatches", str(args.microbatches), "--rounds", str(args.rounds)]
    command += [option for engine in engines for option in ("--engine", engine)]
    command += ["--no-allocator"] if args.no_allocator else []
    root = str(Path(__file__).resolve().parent.parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if run.returncode != 0:
        print(f"{case} {kind} {','.join(engines)}: exit {run.returncode} {run.stderr[-300:]}", file=sys.stderr)
        return {}
    answer: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return answer


def compare(case: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """One object an engine: the ratios of the case."""
    engines = ["non_private", *(engine for engine in args.engine if engine != "non_private")]
    times = in_a_process("times", case, engines, args)
    if not times:
        return []
    base, rows = times["seconds"]["non_private"], []
    peaks = {engine: in_a_process("memory", case, [engine], args).get("peak") for engine in times["seconds"]}
    for engine in engines:
        row: dict[str, Any] = {"case": case, "engine": engine}
        if engine in times["failed"]:
            rows.append(row | {"unavailable": times["failed"][engine]})
            continue
        own, peak = times["seconds"][engine], peaks[engine]
        seconds = statistics.median(own)
        rows.append(
            row
            | {
                "time_ratio": round(statistics.median(a / b for a, b in zip(own, base, strict=True)), 3),
                "memory_ratio": round(peak / peaks["non_private"], 3) if peak and peaks["non_private"] else None,
                "flop_ratio": round(times["products"][engine] / times["products"]["non_private"], 3),
                "seconds": round(seconds, 4),
                "fastest_ratio": round(min(own) / min(base), 3),
                "tokens_per_second": round(ROWS * args.microbatches * GPU_CASES[case].positions / seconds),
                "peak_mib": round(peak / 2**20) if peak else None,
                "trainable": times["trainable"],
                "device": times["device"],
                "allocator": not args.no_allocator,
            }
        )
    return rows


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--case", action="append", choices=GPU_CASES, help="may be repeated; all by default")
    parser.add_argument("--engine", action="append", choices=ENGINES, help="may be repeated; all by default")
    parser.add_argument("--rounds", type=int, default=7, help="steps of each engine that are timed")
    parser.add_argument("--microbatches", type=int, default=8, help=f"microbatches of {ROWS} rows a step")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--no-allocator", action="store_true", help="leave glibc's allocator as it is")
    parser.add_argument("--watching", action="store_true", help="what the checks of a run cost it, instead")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", choices=("times", "memory"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.engine = args.engine or list(ENGINES)
    if args.child:
        child(args)
        return
    import torch

    if args.watching:
        torch.set_num_threads(args.threads)
        for case in args.case or CASES:
            print(json.dumps(measure_watching(case, args)))
        return

    cases = GPU_CASES if torch.cuda.is_available() else CASES
    rows = [row for case in args.case or cases for row in compare(case, args)]
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    print(f"{'case':17}{'engine':20}{'time ×':>8}{'memory ×':>10}{'products ×':>12}{'s/step':>9}{'tokens/s':>10}")
    for row in rows:
        if "unavailable" in row:
            print(f"{row['case']:17}{row['engine']:20}  {row['unavailable']}")
        else:
            print(
                f"{row['case']:17}{row['engine']:20}{row['time_ratio']:8.3f}{row['memory_ratio'] or float('nan'):10.3f}"
                f"{row['flop_ratio']:12.3f}{row['seconds']:9.3f}{row['tokens_per_second']:10d}"
            )


if __name__ == "__main__":
    main()
