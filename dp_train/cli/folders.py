"""The folder of a run: what it was asked, with what versions, and what came of it.

runs/<date>/<time>-<microseconds>-<random id>/
  config.yaml      the composed configuration, every value in it
  overrides.yaml   what was typed
  versions.json    of Python, the libraries and the source
  checkpoint/      private: secret seeds until the run has finished, realised batch sizes
  model/           weights and tokenizer, as transformers reads them
  result.json      status, plan, ε or why there is none, scores
  card.md          the same for people
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

import dp_train
from dp_train.errors import CheckpointError, ConfigError

ROOTS = (Path("runs"), Path("multirun"))
_LIBRARIES = ("torch", "transformers", "opacus", "dp-accounting", "mlflow", "hydra-core", "numpy", "scipy")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A folder that holds one run and was made for it."""

    path: Path

    @classmethod
    def create(cls, path: Path, tree: DictConfig, overrides: Sequence[str]) -> RunFolder:
        """Claim `path` for a new run and write what it was asked.

        Guarantee: of two processes that claim one folder, one gets it.

        Raises:
          CheckpointError: the folder holds a run already, or cannot be written; nothing of it was changed.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            with (path / "config.yaml").open("x") as file:  # the claim: made by one, refused to all others
                file.write(OmegaConf.to_yaml(tree, resolve=True))
            folder = cls(path)
            (path / "overrides.yaml").write_text(yaml.safe_dump(list(overrides), allow_unicode=True))
            folder.write_json("versions.json", {**versions(), "git": git_state()})
        except FileExistsError as error:
            raise CheckpointError(
                f"run folder: {path} exists already; runs never share a folder: leave hydra.run.dir alone, "
                "or go on with that run by --resume"
            ) from error
        except OSError as error:
            raise CheckpointError(
                f"run folder: {path} cannot be written ({error.strerror}); free space, or work in another folder"
            ) from error
        return folder

    @classmethod
    def find(cls, name: str) -> RunFolder:
        """The run in the folder `name`, or whose folder's name ends in the id `name`, or whose MLflow id it is.

        Raises:
          ConfigError: there is no such run, or several.
        """
        if (Path(name) / "config.yaml").is_file():
            return cls(Path(name))
        found = [run for run in cls.all() if name and name in run.ids()]
        if len(found) == 1:
            return found[0]
        problem = "no such run" if not found else f"{len(found)} runs are called so"
        raise ConfigError(
            f"run {name}: {problem}; expected the folder of a run, or an id that `dp-train ls runs` shows"
        )

    @classmethod
    def all(cls) -> Iterator[RunFolder]:
        """Every run of the working folder, oldest first."""
        found = {path.parent for root in ROOTS for path in root.rglob("config.yaml")}
        return (cls(path) for path in sorted(found))

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint"

    @property
    def model(self) -> Path:
        return self.path / "model"

    def ids(self) -> set[str]:
        """What the run answers to beside its path: the random end of its folder's name, and its MLflow id."""
        tracked = self.read_json("tracking.json").get("run_id")
        return {self.path.name.rpartition("-")[2], *([tracked] if tracked else [])}

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write a file of the folder, whole or not at all."""
        self.write(name, json.dumps(values, indent=2, ensure_ascii=False) + "\n")

    def write(self, name: str, text: str) -> None:
        """Write a file of the folder, whole or not at all.

        Raises:
          CheckpointError: it cannot be written; an older version stays.
        """
        temporary = self.path / f".{name}.{os.getpid()}"
        try:
            temporary.write_text(text)
            temporary.replace(self.path / name)
        except OSError as error:
            temporary.unlink(missing_ok=True)
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


def versions() -> dict[str, str]:
    """Versions of Python, this package and the libraries that decide a result."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in ("dp_train", *_LIBRARIES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # the package run from its source, not installed
            found[name] = "not installed"
    return found


def git_state() -> dict[str, str | bool | None]:
    """Commit of the source and whether it was changed since; None outside a repository."""
    source = Path(dp_train.__file__).parent

    def git(*words: str) -> str | None:
        try:
            run = subprocess.run(["git", "-C", str(source), *words], capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return run.stdout.strip() if run.returncode == 0 else None

    # A wheel inside somebody's repository is not that repository's source.
    if git("ls-files", "--error-unmatch", "__init__.py") is None:
        return {"commit": None, "dirty": None}
    return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", "."))}
