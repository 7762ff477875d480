"""DP-SGD on chat messages as a competent Opacus user writes it: Poisson sampling, virtual batches, Opacus' accountant.

python experiments/compare/opacus_script.py ROWS.jsonl START OUT --epsilon 8

ROWS has one tokenised message a line, {"input_ids": […], "labels": […]}. `compare.py` writes them and scores OUT.
"""

import argparse
import json
import time
from pathlib import Path

import torch
import transformers
from opacus import PrivacyEngine
from opacus.accountants.utils import get_noise_multiplier
from opacus.utils.batch_memory_manager import BatchMemoryManager
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

DELTA = 1e-5


def collate(rows: list[dict[str, list[int]]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, labels and attention mask, padded on the right."""
    ids = [torch.tensor(row["input_ids"], dtype=torch.long) for row in rows] or [torch.zeros(1, dtype=torch.long)]
    labels = [torch.tensor(row["labels"], dtype=torch.long) for row in rows] or [torch.tensor([-100])]
    mask = [torch.ones_like(row) for row in ids]
    padded = pad_sequence(labels, batch_first=True, padding_value=-100)
    return pad_sequence(ids, batch_first=True), padded, pad_sequence(mask, batch_first=True)


def train(args: argparse.Namespace) -> dict[str, float]:
    """Train, save, and tell what was spent."""
    torch.set_num_threads(args.threads)
    rows = [json.loads(line) for line in args.rows.read_text().splitlines()]
    loader = DataLoader(rows, batch_size=args.batch, shuffle=True, collate_fn=collate)
    sigma = get_noise_multiplier(
        target_epsilon=args.epsilon,
        target_delta=DELTA,
        sample_rate=1 / len(loader),
        steps=args.steps,
        accountant="prv",
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(args.start).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=0.0)
    engine = PrivacyEngine(accountant="prv")
    model, optimizer, loader = engine.make_private(
        module=model, optimizer=optimizer, data_loader=loader, noise_multiplier=sigma, max_grad_norm=1.0
    )
    started, step = time.perf_counter(), 0
    while step < args.steps:
        with BatchMemoryManager(data_loader=loader, max_physical_batch_size=64, optimizer=optimizer) as batches:
            for ids, labels, mask in batches:
                optimizer.zero_grad()
                logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
                losses = cross_entropy(logits.transpose(1, 2), labels[:, 1:], reduction="none")
                (losses.sum(1) / (labels[:, 1:] != -100).sum(1).clamp(min=1)).mean().backward()
                optimizer.step()
                if optimizer._is_last_step_skipped:
                    continue
                step += 1
                for group in optimizer.param_groups:
                    group["lr"] = args.learning_rate * (1 - step / args.steps)
                if step == args.steps:
                    break
    seconds = time.perf_counter() - started
    model._module.save_pretrained(args.out)
    rate = 1 / len(loader)
    return {"seconds": seconds, "sigma": sigma, "sample_rate": rate, "epsilon": engine.get_epsilon(DELTA)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=Path)
    parser.add_argument("start")
    parser.add_argument("out")
    parser.add_argument("--epsilon", type=float, default=8.0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=768)
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--threads", type=int, default=1)
    print(json.dumps(train(parser.parse_args())))
