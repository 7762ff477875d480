"""Runs the trials of a study, one after the other or side by side, so that none trains before all of them may.

1. `check`: every trial's data is prepared, once for all that need the same; its plan is priced already;
2. `run_study`: all are reserved together; then each is a run like any other, of the people who agree as of now;
3. on every way out lines that no trial began are released, and what a lost process left open is closed.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

from dp_train.consent.manifest import read_manifest
from dp_train.errors import ConfigError, DpTrainError
from dp_train.privacy.ledger.ledger import Ledger, Reservation
from dp_train.privacy.ledger.lines import State as LineState
from dp_train.runs.checks import check_parts, check_recipe
from dp_train.runs.consent_recheck import snapshot_to_resume
from dp_train.runs.folder import RunFolder
from dp_train.runs.names import PrivacyMode
from dp_train.runs.populations import snapshot_now, still_pass
from dp_train.runs.prepare import Parts, prepare
from dp_train.runs.project import store_url
from dp_train.runs.recipe import Recipe
from dp_train.runs.reservation import declare_together, release_unused
from dp_train.runs.result import RESULT, RunResult, TrialOf, label
from dp_train.runs.run import Reporter
from dp_train.runs.run import run as run_parts
from dp_train.runs.study import State, Study, Trial, check_folders
from dp_train.runs.tracker import close_record, tracker_of
from dp_train.runs.workers import WorkerLost, side_by_side
from dp_train.training.callbacks import RunStatus

Launch = Callable[[Sequence[Trial]], None]
"""Runs trials by `run_trial` in processes of its own choice, and returns when all of them have ended."""


@dataclass(slots=True)
class SharedData:
    """What trials are trained on, prepared once for all that need the same.

    The four newest are kept: two tasks, each with its baseline that bounds no person.
    """

    _kept: list[Parts] = field(default_factory=list)

    def parts(self, trial: Trial, folder: RunFolder, say: Callable[[str], None]) -> Parts:
        """The parts of a trial, of the people who agree as of now.

        Raises:
          ConsentError: the trial had begun, and someone in it does not agree any more.
        """
        if folder.checkpoint.is_dir() and read_manifest(folder.path) is not None:
            return prepare(trial.recipe, snapshot=snapshot_to_resume(folder, trial.recipe))
        known = self._known(trial.recipe)
        if known is not None:
            if still_pass(trial.recipe, known.data.populations, snapshot_now(trial.recipe)):
                return Parts(recipe=trial.recipe, data=known.data, plan=trial.plan)
            self._kept.remove(known)
            say(f"{trial.name}: consent changed since the trials before; those who left are not in it")
        return self.prepared(trial.recipe)

    def prepared(self, recipe: Recipe) -> Parts:
        """The parts of a recipe; what was prepared for an equal one stands."""
        known = self._known(recipe)
        if known is None:
            known = prepare(recipe)
            self._kept = [*self._kept[-3:], known]
        return known

    def _known(self, recipe: Recipe) -> Parts | None:
        return next((parts for parts in self._kept if _needs(parts.recipe) == _needs(recipe)), None)


def _needs(recipe: Recipe) -> tuple[Any, ...]:
    """Everything that decides what is prepared; privacy, optimizer and seeds may differ."""
    privacy = recipe.privacy
    bounds = (privacy.unit, privacy.max_contributions, privacy.rows_per_unit)
    return (
        *(recipe.task, recipe.corpus, recipe.consent, recipe.anonymize, recipe.model, recipe.evaluation),
        *(recipe.store, recipe.trainer.device, recipe.trainer.threads, bounds),
        *(recipe.start.mode, recipe.start.name),  # a published one brings its tokenizer
    )


def check(trials: Sequence[Trial], shared: SharedData) -> None:
    """Prepare what every trial needs, and ask all that its run could fail by (`runs.checks`); spends nothing.

    Raises:
      DpTrainError: of the trial that could not run, with its name. ConfigError: trials share a folder.
    """
    check_folders(trials)
    asked: list[tuple[Any, ...]] = []
    for trial in trials:
        needs = _needs(trial.recipe)
        try:
            if trial.recipe.trainer.processes > 1:
                raise ConfigError(
                    f"trainer.processes={trial.recipe.trainer.processes}: expected 1, for each trial of a study is one "
                    "process; set study.workers to run several trials at once"
                )
            check_recipe(trial.recipe)
            data = shared.prepared(trial.recipe).data
            if needs not in asked:
                asked.append(needs)
                check_parts(trial.recipe, data, [other.plan for other in trials if _needs(other.recipe) == needs])
        except DpTrainError as error:
            raise type(error)(f"{trial.name}: {error} (nothing was trained)") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A trial as a process of its own takes it."""

    trial: Trial
    folder: RunFolder
    trial_of: TrialOf
    reporter: Reporter


_SHARED = SharedData()
"""Of a process that runs one trial after the other for a parent."""


def run_trial(job: Job, shared: SharedData | None = None) -> RunResult:
    """One trial: a run like any other, in the folder and under the id that the study gave it."""
    trial = job.trial
    parts = (shared or _SHARED).parts(trial, job.folder, job.reporter.say)
    return run_parts(
        parts,
        job.folder,
        tracker=tracker_of(trial.recipe),
        reporter=job.reporter,
        trial_of=job.trial_of,
        overrides=trial.overrides,
    )


def trial_of(study: Study, parent_id: str | None, trial: Trial) -> TrialOf:
    """What a trial's identity and card say of its study: which trial it is, and how many there are of its task."""
    same = [other for other in study.trials if other.recipe.task.name == trial.recipe.task.name]
    without = sum(other.recipe.privacy.mode is PrivacyMode.NONE for other in same)
    return TrialOf(parent_id=parent_id, trial=trial.folder, trials=len(same), without_privacy=without)


def run_study(
    study: Study,
    shared: SharedData,
    reporter: Reporter,
    *,
    parent_id: str | None = None,
    workers: int = 1,
    launch: Launch | None = None,
    meanwhile: Callable[[], None] = lambda: None,
) -> dict[str, RunResult]:
    """Run every trial that has not finished, and give the results of all that have, by their folders.

    A trial that fails leaves the others alone; why it failed is in the study's file. Side by side they give what they
    give one after the other, bit for bit, for each draws from its own seeds on its own threads.

    Args:
      workers: how many run at once, each in a process of its own if more than one.
      launch: runs them in its stead.
      meanwhile: called once: while they run, where they run side by side, else before the first.

    Raises:
      BudgetError: together they would pass the budget; none has run.
      CheckpointError: another process is at the study.
      SystemExit, KeyboardInterrupt: a signal ended it; trials that began are closed and may be resumed.
    """
    with study.folder.held():
        return _run_study(
            study, shared, reporter, parent_id=parent_id, workers=workers, launch=launch, meanwhile=meanwhile
        )


def _run_study(
    study: Study,
    shared: SharedData,
    reporter: Reporter,
    *,
    parent_id: str | None,
    workers: int,
    launch: Launch | None,
    meanwhile: Callable[[], None],
) -> dict[str, RunResult]:
    done = {trial.folder: found for trial in study.trials if (found := study.finished(trial)) is not None}
    todo = [trial for trial in study.trials if trial.folder not in done]
    for trial in study.trials:
        if trial.folder in done:
            study.note(trial, State.FINISHED)
            reporter.say(f"{trial.name}: finished before")
    declare_together([study.declared(trial) for trial in todo], say=reporter.say)
    jobs = [
        Job(
            trial=trial,
            folder=study.folder_of(trial),
            trial_of=trial_of(study, parent_id, trial),
            reporter=reporter,
        )
        for trial in todo
    ]
    try:
        beside = launch is None and workers > 1 and len(jobs) > 1
        if not beside:
            meanwhile()
        if launch is not None:
            for trial in todo:
                study.note(trial, State.RUNNING)
            launch(todo)
        elif beside:
            done |= _side_by_side(study, jobs, min(workers, len(jobs)), reporter, meanwhile)
        else:
            done |= _one_by_one(study, jobs, shared, reporter)
    finally:
        for trial in todo:
            _close(study, trial)
        release_unused([study.declared(trial) for trial in todo])
    return {trial.folder: found for trial in study.trials if (found := done.get(trial.folder) or study.finished(trial))}


def _one_by_one(study: Study, jobs: Sequence[Job], shared: SharedData, reporter: Reporter) -> dict[str, RunResult]:
    done = {}
    for job in jobs:
        study.note(job.trial, State.RUNNING)
        try:
            result = run_trial(job, shared)
        except Exception as error:
            _failed(study, job, one_line(error), reporter)
            continue
        if _ended(study, job, result, reporter):
            done[job.trial.folder] = result
    return done


def _side_by_side(
    study: Study, jobs: Sequence[Job], workers: int, reporter: Reporter, meanwhile: Callable[[], None]
) -> dict[str, RunResult]:
    done = {}
    reporter.say(f"{len(jobs)} trials, {workers} at a time")

    def begins(job: Job) -> None:
        study.note(job.trial, State.RUNNING)
        reporter.say(f"{job.trial.name}: begins")

    def alike(job: Job) -> object:
        return _needs(job.trial.recipe)

    with closing(side_by_side(jobs, work, workers=workers, begins=begins, alike=alike, meanwhile=meanwhile)) as ends:
        for job, found in ends:
            if isinstance(found, RunResult):
                if _ended(study, job, found, reporter):
                    done[job.trial.folder] = found
            else:
                _failed(study, job, str(found), reporter)
    return done


def work(job: Job) -> RunResult | str:
    """What a worker does with a job: the result, or in one line why there is none."""
    try:
        return run_trial(job)
    except Exception as error:
        return one_line(error)


def one_line(error: Exception) -> str:
    """Why a trial failed; a foreign error's message may hold content."""
    reason = str(error) if isinstance(error, DpTrainError | WorkerLost) else f"internal error: {type(error).__name__}"
    return " ".join(reason.split())


def _failed(study: Study, job: Job, reason: str, reporter: Reporter) -> None:
    study.note(job.trial, State.FAILED, reason)
    reporter.failed(f"{job.trial.name}: {reason}")


def _ended(study: Study, job: Job, result: RunResult, reporter: Reporter) -> bool:
    """Note how a trial ended; whether it finished.

    Raises:
      SystemExit: a signal ended it, and so the study.
    """
    number = result.result.stopped_by
    if number is None:
        study.note(job.trial, State.FINISHED)
        return True
    study.note(job.trial, State.KILLED)
    ended = (
        f"{job.trial.name}: ended by {signal.Signals(number).name}, step {result.result.steps} of {result.plan.steps}"
    )
    reporter.say(f"{ended}; spent: {result.result.epsilon.describe()}")
    raise SystemExit(128 + number)


def _close(study: Study, trial: Trial) -> None:
    """Close what a trial left open whose process is gone, and write down how it ended.

    Its line is charged in full: how far it came is unknown. Resuming it opens the line again and spends it once.
    """
    state, _ = study.state_of(trial)
    folder = study.folder_of(trial)
    if state is not State.RUNNING:
        return
    result = folder.read_json(RESULT)
    status = result.get("status")
    if status == RunStatus.FINISHED.value:
        study.note(trial, State.FINISHED)
        return
    if status == RunStatus.FAILED.value:
        study.note(trial, State.FAILED, f"{result.get('error', 'unknown')}, see its folder")
        return
    study.note(trial, State.KILLED)
    if status is None and read_manifest(folder.path) is not None:
        folder.write_json(RESULT, {"label": label(trial.recipe), "status": RunStatus.KILLED.value})
    with suppress(DpTrainError):
        close_record(trial.recipe, folder)
    if trial.recipe.ledger:
        with suppress(DpTrainError):
            ledger = Ledger.open(store_url(trial.recipe))
            try:
                line = ledger.book().lines.get(folder.run_id or "")
                if line is not None and line.begun and line.state is LineState.OPEN:
                    left = Reservation(ledger, line.reservation, line.population, trial.plan, line.row_hash)
                    left.abort(line.planned_steps)
            finally:
                ledger.close()


__all__ = ["Job", "SharedData", "check", "one_line", "run_study", "run_trial", "trial_of", "work"]
