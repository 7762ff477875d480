"""The one loop, private or not.

1. take up the newest checkpoint, or start afresh with secret seeds; try the engine on public rows;
2. draw units by Poisson sampling, a pure function of (secret seed, step);
3. the engine adds clipped sums, then releases them once with noise, divided by the public `expected_units`;
4. the optimizer steps; the monitor notes what really ran; callbacks hear of it;
5. at the end the monitor holds the notes against the plan and gives, or withholds, the ε.
"""

from __future__ import annotations

import hashlib
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from dp_train.consent.events import Purpose
from dp_train.conversations import Example
from dp_train.engines.base import AnyEngine, Clipping, Engine, EngineName, StepRecord
from dp_train.engines.build import build_engine
from dp_train.engines.correlated_noise import CorrelatedNoise
from dp_train.engines.noise import NoiseSource, SeededNoise
from dp_train.engines.scaling import Scaling
from dp_train.engines.self_check import self_check
from dp_train.errors import CheckpointError, ConsentError, DpTrainError, ModelError, PlanError
from dp_train.privacy.accounting import epsilon_schedule
from dp_train.privacy.ledger.ledger import Reservation
from dp_train.privacy.monitor import RunMonitor
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.sampling import CyclicPoissonSampler, Sampler, TruncatedPoissonSampler, sampler_of
from dp_train.privacy.units import Units
from dp_train.tasks.base import PacksRows, Task
from dp_train.training.averaging import WeightAverage
from dp_train.training.batches import Batches, PackedBatches, Packing, UnitBatches
from dp_train.training.callbacks import Callback, Result, RunStart, RunStatus, StepEnd
from dp_train.training.checkpoint import CheckpointFolder, TrainState
from dp_train.training.optimizers import OptimizerFactory, Schedule, constant
from dp_train.training.phases import Phase, note, phase, phases_of, together
from dp_train.training.seeds import Seeds
from dp_train.training.signals import StopSignals

_CURVE_POINTS = 8
_PUBLIC_ROWS = tuple(
    Example(example_id=target, prompt=prompt, target=target, owners=frozenset({"nobody"}))
    for prompt, target in (
        ("Ann: when do we ship\nBob: on the first Friday of May", "ship on Friday, not before noon"),
        ("Eve: seven plums and two pears", "quick brown foxes jump over it"),
        ("Kim: zinc, wax and glass", "the harbour was closed because of fog"),
    )
)
"""What an engine is tried on. Nobody wrote it."""


class Trainer:
    """Trains `model` on units of consented examples under one plan.

    Guarantee: with a private plan, fresh seeds and a claim that is not withheld, everything that `fit`
    changes in the model is (ε, δ)-differentially private in the unit of the plan, under the
    neighbouring relation of the plan. The claim says ε; what the run logs of `StepEnd.private` is not
    covered by it.

    Args:
      model: a transformers model (or any module that the engine can clip) on the device to train on.
      task: encodes, collates and gives one loss a row.
      plan: calibrated plan; `plan.without_privacy()` runs the non-private baseline through the same loop.
      optimizer: makes the optimizer from the trainable parameters, e.g. `adamw(lr=5e-4)`.
      engine: how clipped sums are formed. Ignored without privacy.
      clipping: how a unit is bounded by the plan's clip norm; its sensitivity, and so the ε, is the same for all.
      callbacks: hear of start, steps and end.
      microbatch_rows: rows per forward pass where rows are not packed; bounds memory and changes nothing else.
      packing: which rows share a sequence; changes speed and nothing else. Decoders only.
      microbatch_tokens: columns per forward pass where rows are packed, padding among them; bounds memory.
      checkpoint: where the private state goes; without it a run cannot be resumed.
      checkpoint_every: steps between checkpoints.
      seeds: `Seeds.fresh()` unless given; a checkpoint's seeds come first.
      noise: replaces the seeded noise, e.g. by `SecureNoise()`, in plans without bands. Noise that cannot be drawn
        again cannot be resumed: a step after the checkpoint would be released twice, under one charge.
      schedule: factor on the learning rate by step.
      average: decay of a moving average of the weights, which is what `fit` leaves in the model and what callbacks
        see; None leaves the last step's weights.
      scaling: public factors on gradients before the clip, undone after the noise. Ignored without privacy.
      autocast: type that layers compute in where autocast has them, e.g. `torch.bfloat16`; weights, norms, sums and
        noise stay float32, and so do scores. None computes in the weights' own type.
      self_check: try the engine on public rows of this very model before anything private is read, see
        `engines.self_check`; about ten passes of a few short rows, and no bit changes. Ignored without privacy.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        plan: PrivacyPlan,
        *,
        optimizer: OptimizerFactory,
        engine: AnyEngine = EngineName.BOOKKEEPING,
        clipping: Clipping = Clipping.FLAT,
        callbacks: Sequence[Callback] = (),
        microbatch_rows: int = 64,
        packing: Packing = Packing.NONE,
        microbatch_tokens: int = 4096,
        checkpoint: CheckpointFolder | None = None,
        checkpoint_every: int = 50,
        seeds: Seeds | None = None,
        noise: NoiseSource | None = None,
        schedule: Schedule = constant,
        average: float | None = None,
        scaling: Scaling | None = None,
        autocast: torch.dtype | None = None,
        self_check: bool = True,
    ) -> None:
        self.model = model
        self.task = task
        self.plan = plan
        if plan.bands > 1 and noise is not None:
            raise PlanError(
                f"trainer: bands={plan.bands} and a noise source of your own; correlated noise is made from seeds, so "
                "that a resumed run can make it again; leave noise out, or set bands=1"
            )
        self.engine_name = engine if plan.private else EngineName.NON_PRIVATE
        self._clipping = clipping
        self._optimizer_factory = optimizer
        self._callbacks = tuple(callbacks)
        self._microbatch_rows = microbatch_rows
        self._packing = packing
        self._microbatch_tokens = microbatch_tokens
        self._checkpoint = checkpoint
        self._checkpoint_every = checkpoint_every
        self._seeds = seeds
        self._noise = noise
        self._schedule = schedule
        self._in_ledger = False
        self._steps_begun = 0
        self._has_begun = False
        self._before: tuple[Phase, ...] = ()
        self._population = ""
        self._seed_is_fixed = False
        self._average = average
        self._scaling = scaling if plan.private else None
        self._autocast = autocast
        self._self_check = self_check and plan.private

    def fit(self, units: Units, *, reservation: Reservation | None = None) -> Result:
        """Run the plan's steps on `units`, or those that its checkpoint has left.

        A signal (Ctrl-C, SIGTERM) ends it after the step in hand; the result then says KILLED and the ε
        of the steps that ran. Calling `fit` again with the same checkpoint folder goes on from there; on
        CPU the parameters are those of a run left alone, bit for bit.

        Args:
          units: from `build_units`.
          reservation: of this plan, for `units.population`, from `Ledger.reserve`. It is settled with the steps that
            ran, on every way out that a process survives. Without it the claim says that the run is in no ledger.

        Raises:
          BudgetError: the reservation is of another plan or population, or paid for a run before.
          ConsentError: the units were consented for another purpose.
          PlanError: the units were bounded otherwise than the private plan says, or share sequences under one.
          CheckpointError: the folder holds another plan or other people, or cannot be written.
          ModelError: nothing to train, a layer that the engine cannot clip or gets wrong, or rows that cannot share a
            sequence.
        """
        self._in_ledger = reservation is not None
        if reservation is None:
            return self._fit(units)
        reservation.check(self.plan, units.population)
        self._steps_begun, self._has_begun = 0, False
        try:
            result = self._fit(units, reservation)
        except BaseException:
            with suppress(DpTrainError):  # the first error is the one to tell; an open line counts in full
                if self._has_begun:
                    reservation.abort(self._steps_begun)
                else:
                    reservation.forgo()
            raise
        if result.status is RunStatus.FINISHED:
            reservation.commit(result.steps)
        else:
            reservation.abort(result.steps)
        return result

    def _fit(self, units: Units, reservation: Reservation | None = None) -> Result:
        if units.purpose not in (self.task.purpose, Purpose.PUBLISH):
            raise ConsentError(
                f"units: consented for {units.purpose.value}; task {self.task.name} needs {self.task.purpose.value}; "
                "gate the corpus for that purpose"
            )
        if self.plan.private:
            units.check(self.plan)
        self._check_packing()
        trainable = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        if not trainable:
            raise ModelError("model: no trainable parameter; expected at least one with requires_grad")
        units.check_encoding(self.task.encode)
        cohort = units.cohort
        state = self._resume(cohort)
        monitor = RunMonitor(self.plan)
        self._before = phases_of(self.model) if state is None else tuple(map(Phase.of, state.before))
        # What is published belongs to no budget: a starting point made from it is no phase.
        self._population = "" if units.purpose is Purpose.PUBLISH else units.population
        if state is not None:
            self._seed_is_fixed = state.seed_is_fixed
            self.model.load_state_dict(state.model)
            monitor.load_state_dict(state.monitor)
            self._steps_begun = state.step
            if state.finished:
                return self._result(RunStatus.FINISHED, state.step, monitor, len(units), state.seconds)
        seeds = state.seeds if state is not None and state.seeds is not None else self._seeds or Seeds.fresh()
        self._seed_is_fixed = seeds.fixed
        optimizer = self._optimizer_factory(trainable)
        if state is not None and state.optimizer is not None:
            optimizer.load_state_dict(state.optimizer)
        average = None if self._average is None else WeightAverage(trainable, decay=self._average)
        if state is not None and average is not None and state.average is not None:
            average.load_state_dict(state.average)
        if state is not None and self._scaling is not None and state.scaling is not None:
            self._scaling.load_state_dict(state.scaling)
        if self._self_check:
            self._try_engine()
        engine = build_engine(
            self.engine_name,
            model=self.model,
            row_losses=self._row_losses,
            plan=self.plan,
            noise=self._noise or _seeded_noise(self.plan, seeds, cohort),
            optimizer=optimizer,
            clipping=self._clipping,
            scaling=self._scaling,
        )
        run = _Run(self, units, cohort, optimizer, engine, monitor, seeds, average)
        self._tell_start(units, seeds, trainable, first_step=state.step if state else 0)
        try:
            result = run.loop(state, reservation)
        except BaseException:
            self._tell_end(self._result(RunStatus.FAILED, run.step, monitor, len(units), run.seconds))
            raise
        finally:
            engine.detach()
        self._tell_end(result)
        return result

    def _row_losses(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        device = next(iter(inputs.values())).device.type
        with torch.autocast(device, dtype=self._autocast, enabled=self._autocast is not None):
            return self.task.row_losses(model, inputs)

    def _check_packing(self) -> None:
        if self._packing is Packing.NONE:
            return
        if self._packing is Packing.ACROSS_UNITS and self.plan.private:
            raise PlanError(
                "packing across_units: units that share a sequence cannot be clipped one by one, and the plan is "
                "private; use packing within_units"
            )
        if not isinstance(self.task, PacksRows):
            raise ModelError(f"task {self.task.name}: its rows cannot share a sequence; set trainer.pack=false")
        self.task.check_packing(self.model)

    def _try_engine(self) -> None:
        """On two public units, the second of two rows where the plan has such."""
        several = self.plan.rows_per_unit > 1
        units = [_PUBLIC_ROWS[:1], _PUBLIC_ROWS[1:] if several else _PUBLIC_ROWS[1:2]]
        self_check(
            self.engine_name,
            model=self.model,
            row_losses=self._row_losses,
            plan=self.plan,
            batches=list(self._batches(units)(np.arange(len(units)))),
            clipping=self._clipping,
            scaling=self._scaling,
        )

    def _batches(self, units: Sequence[Sequence[Example]]) -> Batches:
        device = next(self.model.parameters()).device
        if self._packing is Packing.NONE:
            return UnitBatches(units, self.task, rows=self._microbatch_rows, device=device)
        assert isinstance(self.task, PacksRows)
        return PackedBatches(units, self.task, packing=self._packing, tokens=self._microbatch_tokens, device=device)

    def _resume(self, cohort: str) -> TrainState | None:
        state = self._checkpoint.load() if self._checkpoint else None
        if state is None:
            return None
        assert self._checkpoint is not None
        if self._noise is not None and not state.finished:
            raise CheckpointError(
                f"checkpoint: {self._checkpoint.path} is of a run whose noise cannot be drawn again "
                "(trainer.noise=secure), and steps after it may have shown theirs; start a new run: what this one "
                "reserved stays spent"
            )
        if state.plan_digest != self.plan.digest:
            raise CheckpointError(
                f"checkpoint: {self._checkpoint.path} holds plan {state.plan_digest[:12]}, this run has "
                f"{self.plan.digest[:12]}; use another folder, or the configuration that began the run"
            )
        # With other people under the same noise, the difference of two sums would show a person bare.
        if state.cohort != cohort:
            raise CheckpointError(
                f"checkpoint: {self._checkpoint.path} was begun with other consented units than there are now; "
                "start a new run: what the old one spent stays spent"
            )
        return state

    def _result(
        self,
        status: RunStatus,
        steps: int,
        monitor: RunMonitor,
        num_units: int,
        seconds: float,
        stopped_by: int | None = None,
    ) -> Result:
        from dp_train.engines.cross_check import disagreement, opinions  # seconds to import

        claim = monitor.claim(num_units)
        doubt = disagreement(opinions(self.plan)) if claim.spent is not None else None
        if doubt is not None:
            claim = replace(claim, spent=None, withheld=(doubt,))
        if self._population and steps > 0:
            note(self.model, (*self._before, phase(self.plan, claim, self._population)))
        claim = together(claim, self.plan, self._before, self._population)
        return Result(
            status=status,
            steps=steps,
            epsilon=replace(claim, in_ledger=self._in_ledger, fixed_seed=self._seed_is_fixed),
            seconds=seconds,
            checkpoint=self._checkpoint.path if self._checkpoint else None,
            stopped_by=stopped_by,
        )

    def _tell_start(self, units: Units, seeds: Seeds, trainable: list[nn.Parameter], *, first_step: int) -> None:
        start = RunStart(
            task=self.task.name,
            plan=self.plan,
            engine=self.engine_name,
            first_step=first_step,
            trainable_parameters=sum(parameter.numel() for parameter in trainable),
            consent_root=units.consent_root,
            seed_is_fixed=seeds.fixed,
        )
        for callback in self._callbacks:
            callback.on_start(start)

    def _tell_end(self, result: Result) -> None:
        for callback in self._callbacks:
            callback.on_end(result)


class _Run:
    """One call of `fit`: what changes while the loop turns."""

    def __init__(
        self,
        trainer: Trainer,
        units: Units,
        cohort: str,
        optimizer: torch.optim.Optimizer,
        engine: Engine,
        monitor: RunMonitor,
        seeds: Seeds,
        average: WeightAverage | None,
    ) -> None:
        self._trainer = trainer
        self._units = units
        self._cohort = cohort
        self._optimizer = optimizer
        self._engine = engine
        self._monitor = monitor
        self._seeds = seeds
        self._average = average
        self._base_rates = [float(group["lr"]) for group in optimizer.param_groups]
        self._started = time.monotonic()
        self._seconds_before = 0.0
        self.step = 0

    @property
    def seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started

    def loop(self, state: TrainState | None, reservation: Reservation | None) -> Result:
        trainer, plan = self._trainer, self._trainer.plan
        if state is not None:
            self.step, self._seconds_before = state.step, state.seconds
            self._base_rates = [float(group["initial_lr"]) for group in self._optimizer.param_groups]
        for group, rate in zip(self._optimizer.param_groups, self._base_rates, strict=True):
            group["initial_lr"] = rate
        sampler = sampler_of(plan)
        batches = trainer._batches(self._units)
        curve = _epsilon_curve(plan)
        trainer.model.train()
        with StopSignals() as stop:
            if self.step == 0:
                self._save()  # the seeds are on disk before the first noise is drawn
            if reservation is not None:
                reservation.begin(resumed=state is not None)
            trainer._has_begun = True
            while self.step < plan.steps and stop.received is None:
                trainer._steps_begun = max(trainer._steps_begun, self.step + 1)
                with _step_randomness(self._seeds, self.step):
                    draw = sampler.draw(self.step, len(self._units), self._seeds.sampling)
                    for batch in batches(draw):
                        self._engine.accumulate(batch)
                    record = self._engine.release(self.step)
                if trainer._packing is Packing.ACROSS_UNITS:
                    record = replace(record, units=len(draw))  # the engine knows sequences alone
                if trainer._scaling is not None:
                    trainer._scaling.observe()
                rate = self._set_learning_rate()
                self._optimizer.step()
                self._optimizer.zero_grad(set_to_none=True)
                if self._average is not None:
                    self._average.take()
                self._note(record, sampler)
                self.step += 1
                if self.step % trainer._checkpoint_every == 0:
                    self._save()
                self._tell(record, rate, curve.get(self.step))
        finished = self.step == plan.steps
        if finished and self._average is not None:
            self._average.write()
        self._save(finished=finished)
        status = RunStatus.FINISHED if finished else RunStatus.KILLED
        return trainer._result(
            status,
            self.step,
            self._monitor,
            len(self._units),
            self.seconds,
            None if finished or stop.received is None else int(stop.received),
        )

    def _set_learning_rate(self) -> float:
        factor = self._trainer._schedule(self.step, self._trainer.plan.steps)
        for group, rate in zip(self._optimizer.param_groups, self._base_rates, strict=True):
            group["lr"] = rate * factor
        return self._base_rates[0] * factor

    def _note(self, record: StepRecord, sampler: Sampler) -> None:
        asked = record.step, len(self._units), self._seeds.sampling
        turn = coins = None
        if isinstance(sampler, TruncatedPoissonSampler):
            coins = len(sampler.coins(*asked))
        elif isinstance(sampler, CyclicPoissonSampler) and sampler.groups > 1:
            turn = len(sampler.members(*asked))
        self._monitor.record(
            record.step,
            units_drawn=record.units,
            noise_draws=record.noise_draws,
            noise_std=record.noise_std,
            clip_norm=record.clip_norm,
            divisor=record.divisor,
            noise_bands=record.noise_bands,
            drawn_from=turn,
            coins=coins,
            loss_noise_std=record.loss_noise_std,
            noise_seen=record.noise_seen,
        )

    def _tell(self, record: StepRecord, rate: float, epsilon: float | None) -> None:
        event = StepEnd(
            step=self.step,
            learning_rate=rate,
            seconds=self.seconds,
            peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            epsilon=epsilon,
            private=record,
            noisy_loss=record.noisy_loss,
        )
        try:
            with nullcontext() if self._average is None else self._average.shown():
                for callback in self._trainer._callbacks:
                    callback.on_step(event)
        except BaseException:
            self._save()  # the step is whole; what failed was the telling of it
            raise

    def _save(self, *, finished: bool = False) -> None:
        if self._trainer._checkpoint is None:
            return
        self._trainer._checkpoint.save(
            TrainState(
                step=self.step,
                plan_digest=self._trainer.plan.digest,
                cohort=self._cohort,
                model=self._trainer.model.state_dict(),
                optimizer=None if finished else self._optimizer.state_dict(),
                monitor=self._monitor.state_dict(),
                seeds=None if finished else self._seeds,
                seconds=self.seconds,
                seed_is_fixed=self._seeds.fixed,
                before=[earlier.values() for earlier in self._trainer._before],
                finished=finished,
                average=None if finished or self._average is None else self._average.state_dict(),
                scaling=None if finished or self._trainer._scaling is None else self._trainer._scaling.state_dict(),
            )
        )


def _seeded_noise(plan: PrivacyPlan, seeds: Seeds, cohort: str) -> NoiseSource:
    seed = seeds.noise
    if seeds.fixed:
        # Under one chosen seed, two runs that differ in σ or in their people must not share noise: σ₁Z and σ₂Z added
        # to one sum show the sum, and Z added to two sums shows the person between them.
        seed = hashlib.blake2b(f"{plan.digest} {cohort}".encode(), key=seed, person=b"run").digest()
    noise = SeededNoise(seed)
    return noise if plan.bands == 1 else CorrelatedNoise(noise, bands=plan.bands, steps=plan.steps)


def _epsilon_curve(plan: PrivacyPlan) -> dict[int, float]:
    """ε after some of the steps, the last among them, for the curve within a run."""
    if not plan.private:
        return {}
    points = sorted({max(1, round(plan.steps * point / _CURVE_POINTS)) for point in range(1, _CURVE_POINTS + 1)})
    return dict(zip(points, epsilon_schedule(plan, points), strict=True))


@contextmanager
def _step_randomness(seeds: Seeds, step: int) -> Iterator[None]:
    """Dropout and the like draw from the step's own stream, so that a resumed step repeats itself."""
    seed = hashlib.blake2b(step.to_bytes(8, "big"), key=seeds.sampling, person=b"dropout", digest_size=8).digest()
    with torch.random.fork_rng():
        torch.manual_seed(int.from_bytes(seed, "big") >> 1)
        yield
