"""Tells a callback what the trainer would tell it, with a real monitor and no model."""

from dp_train.engines.base import EngineName, StepRecord
from dp_train.privacy.monitor import RunMonitor
from dp_train.privacy.plan import PrivacyPlan
from dp_train.tracking.callback import MlflowCallback
from dp_train.training.callbacks import PrivateStep, Result, RunStart, RunStatus, StepEnd

PLAN = PrivacyPlan(sample_rate=0.1, expected_units=10, steps=4, delta=1e-5, noise_multiplier=1.0)
UNITS = 100


def step_record(plan: PrivacyPlan, step: int, *, units: int = 10, noise_std: float | None = None) -> StepRecord:
    return StepRecord(
        step=step,
        clip_norm=plan.clip_norm,
        noise_std=(plan.calibrated_noise_multiplier * plan.clip_norm if plan.private else 0.0)
        if noise_std is None
        else noise_std,
        noise_draws=int(plan.private),
        divisor=plan.expected_units,
        units=units,
        nonfinite_units=0,
        clipped_units=units // 2,
        loss_sum=units * 4.5,
    )


def follow(
    callback: MlflowCallback,
    *,
    plan: PrivacyPlan = PLAN,
    first_step: int = 0,
    last_step: int | None = None,
    noise_std: float | None = None,
    status: RunStatus = RunStatus.FINISHED,
    end: bool = True,
) -> None:
    """Tell the callback what the trainer would, steps first_step … last_step − 1."""
    callback.on_start(
        RunStart(
            task="meeting_summary",
            plan=plan,
            engine=EngineName.HOOKS if plan.private else EngineName.NON_PRIVATE,
            first_step=first_step,
            trainable_parameters=1000,
            consent_root="ab" * 32,
            seed_is_fixed=False,
        )
    )
    monitor = RunMonitor(plan)
    steps = plan.steps if last_step is None else last_step
    for step in range(steps):
        record = step_record(plan, step, noise_std=noise_std)
        monitor.record(
            step,
            units_drawn=record.units,
            noise_draws=record.noise_draws,
            noise_std=record.noise_std,
            clip_norm=record.clip_norm,
            divisor=record.divisor,
        )
        if step >= first_step:
            seconds = 0.5 * (step + 1)
            callback.on_private_step(PrivateStep(step=step + 1, seconds=seconds, peak_rss_bytes=2**30, record=record))
            callback.on_step(
                StepEnd(
                    step=step + 1,
                    learning_rate=0.001,
                    epsilon=plan.epsilon(steps=step + 1) if plan.private else None,
                )
            )
    if end:
        callback.on_end(
            Result(
                status=status,
                steps=steps,
                epsilon=monitor.claim(UNITS),
                seconds=2.0,
                checkpoint=None,
                peak_rss_bytes=2**30,
            )
        )
