"""A YAML file with one key, `rules`: those of retention, and of what follows a withdrawal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from dp_train.errors import ConfigError


def read_rule_rows(path: str | os.PathLike[str], *, what: str) -> list[Any]:
    """Return the rows of the file, whatever each of them is.

    Raises:
      ConfigError: the file cannot be read, or is no such list; begins with `what` and the path.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{what} {path}: {error.strerror}; expected a YAML file of rules") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{what} {path}: not YAML; expected a list of rules") from error
    if not isinstance(values, dict) or set(values) != {"rules"} or not isinstance(values["rules"], list):
        raise ConfigError(f"{what} {path}: expected one key, rules, with a list of rules")
    return list(values["rules"])
