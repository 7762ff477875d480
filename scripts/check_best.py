#!/usr/bin/env python
"""Whether `best` is what a user would otherwise have: beside transformers' own `Trainer`, on the same rows.

Both start from the same public weights, see the same consented rows as often, in batches of one size, under AdamW with
a linear schedule, at the same rates. Each side's rate is chosen by the tuning people, and both are scored on the others
by the task's own measure. The exit status is 1 where the sides differ by more than `--within`.

    python scripts/check_best.py

The loops share no code: `Trainer` shuffles, batches, averages over tokens and steps as it does for everybody.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

WORDS = (
    "experiments=compose/quickstart",
    "tracking=off",
    "corpus.people=600",
    "corpus.public_people=100",
    "corpus.evaluation_people=300",
    "trainer.steps=16",
    "trainer.population=600",
    "trainer.expected_units=32",
    "corpus.tables=null",
    "evaluation.per_person=2",
    "evaluation.examples=300",
    "evaluation.tune_examples=100",
)


def ours(recipe: Any, parts: Any, seed: int) -> Any:
    """The model that `best` gives, by the product's own loop."""
    from dp_train.runs.prepare import make_model, make_trainer
    from dp_train.training.seeds import Seeds

    model, _ = make_model(recipe, parts.data)
    trainer = make_trainer(recipe, model, parts.data.task, parts.plan)
    trainer.fit(parts.data.units, seeds=Seeds.fixed_for_test(seed))
    return model


def theirs(recipe: Any, parts: Any, seed: int) -> Any:
    """The model that transformers' `Trainer` makes of the same rows."""
    import torch
    from transformers import Trainer, TrainingArguments

    from dp_train.runs.prepare import make_model
    from dp_train.tasks.sequences import IGNORE

    model, _ = make_model(recipe, parts.data)
    rows = [parts.data.task.encode(example) for unit in parts.data.units for example in unit]
    pad = parts.data.tokenizer.pad_token_id

    def collate(some: Sequence[Any]) -> dict[str, Any]:
        width = max(len(row.input_ids) for row in some)

        def padded(values: Sequence[int], fill: int) -> list[int]:
            return [*values, *[fill] * (width - len(values))]

        return {
            "input_ids": torch.tensor([padded(row.input_ids, pad) for row in some]),
            "attention_mask": torch.tensor([padded([1] * len(row.input_ids), 0) for row in some]),
            "labels": torch.tensor([padded(row.labels, IGNORE) for row in some]),
        }

    with TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=parts.plan.steps,
            per_device_train_batch_size=parts.plan.expected_units,
            learning_rate=recipe.optimizer.learning_rate,
            weight_decay=recipe.optimizer.weight_decay,
            warmup_steps=round(recipe.optimizer.warmup * parts.plan.steps),
            lr_scheduler_type="linear",
            dataloader_drop_last=True,
            remove_unused_columns=False,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
            use_cpu=True,
            seed=seed,
        )
        Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collate).train()
    return model


def best_of(side: Callable[..., Any], recipe: Any, rates: Sequence[float], seed: int) -> tuple[float, float, float]:
    """Rate that the tuning people choose, what the others score at it, and seconds of all trainings."""
    from dp_train.runs.baselines import as_best
    from dp_train.runs.prepare import prepare
    from dp_train.tasks.metrics import Scores

    found, began = [], time.monotonic()
    data = None
    for rate in rates:
        changed = as_best(recipe, rate)
        parts = prepare(changed) if data is None else type(data)(recipe=changed, data=data.data, plan=data.plan)
        data = parts
        model, task = side(changed, parts, seed), parts.data.task
        tuning, score = (
            task.evaluate(model, some, scores=Scores.PRIMARY)[task.metric]
            for some in (parts.data.tuning, parts.data.evaluation)
        )
        print(f"  {side.__name__:6} seed {seed} rate {rate:g}: tuning {tuning:.4g}, reported {score:.4g}", flush=True)
        found.append((tuning if not task.higher_is_better else -tuning, rate, score))
    _, rate, score = min(found)
    return rate, score, time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(description="best beside transformers' Trainer")
    parser.add_argument("words", nargs="*", help="key=value beside those of the script")
    parser.add_argument("--rates", default="3e-4,1e-3,3e-3", help="learning rates that both sides try")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds")
    parser.add_argument(
        "--within", type=float, default=0.02, help="relative difference of the medians that is let pass"
    )
    args = parser.parse_args()

    from statistics import median

    import torch

    from dp_train.cli.load_config import compose, prepare_hydra

    torch.set_num_threads(1)
    prepare_hydra()
    rates = [float(rate) for rate in args.rates.split(",")]
    with TemporaryDirectory() as folder:
        place = [f"start.cache={Path(folder) / 'starts'}", f"consent.key={Path(folder) / 'key'}"]
        recipe, _ = compose([*WORDS, *place, *args.words])
        scores: dict[str, list[float]] = {"ours": [], "theirs": []}
        for seed in range(args.seeds):
            for side in (ours, theirs):
                rate, score, seconds = best_of(side, recipe, rates, seed)
                scores[side.__name__].append(score)
                print(f"{side.__name__:6} seed {seed}: {score:.4g} at rate {rate:g}, {seconds:.0f} s", flush=True)
    product, trainer = (median(scores[name]) for name in ("ours", "theirs"))
    difference = product / trainer - 1
    print(f"best {product:.4g}, transformers' Trainer {trainer:.4g}: {difference:+.1%}")
    return 0 if abs(difference) <= args.within else 1


if __name__ == "__main__":
    sys.exit(main())
