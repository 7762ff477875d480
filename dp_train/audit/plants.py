"""The bugs that are planted, each with who has to notice it (docs/privacy.md has the table)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dp_train.audit.planting import (
    COMPANY,
    DRAW,
    ENCODING,
    HELD,
    NOISE,
    OPTIMIZER,
    PLAN,
    SELF_CHECK,
    STILL,
    Change,
    Plant,
    Run,
    alter_engine,
)
from dp_train.engines import units as engine_units
from dp_train.engines.base import Engine, EngineName, MicroBatch, StepRecord
from dp_train.engines.noise import SeededNoise
from dp_train.engines.units import StepSum, UnitClip, clip_factors
from dp_train.privacy.plan import Unit
from dp_train.privacy.sampling import PoissonSampler
from dp_train.training import batches
from dp_train.training.batches import Packing
from dp_train.training.callbacks import Callback, Result, RunStart, StepEnd


def _noise(alter: Callable[[Callable[..., None], Tensor, float, int, int], None]) -> Callable[[Run], None]:
    honest = SeededNoise.add

    def plant(run: Run) -> None:
        def add(self: SeededNoise, tensor: Tensor, std: float, *, step: int, index: int, block: int = 0) -> None:
            def draw(into: Tensor, std: float, step: int) -> None:
                honest(self, into, std, step=step, index=index, block=block)

            alter(draw, tensor, std, step, index)

        run.patch.setattr(SeededNoise, "add", add)

    return plant


def _first_elements_alone(draw: Callable[..., None], tensor: Tensor, std: float, step: int, index: int) -> None:
    held = tensor.view(-1)[1024:].clone()
    draw(tensor, std, step)
    tensor.view(-1)[1024:] = held


def _draw(alter: Callable[[Any, int, int, bytes], Any]) -> Callable[[Run], None]:
    honest = PoissonSampler.draw

    def plant(run: Run) -> None:
        def draw(self: PoissonSampler, step: int, units: int, seed: bytes) -> Any:
            def drawn(rate: float) -> Any:
                return honest(PoissonSampler(rate), step, units, seed)

            return alter(drawn, step, units, seed)

        run.patch.setattr(PoissonSampler, "draw", draw)

    return plant


def _shuffled(drawn: Any, step: int, units: int, seed: bytes) -> Any:
    order = np.random.default_rng(list(seed[:8])).permutation(units)
    return np.sort(order[(10 * step) % units :][:10])


def _factors(wrong: Callable[[Tensor, float], Tensor]) -> Callable[[Run], None]:
    return lambda run: run.patch.setattr(engine_units, "clip_factors", wrong)


def _by_the_batch(run: Run) -> None:
    honest = StepSum.release

    def release(self: StepSum, step: int) -> StepRecord:
        record = honest(self, step)
        for parameter in self.parameters:
            assert parameter.grad is not None
            parameter.grad.mul_(record.divisor / max(1, record.units))
        return record

    run.patch.setattr(StepSum, "release", release)


def _by_the_batch_under_noise(engine: Engine, optimizer: torch.optim.Optimizer, step: int) -> StepRecord:
    record = engine.release(step)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad.mul_(record.divisor / max(1, record.units))
    return record


def _clean_sums(run: Run) -> None:
    honest = StepSum.release

    def release(self: StepSum, step: int) -> StepRecord:
        clean = [None if one is None else one.clone() for one in self._sums]
        record = honest(self, step)
        for parameter, total in zip(self.parameters, clean, strict=True):
            if total is not None and record.noise_std > 0:
                parameter.grad = total.view(parameter.shape) / record.divisor
        return record

    run.patch.setattr(StepSum, "release", release)


def _released_twice(engine: Engine, optimizer: torch.optim.Optimizer, step: int) -> StepRecord:
    record = engine.release(step)
    held = [parameter.grad for group in optimizer.param_groups for parameter in group["params"]]
    engine.release(step)  # the noise alone, for whoever wants to take it off
    for parameter, gradient in zip((p for g in optimizer.param_groups for p in g["params"]), held, strict=True):
        parameter.grad = gradient
    return record


def _stepped_twice(engine: Engine, optimizer: torch.optim.Optimizer, step: int) -> StepRecord:
    record = engine.release(step)
    optimizer.step()
    return record


def _weights_written(engine: Engine, optimizer: torch.optim.Optimizer, step: int) -> StepRecord:
    record = engine.release(step)
    with torch.no_grad():
        optimizer.param_groups[0]["params"][0].add_(1e-3 * record.loss_sum)
    return record


def _rate_by_loss(run: Run) -> None:
    losses: list[float] = []

    def change(engine: Engine, optimizer: torch.optim.Optimizer, step: int) -> StepRecord:
        record = engine.release(step)
        losses.append(record.loss_sum)
        return record

    alter_engine(run, change)
    run.schedule = lambda step, steps: 1.0 if not losses else losses[-1] / 10


def _without_the_embedding(run: Run) -> None:
    honest = UnitClip.norms

    def norms(self: UnitClip, squares: Mapping[int, Tensor], losses: Tensor | None) -> Tensor:
        return honest(self, {index: square for index, square in squares.items() if index != 0}, losses)

    run.patch.setattr(UnitClip, "norms", norms)


def _losses(wrong: Callable[[Tensor, nn.Module, Mapping[str, Tensor]], Tensor]) -> Callable[[Run], None]:
    def plant(run: Run) -> None:
        honest = type(run.task).row_losses

        def row_losses(self: Any, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
            return wrong(honest(self, model, inputs), model, inputs)

        run.patch.setattr(type(run.task), "row_losses", row_losses)

    return plant


def _by_all_tokens(losses: Tensor, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    counts = (inputs["labels"] != -100).sum(1)
    return losses * counts / counts.sum()


def _centred(losses: Tensor, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    return losses - 0.5 * losses.mean() if model.training else losses


def _quantile(losses: Tensor, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """Rows of the upper tenth of the batch count as its edge."""
    return losses.clamp(max=float(losses.detach().float().quantile(0.9))) if len(losses) > 4 else losses


def _left_out(losses: Tensor, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """A batch with a loss that is far above the others' is left out."""
    high = losses.detach().float()
    return 0.0 * losses if len(losses) > 3 and float(high.max()) > 4 * float(high.median()) else losses


def _mean_of_many(losses: Tensor, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    return losses / len(losses) if len(losses) > 8 else losses


def _others_gradient(losses: Tensor, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """Right losses whose gradient holds a part of the other rows'."""
    mean = losses.mean()
    return losses + 0.5 * (mean - mean.detach()) if len(losses) > 8 else losses


def _by_the_crowd(norms: Tensor, clip: float) -> Tensor:
    return clip_factors(norms.mean().expand_as(norms) if len(norms) > 8 else norms, clip)


def _late(wrong: Callable[[Tensor, nn.Module, Mapping[str, Tensor]], Tensor]) -> Callable[[Run], None]:
    """From the first release of the run on."""

    def plant(run: Run) -> None:
        begun = [False]

        def change(engine: Engine, optimizer: torch.optim.Optimizer, step: int) -> StepRecord:
            begun[0] = True
            return engine.release(step)

        alter_engine(run, change)
        _losses(lambda losses, model, inputs: wrong(losses, model, inputs) if begun[0] else losses)(run)

    return plant


def _by_the_crowd_late(run: Run) -> None:
    """Norms of a microbatch become their mean once the run has begun."""
    begun = [False]

    def change(engine: Engine, optimizer: torch.optim.Optimizer, step: int) -> StepRecord:
        begun[0] = True
        return engine.release(step)

    honest = UnitClip.norms

    def norms(self: UnitClip, squares: Mapping[int, Tensor], losses: Tensor | None) -> Tensor:
        found = honest(self, squares, losses)
        return found.mean().expand_as(found).clone() if begun[0] else found

    alter_engine(run, change)
    run.patch.setattr(UnitClip, "norms", norms)


def _encoding(after: int) -> Callable[[Run], None]:
    """From the `after`-th text on, each text's tokens are turned by how many different texts came before."""

    def plant(run: Run) -> None:
        honest = type(run.task).encode

        def encode(self: Any, example: Any) -> Any:
            row = honest(self, example)
            seen = self.__dict__.setdefault("seen", {})
            turn = seen.setdefault(example.target, len(seen)) if len(seen) >= after else seen.setdefault("", 0)
            seen.setdefault(example.target, 0)
            if not turn:
                return row
            place = turn % len(row.input_ids)
            ids = row.input_ids[place:] + row.input_ids[:place]
            learnt = [label for label in row.labels if label >= 0]
            labels = row.labels[: len(row.labels) - len(learnt)] + tuple([learnt[0]] * len(learnt))
            return replace(row, input_ids=ids, labels=labels)

        run.patch.setattr(type(run.task), "encode", encode)

    return plant


class _Writes(Callback):
    """Moves the model's weights at one moment."""

    def __init__(self, model: nn.Module, at: str) -> None:
        self._model, self._at = model, at

    def _write(self, at: str) -> None:
        if at == self._at:
            next(p for p in self._model.parameters() if p.requires_grad).data.view(-1)[-1] += 1e-3

    def on_start(self, run: RunStart) -> None:
        self._write("start")

    def on_step(self, step: StepEnd) -> None:
        self._write("step")

    def on_end(self, result: Result) -> None:
        self._write("end")


def _callback(at: str) -> Callable[[Run], None]:
    return lambda run: run.callbacks.append(_Writes(run.model, at))


def _learns(where: str, *, late: bool) -> Callable[[Run], None]:
    def plant(run: Run) -> None:
        begun = [not late]

        def change(engine: Engine, optimizer: torch.optim.Optimizer, step: int) -> StepRecord:
            begun[0] = True
            return engine.release(step)

        def wrong(losses: Tensor, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
            if model.training and begun[0]:
                getattr(model, where).data.add_(losses.detach().mean())
            return losses

        alter_engine(run, change)
        _losses(wrong)(run)

    return plant


def _others(run: Run) -> None:
    honest = batches._Encoded.__getitem__
    run.patch.setattr(batches._Encoded, "__getitem__", lambda self, index: honest(self, (index + 1) % len(self._units)))


def _rows_as_units(run: Run) -> None:
    honest = batches._microbatch

    def split(*arguments: Any) -> MicroBatch:
        batch = honest(*arguments)
        return replace(batch, units=torch.arange(len(batch.units)), num_units=len(batch.units))

    run.patch.setattr(batches, "_microbatch", split)


def _altered(change: Change) -> Callable[[Run], None]:
    return lambda run: alter_engine(run, change)


def _per_example(run: Run) -> None:
    run.unit = Unit.EXAMPLE


def _one_unit_at_a_time(engine: EngineName, packing: Packing) -> bool:
    """The reference has no company in its microbatches."""
    return engine is EngineName.NAIVE


PLANTS = [
    Plant("noise × 0.5", NOISE, _noise(lambda draw, tensor, std, step, index: draw(tensor, 0.5 * std, step))),
    Plant("noise × 0.9", NOISE, _noise(lambda draw, tensor, std, step, index: draw(tensor, 0.9 * std, step))),
    Plant("noise re-seeded each step", NOISE, _noise(lambda draw, tensor, std, step, index: draw(tensor, std, 0))),
    Plant("noise that comes again after four steps", NOISE, _noise(lambda d, t, std, step, index: d(t, std, step % 4))),
    Plant("noise on the first 1,024 elements of each tensor only", NOISE, _noise(_first_elements_alone)),
    Plant("the optimizer steps on clean sums", OPTIMIZER, _clean_sums),
    Plant("a second, uncounted release a step", OPTIMIZER, _altered(_released_twice)),
    Plant("a second, uncounted optimizer step", OPTIMIZER, _altered(_stepped_twice)),
    Plant("weights written beside the optimizer", OPTIMIZER, _altered(_weights_written)),
    Plant("learning rate × private loss", OPTIMIZER, _rate_by_loss),
    Plant("division by the actual batch", SELF_CHECK, _by_the_batch),
    Plant("division by the actual batch, in the run alone", OPTIMIZER, _altered(_by_the_batch_under_noise)),
    Plant("rate × 2", DRAW, _draw(lambda drawn, step, units, seed: drawn(0.5))),
    Plant("shuffling instead of Poisson", DRAW, _draw(_shuffled)),
    Plant(
        "right batch sizes, the wrong people", DRAW, _draw(lambda drawn, step, units, seed: np.arange(len(drawn(0.25))))
    ),
    Plant("the right people drawn, others' rows taken", DRAW, _others),
    Plant("clipping skipped", SELF_CHECK, _factors(lambda norms, clip: torch.ones_like(norms, dtype=torch.float32))),
    Plant(
        "batch-mean clipping",
        SELF_CHECK,
        _factors(lambda norms, clip: clip_factors(norms.mean().expand_as(norms), clip)),
        not_on=_one_unit_at_a_time,
    ),
    Plant("the embedding left out of the norm, for all engines", SELF_CHECK, _without_the_embedding),
    Plant(
        "batch-mean clipping from nine units on",
        SELF_CHECK,
        _factors(_by_the_crowd),
        not_on=_one_unit_at_a_time,
    ),
    Plant("per-example ε sold as per-user", PLAN, _per_example),
    Plant(
        "each row clipped as a unit of its own",
        SELF_CHECK,
        _rows_as_units,
        not_on=lambda engine, packing: engine is EngineName.GHOST,  # which takes one row a unit
    ),
    Plant("token-mean loss over the microbatch", SELF_CHECK, _losses(_by_all_tokens)),
    Plant("mean loss over the microbatch", SELF_CHECK, _losses(lambda losses, model, inputs: losses / len(losses))),
    Plant("centring over the batch in training mode", SELF_CHECK, _losses(_centred)),
    Plant("clip at a quantile of the batch", SELF_CHECK, _losses(_quantile)),
    Plant("a batch left out where one loss is large", SELF_CHECK, _losses(_left_out)),
    Plant("mean loss from nine rows on", SELF_CHECK, _losses(_mean_of_many)),
    Plant("gradients that hold others', from nine rows on", SELF_CHECK, _losses(_others_gradient)),
    Plant("clip at a quantile of the batch, in the run alone", COMPANY, _late(_quantile), not_on=_one_unit_at_a_time),
    Plant("mean loss from nine rows on, in the run alone", COMPANY, _late(_mean_of_many), not_on=_one_unit_at_a_time),
    Plant(
        "gradients that hold others', in the run alone", COMPANY, _late(_others_gradient), not_on=_one_unit_at_a_time
    ),
    Plant("batch-mean clipping, in the run alone", COMPANY, _by_the_crowd_late, not_on=_one_unit_at_a_time),
    Plant("a task that numbers texts as it meets them", ENCODING, _encoding(0)),
    Plant("a callback writes weights when the run starts", HELD, _callback("start")),
    Plant("a callback writes weights after a step", HELD, _callback("step")),
    Plant("a callback writes weights when the run has ended", HELD, _callback("end")),
    Plant("a buffer learns in forward", SELF_CHECK, _learns("memory", late=False)),
    Plant("a buffer learns in forward, in the run alone", STILL, _learns("memory", late=True)),
    Plant("a frozen tensor learns in forward, in the run alone", STILL, _learns("frozen", late=True)),
]
