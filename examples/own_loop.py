"""A loop of one's own around an engine: python examples/own_loop.py

`dp_train.Trainer` is this loop with checkpoints, ledger, signals and checks around it. In a loop of one's own three
duties are yours: draw by the plan's sampler, release once a step also when nobody was drawn, and let the monitor
compare what ran with the plan before an ε is shown. Such a run is in no ledger.
"""

import torch
from quickstart import prepare

import dp_train as dp
from dp_train.engines.build import build_engine
from dp_train.engines.noise import SecureNoise
from dp_train.privacy.monitor import RunMonitor
from dp_train.training.batches import UnitBatches
from dp_train.training.seeds import Seeds


def main() -> str:
    model, task, plan, units = prepare()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    engine = build_engine(
        dp.EngineName.BOOKKEEPING,
        model=model,
        row_losses=task.row_losses,
        plan=plan,
        noise=SecureNoise(),
        optimizer=optimizer,
    )
    coins, monitor = Seeds.fresh().streams("a loop of one's own").sampling, RunMonitor(plan)
    batches = UnitBatches(units, task, rows=32, device=torch.device("cpu"))
    model.train()
    for step in range(plan.steps):
        for batch in batches(plan.mechanism.sampler.draw(step, len(units), coins)):  # may be none
            engine.accumulate(batch)  # adds clipped sums of whole units
        record = engine.release(step)  # noise once; ÷ expected_units; writes p.grad
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        monitor.record(
            record.step,
            units_drawn=record.units,
            noise_draws=record.noise_draws,
            noise_std=record.noise_std,
            clip_norm=record.clip_norm,
            divisor=record.divisor,
            noise_seen=record.noise_seen,
        )
    engine.detach()
    return monitor.claim(len(units)).describe()


if __name__ == "__main__":
    print(main())
