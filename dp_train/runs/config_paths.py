"""Where configuration lies: the reusable parts, the experiments, and what of both there is to choose from."""

from __future__ import annotations

from pathlib import Path

import dp_train

_PACKAGE = Path(dp_train.__file__).parent


def conf_folder() -> Path:
    """The reusable parts: beside the code in a wheel, else in the repository (an editable install)."""
    packaged = _PACKAGE / "conf"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "conf"


def search_folders() -> tuple[Path, ...]:
    """Where parts and experiments are looked for after `conf_folder`: the working folder, then what was shipped."""
    packaged = _PACKAGE / "shipped"
    return (Path.cwd(), packaged if packaged.is_dir() else _PACKAGE.parent)


def groups() -> list[str]:
    """Names of the groups of parts, such as `model`; `experiments` is one of them."""
    return sorted({path.name for path in conf_folder().iterdir() if path.is_dir()} | {"experiments"})


def options(group: str) -> dict[str, Path]:
    """What can be chosen in a group, with the file that says it; the first folder that has a name wins."""
    found: dict[str, Path] = {}
    for folder in (conf_folder(), *search_folders()):
        for path in sorted((folder / group).rglob("*.yaml")):
            found.setdefault(path.relative_to(folder / group).with_suffix("").as_posix(), path)
    return found


def choices(group: str) -> list[str]:
    """Every name that can be chosen in a group: of files, built in, and of installed packages' entry points."""
    from dp_train.runs.registers import GROUPS

    found = GROUPS.get(group)
    return list(dict.fromkeys([*options(group), *(found.register.names() if found else ())]))
