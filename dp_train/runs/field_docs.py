"""What each key of a configuration means, read from the strings under the fields of the recipe's dataclasses."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import dataclass

from dp_train.runs.recipe import Recipe


@dataclass(frozen=True, slots=True)
class FieldDoc:
    """A key such as `privacy.epsilon`, its type, and what it means; empty where nothing is written under it."""

    key: str
    kind: object
    text: str


def field_docs(schema: type = Recipe, prefix: str = "") -> Iterator[FieldDoc]:
    """Every key of a schema in its order, each part before its keys; needs the source."""
    kinds, texts = typing.get_type_hints(schema), dict(_texts(schema))
    for field in dataclasses.fields(schema):
        key, kind = f"{prefix}{field.name}", kinds[field.name]
        yield FieldDoc(key, kind, texts.get(field.name, ""))
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            yield from field_docs(kind, f"{key}.")
        if typing.get_origin(kind) is dict and dataclasses.is_dataclass(part := typing.get_args(kind)[1]):
            assert isinstance(part, type)
            yield from field_docs(part, f"{key}.NAME.")


def _texts(schema: type) -> Iterator[tuple[str, str]]:
    (defined,) = ast.parse(textwrap.dedent(inspect.getsource(schema))).body
    assert isinstance(defined, ast.ClassDef)
    for line, below in zip(defined.body, defined.body[1:], strict=False):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and isinstance(below, ast.Expr):
            text = ast.literal_eval(below.value)
            yield line.target.id, " ".join(text.split())
