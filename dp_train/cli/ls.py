"""`dp-train ls`: what there is to choose from, and what has been run."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import yaml
from rich.console import Console

from dp_train.cli.show import console, table
from dp_train.errors import ConfigError
from dp_train.privacy.ledger.lines import Line, State
from dp_train.privacy.rounding import rounded_up
from dp_train.runs.config_paths import choices, groups
from dp_train.runs.config_paths import options as parts
from dp_train.runs.folder import RunFolder
from dp_train.runs.inventory import inventory
from dp_train.runs.registers import GROUPS

_MANY = {"task": "tasks", "corpus": "corpora", "model": "models", "engine": "engines", "optimizer": "optimizers"}


def run(options: Namespace) -> int:
    """Print one list, or all of them.

    Raises:
      ConfigError: there is no such list.
    """
    out = console()
    named = {_MANY.get(group, group): group for group in ("experiments", *_MANY)}
    named |= {group: group for group in groups() if group not in _MANY} | {"runs": "runs"}
    wanted = [options.kind] if options.kind else list(named)
    for kind in wanted:
        group = named.get(kind, kind)
        if group not in named.values():
            raise ConfigError(f"dp-train ls: {kind!r}; expected one of {', '.join(named)}")
        if group == "experiments":
            _experiments(out)
        elif group == "runs":
            _runs(out)
        else:
            out.print(
                f"{_MANY.get(group, group)}: {', '.join(_choices(group))}",
                highlight=False,
                soft_wrap=True,
                markup=False,
            )
    return 0


def _choices(group: str) -> list[str]:
    """All that can be chosen, those of installed packages each with its package."""
    packages = dict(GROUPS[group].register.origins()) if group in GROUPS else {}
    return [f"{group}={name}" + (f" ({packages[name]})" if name in packages else "") for name in choices(group)]


def _experiments(out: Console) -> None:
    rows = [(f"experiments={name}", _question(path)) for name, path in parts("experiments").items()]
    out.print(table(("experiment", "question"), rows))


def _question(path: Path) -> str:
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError):
        return "cannot be read"
    return str(values.get("question", "")) if isinstance(values, dict) else ""


def _runs(out: Console) -> None:
    """Every run of the project: from its store, wherever the folders are, and from the folders below."""
    found = inventory()
    folders = sorted([*(each.folder for each in found.runs), *found.studies], key=lambda folder: str(folder.path))
    rows = [_row(folder, found.line(folder)) for folder in folders]
    rows += [
        ("folder not found" if each.folder is None else str(each.folder), each.label, "folder not found", "", "")
        for each in found.missing
    ]
    out.print(table(("run", "", "status", "ε", "score"), rows) if rows else "runs: none in this project yet")


def _row(folder: RunFolder, line: Line | None) -> tuple[str, ...]:
    """The ledger says what is spent: a process that was killed could not write its result any more."""
    result = folder.read_json("result.json")
    score = result.get("scores", {}).get(result.get("metric"))
    status, epsilon = str(result.get("status", "unfinished")), result.get("epsilon")
    if line is not None and line.begun and line.price is not None and status != "FINISHED":
        epsilon = line.promised
        if line.state is State.OPEN:
            status = f"{status}, open: counts in full"
        elif line.state is State.COMMITTED:
            status = "trained, not scored"
    return (
        str(folder.path),
        str(result.get("label", "")),
        status,
        "withheld" if result.get("withheld") or (line is not None and line.withheld) else rounded_up(epsilon),
        "" if score is None else f"{result['metric']} {score:.4g}",
    )
