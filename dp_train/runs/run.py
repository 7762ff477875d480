"""One training run from a configuration: its folder, its record in MLflow, its scores, samples and card."""

from __future__ import annotations

import gc
import math
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from dp_train.anonymize import recall_figures
from dp_train.atomic import sweep
from dp_train.consent.manifest import PRIVATE
from dp_train.corpora.adapters.benchmark import WARNING
from dp_train.engines.allocator import give_back_freed_memory
from dp_train.engines.cross_check import opinions
from dp_train.models.weights import mark_tensors
from dp_train.privacy.ledger.ledger import Reservation
from dp_train.privacy.monitor import EpsilonClaim
from dp_train.privacy.plan import PrivacyPlan
from dp_train.runs.consent_recheck import note_consent
from dp_train.runs.folder import RunFolder, plain
from dp_train.runs.load import ship
from dp_train.runs.names import NoiseSourceName, PrivacyMode, TrackerName
from dp_train.runs.prepare import RunData, make_model, make_scaling, make_seeds, make_trainer, model_spec
from dp_train.runs.recipe import Recipe
from dp_train.runs.reservation import spending
from dp_train.tasks.base import Sample
from dp_train.tasks.chat_compose import ChatCompose
from dp_train.tasks.metrics import Scores, TriggerPoint
from dp_train.tasks.verbatim import verbatim_overlap
from dp_train.tracking.callback import MlflowCallback
from dp_train.tracking.card import CardFacts, write_card
from dp_train.tracking.progress import ShowProgress
from dp_train.tracking.provenance import git_state, versions
from dp_train.tracking.recompute import guarantee_curve, ledger_section
from dp_train.tracking.run import RunKind, TrackedRun
from dp_train.tracking.store import TrackingStore
from dp_train.tracking.suggestions import draw_trigger_curves
from dp_train.training.callbacks import Callback, Result, RunStart, RunStatus, StepEnd
from dp_train.training.phases import phases_of
from dp_train.training.pretrain import StartingPoint

RESULT = "result.json"
STATISTICS = "statistics.json"
"""In a run's private folder: what was computed from the training text and no ε covers."""


class _Start:
    """Keeps what the trainer said when it started: a resumed run takes its seeds from the checkpoint."""

    def __init__(self) -> None:
        self.seed_is_fixed = False

    def on_start(self, run: RunStart) -> None:
        self.seed_is_fixed = run.seed_is_fixed

    def on_step(self, step: StepEnd) -> None:
        pass

    def on_end(self, result: Result) -> None:
        pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What a run is one of. A run of its own is a family of one.

    `trials` and `without_privacy` count the runs on the same people, for the card: choosing among them spends too.
    """

    parent_id: str | None = None
    trials: int = 1
    without_privacy: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What became of a trial; `scores`, `samples` and `curve` (of suggestions) are of the evaluation population."""

    label: str
    config: Recipe
    plan: PrivacyPlan
    result: Result
    scores: Mapping[str, float]
    samples: Sequence[Sample]
    folder: RunFolder
    curve: Sequence[TriggerPoint] = ()

    @property
    def epsilon(self) -> float | None:
        """ε where there is one to show."""
        claim = self.result.epsilon
        return claim.unwrap() if claim.private and not claim.withheld else None


def finished_before(config: Recipe, plan: PrivacyPlan, folder: RunFolder) -> RunResult | None:
    """What a run that has finished left in its folder, samples left out; None where it has not, or ran otherwise."""
    found = folder.read_json(RESULT)
    if found.get("status") != RunStatus.FINISHED.value or found.get("plan_digest") != plan.digest:
        return None
    withheld = tuple(found["withheld"])
    spent = None
    if plan.private and not withheld:
        spent = math.inf if found["epsilon"] is None else float(found["epsilon"])
    claim = EpsilonClaim(
        private=plan.private,
        withheld=withheld,
        spent=spent,
        delta=plan.delta,
        unit=plan.unit,
        steps=found["steps"],
        planned_steps=plan.steps,
        unknown_start=found.get("unknown_start", False),
        in_ledger=found["in_ledger"],
        earlier=tuple(found.get("earlier", ())),
        fixed_seed=bool(found.get("fixed_seed", False)),
    )
    return RunResult(
        label=found["label"],
        config=config,
        plan=plan,
        result=Result(
            status=RunStatus.FINISHED,
            steps=found["steps"],
            epsilon=claim,
            seconds=found["seconds"],
            checkpoint=folder.checkpoint,
        ),
        scores=found["scores"],
        samples=(),
        folder=folder,
        curve=tuple(TriggerPoint(**point) for point in found.get("trigger_curve", ())),
    )


def label(config: Recipe) -> str:
    """What a run is called, such as "chat_compose ε=8"."""
    privacy = config.privacy
    if privacy.mode is PrivacyMode.NONE:
        how = "without privacy"
    elif privacy.epsilon is not None:
        how = f"ε={privacy.epsilon:g}"
    else:
        how = f"σ={privacy.noise_multiplier:g}"
    return f"{config.task.name} {how}"


def open_store(config: Recipe) -> TrackingStore | None:
    """The store of the configuration, ready to be written; None with tracking=off."""
    return None if config.tracking.name is TrackerName.OFF else TrackingStore.open(config.tracking.uri)


def experiment_name(config: Recipe) -> str:
    """Name of the MLflow experiment."""
    return config.tracking.experiment or config.task.name


def run_trial(
    config: Recipe,
    tree: DictConfig,
    material: RunData,
    plan: PrivacyPlan,
    folder: RunFolder,
    *,
    store: TrackingStore | None,
    out: Console,
    overrides: Sequence[str] = (),
    family: Family | None = None,
    reservation: Reservation | None = None,
) -> RunResult:
    """Train, score, and leave everything in `folder` and in the store. Goes on with what `folder` holds.

    Args:
      reservation: the run's line in the ledger, where it was declared together with others; else one is made.

    Raises:
      SystemExit: a signal ended the run; its checkpoint and what it spent are kept and shown.
    """
    sweep(folder.path, deep=True)  # what a killed process left of this run names people and holds seeds
    gc.collect()  # the model of the trial before: engines and models hold each other
    give_back_freed_memory()
    name = label(config)
    note_consent(folder, material.populations)
    with (
        _told_if_failed(folder, name),
        _tracked(config, tree, material, folder, store, overrides, family or Family()) as tracked,
    ):
        model, start = make_model(config, material, callbacks=[ShowProgress(f"{name}: public starting point", out)])
        trained_before = len(phases_of(mark_tensors(model)))
        started = _Start()
        callbacks: list[Callback] = [started, ShowProgress(name, out)]
        if tracked is not None:
            curve = material.evaluation[: config.evaluation.curve_examples]

            def validate() -> Mapping[str, float]:
                return material.task.evaluate(model, curve, scores=Scores.PRIMARY)

            callbacks.append(
                MlflowCallback(
                    tracked,
                    log_private_statistics=config.tracking.log_private_statistics,
                    validate=validate if curve else None,
                )
            )
        trainer = make_trainer(
            config,
            model,
            material.task,
            plan,
            callbacks=callbacks,
            checkpoint=folder.checkpoint,
            scaling=make_scaling(config, model, material),
        )
        with spending(config, material, plan, folder, out, name, reservation) as reserved:
            result = trainer.fit(material.units, reservation=reserved, seeds=make_seeds(config))
        scores: dict[str, float] = {}
        curve_: Sequence[TriggerPoint] = ()
        samples: list[Sample] = []
        private: dict[str, float] = {}
        if result.status is RunStatus.FINISHED:
            # What is scored from here on is what was loaded from the exported folder, not what was trained.
            model = ship(config, model, material.task, material.tokenizer, folder.model, identity=result.identity)
            if material.evaluation:
                if isinstance(material.task, ChatCompose):
                    scores, curve_ = material.task.scores_and_curve(model, material.evaluation)
                else:
                    scores = material.task.evaluate(model, material.evaluation)
                count = max(config.evaluation.samples, config.evaluation.overlap_examples)
                generated = material.task.samples(model, material.evaluation, count)
                samples = generated[: config.evaluation.samples]
                private = _overlap(material, generated[: config.evaluation.overlap_examples], folder)
        outcome = RunResult(
            label=name,
            config=config,
            plan=plan,
            result=result,
            scores=scores,
            samples=samples,
            folder=folder,
            curve=curve_,
        )
        facts = _card_facts(
            outcome,
            material,
            start,
            family or Family(),
            reserved,
            seed_is_fixed=started.seed_is_fixed,
            trained_before=trained_before,
        )
        card = write_card(facts, folder.path, name="card")
        picture = draw_trigger_curves({name: outcome.curve}, folder.path / "suggestions") if outcome.curve else ()
        folder.write_json(RESULT, _result(outcome, material, start, tracked))
        if tracked is not None:
            tracked.log_scores(scores)
            tracked.log_samples(samples)
            tracked.log_files(*card)
            if private and config.tracking.log_private_statistics:
                tracked.log_private(private)
            if picture:
                tracked.log_trigger_curve(outcome.curve)
                tracked.log_files(*picture)
        if result.stopped_by is not None:
            ended = f"{name}: ended by {signal.Signals(result.stopped_by).name}, step {result.steps} of {plan.steps}"
            out.print(f"{ended}; spent: {result.epsilon.describe()}")
            out.print(f"go on with: dp-train train --resume {folder.path}")
            raise SystemExit(128 + result.stopped_by)
    return outcome


@contextmanager
def _told_if_failed(folder: RunFolder, name: str) -> Iterator[None]:
    """Lists of runs show why there is no result: the kind of error, whose message may hold content."""
    try:
        yield
    except Exception as error:
        folder.write_json(RESULT, {"label": name, "status": RunStatus.FAILED.value, "error": type(error).__name__})
        raise


@contextmanager
def _tracked(
    config: Recipe,
    tree: DictConfig,
    material: RunData,
    folder: RunFolder,
    store: TrackingStore | None,
    overrides: Sequence[str],
    family: Family,
) -> Iterator[TrackedRun | None]:
    """The run's record in the store, taken up again on resume; closed on every way out."""
    if store is None:
        yield None
        return
    known = folder.read_json("tracking.json").get("run_id")
    if known is not None:
        run = store.resume_run(known)
    else:
        experiment = store.experiment(experiment_name(config), metrics=[material.task.metric])
        run = store.start_run(experiment, name=label(config), kind=RunKind.TRAIN, parent_id=family.parent_id)
        folder.write_json("tracking.json", {"run_id": run.run_id, "experiment_id": experiment})
    with run:
        if known is None:
            run.log_provenance(plain(tree), overrides)
            run.log_params(_parameters(config))
            if config.corpus.research_only:
                run.set_tags({"dp_train.research_only": WARNING})
        yield run


def _parameters(config: Recipe) -> dict[str, str | int | float | bool | None]:
    """Settings that people compare runs by; the callback adds the plan's."""
    spec = model_spec(config)
    return {
        "model.architecture": spec.architecture.value,
        "model.layers": spec.layers,
        "model.width": spec.width,
        "model.trainable": config.model.trainable.value,
        "optimizer.name": config.optimizer.name,
        "optimizer.learning_rate": config.optimizer.learning_rate,
        "privacy.target_epsilon": config.privacy.epsilon,
        "start.mode": config.start.mode.value,
        "corpus.source": config.corpus.source,
        "corpus.train_on": config.corpus.train_on.value,
    }


def _overlap(material: RunData, generated: Sequence[Sample], folder: RunFolder) -> dict[str, float]:
    """What is generated beside the training text, and the references of the same examples beside it.

    It is private: it goes beside the list of people, and is the caller's to log or not.
    """
    if not generated:
        return {}
    found: dict[str, float] = {}
    for of, texts in (("output", [s.output for s in generated]), ("reference", [s.reference for s in generated])):
        overlap = verbatim_overlap(texts, material.units, material.tokenizer, material.task.encode)
        found |= {f"verbatim_{of}_longest": float(overlap.longest), f"verbatim_{of}_mean": overlap.mean}
    RunFolder(folder.path / PRIVATE).write_json(STATISTICS, found)
    return found


def _result(
    outcome: RunResult, material: RunData, start: StartingPoint | None, tracked: TrackedRun | None
) -> dict[str, Any]:
    claim = outcome.result.epsilon
    epsilon = outcome.epsilon
    return {
        "label": outcome.label,
        "task": material.task.name,
        "status": outcome.result.status.value,
        "steps": outcome.result.steps,
        "seconds": round(outcome.result.seconds, 1),
        "claim": claim.describe(),
        "epsilon": epsilon if epsilon is None or math.isfinite(epsilon) else None,
        "withheld": list(claim.withheld),
        "in_ledger": claim.in_ledger,
        "unknown_start": claim.unknown_start,
        "fixed_seed": claim.fixed_seed,
        "earlier": list(claim.earlier),
        "plan": outcome.plan.describe(),
        "plan_digest": outcome.plan.digest,
        "identity": outcome.result.identity,
        "consent_root": material.units.consent_root,
        "starting_point": None if start is None else start.digest,
        "metric": material.task.metric,
        "scores": dict(outcome.scores),
        "trigger_curve": [asdict(point) for point in outcome.curve],
        "mlflow_run_id": None if tracked is None else tracked.run_id,
    }


def _card_facts(
    outcome: RunResult,
    material: RunData,
    start: StartingPoint | None,
    family: Family,
    reserved: Reservation | None,
    *,
    seed_is_fixed: bool,
    trained_before: int,
) -> CardFacts:
    config, plan, spec = outcome.config, outcome.plan, model_spec(outcome.config)
    git = git_state()
    halves = config.anonymize
    kinds = {"names": halves.names, "patterns": halves.patterns, "what Presidio's patterns find": halves.presidio}
    replaced = [word for word, on in kinds.items() if on]
    return CardFacts(
        run=outcome.label,
        task=material.task.name,
        model=f"{spec.architecture.value}, {spec.layers} layers of width {spec.width}, "
        f"trained: {config.model.trainable.value}",
        engine=f"{config.engine.name}, {config.engine.clipping.value} clipping" if plan.private else "non_private",
        status=outcome.result.status.value,
        plan=plan,
        claim=outcome.result.epsilon,
        cross_check=opinions(plan),
        curve=guarantee_curve(plan, plan.charged(outcome.result.steps)),
        selection=material.units.selection.public_facts(plan.neighboring_relation),
        ledger={} if reserved is None else ledger_section(reserved.ledger.book(), reserved.identifier),
        seed_is_fixed=seed_is_fixed,
        secure_noise=config.trainer.noise is NoiseSourceName.SECURE,
        research_only=WARNING if config.corpus.research_only else None,
        consent_root=material.units.consent_root,
        consent_as_of=material.populations.as_of.isoformat(),
        purpose=material.units.purpose.value,
        anonymized=f"{' and '.join(replaced)}; {recall_figures().describe()}" if replaced else None,
        starting_point=None if start is None else start.digest,
        loaded=config.model.path is not None,
        trained_before=trained_before,
        trials=family.trials,
        non_private_trials=family.without_privacy,
        scores=outcome.scores,
        private_statistics_logged=config.tracking.log_private_statistics,
        versions=versions(),
        commit=None if git is None else git.commit,
    )
