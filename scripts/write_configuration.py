"""Write docs/configuration.md: every key, its type, its default and its meaning, from the dataclasses of the recipe.

    python scripts/write_configuration.py

`tests/test_docs.py` fails while the file differs from what this writes.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from dp_train.runs.field_docs import FieldDoc, field_docs
from dp_train.runs.recipe import Recipe

TARGET = Path(__file__).parents[1] / "docs" / "configuration.md"

_TABLE = ("| key | type | default | meaning |", "|---|---|---|---|")

_HEAD = """\
# Configuration

<!-- Written by scripts/write_configuration.py; do not edit. -->

Every key that `dp-train train`, `plan`, `tradeoff` and `validate` take, as `key=value`. An unknown key, a wrong type or
an impossible value is refused in one line.

- A whole part is chosen by its name: `model=tiny_seq2seq`, `privacy=none`, `optimizer=sgd`, `engine=hooks`.
  `dp-train ls` lists the names; [extending.md](extending.md) adds new ones.
- `experiments=summary/quickstart` sets many keys at once (`dp-train ls experiments`). What is typed beside it wins.
- *Default* is the default of the key. The chosen part (`conf/`) or experiment may set another one, which
  `dp-train validate` prints. *required* means that the part always sets it.
- Enums are lower case. A list is `[1,2,4]`, and `null` is no value.
"""


def configuration() -> str:
    """Return the whole page."""
    loose: list[str] = []
    parts: dict[str, list[str]] = {}
    for doc, default in zip(field_docs(), _defaults(Recipe), strict=True):
        first, _, rest = doc.key.partition(".")
        if rest:
            parts[first].append(_row(doc, default))
        elif dataclasses.is_dataclass(doc.kind):
            parts[first] = ["", f"## {first}", "", doc.text, "", *_TABLE]
        else:
            loose.append(_row(doc, default))
    lines = [line for part in parts.values() for line in part]
    return "\n".join([_HEAD, "## The whole run", "", *_TABLE, *loose, *lines, ""])


def _defaults(schema: Any) -> Iterator[str]:
    """Yield the default of each key as it is typed, in the order of `field_docs`."""
    kinds = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        kind = kinds[field.name]
        if dataclasses.is_dataclass(kind):
            yield ""
            yield from _defaults(kind)
            continue
        if field.default is not dataclasses.MISSING:
            yield _typed(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            yield _typed(field.default_factory())
        else:
            yield "required"
        if typing.get_origin(kind) is dict and dataclasses.is_dataclass(part := typing.get_args(kind)[1]):
            yield from _defaults(part)


def _typed(value: object) -> str:
    """Return a value as it is typed on the command line."""
    if isinstance(value, Enum):
        return f"`{value.value}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if value is None:
        return "`null`"
    return f"`{value}`" if value != "" else "empty"


def _row(doc: FieldDoc, default: str) -> str:
    cells = (
        f"`{doc.key}`",
        _kind(doc.kind),
        default,
        doc.text.replace("docs/extending.md", "[extending.md](extending.md)"),
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _kind(kind: Any) -> str:
    """Return a type as a reader would say it."""
    arguments = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        return " or ".join("null" if one is type(None) else _kind(one) for one in arguments)
    if typing.get_origin(kind) is list:
        return f"list of {_kind(arguments[0])}"
    if typing.get_origin(kind) is dict:
        return "mapping"
    if dataclasses.is_dataclass(kind):
        return "part"
    if issubclass(kind, Enum):
        return ", ".join(f"`{one.value}`" for one in kind)
    return {str: "text", int: "whole number", float: "number", bool: "true or false"}[kind]


if __name__ == "__main__":
    TARGET.write_text(configuration())
