"""One run, for everyone: the command line, a notebook and every trial of a study call `run`, and nothing else trains.

1. ask consent again, as of now;
2. write the list of its people and where its folder is, then reserve in the ledger;
3. train; 4. export; 5. score; 6. write result and card.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dp_train.anonymize import recall_figures
from dp_train.atomic import sweep
from dp_train.consent.manifest import note_identity
from dp_train.corpora.adapters.benchmark import WARNING
from dp_train.engines.allocator import give_back_freed_memory
from dp_train.engines.cross_check import opinions
from dp_train.models.weights import mark_tensors
from dp_train.privacy.ledger.ledger import Reservation
from dp_train.privacy.plan import PrivacyPlan
from dp_train.runs.consent_recheck import note_consent, refuse_if_changed
from dp_train.runs.folder import RunFolder
from dp_train.runs.names import NoiseSourceName
from dp_train.runs.prepare import Parts, make_scaling, make_seeds, make_trainer, model_spec
from dp_train.runs.processes import refuse_several_processes, signals_held
from dp_train.runs.recipe import recipe_values
from dp_train.runs.reservation import reserved
from dp_train.runs.result import RESULT, RunResult, Scored, TrialOf, label, result_values
from dp_train.runs.scoring import export, score
from dp_train.runs.starting import make_model
from dp_train.runs.tracker import Record, Tracker
from dp_train.tasks.metrics import Scores
from dp_train.tracking.card import CardFacts, write_card
from dp_train.tracking.provenance import git_state, versions
from dp_train.tracking.recompute import guarantee_curve, ledger_section
from dp_train.tracking.suggestions import draw_trigger_curves
from dp_train.training.callbacks import Callback, Result, RunStart, RunStatus, StepEnd
from dp_train.training.phases import phases_of
from dp_train.training.pretrain import StartingPoint

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Reporter(Protocol):
    """Where a run says how it goes; it says public things alone."""

    def say(self, line: str) -> None: ...

    def failed(self, line: str) -> None:
        """A trial of a study failed, and why."""
        ...

    def progress(self, title: str) -> Sequence[Callback]:
        """What follows one training, of the starting point or of the run."""
        ...


class Quiet:
    """A reporter that says nothing."""

    def say(self, line: str) -> None:
        pass

    def failed(self, line: str) -> None:
        pass

    def progress(self, title: str) -> Sequence[Callback]:
        return ()


def run(
    parts: Parts,
    folder: RunFolder | Path | str,
    *,
    tracker: Tracker | None = None,
    reporter: Reporter | None = None,
    trial_of: TrialOf | None = None,
    overrides: Sequence[str] = (),
) -> RunResult:
    """Train, export and score what `prepare` made, and leave everything in `folder`.

    Guarantee: before the first noise is drawn, everyone in the run agrees as of now, the private list of its people
    and the store's row about the folder are written, so that a withdrawal finds the run, and the ledger has reserved
    it (unless the recipe says ledger=false, which the card says). A signal ends the run after the step in hand; the
    result then says KILLED, what ran is charged, and `run` on the same folder continues it.

    Args:
      folder: a new one is claimed for this run; a `RunFolder` that a run began in is continued.
      tracker: records the run as well, e.g. `tracker_of(parts.recipe)`.
      trial_of: the study that it is a trial of.
      overrides: what was typed, for the folder.

    Raises:
      ConsentError: someone in the run does not agree any more. BudgetError: their budget does not allow it.
      CheckpointError: the folder holds another run, or cannot be written. StoreError: the store cannot be used.
    """
    refuse_several_processes()
    if not isinstance(folder, RunFolder):
        folder = RunFolder.create(Path(folder), recipe_values(parts.recipe), overrides)
    reporter, trial_of, name = reporter or Quiet(), trial_of or TrialOf(), label(parts.recipe)
    folder.complete(overrides)
    _ask_accountants(parts.plan)
    sweep(folder.path, deep=True)  # what a killed process left of this run names people and holds seeds
    _give_back_memory()
    with folder.held(), _failure_noted(folder, name):
        refuse_if_changed(parts.recipe, parts.data.populations)
        note_consent(folder, parts.data.populations)
        following = tracker.follow(parts, folder, overrides=overrides, trial_of=trial_of) if tracker else nullcontext()
        with following as record:
            model, start = make_model(
                parts.recipe, parts.data, callbacks=reporter.progress(f"{name}: public starting point")
            )
            trained_before = len(phases_of(mark_tensors(model)))
            seen = _Start(folder)
            trainer = make_trainer(
                parts.recipe,
                model,
                parts.data.task,
                parts.plan,
                callbacks=[seen, *reporter.progress(name), *_recording(parts, model, record)],
                checkpoint=folder.checkpoint,
                trial=trial_of.trial,
                scaling=make_scaling(parts.recipe, model, parts.data),
            )
            with reserved(parts, folder, name, say=reporter.say) as reservation:
                result = trainer.fit(parts.data.units, reservation=reservation, seeds=make_seeds(parts.recipe))
                scored = Scored()
                if result.status is RunStatus.FINISHED:
                    # What is scored is what was loaded from the exported folder, not what was trained.
                    shipped = export(parts, model, folder, identity=result.identity)
                    scored = score(parts, shipped, folder, tune=trial_of.trials > 1)
                outcome = RunResult(
                    label=name,
                    config=parts.recipe,
                    plan=parts.plan,
                    result=result,
                    scores=scored.scores,
                    samples=scored.samples,
                    folder=folder,
                    curve=scored.curve,
                )
                facts = _card_facts(
                    parts,
                    outcome,
                    start,
                    trial_of,
                    reservation,
                    seed_is_fixed=seen.seed_is_fixed,
                    trained_before=trained_before,
                )
                with signals_held():
                    _write(parts, outcome, scored, facts, record)
    return outcome


class _Start:
    """Keeps what the trainer said when it started, before its first coin: seeds may come from a checkpoint.

    The manifest of the run's people gets the run's name then.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.seed_is_fixed = False
        self._folder = folder

    def on_start(self, run: RunStart) -> None:
        self.seed_is_fixed = run.seed_is_fixed
        note_identity(self._folder.path, run.identity)

    def on_step(self, step: StepEnd) -> None:
        pass

    def on_end(self, result: Result) -> None:
        pass


def _recording(parts: Parts, model: PreTrainedModel, record: Record | None) -> list[Callback]:
    if record is None:
        return []
    curve = parts.data.evaluation[: parts.recipe.evaluation.curve_examples]

    def validate() -> Mapping[str, float]:
        found: Mapping[str, float] = parts.data.task.evaluate(model, curve, scores=Scores.PRIMARY)
        return found

    return [record.callback(validate if curve else None)]


def _ask_accountants(plan: PrivacyPlan) -> None:
    """Let every accountant speak now, and remember it: it takes seconds and memory, which a run at its end may lack."""
    if plan.private:
        opinions(plan)
        guarantee_curve(plan, plan.charged(plan.steps))


def _give_back_memory() -> None:
    gc.collect()  # the model of the run before: engines and models hold each other
    give_back_freed_memory()


@contextmanager
def _failure_noted(folder: RunFolder, name: str) -> Iterator[None]:
    """Lists of runs show why there is no result: the kind of error, whose message may hold content."""
    try:
        yield
    except Exception as error:
        folder.write_json(RESULT, {"label": name, "status": RunStatus.FAILED.value, "error": type(error).__name__})
        raise


def _write(parts: Parts, outcome: RunResult, scored: Scored, facts: CardFacts, record: Record | None) -> None:
    """Card and picture into the folder, what is public of them into the tracker, then the result."""
    folder = outcome.folder
    card = write_card(facts, folder.path, name="card")
    curve = scored.curve
    picture = draw_trigger_curves({outcome.label: curve}, folder.path / "suggestions") if curve else ()
    values = result_values(
        outcome,
        metric=parts.data.task.metric,
        higher_is_better=parts.data.task.higher_is_better,
        consent_root=parts.data.units.consent_root,
        starting_point=facts.starting_point,
        tracked=None if record is None else record.identifier,
    )
    if record is not None:
        record.log_scores(scored.scores)
        if outcome.result.status is RunStatus.FINISHED:
            record.log_model(parts.recipe, scored.scores)
        record.log_samples(scored.samples)
        record.log_files(*card)
        if scored.private and parts.recipe.tracking.log_private_statistics:
            record.log_private(scored.private)
        if picture:
            record.log_trigger_curve(curve)
            record.log_files(*picture)
        if outcome.result.status is RunStatus.FINISHED:
            record.close()
    # Last: with a result the run is not continued, so nothing of it may be left to write.
    folder.write_json(RESULT, values)


def _card_facts(
    parts: Parts,
    outcome: RunResult,
    start: StartingPoint | None,
    trial_of: TrialOf,
    reservation: Reservation | None,
    *,
    seed_is_fixed: bool,
    trained_before: int,
) -> CardFacts:
    config, plan, data, spec = parts.recipe, parts.plan, parts.data, model_spec(parts.recipe)
    git = git_state()
    halves = config.anonymize
    kinds = {"names": halves.names, "patterns": halves.patterns, "what Presidio's patterns find": halves.presidio}
    kinds[f"people whom {halves.people} finds"] = halves.people is not None
    replaced = [word for word, on in kinds.items() if on]
    return CardFacts(
        run=outcome.label,
        task=data.task.name,
        model=f"{spec.architecture.value}, {spec.layers} layers of width {spec.width}, "
        f"trained: {config.model.trainable.value}",
        engine=f"{config.engine.name}, {config.engine.clipping.value} clipping" if plan.private else "non_private",
        status=outcome.result.status.value,
        plan=plan,
        claim=outcome.result.epsilon,
        cross_check=opinions(plan),
        curve=guarantee_curve(plan, plan.charged(outcome.result.steps)),
        selection=data.units.selection.public_facts(plan.neighboring_relation),
        ledger={} if reservation is None else ledger_section(reservation.ledger.book(), reservation.identifier),
        seed_is_fixed=seed_is_fixed,
        secure_noise=config.trainer.noise is NoiseSourceName.SECURE,
        research_only=WARNING if config.corpus.research_only else None,
        consent_root=data.units.consent_root,
        consent_as_of=data.populations.as_of.isoformat(),
        purpose=data.units.purpose.value,
        anonymized=f"{' and '.join(replaced)}; {recall_figures().describe()}" if replaced else None,
        starting_point=None if start is None else start.digest,
        loaded=config.model.path is not None,
        trained_before=trained_before,
        trials=trial_of.trials,
        non_private_trials=trial_of.without_privacy,
        scores=outcome.scores,
        private_statistics_logged=config.tracking.log_private_statistics,
        versions=versions(),
        identity=outcome.result.identity,
        commit=None if git is None else git.commit,
    )


__all__ = ["Quiet", "Reporter", "run"]
