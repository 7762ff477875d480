"""Words that a configuration chooses by name."""

from __future__ import annotations

from enum import Enum, EnumMeta
from typing import TypeVar

_Member = TypeVar("_Member")


class _AnyCase(EnumMeta):
    """Looks members up by name in any case: `Unit["user"]` is `Unit["USER"]`."""

    def __getitem__(cls: type[_Member], name: str) -> _Member:
        members: dict[str, _Member] = cls.__members__  # type: ignore[attr-defined]
        found = members.get(name)
        return members[name.upper()] if found is None else found


class Word(Enum, metaclass=_AnyCase):
    """An enum whose members are written in lower case, and read in any.

    OmegaConf reads an enum by the name of its member, so that `privacy.unit=user` and `privacy.unit=USER` are one.
    """
