"""Where a run came from: the code, its changes, the versions, and its configuration without secrets."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "dp_train",
    "torch",
    "opacus",
    "dp-accounting",
    "transformers",
    "tokenizers",
    "peft",
    "numpy",
    "hydra-core",
    "mlflow",
)

_SECRET_KEYS = ("trainer.seed",)
"""Configuration that is as secret as the data (docs/privacy.md, One plan)."""

_PACKAGE_FOLDER = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class GitState:
    """The commit that ran.

    Attributes:
      commit: full hash.
      dirty: whether files were changed or added since.
      diff: changes of dp_train's own Python files alone, where the repository is dp_train's: a diff of
        a user's whole project could carry data or a seed into the store.
    """

    commit: str
    dirty: bool
    diff: str

    @property
    def diff_digest(self) -> str | None:
        """SHA-256 of the diff, None where there is none."""
        return hashlib.sha256(self.diff.encode()).hexdigest() if self.diff else None


def git_state(folder: Path | None = None) -> GitState | None:
    """State of the repository that dp_train runs from, else of the one around `folder` (the working folder).

    None without git, without a repository, or in one without a commit.
    """
    # site-packages of a user's project may lie inside their repository; then it is theirs, not dp_train's.
    if _git(_PACKAGE_FOLDER, "ls-files", "--error-unmatch", "errors.py") is not None:
        commit = _git(_PACKAGE_FOLDER, "rev-parse", "HEAD")
        if commit:
            status = _git(_PACKAGE_FOLDER, "status", "--porcelain")
            diff = _git(_PACKAGE_FOLDER, "diff", "--no-ext-diff", "HEAD", "--", "*.py") or ""
            return GitState(commit=commit.strip(), dirty=bool(status), diff=diff)
    around = folder or Path.cwd()
    commit = _git(around, "rev-parse", "HEAD")
    if not commit:
        return None
    return GitState(commit=commit.strip(), dirty=bool(_git(around, "status", "--porcelain")), diff="")


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide what a run does; those not installed are left out."""
    found = {"python": ".".join(str(part) for part in sys.version_info[:3])}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def public_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The composed configuration with every secret value set to None; the argument is left as it is."""

    def copy(value: Any, path: str) -> Any:
        if path in _SECRET_KEYS:
            return None
        if isinstance(value, Mapping):
            return {str(key): copy(item, f"{path}.{key}".lstrip(".")) for key, item in value.items()}
        return value

    return {str(key): copy(item, str(key)) for key, item in config.items()}


def public_overrides(overrides: Sequence[str]) -> list[str]:
    """The overrides without any that names a secret, wherever in it.

    A secret is set alone, within a dictionary such as ``trainer={seed:…}``, or by way of another key, such as
    ``hydra.sweeper.params={trainer.seed:…}``.
    """
    named = [r"\b.*\b".join(map(re.escape, key.split("."))) for key in _SECRET_KEYS]
    secret = re.compile("|".join(rf"\b{key}\b" for key in named), re.DOTALL)
    return [override for override in overrides if secret.search(override) is None]
