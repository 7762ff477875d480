"""Several runs that are looked at together: a sweep, a trade-off, the demo. All of them are one kind of thing.

`study.json` in the folder of a study lists every trial with its state, failures included:

  {"format": 3, "kind": "sweep", "command": "…", "overrides": […], "config": {…},
   "trials": [{"name", "folder", "run", "state", "error", "seed_is_fixed", "overrides", "config"}, …]}

One rename writes it before anything else of the study: a study was begun whole, or not at all. Each trial's folder,
with its configuration and its id, follows from it before the first one trains (`trials.run_study`).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from dp_train.atomic import sweep, write_text
from dp_train.consent.manifest import read_manifest
from dp_train.corpora.spec import TrainOn
from dp_train.errors import CheckpointError, ConfigError
from dp_train.privacy.joint import JointClaim, Spent, joint_claim
from dp_train.privacy.ledger.ledger import Ledger
from dp_train.privacy.ledger.lines import Line
from dp_train.privacy.plan import PrivacyPlan
from dp_train.runs.folder import STUDY as FILE
from dp_train.runs.folder import RunFolder, read_config
from dp_train.runs.plan import make_plan
from dp_train.runs.project import NOTE, store_url
from dp_train.runs.recipe import Recipe, recipe_of, recipe_values
from dp_train.runs.reservation import Declared
from dp_train.runs.result import RESULT, RunResult, finished_before, label
from dp_train.tracking.provenance import public_config, public_overrides
from dp_train.training.callbacks import RunStatus

_FORMAT = 3


class Kind(Enum):
    """What began a study."""

    SWEEP = "sweep"
    TRADEOFF = "tradeoff"
    DEMO = "demo"


class State(Enum):
    """Where a trial stands. RUNNING in a study that no process works on means that its process was killed."""

    PLANNED = "planned"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    KILLED = "killed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run of a study.

    Attributes:
      name: what people call it. folder: its own, below the study's. recipe, plan: checked and priced.
      overrides: what was typed for it.
    """

    name: str
    folder: str
    recipe: Recipe
    plan: PrivacyPlan
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Study:
    """The folder of a study and its trials; made by `begin`, or read again by `find`."""

    folder: RunFolder
    kind: Kind
    command: str
    trials: tuple[Trial, ...]

    @classmethod
    def begin(
        cls,
        folder: RunFolder,
        kind: Kind,
        command: str,
        trials: Sequence[Trial],
        *,
        overrides: Sequence[str] = (),
        recipe: Recipe | None = None,
    ) -> Study:
        """Write down what is to run, by one rename; then each trial gets its folder and its id, so that none is lost.

        Args:
          overrides: what was typed. recipe: what all trials vary, where there is one such; `--from-run` reads it.

        Raises:
          CheckpointError: the folder holds something already, or cannot be written.
        """
        rows = [
            {
                "name": trial.name,
                "folder": trial.folder,
                "run": secrets.token_hex(8),
                "state": State.PLANNED.value,
                "seed_is_fixed": trial.recipe.trainer.seed is not None,
                "overrides": public_overrides(trial.overrides),
                "config": public_config(recipe_values(trial.recipe)),
            }
            for trial in trials
        ]
        values = {
            "format": _FORMAT,
            "kind": kind.value,
            "command": command,
            "overrides": public_overrides(overrides),
            "config": None if recipe is None else public_config(recipe_values(recipe)),
            "trials": rows,
        }
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            sweep(folder.path)
            if any(folder.path.iterdir()):
                raise FileExistsError
            write_text(folder.path / FILE, json.dumps(values, indent=2, ensure_ascii=False) + "\n", replace=False)
        except FileExistsError as error:
            raise CheckpointError(
                f"study: {folder.path} holds something already; studies never share a folder: leave hydra.run.dir and "
                "hydra.sweep.dir alone, or go on with that study by --resume"
            ) from error
        except OSError as error:
            raise CheckpointError(
                f"study: {folder.path} cannot be written ({error.strerror}); free space, or work in another folder"
            ) from error
        _lay_out(folder, values)
        return cls(folder, kind, command, tuple(trials))

    @classmethod
    def find(cls, path: Path, *, seed: int | None = None) -> Study:
        """The study in a folder; what a process that was killed did not come to write of it is written.

        Args:
          seed: of the trials that were begun under a fixed one, which is in no folder. None: those that have no
            checkpoint yet draw secret ones.

        Raises:
          ConfigError: there is none, or it is of another version, or no trial had a fixed seed.
          CheckpointError: the folder cannot be written.
        """
        folder = RunFolder(path)
        found = folder.read_json(FILE)
        if found.get("format") != _FORMAT:
            what = "a study of another version" if found else "no study that was begun"
            raise ConfigError(
                f"study: {path} holds {what}; expected the folder of a sweep or trade-off of this version; finish it "
                "with the version that began it, or start it anew"
            )
        if seed is not None and not any(row["seed_is_fixed"] for row in found["trials"]):
            raise ConfigError(f"study: {path} was begun without trainer.seed; leave it out, its seeds are secret")
        _lay_out(folder, found)
        trials = []
        for row in found["trials"]:
            recipe = recipe_of(read_config(path / row["folder"] / "config.yaml"))
            if row["seed_is_fixed"] and seed is not None:
                recipe = replace(recipe, trainer=replace(recipe.trainer, seed=seed))
            trials.append(
                Trial(
                    name=row["name"],
                    folder=row["folder"],
                    recipe=recipe,
                    plan=make_plan(recipe),
                    overrides=tuple(row["overrides"]),
                )
            )
        return cls(folder, Kind(found["kind"]), str(found["command"]), tuple(trials))

    def without_their_seed(self) -> int:
        """Count trials that were begun under a fixed seed, have it no more, and would draw a secret one."""
        rows = {row["folder"]: row for row in self.folder.read_json(FILE).get("trials", ())}
        return sum(
            bool(rows[trial.folder]["seed_is_fixed"])
            and trial.recipe.trainer.seed is None
            and not self.folder_of(trial).checkpoint.is_dir()
            for trial in self.trials
        )

    def folder_of(self, trial: Trial) -> RunFolder:
        return RunFolder(self.folder.path / trial.folder)

    def state_of(self, trial: Trial) -> tuple[State, str | None]:
        """Where a trial stands by the study's file, and why it failed."""
        rows = {row["folder"]: row for row in self.folder.read_json(FILE).get("trials", ())}
        row = rows.get(trial.folder, {})
        return State(row.get("state", State.PLANNED.value)), row.get("error")

    def note(self, trial: Trial, state: State, error: str | None = None) -> None:
        """Write where a trial stands; only the process that works on the study does."""
        values = self.folder.read_json(FILE)
        for row in values["trials"]:
            if row["folder"] == trial.folder:
                row.pop("error", None)
                row |= {"state": state.value, **({} if error is None else {"error": error})}
        self.folder.write_json(FILE, values)

    def finished(self, trial: Trial) -> RunResult | None:
        """What a trial left that has finished, samples left out."""
        return finished_before(trial.recipe, trial.plan, self.folder_of(trial))

    def declared(self, trial: Trial) -> Declared:
        """A trial as its line in the ledger has it."""
        identifier = self.folder_of(trial).run_id
        if identifier is None:
            raise CheckpointError(f"study: {self.folder_of(trial).path / NOTE} is damaged; restore it")
        return Declared(recipe=trial.recipe, plan=trial.plan, name=label(trial.recipe), reservation=identifier)

    def joint(self) -> JointClaim:
        """What all trials spend of one person together, or why there is no such number."""
        lines = self.lines()
        return joint_claim([self._spent(trial, lines) for trial in self.trials])

    def lines(self) -> dict[str, Line]:
        """The trials' lines in the ledger, by the id of the run."""
        found: dict[str, Line] = {}
        for url in {store_url(trial.recipe) for trial in self.trials if trial.recipe.ledger}:
            ledger = Ledger.peek(url)
            if ledger is not None:
                try:
                    found |= ledger.book().lines
                finally:
                    ledger.close()
        ids = {self.folder_of(trial).run_id for trial in self.trials}
        return {run: line for run, line in found.items() if run in ids}

    def consent_changed(self) -> bool:
        """Return whether trials were trained under different consent decisions, so that their people may differ."""
        roots: dict[str, set[str]] = {}
        for trial in self.trials:
            found = self.folder_of(trial).read_json(RESULT).get("consent_root")
            if found is not None:
                corpus = f"{trial.recipe.task.name} {trial.recipe.corpus} {trial.recipe.consent}"
                roots.setdefault(corpus, set()).add(str(found))
        return any(len(found) > 1 for found in roots.values())

    def _spent(self, trial: Trial, lines: dict[str, Line]) -> Spent:
        folder = self.folder_of(trial)
        result = folder.read_json(RESULT)
        ended = result.get("status") in {RunStatus.FINISHED.value, RunStatus.KILLED.value}
        line = lines.get(folder.run_id or "")
        if trial.recipe.corpus.train_on is TrainOn.PUBLIC:
            ran = 0
        elif line is not None:
            ran = line.steps if line.begun else 0
        elif ended:
            ran = int(result["steps"])
        else:  # without a ledger nobody knows how far it came
            ran = trial.plan.steps if read_manifest(folder.path) is not None else 0
        # A result without an ε that is not withheld was finite in no way: it bounds nothing.
        unbounded = ended and trial.plan.private and result.get("epsilon") is None
        chosen = bool(result.get("fixed_seed")) or trial.recipe.trainer.seed is not None
        return Spent.of(
            trial.plan,
            trial.plan.charged(ran),
            # The ledger may know what the folder does not: an audit's verdict, the departure of a killed process.
            withheld=bool(result.get("withheld")) or unbounded or (line is not None and line.withheld),
            earlier=result.get("earlier", ()),
            claimed=result.get("epsilon"),
            # A run's identity keys its coins, and which trial it is enters that.
            coins=str(result.get("identity", "")) if chosen else None,
        )


def _lay_out(folder: RunFolder, study: Mapping[str, Any]) -> None:
    """Write what follows from a study's file, where it is not there yet: its own files, each trial's folder and id."""
    if study["config"] is not None and not folder.config.is_file():
        RunFolder.create(folder.path, study["config"], study["overrides"])
    folder.complete(study["overrides"])
    for row in study["trials"]:
        trial = RunFolder(folder.path / row["folder"])
        if not trial.config.is_file():
            RunFolder.create(trial.path, row["config"], row["overrides"])
        trial.complete(row["overrides"])
        if trial.run_id is None:
            trial.write_json(NOTE, {**trial.read_json(NOTE), "reservation": row["run"]})


def check_folders(trials: Sequence[Trial]) -> None:
    """Raise unless each trial has a folder of its own below the study's.

    Raises:
      ConfigError: two would share one, or one would leave the study's.
    """
    seen: list[Path] = []
    for trial in trials:
        path = Path(trial.folder)
        inside = not path.is_absolute() and ".." not in path.parts and path.parts
        if not inside or any(path.is_relative_to(other) or other.is_relative_to(path) for other in seen):
            raise ConfigError(
                f"study: {trial.name} would run in the folder {trial.folder!r}; expected one of its own below the "
                "study's; name every value that changes in hydra.sweep.subdir, or leave it alone"
            )
        seen.append(path)


__all__ = ["FILE", "Kind", "State", "Study", "Trial", "check_folders"]
