"""Laws of the loop, on a model of a few hundred parameters."""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import processes
import pytest
import torch
from letters import LetterModel, LetterTask, trainer_of

from dp_train.consent.events import Purpose
from dp_train.engines.base import Clipping, EngineName
from dp_train.engines.noise import NoiseKind
from dp_train.engines.scaling import FactoredScaling
from dp_train.errors import CheckpointError, ConsentError, EpsilonWithheld, ModelError, PlanError
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.units import Units
from dp_train.training.callbacks import PrivateStep, Result, RunStart, RunStatus, StepEnd
from dp_train.training.checkpoint import CheckpointFolder
from dp_train.training.optimizers import adamw, linear, sgd
from dp_train.training.seeds import Seeds
from dp_train.training.trainer import Trainer

UnitsOf = Callable[..., Units]


class Notes:
    """Keeps what a run told, and does something at one step."""

    def __init__(self, at: int = -1, action: Callable[[], None] | None = None) -> None:
        self.starts: list[RunStart] = []
        self.steps: list[StepEnd] = []
        self.private: list[PrivateStep] = []
        self.ends: list[Result] = []
        self._at, self._action = at, action

    def on_start(self, run: RunStart) -> None:
        self.starts.append(run)

    def on_private_step(self, step: PrivateStep) -> None:
        self.private.append(step)

    def on_step(self, step: StepEnd) -> None:
        self.steps.append(step)
        if step.step == self._at and self._action:
            self._action()

    def on_end(self, result: Result) -> None:
        self.ends.append(result)


def train(
    units: Units, plan: PrivacyPlan, *, folder: Path | None = None, notes: Notes | None = None, **changes: object
) -> tuple[LetterModel, Result]:
    model = LetterModel()
    settings: dict[str, object] = {
        "optimizer": adamw(lr=0.05),
        "schedule": linear(),
        "engine": EngineName.NAIVE,
        "checkpoint": CheckpointFolder(folder) if folder else None,
        "checkpoint_every": 5,
        "callbacks": [notes] if notes else [],
        "microbatch_rows": 8,
    }
    seeds = changes.pop("seeds", Seeds.fixed_for_test(3))
    trainer = trainer_of(model, LetterTask(), plan, **(settings | changes))  # type: ignore[arg-type]
    return model, trainer.fit(units, seeds=seeds)  # type: ignore[arg-type]


def equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_run_ends_with_the_epsilon_of_its_plan(units_of: UnitsOf, plan: PrivacyPlan) -> None:
    notes = Notes()
    _, result = train(units_of(40), plan, notes=notes)
    assert result.status is RunStatus.FINISHED
    assert result.epsilon.unwrap() == pytest.approx(plan.epsilon())
    assert [step.step for step in notes.steps] == list(range(1, 13))
    assert notes.steps[-1].epsilon == pytest.approx(plan.epsilon())
    assert notes.ends == [result]
    assert notes.starts[0].seed_is_fixed


def test_the_baseline_runs_through_the_same_loop_with_coins_of_its_own(units_of: UnitsOf, plan: PrivacyPlan) -> None:
    private, baseline = Notes(), Notes()
    units = units_of(40)
    train(units, plan, notes=private)
    _, result = train(units, plan.without_privacy(), notes=baseline)
    assert [step.step for step in private.steps] == [step.step for step in baseline.steps]
    assert [step.record.units for step in private.private] != [step.record.units for step in baseline.private]
    assert not result.epsilon.private
    with pytest.raises(EpsilonWithheld):
        result.epsilon.unwrap()


def test_training_without_privacy_lowers_the_loss(units_of: UnitsOf, plan: PrivacyPlan) -> None:
    units = units_of(40)
    examples = [example for index in range(len(units)) for example in units[index]]
    before = LetterTask().evaluate(LetterModel(), examples)["loss"]
    model, _ = train(units, plan.without_privacy().replace(steps=60), schedule=linear())
    assert LetterTask().evaluate(model, examples)["loss"] < before - 0.3


def test_clipping_changes_the_sums_and_not_the_epsilon(units_of: UnitsOf, plan: PrivacyPlan) -> None:
    outcomes = [train(units_of(40), plan, clipping=clipping) for clipping in Clipping]
    assert len({result.epsilon.unwrap() for _, result in outcomes}) == 1
    flat, *others = (model for model, _ in outcomes)
    assert not any(equal(flat, other) for other in others)


@pytest.mark.usefixtures("one_identity")
def test_layers_compute_in_bfloat16_and_weights_stay_float32(units_of: UnitsOf, plan: PrivacyPlan) -> None:
    units, computed = units_of(40), set()
    handle = torch.nn.modules.module.register_module_forward_hook(lambda _module, _inputs, out: computed.add(out.dtype))
    try:
        model, result = train(units, plan, autocast=torch.bfloat16, engine=EngineName.BOOKKEEPING)
    finally:
        handle.remove()
    exact, _ = train(units, plan, engine=EngineName.BOOKKEEPING)
    assert torch.bfloat16 in computed
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert result.epsilon.unwrap() == pytest.approx(plan.epsilon())
    assert not equal(model, exact)
    for rounded, parameter in zip(model.parameters(), exact.parameters(), strict=True):
        assert torch.allclose(rounded, parameter, atol=0.1)


def test_empty_draw_still_moves_the_parameters_by_noise(units_of: UnitsOf, plan: PrivacyPlan) -> None:
    lonely = plan.replace(sample_rate=1e-9, steps=1)
    model, result = train(units_of(3), lonely, optimizer=sgd(lr=1.0), schedule=lambda step, steps: 1.0)
    assert result.steps == 1
    assert all(not torch.equal(a, b) for a, b in zip(model.parameters(), LetterModel().parameters(), strict=True))


def test_how_a_step_is_cut_into_microbatches_changes_nothing_but_rounding(units_of: UnitsOf, plan: PrivacyPlan) -> None:
    units = units_of(40)
    whole, _ = train(units, plan, microbatch_rows=1000, optimizer=sgd(lr=0.5))
    cut, _ = train(units, plan, microbatch_rows=1, optimizer=sgd(lr=0.5))
    for one, other in zip(whole.parameters(), cut.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_same_fixed_seed_gives_the_same_run_and_fresh_seeds_another(units_of: UnitsOf, plan: PrivacyPlan) -> None:
    units = units_of(30)
    assert equal(train(units, plan)[0], train(units, plan)[0])
    assert not equal(train(units, plan, seeds=None)[0], train(units, plan, seeds=None)[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_cleanly_and_resume_equals_a_run_left_alone(
    units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path, number: signal.Signals
) -> None:
    units = units_of(40)
    alone, whole = train(units, plan)
    _, stopped = train(
        units, plan, folder=tmp_path / "run", notes=Notes(at=7, action=lambda: os.kill(os.getpid(), number))
    )
    assert stopped.status is RunStatus.KILLED
    assert stopped.stopped_by == number
    assert stopped.steps == 7
    assert stopped.epsilon.unwrap() == pytest.approx(plan.epsilon())  # when to stop was chosen while looking
    assert "stopped after 7 of 12 steps, charged in full" in stopped.epsilon.describe()
    resumed, result = train(units, plan, folder=tmp_path / "run", seeds=None)
    assert result.status is RunStatus.FINISHED
    assert equal(resumed, alone)
    assert result.epsilon == whole.epsilon


_KILLED = """
import os, signal, sys
sys.path[:0] = {path!r}
import conftest, torch
from pathlib import Path
from test_trainer import Notes, train
torch.set_num_threads(1)
units, plan = conftest.units_of.__wrapped__()(40), conftest.plan.__wrapped__()
notes = Notes(at={step}, action=lambda: os.kill(os.getpid(), signal.SIGKILL))
train(units, plan, folder=Path({folder!r}), notes=notes)
"""


@pytest.mark.parametrize("step", [1, 8])
def test_killed_at_any_step_and_resumed_equals_a_run_left_alone(
    units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, step: int
) -> None:
    here = Path(__file__).parent
    script = _KILLED.format(path=[str(here), str(here.parent)], step=step, folder=str(tmp_path / "run"))
    killed = processes.start(("-c", script), folder=tmp_path, output=tmp_path_factory.mktemp("output"))
    code, _, err = killed.ended(timeout=240)
    assert code == -signal.SIGKILL, err
    alone, whole = train(units_of(40), plan)
    resumed, result = train(units_of(40), plan, folder=tmp_path / "run", seeds=None)
    assert equal(resumed, alone)
    assert result.epsilon == whole.epsilon


def test_resume_with_other_people_is_refused(units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path) -> None:
    train(units_of(40), plan, folder=tmp_path, notes=Notes(at=3, action=lambda: os.kill(os.getpid(), signal.SIGINT)))
    with pytest.raises(CheckpointError, match="another consented units"):
        train(units_of(39), plan, folder=tmp_path)


def test_resume_under_another_plan_is_refused(units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path) -> None:
    units = units_of(20)
    train(units, plan, folder=tmp_path, notes=Notes(at=3, action=lambda: os.kill(os.getpid(), signal.SIGINT)))
    with pytest.raises(CheckpointError, match="of a run with another plan"):
        train(units, plan.replace(noise_multiplier=0.9), folder=tmp_path)


def test_a_finished_run_is_not_trained_again(units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path) -> None:
    units = units_of(20)
    model, first = train(units, plan, folder=tmp_path)
    again, second = train(units, plan, folder=tmp_path, notes=Notes(at=1, action=lambda: pytest.fail("trained again")))
    assert equal(model, again)
    assert second.epsilon == first.epsilon


def test_a_finished_checkpoint_holds_no_seed(units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path) -> None:
    units, nonce = units_of(20), str(Seeds.fixed_for_test(3).for_checkpoint()[0])
    halfway = Notes(at=3, action=lambda: os.kill(os.getpid(), signal.SIGINT))
    train(units, plan, folder=tmp_path, notes=halfway)
    secrets = [bytes.fromhex(nonce), nonce.encode()]

    def held() -> bool:
        files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
        return any(secret in content for content in files for secret in secrets)

    assert held()
    train(units, plan, folder=tmp_path)
    assert not held()


def test_seeds_do_not_show_when_printed() -> None:
    seeds = Seeds.fresh()
    assert str(seeds.for_checkpoint()[0]) not in f"{seeds!r} {seeds.streams('run')!r}"
    assert seeds.streams("run").noise.hex() not in repr(seeds.streams("run"))


def test_a_failing_callback_ends_the_run_as_failed_with_its_step_kept(
    units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path
) -> None:
    units = units_of(20)

    def fail() -> None:
        raise ZeroDivisionError

    notes = Notes(at=4, action=fail)
    with pytest.raises(ZeroDivisionError):
        train(units, plan, folder=tmp_path, notes=notes)
    assert [result.status for result in notes.ends] == [RunStatus.FAILED]
    assert notes.ends[0].epsilon.unwrap() == pytest.approx(plan.epsilon())
    state = CheckpointFolder(tmp_path).load()
    assert state is not None
    assert state.step == 4


def test_a_full_disk_keeps_the_older_checkpoint(
    units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = units_of(20)
    train(units, plan, folder=tmp_path, notes=Notes(at=3, action=lambda: os.kill(os.getpid(), signal.SIGINT)))

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(CheckpointError, match="No space left"):
            train(units, plan, folder=tmp_path)
    state = CheckpointFolder(tmp_path).load()
    assert state is not None
    assert state.step == 3
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_damaged_checkpoint_is_named(units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path) -> None:
    units = units_of(20)
    train(units, plan, folder=tmp_path)
    (state,) = tmp_path.glob("step-*/state.pt")
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        train(units, plan, folder=tmp_path)


def test_units_of_another_purpose_are_refused(units_of: UnitsOf, plan: PrivacyPlan) -> None:
    units = units_of(5, Purpose.TRAIN_MEETING_SUMMARY)
    with pytest.raises(ConsentError, match="train_chat_compose"):
        train(units, plan)


def test_units_bounded_otherwise_than_the_plan_are_refused(units_of: UnitsOf, plan: PrivacyPlan) -> None:
    with pytest.raises(PlanError, match="rows_per_unit"):
        train(units_of(5), plan.replace(rows_per_unit=1))


def test_nothing_trainable_is_refused(units_of: UnitsOf, plan: PrivacyPlan) -> None:
    model = LetterModel().requires_grad_(False)
    with pytest.raises(ModelError, match="no trainable"):
        Trainer(model, LetterTask(), plan, optimizer=sgd(lr=1.0)).fit(units_of(5))


def test_a_run_that_differs_from_its_plan_has_no_epsilon(
    units_of: UnitsOf, plan: PrivacyPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dp_train.engines import build

    honest = build.build_engine

    def weaker(name: EngineName, *, plan: PrivacyPlan, **rest: Any) -> object:
        return honest(name, plan=plan.replace(noise_multiplier=plan.calibrated_noise_multiplier / 2), **rest)

    monkeypatch.setattr("dp_train.training.run_state.build_engine", weaker)
    _, result = train(units_of(20), plan)
    assert result.epsilon.withheld
    with pytest.raises(EpsilonWithheld):
        result.epsilon.unwrap()


def test_the_plan_of_a_result_cannot_be_changed_afterwards(units_of: UnitsOf, plan: PrivacyPlan) -> None:
    _, result = train(units_of(5), plan)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.epsilon.delta = 0.5  # type: ignore[misc]


BANDED = {"bands": 3, "sample_rate": 0.25, "steps": 11}
EPOCHS = {"bands": 5, "sample_rate": 0.25, "epoch_steps": 4, "steps": 11}


def stop_at(step: int) -> Notes:
    return Notes(at=step, action=lambda: os.kill(os.getpid(), signal.SIGINT))


@pytest.mark.parametrize("changes", [BANDED, EPOCHS])
def test_a_resumed_run_with_correlated_noise_equals_a_run_left_alone(
    changes: dict[str, float], units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path
) -> None:
    units, banded = units_of(40), plan.replace(**changes)
    alone, whole = train(units, banded)
    _, stopped = train(units, banded, folder=tmp_path, notes=stop_at(7))
    assert stopped.epsilon.unwrap() == pytest.approx(banded.epsilon())
    resumed, result = train(units, banded, folder=tmp_path, seeds=None)
    assert equal(resumed, alone)
    assert result.epsilon == whole.epsilon
    assert whole.epsilon.unwrap() == pytest.approx(banded.epsilon())


def test_correlated_noise_is_what_a_run_releases(units_of: UnitsOf, plan: PrivacyPlan) -> None:
    """Without people in it, a run is its noise: the last weights carry what is left of it, less than of independent."""

    def moved(bands: int) -> float:
        lonely = plan.replace(sample_rate=1e-9, steps=11, bands=bands)
        model, _ = train(units_of(3), lonely, optimizer=sgd(lr=1.0), schedule=lambda step, steps: 1.0)
        pairs = zip(model.parameters(), LetterModel().parameters(), strict=True)
        return float(torch.cat([(one - other).flatten() for one, other in pairs]).detach().norm())

    assert moved(5) < 0.65 * moved(1)


def test_noise_that_cannot_be_made_again_is_refused_with_bands(plan: PrivacyPlan) -> None:
    banded = plan.replace(**BANDED)
    with pytest.raises(PlanError, match="bands=3"):
        trainer_of(LetterModel(), LetterTask(), banded, optimizer=sgd(lr=1.0), noise=NoiseKind.SECURE)


@pytest.mark.usefixtures("one_identity")
def test_the_average_is_what_is_left_shown_and_kept(units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path) -> None:
    weights: list[torch.Tensor] = []
    shown: list[torch.Tensor] = []
    units = units_of(40)

    def run(into: list[torch.Tensor], folder: Path | None, **changes: object) -> LetterModel:
        class Look(Notes):
            def on_step(self, step: StepEnd) -> None:
                into.append(model.output.weight.detach().clone())

        model = LetterModel()
        trainer = trainer_of(
            model,
            LetterTask(),
            plan,
            optimizer=sgd(lr=0.5),
            engine=EngineName.NAIVE,
            callbacks=[Look()],
            checkpoint=CheckpointFolder(folder) if folder else None,
            **changes,
        )
        trainer.fit(units, seeds=Seeds.fixed_for_test(3))
        return model

    run(weights, None)
    averaged = run(shown, tmp_path, average=0.8)
    shares = torch.tensor([0.8**age for age in range(plan.steps - 1, -1, -1)])
    expected = torch.einsum("t,t...->...", shares / shares.sum(), torch.stack(weights))
    torch.testing.assert_close(averaged.output.weight.detach(), expected)
    torch.testing.assert_close(shown[-1], expected)
    torch.testing.assert_close(shown[0], weights[0])
    state = CheckpointFolder(tmp_path).load()
    assert state is not None
    assert torch.equal(state.model["output.weight"], averaged.output.weight)
    assert state.average is None


def test_a_resumed_average_and_scaling_equal_a_run_left_alone(
    units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path
) -> None:
    units = units_of(40)

    def run(folder: Path | None = None, notes: Notes | None = None, seed: Seeds | None = None) -> LetterModel:
        model = LetterModel()
        moments = {parameter: torch.rand(parameter.shape).add(0.1) for parameter in model.parameters()}
        trainer_of(
            model,
            LetterTask(),
            plan,
            optimizer=adamw(lr=0.05),
            average=0.7,
            scaling=FactoredScaling(moments, decay=0.8),
            callbacks=[notes] if notes else [],
            checkpoint=CheckpointFolder(folder) if folder else None,
        ).fit(units, seeds=seed)
        return model

    with torch.random.fork_rng():
        torch.manual_seed(0)
        alone = run(seed=Seeds.fixed_for_test(3))
        torch.manual_seed(0)
        run(tmp_path, stop_at(7), Seeds.fixed_for_test(3))
        resumed = run(tmp_path)  # other moments to begin with, which the checkpoint's replace
    assert equal(resumed, alone)


def test_noise_that_cannot_be_drawn_again_is_not_resumed(
    plan: PrivacyPlan, units_of: Callable[..., Units], tmp_path: Path
) -> None:
    """A step after the checkpoint would be released twice, with fresh noise each time, and be charged once."""

    class Kill:
        def on_start(self, run: object) -> None: ...

        def on_end(self, result: object) -> None: ...

        def on_step(self, step: StepEnd) -> None:
            if step.step == 3:
                raise KeyboardInterrupt

    def trainer(*callbacks: Kill) -> Trainer:
        return trainer_of(
            LetterModel(),
            LetterTask(),
            plan,
            optimizer=sgd(lr=0.1),
            noise=NoiseKind.SECURE,
            checkpoint=CheckpointFolder(tmp_path),
            callbacks=callbacks,
        )

    units = units_of(20)
    with pytest.raises(KeyboardInterrupt):
        trainer(Kill()).fit(units)
    with pytest.raises(CheckpointError, match="cannot be drawn again"):
        trainer().fit(units)


def test_a_private_run_does_not_begin_on_a_model_that_its_engine_gets_wrong(
    units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path
) -> None:
    class Unused(LetterModel):
        def __init__(self) -> None:
            super().__init__()
            self.idle = torch.nn.Linear(2, 2)

    def fit(plan: PrivacyPlan, **changes: object) -> Result:
        trainer = trainer_of(
            Unused(),
            LetterTask(),
            plan,
            optimizer=sgd(lr=0.1),
            checkpoint=CheckpointFolder(tmp_path / "run"),
            **changes,
        )
        return trainer.fit(units_of(20))

    with pytest.raises(ModelError, match=r"self-check: idle\.weight is trainable and no loss depends on it"):
        fit(plan)
    assert not (tmp_path / "run").exists()  # no seed was made, nothing drawn
    assert fit(plan, self_check=False).status is RunStatus.FINISHED


@pytest.mark.parametrize("engine", [EngineName.NAIVE, EngineName.BOOKKEEPING])
def test_the_self_check_changes_no_bit_of_the_run(units_of: UnitsOf, plan: PrivacyPlan, engine: EngineName) -> None:
    with_it, without = (train(units_of(20), plan, engine=engine, self_check=on)[0] for on in (True, False))
    assert equal(with_it, without)


def test_a_claim_says_that_the_engine_was_not_tried_whichever_process_ends_the_run(
    units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dp_train.engines import cross_check
    from dp_train.training import opening

    monkeypatch.setattr(cross_check, "opinions", lambda plan: {"pld": 1.0, "rdp": 2.0})
    monkeypatch.setattr(opening, "try_engine", lambda setup: None)
    units, short = units_of(20), plan.replace(steps=4)
    tried = []
    for checks in ((True, True), (True, False), (False, True), (False, False)):
        folder = tmp_path / f"{checks}"
        for check in checks:
            notes = Notes(2, lambda: signal.raise_signal(signal.SIGTERM))
            trainer = trainer_of(
                LetterModel(),
                LetterTask(),
                short,
                optimizer=sgd(lr=0.1),
                engine=EngineName.NAIVE,
                self_check=check,
                checkpoint=CheckpointFolder(folder),
                callbacks=[notes],
            )
            result = trainer.fit(units)
        assert result.status is RunStatus.FINISHED
        tried.append("not tried on this model" not in result.epsilon.describe())
    assert tried == [True, True, True, False]


def test_a_capped_run_takes_no_more_units_than_its_cap(units_of: UnitsOf, plan: PrivacyPlan) -> None:
    notes, capped = Notes(), plan.replace(max_batch_units=11, population=40)
    _, result = train(units_of(40), capped, notes=notes)
    drawn = [step.record.units for step in notes.private]
    assert max(drawn) == 11
    assert min(drawn) < 11
    assert result.epsilon.unwrap() == capped.epsilon()
    with pytest.raises(PlanError, match="declared population=40"):
        train(units_of(41), capped)


def test_the_noisy_training_curve_follows_the_losses_and_repeats_after_a_resume(
    units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path
) -> None:
    curve = plan.replace(loss_noise_ratio=0.1, loss_bound=2.0)
    whole, parts = Notes(), Notes()
    _, result = train(units_of(40), curve, notes=whole)
    assert result.epsilon.unwrap() == curve.epsilon()
    std = curve.loss_noise_std / curve.expected_units
    for step, private in zip(whole.steps, whole.private, strict=True):
        assert step.noisy_loss is not None
        cut = 2.0 * private.record.units / curve.expected_units  # an untrained model loses more than 2 everywhere
        assert abs(step.noisy_loss - cut) < 6 * std
    assert len({step.noisy_loss for step in whole.steps}) == len(whole.steps)
    train(units_of(40), curve, folder=tmp_path, notes=stop_at(4))
    train(units_of(40), curve, folder=tmp_path, notes=parts)
    assert [step.noisy_loss for step in parts.steps] == [step.noisy_loss for step in whole.steps[4:]]
    assert all(step.noisy_loss is None for step in no_curve(units_of, plan))


def no_curve(units_of: UnitsOf, plan: PrivacyPlan) -> list[StepEnd]:
    notes = Notes()
    train(units_of(5), plan, notes=notes)
    return notes.steps


def test_runs_that_differ_share_no_noise_under_one_chosen_seed(units_of: UnitsOf, plan: PrivacyPlan) -> None:
    """σ₁Z and σ₂Z on the same sum would show the sum; Z on the sums of two cohorts would show who joined."""

    def noise(plan: PrivacyPlan, people: int, seeds: Seeds, **how: object) -> torch.Tensor:
        lonely = plan.replace(sample_rate=1e-9, steps=1)
        settings = {"optimizer": sgd(lr=1.0), "schedule": lambda *_: 1.0, **how}
        model, _ = train(units_of(people), lonely, seeds=seeds, **settings)
        moved = [a - b for a, b in zip(model.parameters(), LetterModel().parameters(), strict=True)]
        return torch.cat([tensor.flatten() for tensor in moved]).detach()

    seed, first = Seeds.fixed_for_test(3), noise(plan, 20, Seeds.fixed_for_test(3))
    assert torch.equal(first, noise(plan, 20, seed))
    for other in (
        noise(plan.replace(noise_multiplier=2.0), 20, seed),
        noise(plan, 21, seed),
        noise(plan, 20, seed, optimizer=sgd(lr=1.01)),
        noise(plan, 20, seed, trial="second"),
    ):
        assert abs(float(torch.corrcoef(torch.stack([first, other]))[0, 1])) < 0.3


def test_accountants_that_disagree_withhold_the_claim(
    units_of: UnitsOf, plan: PrivacyPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dp_train.engines import cross_check

    monkeypatch.setattr(cross_check, "opinions", lambda plan: {"pld": plan.epsilon(), "rdp": plan.epsilon() / 2})
    _, result = train(units_of(5), plan)
    assert result.epsilon.withheld == ("accountants disagree: RDP, an upper bound, lies below PLD",)
