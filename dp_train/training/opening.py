"""How a run begins: afresh, from its checkpoint, or as one of several processes from what the first one has."""

from __future__ import annotations

from dataclasses import fields

import torch

from dp_train.consent.events import Purpose
from dp_train.engines.noise import NoiseKind
from dp_train.engines.ranks import ALONE, Ranks
from dp_train.errors import CheckpointError, ProcessesError
from dp_train.models.weights import has_known_origin, mark_tensors, names_of, weights_digest
from dp_train.privacy.monitor import RunMonitor
from dp_train.privacy.units import Units
from dp_train.training.averaging import WeightAverage
from dp_train.training.callbacks import StepEnd
from dp_train.training.charge import Charge
from dp_train.training.checkpoint import TrainState, from_bytes, to_bytes
from dp_train.training.identity import Identity, identify
from dp_train.training.method import Setup
from dp_train.training.phases import Phase, phases_of
from dp_train.training.public_probe import try_engine
from dp_train.training.run_state import RunState
from dp_train.training.seeds import Seeds
from dp_train.training.twin import twin_of

_STEP = [one.name for one in fields(StepEnd)]


def open_run(setup: Setup, units: Units, charge: Charge, seeds: Seeds | None, ranks: Ranks = ALONE) -> RunState:
    """Begin a run of `setup`, or take up the one that its checkpoint holds; nothing private is read yet.

    Where several processes share it the first one does, and the others go on from its state as they would from a
    checkpoint, under its seeds, which go over the group alone.

    Raises:
      ProcessesError: the processes were started for different runs, which is said part by part.
      CheckpointError: the checkpoint is of another run, or its noise cannot be drawn again.
      ModelError: nothing is trainable, or the engine gets the model wrong.
      PlanError: the task tokenises a text by other texts than that one.
    """
    trainable = setup.trainable()
    units.check_encoding(setup.task.encode)
    twin = twin_of(setup, units)
    if ranks.first:
        saved = setup.execution.checkpoint.load() if setup.execution.checkpoint else None
    else:
        saved = from_bytes(ranks.from_first(b""))
    start_weights = ""
    if saved is None:
        marks, lines = mark_tensors(setup.model), charge.lines()
        start_weights = weights_digest(marks)
        before = phases_of(marks, lines)
        start_names = names_of(marks)
        elsewhere = frozenset(name for line in lines for name in line.end.weights)
        known_start = has_known_origin(marks, elsewhere=elsewhere)
    else:
        before = tuple(map(Phase.of, saved.before))
        start_names, known_start = frozenset(saved.start_marks), saved.known_start
    optimizer = setup.make_optimizer(trainable)
    identity = own = identify(setup, units, optimizer, start_weights=start_weights, before=before, processes=ranks.size)
    average = None if setup.method.average is None else WeightAverage(trainable, decay=setup.method.average)
    monitor = RunMonitor(setup.plan)
    if saved is None:
        seeds = seeds or Seeds.fresh()
        name, seed_is_fixed = seeds.streams(identity.digest).public_name, seeds.fixed
    else:
        resumed = Identity(saved.identity)
        if ranks.first:
            assert setup.execution.checkpoint is not None
            identity.expect(resumed, setup.execution.checkpoint.path)
            _refuse_second_noise(setup, saved)
        else:
            _expect_one_run(ranks, own.differs(resumed))
        identity, seeds, name, seed_is_fixed = resumed, saved.seeds, saved.name, saved.seed_is_fixed
        _restore(setup, saved, optimizer, average, monitor)
    state = RunState(
        setup=setup,
        twin=twin,
        units=units,
        charge=charge,
        identity=identity,
        seeds=seeds,
        name=name,
        seed_is_fixed=seed_is_fixed,
        before=before,
        start_names=start_names,
        known_start=known_start,
        # What is published belongs to no budget: a starting point made from it is no phase.
        population="" if units.purpose is Purpose.PUBLISH else units.population,
        monitor=monitor,
        optimizer=optimizer,
        average=average,
        step=0 if saved is None else saved.step,
        seconds_before=0.0 if saved is None else saved.seconds,
        resumed=saved is not None,
        finished=saved is not None and saved.finished,
        tried=saved is not None and saved.tried,
        history=[] if saved is None else [StepEnd(**dict(zip(_STEP, values, strict=True))) for values in saved.history],
        ranks=ranks,
    )
    if ranks.first and ranks.size > 1:
        ranks.from_first(to_bytes(state.state()))
        _expect_one_run(ranks, [])
    charge.note_steps(state.step)
    if setup.execution.self_check and setup.plan.private and not state.finished:
        try_engine(setup)
        state.tried = True
    return state


def _expect_one_run(ranks: Ranks, other: list[str]) -> None:
    """Raise, in every process alike, if any of them has something else to train than the first.

    Args:
      other: the parts of the identity in which this process differs from the first.
    """
    for rank, names in enumerate(ranks.each(other)):
        if names:
            raise ProcessesError(
                f"processes: process {rank} has another {', another '.join(names)} than process 0; expected one run: "
                "start all of them with the same code, data and settings"
            )


def _refuse_second_noise(setup: Setup, saved: TrainState) -> None:
    assert setup.execution.checkpoint is not None
    if setup.method.noise is NoiseKind.SECURE and not saved.finished:
        raise CheckpointError(
            f"checkpoint: {setup.execution.checkpoint.path} is of a run whose noise cannot be drawn again "
            "(trainer.noise=secure), and steps after it may have shown theirs; start a new run: what this one reserved "
            "stays spent"
        )


def _restore(
    setup: Setup,
    saved: TrainState,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
    monitor: RunMonitor,
) -> None:
    setup.model.load_state_dict(saved.model)
    monitor.load_state_dict(saved.monitor)
    if saved.optimizer is not None:
        optimizer.load_state_dict(saved.optimizer)
    if average is not None and saved.average is not None:
        average.load_state_dict(saved.average)
    if setup.scaling is not None and saved.scaling is not None:
        setup.scaling.load_state_dict(saved.scaling)


__all__ = ["open_run"]
