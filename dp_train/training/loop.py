"""The one loop, private or not, whatever the mechanism.

1. draw units, a pure function of (secret key, step);
2. the engine adds clipped sums, then releases them once with noise, divided by the public `expected_units`;
3. the optimizer steps; the monitor records what really ran; callbacks hear of it;
4. at the end, or at a signal, the state is kept and the monitor compares with the plan.

Several processes run it together, each on its share of a draw: 2. gives each of them the one release, and so they take
the same steps. The first one alone writes, and speaks to callbacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from dp_train.engines.base import Engine, StepRecord
from dp_train.privacy.plan import PrivacyPlan
from dp_train.training.batches import Batches
from dp_train.training.callbacks import PrivateStep, Result, StepEnd, notify_step, public_points
from dp_train.training.run_state import RunState, peak_rss_bytes
from dp_train.training.signals import StopSignals


def run_steps(state: RunState, engine: Engine, batches: Batches) -> Result:
    """Run the steps that are left, until the last one or a signal."""
    plan, execution = state.setup.plan, state.setup.execution
    curve = _epsilon_curve(plan) if state.ranks.first else {}
    stopped_by: int | None = None
    with StopSignals() as stop:
        state.begin()
        while state.step < plan.steps and (stopped_by := state.asked_to_stop(stop.received)) is None:
            state.charge.note_steps(state.step + 1)
            state.watch.begin()
            state.setup.model.train()  # whatever a callback left: a resumed run has to take the very same step
            with state.randomness():
                draw = state.draw()
                share = state.share(draw, batches.cost)  # all of it, where the process is alone
                for batch in batches(share):  # may be empty
                    engine.accumulate(batch)  # adds the clipped sums of whole units
                    state.watch.took(batch)
                record = batches.recount(engine.release(state.step), draw)  # noise once; ÷ expected_units; → p.grad
            for observer in state.observers:
                observer.after_release(record)
            rate = state.set_learning_rate()
            state.watch.released(record, draw, share)
            state.optimizer.step()
            state.watch.stepped()
            state.optimizer.zero_grad(set_to_none=True)
            for observer in state.observers:
                observer.after_update(record)
            state.record(record)
            # Before the state is kept: a step that is kept is not run, and so not heard of, again.
            if state.ranks.first:
                _notify_step(state, record, rate, curve.get(state.step))
            if state.step % execution.checkpoint_every == 0:
                state.watch.checkpoint()
                state.agree()
                state.save()
    return state.end(stopped_by)


def _notify_step(state: RunState, record: StepRecord, rate: float, epsilon: float | None) -> None:
    event = StepEnd(
        step=state.step,
        learning_rate=rate,
        epsilon=epsilon,
        noisy_loss=record.noisy_loss,
    )
    state.history.append(event)
    private = PrivateStep(step=state.step, seconds=state.seconds, peak_rss_bytes=peak_rss_bytes(), record=record)
    try:
        with state.shown(), state.watch.held(whole=epsilon is not None):
            notify_step(state.setup.execution.callbacks, event, private, state.setup.model)
    except BaseException:
        state.save()  # the step is whole; what failed was the telling of it
        raise


@lru_cache(maxsize=8)
def _epsilon_curve(plan: PrivacyPlan) -> Mapping[int, float]:
    """ε after some of the steps, the last among them, for the curve within a run."""
    if not plan.private:
        return {}
    points = public_points(plan.steps)
    return dict(zip(points, plan.epsilon_schedule(points), strict=True))
