"""Objects that nothing changes once they were made, for classes that OmegaConf has to fill in.

`dataclass(frozen=True)` would say so as well, and OmegaConf reads it as a node that no file and no command line may
write. What `settled` marks may be written while it is made, by its own `__post_init__` too, and never after.
"""

from __future__ import annotations

import functools
from dataclasses import FrozenInstanceError
from typing import Any, TypeVar

T = TypeVar("T")

_DONE = "_settled"


def settled(cls: type[T]) -> type[T]:
    """Make a dataclass refuse every assignment after its construction; `dataclasses.replace` gives a changed copy.

    Raises, at an assignment:
      FrozenInstanceError: as a frozen dataclass does.
    """
    construct = cls.__init__

    @functools.wraps(construct)
    def init(self: T, *words: Any, **named: Any) -> None:
        construct(self, *words, **named)
        object.__setattr__(self, _DONE, True)

    def assign(self: T, name: str, value: object) -> None:
        if _DONE in vars(self):
            raise FrozenInstanceError(f"cannot assign to {name!r} of {type(self).__name__}: use dataclasses.replace")
        object.__setattr__(self, name, value)

    def delete(self: T, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete {name!r} of {type(self).__name__}")

    for method, function in (("__init__", init), ("__setattr__", assign), ("__delattr__", delete)):
        setattr(cls, method, function)
    return cls


__all__ = ["settled"]
