"""The one loop, private or not, whatever the mechanism.

1. draw units, a pure function of (secret key, step);
2. the engine adds clipped sums, then releases them once with noise, divided by the public `expected_units`;
3. the optimizer steps; the monitor records what really ran; callbacks hear of it;
4. at the end, or at a signal, the state is kept and the monitor compares with the plan.
"""

from __future__ import annotations

import resource

from dp_train.engines.base import Engine, StepRecord
from dp_train.privacy.plan import PrivacyPlan
from dp_train.training.batches import Batches
from dp_train.training.callbacks import Result, StepEnd, notify_step
from dp_train.training.run_state import RunState
from dp_train.training.signals import StopSignals

_CURVE_POINTS = 8


def run_steps(state: RunState, engine: Engine, batches: Batches) -> Result:
    """Run the steps that are left, until the last one or a signal."""
    plan, execution = state.setup.plan, state.setup.execution
    curve = _epsilon_curve(plan)
    state.setup.model.train()
    with StopSignals() as stop:
        state.begin()
        while state.step < plan.steps and stop.received is None:
            state.charge.note_steps(state.step + 1)
            with state.randomness():
                draw = state.draw()
                for batch in batches(draw):  # may be empty
                    engine.accumulate(batch)  # adds the clipped sums of whole units
                record = batches.recount(engine.release(state.step), draw)  # noise once; ÷ expected_units; → p.grad
            for observer in state.observers:
                observer.after_release(record)
            rate = state.set_learning_rate()
            state.optimizer.step()
            state.optimizer.zero_grad(set_to_none=True)
            for observer in state.observers:
                observer.after_update(record)
            state.record(record)
            if state.step % execution.checkpoint_every == 0:
                state.save()
            _notify_step(state, record, rate, curve.get(state.step))
    return state.end(None if stop.received is None else int(stop.received))


def _notify_step(state: RunState, record: StepRecord, rate: float, epsilon: float | None) -> None:
    event = StepEnd(
        step=state.step,
        learning_rate=rate,
        seconds=state.seconds,
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        epsilon=epsilon,
        private=record,
        noisy_loss=record.noisy_loss,
    )
    try:
        with state.shown():
            notify_step(state.setup.execution.callbacks, event)
    except BaseException:
        state.save()  # the step is whole; what failed was the telling of it
        raise


def _epsilon_curve(plan: PrivacyPlan) -> dict[int, float]:
    """ε after some of the steps, the last among them, for the curve within a run."""
    if not plan.private:
        return {}
    points = sorted({max(1, round(plan.steps * point / _CURVE_POINTS)) for point in range(1, _CURVE_POINTS + 1)})
    return dict(zip(points, plan.epsilon_schedule(points), strict=True))
