"""A run is one thing: what moves a gradient is in its identity, which keys its randomness and which resume compares."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from letters import LetterModel, LetterTask, trainer_of
from torch import Tensor, nn

from dp_train.engines.base import Clipping, EngineName
from dp_train.engines.noise import NoiseKind
from dp_train.engines.scaling import FactoredScaling
from dp_train.errors import BudgetError, CheckpointError, PrivacyError
from dp_train.privacy.ledger.ledger import Ledger
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.units import Units
from dp_train.tasks.base import Row
from dp_train.training.batches import Packing
from dp_train.training.callbacks import Callback, Result, RunStart, StepEnd
from dp_train.training.checkpoint import CheckpointFolder
from dp_train.training.method import Execution, Method
from dp_train.training.optimizers import OptimizerFactory, adamw, linear, sgd
from dp_train.training.run_state import RunState
from dp_train.training.seeds import Seeds

UnitsOf = Callable[..., Units]


class PackingTask(LetterTask):
    """Letters whose rows could share a sequence, and with a setting."""

    def __init__(self, smoothing: float = 0.0) -> None:
        self.smoothing = smoothing

    def collate_packed(self, packed: Sequence[Sequence[Row]], weights: Sequence[Sequence[float]]) -> dict[str, Tensor]:
        raise NotImplementedError

    def check_packing(self, model: nn.Module) -> None:
        pass


class Stop(Callback):
    def __init__(self, at: int = 2) -> None:
        self._at = at

    def on_step(self, step: StepEnd) -> None:
        if step.step == self._at:
            raise KeyboardInterrupt


class Starts(Callback):
    def __init__(self) -> None:
        self.names: list[str] = []

    def on_start(self, run: RunStart) -> None:
        self.names.append(run.identity)


@pytest.fixture
def short(plan: PrivacyPlan, monkeypatch: pytest.MonkeyPatch) -> PrivacyPlan:
    """A few steps, and one accountant: these laws are not about ε."""
    from dp_train.engines import cross_check

    monkeypatch.setattr(cross_check, "opinions", lambda plan: {"pld": 1.0, "rdp": 2.0})
    return plan.replace(steps=4)


def fit(
    units: Units,
    plan: PrivacyPlan,
    *,
    model: nn.Module | None = None,
    optimizer: OptimizerFactory | None = None,
    seeds: Seeds | None = None,
    smoothing: float = 0.0,
    **settings: object,
) -> Result:
    first = {"engine": EngineName.NAIVE, "self_check": False}
    optimizer = optimizer or sgd(lr=0.1)
    trainer = trainer_of(
        model or LetterModel(), PackingTask(smoothing), plan, optimizer=optimizer, **(first | settings)
    )
    return trainer.fit(units, seeds=seeds)


def interrupted(units: Units, plan: PrivacyPlan, folder: Path, **settings: object) -> CheckpointFolder:
    checkpoint = CheckpointFolder(folder)
    with pytest.raises(KeyboardInterrupt):
        fit(units, plan, checkpoint=checkpoint, callbacks=[Stop()], **settings)
    return checkpoint


def scaling() -> FactoredScaling:
    return FactoredScaling({parameter: torch.ones_like(parameter) for parameter in LetterModel().parameters()})


CHANGED: Mapping[str, tuple[object, str]] = {
    "engine": (EngineName.BOOKKEEPING, "engine"),
    "clipping": (Clipping.AUTOMATIC, "clipping"),
    "packing": (Packing.WITHIN_UNITS, "packing"),
    "schedule": (linear(), "schedule"),
    "average": (0.9, "average"),
    "scaling": (scaling(), "scaling"),
    "autocast": (torch.bfloat16, "precision"),
    "noise": (NoiseKind.SECURE, "noise kind"),
    "recipe": ("another", "recipe"),
    "trial": ("another", "trial"),
}


def test_every_field_that_moves_a_gradient_is_tried() -> None:
    assert {*CHANGED, "by_token"} == {field.name for field in dataclasses.fields(Method)}  # that one without privacy


@pytest.mark.parametrize("name", CHANGED)
def test_resume_with_one_field_of_the_method_changed_is_refused_by_name(
    units_of: UnitsOf, short: PrivacyPlan, tmp_path: Path, name: str
) -> None:
    units, (value, part) = units_of(20), CHANGED[name]
    checkpoint = interrupted(units, short, tmp_path)
    with pytest.raises(CheckpointError, match=f"of a run with another {part};"):
        fit(units, short, checkpoint=checkpoint, **{name: value})
    if name != "packing":  # letters cannot begin packed
        begun = interrupted(units, short, tmp_path / "other", **{name: value})
        with pytest.raises(CheckpointError, match=f"of a run with another {part};"):
            fit(units, short, checkpoint=begun)


def test_resume_of_a_baseline_that_counts_by_another_thing_is_refused(
    units_of: UnitsOf, short: PrivacyPlan, tmp_path: Path
) -> None:
    units, plan = units_of(20), short.without_privacy()
    checkpoint = interrupted(units, plan, tmp_path)
    with pytest.raises(CheckpointError, match="of a run with another by token;"):
        fit(units, plan, checkpoint=checkpoint, by_token=True)


@pytest.mark.parametrize("other", [sgd(lr=0.2), sgd(lr=0.1, momentum=0.9), adamw(lr=0.1)])
def test_resume_under_another_optimizer_or_rate_is_refused(
    units_of: UnitsOf, short: PrivacyPlan, tmp_path: Path, other: OptimizerFactory
) -> None:
    checkpoint = interrupted(units_of(20), short, tmp_path)
    with pytest.raises(CheckpointError, match="of a run with another optimizer;"):
        fit(units_of(20), short, checkpoint=checkpoint, optimizer=other)


class OwnSGD(torch.optim.SGD):
    """An optimizer that keeps a setting where no group has it."""

    def __init__(self, parameters: Iterable[nn.Parameter], *, damping: float) -> None:
        super().__init__(parameters, lr=0.1)
        self.damping = damping


def test_settings_that_an_optimizer_or_task_keeps_to_itself_are_part_of_the_run(
    units_of: UnitsOf, short: PrivacyPlan, tmp_path: Path
) -> None:
    one, other = (lambda parameters, damping=damping: OwnSGD(parameters, damping=damping) for damping in (0.1, 0.2))
    checkpoint = interrupted(units_of(20), short, tmp_path, optimizer=one)
    with pytest.raises(CheckpointError, match="another optimizer"):
        fit(units_of(20), short, checkpoint=checkpoint, optimizer=other)
    with pytest.raises(CheckpointError, match="another task"):
        fit(units_of(20), short, checkpoint=checkpoint, optimizer=one, smoothing=0.1)


def test_a_run_resumes_also_where_its_optimizer_has_hooks_that_were_registered_anew(
    units_of: UnitsOf, short: PrivacyPlan, tmp_path: Path
) -> None:
    def hooked(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        optimizer.register_step_pre_hook(_looks_on)
        return optimizer

    checkpoint = interrupted(units_of(20), short, tmp_path, optimizer=hooked)
    assert fit(units_of(20), short, checkpoint=checkpoint, optimizer=hooked).steps == short.steps


def _looks_on(*_: object) -> None:
    """Change nothing."""


def test_a_schedule_that_differs_at_one_step_alone_is_another(
    units_of: UnitsOf, short: PrivacyPlan, tmp_path: Path
) -> None:
    checkpoint = interrupted(units_of(20), short, tmp_path)
    with pytest.raises(CheckpointError, match="another schedule"):
        fit(units_of(20), short, checkpoint=checkpoint, schedule=lambda step, steps: 1.0 if step < 3 else 0.5)


def test_what_only_moves_speed_may_change_on_resume(units_of: UnitsOf, short: PrivacyPlan, tmp_path: Path) -> None:
    changed = {
        "microbatch_rows": 3,
        "microbatch_tokens": 100,
        "checkpoint_every": 1,
        "self_check": True,
        "together": False,
        "wait_seconds": 1.0,
    }
    assert set(changed) | {"checkpoint", "callbacks"} == {field.name for field in dataclasses.fields(Execution)}
    checkpoint = interrupted(units_of(20), short, tmp_path)
    assert fit(units_of(20), short, checkpoint=checkpoint, **changed).steps == short.steps


class ScaledModel(LetterModel):
    """A model with a plain attribute and one in a dict, as attention and adapters have them, and with dropout."""

    def __init__(self, scale: float = 1.0, factor: float = 1.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.scale, self.factors, self.attention_dropout = scale, {"default": factor}, dropout

    def forward(self, ids: Tensor) -> Tensor:
        inner = self.embedding(ids) * self.scale * self.factors["default"]
        logits: Tensor = self.output(nn.functional.dropout(inner, self.attention_dropout, self.training))
        return logits


class WeighingTask(PackingTask):
    def __init__(self, smoothing: float) -> None:
        super().__init__()
        self.weights = [torch.tensor([1.0, smoothing])]


@pytest.mark.parametrize("other", [{"scale": 0.5}, {"factor": 0.5}, {"dropout": 0.5}])
def test_resume_with_another_attribute_of_a_module_is_refused(
    units_of: UnitsOf, short: PrivacyPlan, tmp_path: Path, other: dict[str, float]
) -> None:
    checkpoint = interrupted(units_of(20), short, tmp_path, model=ScaledModel())
    with pytest.raises(CheckpointError, match="another model"):
        fit(units_of(20), short, checkpoint=checkpoint, model=ScaledModel(**other))


def test_resume_with_other_values_in_a_list_of_the_task_is_refused(
    units_of: UnitsOf, short: PrivacyPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "PackingTask", WeighingTask)
    checkpoint = interrupted(units_of(20), short, tmp_path, smoothing=0.1)
    with pytest.raises(CheckpointError, match="another task"):
        fit(units_of(20), short, checkpoint=checkpoint, smoothing=0.2)


def test_dropout_is_not_resumed_with_masks_laid_out_otherwise(
    units_of: UnitsOf, short: PrivacyPlan, tmp_path: Path
) -> None:
    """The same noise under other masks: two runs with one fixed seed were three clip norms apart, without noise."""
    for number, model in enumerate((ScaledModel(dropout=0.1), nn.Sequential(LetterModel(), nn.Dropout(0.1)))):
        checkpoint = interrupted(units_of(20), short, tmp_path / str(number), model=model)
        with pytest.raises(CheckpointError, match="another dropout"):
            fit(units_of(20), short, checkpoint=checkpoint, model=model, microbatch_rows=3)


def test_secure_noise_is_not_resumed_as_seeded_noise(units_of: UnitsOf, short: PrivacyPlan, tmp_path: Path) -> None:
    """The steps after the checkpoint would be shown twice, once under each noise."""
    checkpoint = interrupted(units_of(20), short, tmp_path, noise=NoiseKind.SECURE)
    with pytest.raises(CheckpointError, match="another noise kind"):
        fit(units_of(20), short, checkpoint=checkpoint)


class Draws:
    """Collects the coins of every run, by patching the one place that throws them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.keys: list[bytes] = []
        honest = RunState.draw

        def draw(state: RunState) -> object:
            if state.step == 0:
                assert state.streams is not None
                self.keys += [state.streams.sampling, state.streams.noise]
            return honest(state)

        monkeypatch.setattr(RunState, "draw", draw)


def test_one_fixed_seed_gives_runs_that_differ_in_anything_coins_and_noise_of_their_own(
    units_of: UnitsOf, short: PrivacyPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that are composed as independent must be: q=.01, σ=1, T=1000 twice says 2.58 where 4.48 is true."""
    draws, units = Draws(monkeypatch), units_of(20)
    runs: list[dict[str, object]] = [
        {},
        {"optimizer": sgd(lr=0.2)},
        {"trial": "2"},
        {"recipe": "2"},
        {"schedule": linear()},
        {"clipping": Clipping.AUTOMATIC},
        {"model": LetterModel(width=5)},
        {"model": LetterModel().requires_grad_(False).requires_grad_(True)},  # equal to the first
    ]
    for settings in runs:
        fit(units, short, seeds=Seeds.fixed_for_test(3), **settings)  # type: ignore[arg-type]
    fit(units, short.replace(noise_multiplier=2.0), seeds=Seeds.fixed_for_test(3))
    fit(units_of(21), short, seeds=Seeds.fixed_for_test(3))
    assert len(set(draws.keys)) == 2 * (len(runs) + 1)  # the equal run is the same run


def test_one_fixed_seed_gives_each_phase_of_a_model_coins_and_noise_of_its_own(
    units_of: UnitsOf, short: PrivacyPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws, model = Draws(monkeypatch), LetterModel()
    for _ in range(3):
        fit(units_of(20), short, model=model, seeds=Seeds.fixed_for_test(3))
    assert len(set(draws.keys)) == 6


def test_coins_of_two_runs_under_one_fixed_seed_agree_no_more_often_than_chance(
    units_of: UnitsOf, plan: PrivacyPlan
) -> None:
    """Coins are functions of the streams: 40,000 of them, at q = ¼, under each of two identities."""
    from dp_train.privacy.sampling import PoissonSampler

    seeds, sampler = Seeds.fixed_for_test(3), PoissonSampler(0.25)
    one, other = (sampler.draw(0, 40_000, seeds.streams(identity).sampling) for identity in ("one", "other"))
    both = len(np.intersect1d(one, other))
    assert abs(both - 40_000 / 16) < 6 * (40_000 / 16) ** 0.5


def test_seeds_are_made_by_fresh_or_fixed_alone_and_never_copied() -> None:
    with pytest.raises(PrivacyError, match="made by hand"):
        Seeds(b"n" * 32)
    seeds = Seeds.fresh()
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(PrivacyError, match="cannot be copied"):
            copied(seeds)
    with pytest.raises(AttributeError):
        seeds.fixed = False  # type: ignore[misc]


def test_seeds_that_began_a_run_are_refused_for_the_next(units_of: UnitsOf, short: PrivacyPlan, tmp_path: Path) -> None:
    seeds = Seeds.fresh()
    fit(units_of(20), short, seeds=seeds)
    with pytest.raises(PrivacyError, match="a run began with these before"):
        fit(units_of(19), short, seeds=seeds, checkpoint=CheckpointFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_caller_cannot_hand_a_run_its_noise(plan: PrivacyPlan) -> None:
    assert {field.name: field.type for field in dataclasses.fields(Method)}["noise"] == "NoiseKind"
    with pytest.raises(PrivacyError, match="noise"):
        trainer_of(LetterModel(), LetterTask(), plan, optimizer=sgd(lr=1.0), noise=object())


def test_the_name_of_a_run_stands_everywhere_and_stays_when_it_resumes(
    units_of: UnitsOf, short: PrivacyPlan, tmp_path: Path
) -> None:
    units, starts, checkpoint = units_of(20), Starts(), CheckpointFolder(tmp_path / "run")
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}")
    reservation = ledger.reserve(short, units.population)

    def trainer(*callbacks: Callback) -> Result:
        made = trainer_of(
            LetterModel(),
            LetterTask(),
            short,
            optimizer=sgd(lr=0.1),
            engine=EngineName.NAIVE,
            checkpoint=checkpoint,
            callbacks=callbacks,
        )
        return made.fit(units, reservation=reservation)

    with pytest.raises(KeyboardInterrupt):
        trainer(starts, Stop())
    again = ledger.take_up(reservation.identifier, short)
    assert again is not None
    reservation = again
    result = trainer(starts)
    state = checkpoint.load()
    assert state is not None
    (line,) = ledger.book().lines.values()
    assert {result.identity, state.name, line.identity, *starts.names} == {result.identity}
    assert len(result.identity) == 32
    assert units.cohort not in str(result)  # who knows all but one person must not test a guess at it
    ledger.close()


def test_a_line_that_one_run_began_pays_for_no_other(units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}")
    reservation = ledger.reserve(plan, units_of(20).population)
    reservation.begin(resumed=False, identity="a" * 32)
    reservation.begin(resumed=True, identity="a" * 32)
    with pytest.raises(BudgetError, match="was begun by run aaaaaaaaaaaa"):
        reservation.begin(resumed=True, identity="b" * 32)
    ledger.close()


def test_an_older_checkpoint_is_refused_in_one_line(units_of: UnitsOf, short: PrivacyPlan, tmp_path: Path) -> None:
    checkpoint = interrupted(units_of(20), short, tmp_path)
    (path,) = tmp_path.glob("step-*/state.pt")
    torch.save({**torch.load(path, weights_only=True), "format": 1}, path)
    with pytest.raises(CheckpointError, match="has format 1; expected 2"):
        fit(units_of(20), short, checkpoint=checkpoint)
