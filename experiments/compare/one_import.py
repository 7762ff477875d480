"""DP-SGD as an Opacus user writes it by hand; `hooks` is Opacus as it comes, `bookkeeping` is one import changed.

python experiments/compare/one_import.py hooks|bookkeeping [--steps 8]
"""

import argparse
import statistics
import time

import torch
import transformers
from opacus import PrivacyEngine
from torch.utils.data import DataLoader, TensorDataset

from dp_train.engines.bookkeeping_opacus import BookkeepingPrivacyEngine

ENGINES = {"hooks": PrivacyEngine, "bookkeeping": BookkeepingPrivacyEngine}


def train(
    mode: str, *, steps: int = 8, width: int = 256, rows: int = 32, length: int = 128
) -> tuple[list[float], float]:
    """Seconds of each step, ε at δ = 1e-5. Every layer of the model has a rule of Opacus' own."""
    torch.manual_seed(0)
    config = transformers.GPTNeoXConfig(
        vocab_size=16 * width, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=4, use_cache=False,
        num_attention_heads=4, max_position_embeddings=length, hidden_dropout=0.0, attention_dropout=0.0,
    )  # fmt: skip
    model = transformers.GPTNeoXForCausalLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    ids = torch.randint(0, 16 * width, ((steps + 1) * rows, length))
    engine = ENGINES[mode]()
    model, optimizer, loader = engine.make_private(
        module=model,
        optimizer=optimizer,
        data_loader=DataLoader(TensorDataset(ids), batch_size=rows),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        poisson_sampling=True,
    )
    seconds = []
    for (batch,) in loader:
        start = time.perf_counter()
        optimizer.zero_grad()
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    return seconds[1:], engine.get_epsilon(1e-5)  # the first step warms up


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=ENGINES)
    parser.add_argument("--steps", type=int, default=8)
    arguments = parser.parse_args()
    times, epsilon = train(arguments.mode, steps=arguments.steps)
    print(f"{arguments.mode}: {statistics.median(times):.3f} s a step (median of {len(times)}), ε = {epsilon:.2f}")
