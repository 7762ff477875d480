"""The folder of a run: what it was asked, with what versions, and what came of it.

runs/<date>/<time>-<microseconds>-<random id>/
  config.yaml      the composed configuration, every value in it
  overrides.yaml   what was typed
  versions.json    of Python, the libraries and the source
  checkpoint/      private: secret seeds until the run has finished, realised batch sizes
  model/           weights and tokenizer, as transformers reads them
  ledger.json      id of the run, its people's population, its store, and the ledger's last hash
  result.json      status, plan, ε or why there is none, scores
  card.md          the same for people
  model_status.json  only where the model was taken out of use:
                   {"status": "retired", "reason": "…", "since": "2025-01-31T12:00:00+00:00"}; `RunFolder.retire`
                   writes it, and generate and evaluate refuse such a run. The reason names nobody.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from dp_train.atomic import write_text
from dp_train.errors import CheckpointError, ConfigError, ModelError
from dp_train.runs.project import NOTE, ROOTS
from dp_train.store.database import absolute_url
from dp_train.store.run_folders import RunPlace, places
from dp_train.tracking.provenance import git_state, public_config, public_overrides, versions

STUDY = "study.json"
"""Of a study's folder, in which its trials' folders are; it holds no run."""
_STATUS, _RETIRED = "model_status.json", "retired"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A folder that holds one run and was made for it."""

    path: Path

    @classmethod
    def create(cls, path: Path, tree: DictConfig | Mapping[str, Any], overrides: Sequence[str] = ()) -> RunFolder:
        """Claim `path` for a new run and write what it was asked.

        Guarantee: of two processes that claim one folder, one gets it. A process that is killed on the way leaves no
        claim, or one that `complete` makes whole.

        Raises:
          CheckpointError: the folder holds a run already, or cannot be written; nothing of it was changed.
        """
        folder = cls(path)
        text = yaml.safe_dump(public_config(plain(tree)), sort_keys=False, allow_unicode=True)
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_text(folder.config, text, replace=False)  # the claim: made by one, refused to all others
        except FileExistsError as error:
            raise CheckpointError(
                f"run folder: {path} exists already; runs never share a folder: leave hydra.run.dir alone, "
                "or go on with that run by --resume"
            ) from error
        except OSError as error:
            raise CheckpointError(
                f"run folder: {path} cannot be written ({error.strerror}); free space, or work in another folder"
            ) from error
        folder.complete(overrides)
        return folder

    def complete(self, overrides: Sequence[str] = ()) -> None:
        """Write what was typed and the versions, where a process that was killed did not come to it.

        Raises:
          CheckpointError: the folder cannot be written.
        """
        if not (self.path / "overrides.yaml").exists():
            self.write("overrides.yaml", yaml.safe_dump(public_overrides(overrides), allow_unicode=True))
        if not (self.path / "versions.json").exists():
            git = git_state()
            found = {} if git is None else {"git": {"commit": git.commit, "dirty": git.dirty}}
            self.write_json("versions.json", {**versions(), **found})

    @classmethod
    def find(cls, name: str) -> RunFolder:
        """The run in the folder `name`, or whose folder's name ends in the id `name`, or whose MLflow id it is.

        Raises:
          ConfigError: there is no such run, or several.
        """
        if (Path(name) / "config.yaml").is_file():
            return cls(Path(name))
        found = [run for run in cls.all(studies=True) if name and name in run.ids()]
        if len(found) == 1:
            return found[0]
        problem = "no such run" if not found else f"{len(found)} runs are called so"
        raise ConfigError(
            f"run {name}: {problem}; expected the folder of a run, or an id that `dp-train ls runs` shows"
        )

    @classmethod
    def all(cls, *, studies: bool = False) -> Iterator[RunFolder]:
        """Every run that the project's store knows of, wherever its folder is, and those below the working folder.

        Args:
          studies: also folders of trade-offs, which hold a configuration and no run.
        """
        found = {path.parent.resolve() for root in ROOTS for path in root.rglob("config.yaml")}
        known = (cls.at(place) for place in places(absolute_url(None, Path.cwd())))
        found |= {folder.path.resolve() for folder in known if folder is not None}
        here = Path.cwd().resolve()
        return (
            cls(path)
            for path in sorted(path.relative_to(here) if path.is_relative_to(here) else path for path in found)
            if studies or not cls(path).is_study
        )

    @classmethod
    def at(cls, place: RunPlace) -> RunFolder | None:
        """The folder of a run that a store knows of; None where it is not there, or holds another run."""
        folders = (cls(path) for path in place.candidates)
        return next((folder for folder in folders if folder.config.is_file() and folder.run_id == place.run), None)

    @property
    def run_id(self) -> str | None:
        """Id of the run, which its line in the ledger and its row in the store have as well; None before it began."""
        noted = self.read_json(NOTE).get("reservation")
        return None if noted is None else str(noted)

    @property
    def is_study(self) -> bool:
        """Whether it is the folder of a study: its trials are runs, and it is none."""
        return (self.path / STUDY).is_file()

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from running what is in the folder; the end of this process, however it comes, frees it.

        Raises:
          CheckpointError: another process, such as a worker whose parent was killed, is at it.
        """
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise CheckpointError(
                    f"run folder: {self.path} is in use by another process; wait until it has ended, then resume"
                ) from error
            except OSError:  # a file system without locks
                pass
            yield
        finally:
            os.close(descriptor)

    def retire(self, reason: str, since: datetime) -> None:
        """Take the model out of use; what it spent stays spent. `reason` is shown to whoever asks for the model."""
        self.write_json(_STATUS, {"status": _RETIRED, "reason": reason, "since": since.isoformat()})

    def refuse_retired(self) -> None:
        """Nothing, unless the model is retired.

        Raises:
          ModelError: it is, or its status cannot be read.
        """
        if not (self.path / _STATUS).exists():
            return
        status = self.read_json(_STATUS)
        if status.get("status") == _RETIRED:
            raise ModelError(
                f"run {self.path}: its model was retired on {status.get('since')} ({status.get('reason')}); "
                "use a run that was trained since"
            )
        if not status:
            raise ModelError(f"run {self.path}: {_STATUS} cannot be read, so the model may be retired; mend that file")

    def ids(self) -> set[str]:
        """What the run answers to beside its path: its own id, its MLflow id, and the random end of its folder's name.

        A trial answers to its study's id and its own place in it, such as "a1b2c3/0". A folder of another layout
        answers to its name.
        """
        found = {str(self.read_json("tracking.json").get("run_id", "")), self.run_id or ""}
        parts = self.path.absolute().parts
        roots = [index for index, part in enumerate(parts) if part in {str(root) for root in ROOTS}]
        if roots and len(parts) > roots[-1] + 2:
            _, folder, *rest = parts[roots[-1] + 1 :]
            found.add("/".join([folder.rpartition("-")[2], *rest]))
        else:
            found.add(self.path.name)
        return found - {""}

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write a file of the folder, whole or not at all."""
        self.write(name, json.dumps(values, indent=2, ensure_ascii=False) + "\n")

    def write(self, name: str, text: str) -> None:
        """Write a file of the folder, whole or not at all.

        Raises:
          CheckpointError: it cannot be written; an older version stays.
        """
        try:
            write_text(self.path / name, text)
        except OSError as error:
            raise CheckpointError(
                f"run folder: {self.path / name} cannot be written ({error.strerror}); free space and resume"
            ) from error

    def read_json(self, name: str) -> dict[str, Any]:
        """Values of a file of the folder; empty where the run has not written it."""
        try:
            values = json.loads((self.path / name).read_text())
        except (OSError, ValueError):
            return {}
        return values if isinstance(values, dict) else {}


def plain(tree: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """A tree as plain values, as YAML and MLflow take them; enums in lower case, as they are written."""
    values = _plain(OmegaConf.to_container(tree, resolve=True) if isinstance(tree, DictConfig) else tree)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_plain(below) for below in value]
    return value.name.lower() if isinstance(value, Enum) else value


def read_config(path: Path) -> dict[str, Any]:
    """The configuration that a run wrote.

    Raises:
      ConfigError: it cannot be read.
    """
    try:
        return parse_config(path.read_text(), str(path))
    except OSError as error:
        raise ConfigError(f"config: {path}: {error.strerror}; expected the config.yaml of a run") from error


def parse_config(text: str, where: str) -> dict[str, Any]:
    """The tree of a stored configuration.

    Raises:
      ConfigError: it is no YAML tree.
    """
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError:
        values = None
    if not isinstance(values, dict):
        raise ConfigError(f"config: {where}: not a tree of keys in YAML; expected the config.yaml that a run wrote")
    return {str(key): value for key, value in values.items()}
