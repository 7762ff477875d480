"""Everything that belongs to one run: what it is, how far it came, and how it goes on after a kill."""

from __future__ import annotations

import hashlib
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import astuple, dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from dp_train.engines.base import Engine, StepRecord
from dp_train.engines.build import build_engine, build_noise
from dp_train.engines.leaving import tensor_digest
from dp_train.engines.ranks import ALONE, Ranks
from dp_train.errors import ModelError, ProcessesError
from dp_train.models.weights import (
    declare_names,
    mark_tensors,
    names_of_change,
)
from dp_train.privacy.monitor import EpsilonClaim, RunMonitor
from dp_train.privacy.sampling import Sampler
from dp_train.privacy.units import Units
from dp_train.training.averaging import WeightAverage
from dp_train.training.callbacks import Result, RunStart, RunStatus, StepEnd
from dp_train.training.charge import Charge
from dp_train.training.checkpoint import TrainState
from dp_train.training.dealing import own_share
from dp_train.training.identity import Identity
from dp_train.training.method import Setup
from dp_train.training.observers import Averaged, Observer, Scaled
from dp_train.training.phases import Phase, as_phase, compose_claims, record_phases
from dp_train.training.seeds import Seeds
from dp_train.training.watch import RunWatch


@dataclass(kw_only=True)
class RunState:
    """One run of a `Setup`, from its beginning or from where its checkpoint left it.

    Attributes:
      twin: the setup with a copy of its task that has seen none of the run's texts.
      identity: over everything that moves a gradient; private. `streams` are keyed by it.
      before: phases of the model when the run began. start_names: names of its tensors then.
      known_start: whether their origin is known.
      population: whose budget the run belongs to; "" for published text, which belongs to none.
      step: how many steps are done. finished: whether that was all of them, in an earlier process.
      tried: whether its engine was tried on the model before it took a step, in this process or an earlier one.
      observers: called in order, after the release and after the optimizer's step.
      history: what callbacks heard of each step.
      ranks: the processes that share its steps; the first one alone writes and pays.
      watch: looks at what enters and what leaves, from outside the engine; there once `build_engine` was called.
    """

    setup: Setup
    twin: Setup
    units: Units
    charge: Charge
    identity: Identity
    seeds: Seeds | None
    name: str
    seed_is_fixed: bool
    before: tuple[Phase, ...]
    start_names: frozenset[str]
    known_start: bool
    population: str
    monitor: RunMonitor
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None
    step: int = 0
    seconds_before: float = 0.0
    resumed: bool = False
    finished: bool = False
    tried: bool = False
    observers: list[Observer] = field(default_factory=list)
    history: list[StepEnd] = field(default_factory=list)
    ranks: Ranks = ALONE

    watch: RunWatch = field(init=False)

    def __post_init__(self) -> None:
        self._started = time.monotonic()
        self.sampler: Sampler = self.setup.plan.mechanism.sampler
        self.streams = None if self.seeds is None else self.seeds.streams(self.identity.digest)
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", float(group["lr"]))
        if self.setup.scaling is not None:
            self.observers.append(Scaled(self.setup.scaling))
        if self.average is not None:
            self.observers.append(Averaged(self.average))

    @property
    def seconds(self) -> float:
        """Since the run began, over all its processes."""
        return self.seconds_before + time.monotonic() - self._started

    @property
    def coins(self) -> bytes:
        """Key of the run's coins."""
        assert self.streams is not None
        return self.streams.sampling

    def build_engine(self) -> Engine:
        """Attach the engine to the model and the watch to its surroundings, until their `detach`."""
        assert self.streams is not None
        setup = self.setup
        self.watch = RunWatch(
            setup=setup,
            twin=self.twin,
            optimizer=self.optimizer,
            units=self.units,
            seed=self.streams.sampling,
            monitor=self.monitor,
            ranks=self.ranks,
        )
        return build_engine(
            setup.engine,
            model=setup.model,
            row_losses=setup.row_losses,
            plan=setup.plan,
            noise=self.watch.counted(build_noise(setup.method.noise, setup.plan, self.streams.noise)),
            optimizer=self.optimizer,
            clipping=setup.method.clipping,
            scaling=setup.scaling,
            ranks=self.ranks,
        )

    def describe(self) -> RunStart:
        """The public facts that callbacks hear at the start."""
        return RunStart(
            task=self.setup.task.name,
            plan=self.setup.plan,
            engine=self.setup.engine,
            first_step=self.step,
            trainable_parameters=sum(parameter.numel() for parameter in self.setup.trainable()),
            consent_root=self.units.consent_root,
            seed_is_fixed=self.seed_is_fixed,
            identity=self.name,
        )

    def begin(self) -> None:
        """Spend the seeds, put them on disk, then tell the ledger: all before the first coin."""
        if not self.resumed:
            assert self.seeds is not None
            self.seeds.use()
        if self.step == 0:
            self.save()
        self.charge.begin(resumed=self.resumed, identity=self.name, before=self.before)
        self.ranks.most(0)  # the first process is here: so none draws a coin before

    def asked_to_stop(self, received: int | None) -> int | None:
        """Return the signal that ends the run before the next step, whichever process received it."""
        return self.ranks.most(int(received or 0)) or None

    def draw(self) -> NDArray[np.int64]:
        """The units of the step in hand."""
        return self.sampler.draw(self.step, len(self.units), self.coins)

    def share(self, draw: NDArray[np.int64], cost: Callable[[int], int]) -> NDArray[np.int64]:
        """What of the draw this process sums."""
        return own_share(self.step, draw, cost, self.ranks)

    @contextmanager
    def randomness(self) -> Iterator[None]:
        """Dropout and the like draw from the step's own stream, so that a resumed step repeats itself."""
        message = self.step.to_bytes(8, "big")
        if self.ranks.size > 1:  # masks of two processes have nothing in common
            message += self.ranks.rank.to_bytes(8, "big")
        seed = hashlib.blake2b(message, key=self.coins, person=b"dropout", digest_size=8).digest()
        with torch.random.fork_rng():
            torch.manual_seed(int.from_bytes(seed, "big") >> 1)
            yield

    def set_learning_rate(self) -> float:
        """Set the step's rate in every group, and return that of the first."""
        factor = self.setup.method.schedule(self.step, self.setup.plan.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        return float(self.optimizer.param_groups[0]["lr"])

    def record(self, record: StepRecord) -> None:
        """Give the monitor what the step really did, and count it."""
        asked = record.step, len(self.units), self.coins
        self.monitor.record(
            record.step,
            units_drawn=record.units,
            noise_draws=record.noise_draws,
            noise_std=record.noise_std,
            clip_norm=record.clip_norm,
            divisor=record.divisor,
            noise_bands=record.noise_bands,
            loss_noise_std=record.loss_noise_std,
            noise_seen=record.noise_seen,
            observed=self.setup.plan.mechanism.observe(*asked),
        )
        self.step += 1

    def agree(self) -> None:
        """Give each process what any of them found, and hold that their weights are the same.

        Raises:
          ModelError: they are not: a process computed something else from the same releases.
        """
        if self.ranks.size == 1:
            return
        digests = [tensor_digest(parameter) for parameter in self.setup.trainable()]
        found = self.ranks.each((self.monitor.departures, digests))
        for departures, _ in found:
            for reason in departures:
                self.monitor.depart(reason)
        if any(other != digests for _, other in found):
            raise ModelError(
                "processes: their weights differ after the same steps; expected one kind of machine and one version of "
                "each library; resume with such"
            )

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The model holds inside what the run would leave now: the average, where there is one."""
        with nullcontext() if self.average is None else self.average.shown():
            yield

    def end(self, stopped_by: int | None) -> Result:
        """Look at everything once more, leave the average in the model, keep the state, and say how the run ended."""
        self.watch.finish()
        self.agree()
        self.finished = self.step == self.setup.plan.steps
        if self.finished and self.average is not None:
            self.average.write()
        self.save()
        status = RunStatus.FINISHED if self.finished else RunStatus.KILLED
        return self.result(status, None if self.finished else stopped_by)

    def result(self, status: RunStatus, stopped_by: int | None = None) -> Result:
        """What may be said of the run as it stands; also remembers what its weights have learnt."""
        from dp_train.engines.cross_check import disagreement, opinions  # seconds to import

        plan = self.setup.plan
        claim = self.monitor.claim(len(self.units))
        asked = claim.spent is not None and self.ranks.first  # the others take the first one's result
        doubt = disagreement(opinions(plan)) if asked else None
        if doubt is not None:
            claim = replace(claim, spent=None, withheld=(doubt,))
        changed = self.remember(claim)
        claim = compose_claims(claim, plan, self.before, self.charge.populations or {self.population})
        self.charge.note_end(changed, withheld=bool(claim.withheld))
        execution = self.setup.execution
        return Result(
            status=status,
            steps=self.step,
            epsilon=replace(
                claim,
                in_ledger=self.charge.in_ledger,
                fixed_seed=self.seed_is_fixed,
                unknown_start=plan.private and not self.known_start,
                untried=plan.private and not self.tried,
            ),
            seconds=self.seconds,
            peak_rss_bytes=peak_rss_bytes(),
            checkpoint=execution.checkpoint.path if execution.checkpoint else None,
            stopped_by=stopped_by,
            identity=self.name,
            history=tuple(self.history),
        )

    def remember(self, claim: EpsilonClaim) -> list[str]:
        """Note in this process what the run's weights have learnt, and return the names of the tensors that changed."""
        phases = self.before
        if self.population and self.step > 0:
            phases = (*self.before, as_phase(self.setup.plan, claim, self.population, self.name))
        changed = names_of_change(mark_tensors(self.setup.model, trained_only=True), self.start_names)
        record_phases(changed, phases)
        if self.known_start:
            declare_names(changed)
        return changed

    def of_all(self, result: Result) -> Result:
        """Return the first process' result in every process, which then remember it as their own."""
        if self.ranks.first:
            with suppress(ProcessesError):  # its own run has ended in order, whatever became of the others by now
                self.ranks.each(result)
            return result
        common: Result = self.ranks.each(None)[0]
        self.remember(common.epsilon)
        return common

    def save(self) -> None:
        """Write the state; a finished run's holds no seed."""
        if self.setup.execution.checkpoint is not None and self.ranks.first:
            self.setup.execution.checkpoint.save(self.state())

    def state(self) -> TrainState:
        """Everything that the run goes on from; as secret as the data."""
        scaling, finished = self.setup.scaling, self.finished
        return TrainState(
            step=self.step,
            identity=dict(self.identity.parts),
            name=self.name,
            model=self.setup.model.state_dict(),
            optimizer=None if finished else self.optimizer.state_dict(),
            monitor=self.monitor.state_dict(),
            seeds=None if finished else self.seeds,
            seconds=self.seconds,
            seed_is_fixed=self.seed_is_fixed,
            before=[earlier.values() for earlier in self.before],
            start_marks=sorted(self.start_names),
            known_start=self.known_start,
            tried=self.tried,
            history=[astuple(step) for step in self.history],
            finished=finished,
            average=None if finished or self.average is None else self.average.state_dict(),
            scaling=None if finished or scaling is None else scaling.state_dict(),
        )


def peak_rss_bytes() -> int:
    """Most memory that the process held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


__all__ = ["Observer", "RunState", "peak_rss_bytes"]
