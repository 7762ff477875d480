"""Errors of Hydra, OmegaConf and YAML as one line: which key or value, what was expected, what to do."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from enum import Enum

import yaml
from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue

from dp_train.errors import ConfigError
from dp_train.runs.config_paths import choices, groups
from dp_train.runs.recipe import Recipe
from dp_train.runs.registers import GROUPS


def explain(error: Exception, overrides: Sequence[str]) -> ConfigError:
    """The error as the user should read it.

    Args:
      error: what Hydra, OmegaConf or the YAML reader raised.
      overrides: what the user typed, to show a value beside its key.
    """
    text = "\n".join(str(link) for link in _chain(error))
    return ConfigError(f"config: {_where(text)}{_what(error, text, overrides)}")


def _what(error: Exception, text: str, overrides: Sequence[str]) -> str:
    if isinstance(error, yaml.YAMLError):
        mark = getattr(error, "problem_mark", None)
        place = f"{mark.name}, line {mark.line + 1}" if mark else "a file"
        return f"{place}: not YAML; expected `key: value` lines, indented by spaces"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing_part(error.missing_cfg_file)
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override!r} cannot be read; expected key=value; quote a value with commas, spaces or brackets: "
            "'key=\"a, b\"'"
        )
    if found := re.search(r"Ambiguous value for argument '(.*)'", text):
        key, _, value = found[1].partition("=")
        return f"{found[1]}; expected one value; add -m to run one trial a value, or write a list: {key}=[{value}]"
    if found := re.search(r"Could not override '([^']*)'", text) or re.search(
        r"Key '[^']*' not in[^\n]*\n\s*full_key: (\S+)", text
    ):
        return _unknown_key(found[1], overrides)
    if found := re.search(r"Error merging override \+*(\S+?)=(.*)", text):
        return f"{found[1]}={found[2]}; expected {_expected(found[1])}"
    if found := re.search(r"Value '(.*)' of type[^\n]*\n\s*full_key: (\S+)", text):
        return f"{found[2]}={found[1]}; expected {_expected(found[2])}"
    if found := re.search(r"Invalid value '(.*)', expected one of[^\n]*\n\s*full_key: (\S+)", text):
        return f"{found[2]}={found[1]}; expected {_expected(found[2])}"
    if isinstance(error, MissingMandatoryValue):
        key = getattr(error, "full_key", None) or "a value"
        choice = f"; choose {key}={'|'.join(choices(key))}" if key in groups() else f"; give {key}=…"
        return f"{key} is missing{choice}"
    if isinstance(error, InterpolationResolutionError):
        return f"{getattr(error, 'full_key', '')}: {error.msg or error}".split("\n")[0] + "; expected the name of a key"
    return " ".join(line.strip() for line in str(error).splitlines()[:2])


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _where(text: str) -> str:
    """The file that holds the fault, where it is not the command line."""
    found = re.search(r"In '([^']+)': \w+Error raised", text)
    return f"{found[1]}.yaml: " if found else ""


def _missing_part(missing: str) -> str:
    group, _, name = missing.partition("/")
    choice = choices(group)
    if not choice:
        return f"{group} is no group of parts{_meant(group, groups())}; expected one of {', '.join(groups())}"
    own = ", or module:Name of a file in the working folder" if group in GROUPS else ""
    return f"{group}={name} does not exist{_meant(name, choice)}; expected one of {', '.join(choice)}{own}"


def _unknown_key(key: str, overrides: Sequence[str]) -> str:
    value = next((text.partition("=")[2] for text in overrides if text.partition("=")[0].lstrip("+~") == key), "")
    shown = f"{key}={value}" if value else key
    names = list(_fields(Recipe))
    if key in names:  # a mapping, to which Hydra adds nothing unasked
        return f"{shown}: expected a new entry as +{key}.NAME=VALUE"
    part = key.rpartition(".")[0]
    group, _, options = part.partition(".")
    if group in GROUPS and options == "options":
        return f"{shown}: unknown key{_options(group, key, overrides)}"
    siblings = [name for name in names if name.rpartition(".")[0] == part]
    meant = _meant(key, [*names, *groups()])
    if siblings and part:
        return f"{shown}: unknown key{meant}; {part} has {', '.join(name.rpartition('.')[2] for name in siblings)}"
    return f"{shown}: unknown key{meant}; expected one of {', '.join(name for name in names if '.' not in name)}"


def _options(group: str, key: str, overrides: Sequence[str]) -> str:
    """What the chosen member of a group takes under `options`, where the command line says which it is."""
    name = next((text.partition("=")[2] for text in overrides if text.partition("=")[0] == group), None)
    if name is None or "," in name or not GROUPS[group].register.has(name):
        return f"; expected what the chosen {group} takes, which is in no file: docs/extending.md"
    own = [f"{group}.options.{option}" for option in GROUPS[group].node(name).get("options", {})]
    return f"{_meant(key, own)}; {group}={name} takes {', '.join(own) or 'no options'}"


def _meant(word: str, choice: Sequence[str]) -> str:
    """Keys that end with the word, where it stands alone, else the one that looks most like it."""
    inside = sorted((name for name in choice if name.endswith(f".{word}")), key=lambda name: name.count("."))
    inside = [name for name in inside if name.count(".") == inside[0].count(".")][:3]
    close = inside or get_close_matches(word, choice, n=1)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _expected(key: str) -> str:
    """What the schema wants at `key`, in words."""
    kind = _fields(Recipe).get(key)
    if kind is None:
        return "a value of the type that the schema gives"
    if dataclasses.is_dataclass(kind):
        choice = choices(key)
        return f"one of {', '.join(choice)}" if choice else "keys below it"
    return _in_words(kind)


_WORDS = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}


def _in_words(kind: object) -> str:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"one of {', '.join(member.name.lower() for member in kind)}"
    if typing.get_origin(kind) is list:
        return f"a list, each of it {_in_words(typing.get_args(kind)[0])}"
    if isinstance(kind, types.UnionType):
        return " or ".join("null" if part is type(None) else _in_words(part) for part in typing.get_args(kind))
    return _WORDS.get(kind, "another value") if isinstance(kind, type) else "another value"


def _fields(schema: type, prefix: str = "") -> dict[str, object]:
    """Dotted keys of the schema with their types."""
    found: dict[str, object] = {}
    for name, kind in typing.get_type_hints(schema).items():
        found[f"{prefix}{name}"] = kind
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            found.update(_fields(kind, f"{prefix}{name}."))
    return found
