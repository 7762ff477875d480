"""One line for a value that a configuration may not have."""

from __future__ import annotations

from enum import Enum

from dp_train.errors import ConfigError


def expect(part: object, key: str, ok: bool, expected: str) -> None:
    """Refuse, by its key, the value of a part of the schema.

    Raises:
      ConfigError: it is not ok; with the value and what was expected.
    """
    if not ok:
        value = getattr(part, key.rpartition(".")[2])
        shown = "null" if value is None else value.name if isinstance(value, Enum) else value
        raise ConfigError(f"config: {key}={shown}; expected {expected}")
