"""One line for a value that a configuration may not have."""

from __future__ import annotations

from enum import Enum

from dp_train.errors import ConfigError


def expect(part: object, key: str, ok: bool, expected: str) -> None:
    """Refuse, by its key, the value of a part of the configuration.

    Raises:
      ConfigError: it is not ok; with the value and what was expected.
    """
    if not ok:
        value = getattr(part, key.rpartition(".")[2])
        raise ConfigError(f"config: {key}={shown(value)}; expected {expected}")


def shown(value: object) -> str:
    """A value as the command line takes it: null, true, the name of an enum in lower case."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return value.name.lower() if isinstance(value, Enum) else str(value)
