"""Open registers: what a configuration may choose by name, and where each name leads.

A name is, in this order,

1. a built-in one, which an installed package cannot replace;
2. an entry point of an installed package, in the register's group (`dp_train.tasks`, …);
3. `module:Name` in a file of the working folder, once `admit` was called with it.

Nothing is imported before it is chosen. Only words of the command line are admitted, never a name that a stored or
shared configuration holds: a configuration is not code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
import operator
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from enum import Enum
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from dp_train.errors import ConfigError
from dp_train.expect import shown

T = TypeVar("T")


class Register(Generic[T]):
    """What `kind=NAME` may choose.

    Args:
      kind: the word on the command line, such as `task`.
      group: of entry points, such as `dp_train.tasks`.
      builtin: name → `module:attribute`, imported when it is chosen.
      needs: attributes that a member must have; a class that lacks one is refused by name.
    """

    def __init__(self, kind: str, group: str, builtin: Mapping[str, str], *, needs: Sequence[str] = ()) -> None:
        self.kind = kind
        self.group = group
        self._builtin = dict(builtin)
        self._needs = tuple(needs)
        self._admitted: dict[str, T] = {}

    def names(self) -> list[str]:
        """Every name that needs no `admit`: built-in ones first, then those of installed packages."""
        return [*self._builtin, *(name for name in sorted(self._points()) if name not in self._builtin)]

    def origins(self) -> Iterator[tuple[str, str]]:
        """Names of installed packages' members, each with the package and its version."""
        for name, point in sorted(self._points().items()):
            if name not in self._builtin:
                yield name, "" if point.dist is None else f"{point.dist.name} {point.dist.version}"

    def is_builtin(self, name: str) -> bool:
        return canonical(name) in self._builtin

    def has(self, name: str) -> bool:
        """Return whether `find` knows the name; imports nothing."""
        name = canonical(name)
        return name in self._builtin or name in self._admitted or name in self._points()

    def admit(self, name: str) -> T:
        """Load `module:Name` from a file of the working folder; `find` then knows it in this process.

        Call it with words of the command line alone.

        Raises:
          ConfigError: there is no such file, it cannot be imported, or what it holds is no such member.
        """
        self._admitted[name] = found = self._checked(name, self._from_file(name))
        return found

    def find(self, name: str) -> T:
        """What the name leads to.

        Raises:
          ConfigError: the name is unknown, not admitted, or what it leads to cannot be imported or is no such member.
        """
        name = canonical(name)
        if name in self._admitted:
            return self._admitted[name]
        if ":" in name:
            raise ConfigError(
                f"config: {self.kind} {name} is code in a working folder, which a stored or shared configuration may "
                f"not choose; give {self.kind}={name} on the command line, beside a stored run as "
                f"--code {self.kind}={name}"
            )
        if name in self._builtin:
            return cast("T", _attribute(self._builtin[name]))
        point = self._points().get(name)
        if point is None:
            raise ConfigError(f"config: {self.kind}={name} does not exist{self.meant(name)}")
        try:
            found = point.load()
        except Exception as error:
            raise self._unloadable(name, error) from error
        return self._checked(name, found)

    def meant(self, name: str) -> str:
        """The end of an error about an unknown name: close names, and all there are."""
        names = self.names()
        close = get_close_matches(canonical(name), names, n=1)
        guess = f"; did you mean {close[0]}?" if close else ""
        return f"{guess}; expected one of {', '.join(names)}, or module:Name of a file in the working folder"

    def code(self, name: str) -> str | None:
        """Digest of the file that a member is written in; None for built-in ones, whose version is the package's."""
        if self.is_builtin(name):
            return None
        source = inspect.getsourcefile(cast("Any", self.find(name)))
        return None if source is None else hashlib.sha256(Path(source).read_bytes()).hexdigest()

    def _points(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for point in entry_points(group=self.group):
            other = found.setdefault(canonical(point.name), point)
            if other.value != point.value:
                raise ConfigError(
                    f"config: {self.kind}={point.name} is registered by two packages ({other.value}, {point.value}); "
                    "uninstall one of them"
                )
        return found

    def _from_file(self, name: str) -> object:
        module, _, attribute = name.partition(":")
        folder = Path.cwd()
        path = folder.joinpath(*module.split("."))
        files = (path.with_suffix(".py"), path / "__init__.py")
        if not all(part.isidentifier() for part in [*module.split("."), *attribute.split(".")]) or not any(
            file.is_file() for file in files
        ):
            raise ConfigError(
                f"config: {self.kind}={name}: no such file; expected module:Name, with {files[0].name} in the working "
                "folder"
            )
        if str(folder) not in sys.path:
            sys.path.append(str(folder))  # last: a file of the folder shadows no module that is there
        importlib.invalidate_caches()
        try:
            spec = find_spec(module)
            if spec is None or spec.origin is None or Path(spec.origin).resolve() not in [f.resolve() for f in files]:
                raise ConfigError(
                    f"config: {self.kind}={name}: another module is called {module}; expected a name of its own; "
                    f"rename {files[0].name}"
                )
            return operator.attrgetter(attribute)(importlib.import_module(module))
        except ConfigError:
            raise
        except Exception as error:
            raise self._unloadable(name, error) from error

    def _unloadable(self, name: str, error: Exception) -> ConfigError:
        # The message of any other error may hold what the module has read.
        told = isinstance(error, ImportError | SyntaxError | AttributeError)
        why = f"{type(error).__name__}: {error}" if told else type(error).__name__
        return ConfigError(f"config: {self.kind}={name} cannot be imported ({why}); mend it, or see --debug")

    def _checked(self, name: str, found: object) -> T:
        missing = next((need for need in self._needs if not hasattr(found, need)), None)
        if missing is not None or not callable(found):
            problem = f"has no {missing}" if missing else "cannot be called"
            expected = f"expected a class with {', '.join(self._needs)}" if self._needs else "expected a function"
            raise ConfigError(f"config: {self.kind}={name}: {problem}; {expected}; see docs/extending.md")
        return cast("T", found)


def canonical(name: str) -> str:
    """Names are lower case, and read in any; `module:Name` stays as it is."""
    return name if ":" in name else name.lower()


def _attribute(where: str) -> object:
    module, _, name = where.partition(":")
    return operator.attrgetter(name)(importlib.import_module(module))


def fill(spec: type[T], part: object, key: str, *, options: Mapping[str, Any] | None = None) -> T:
    """An instance of a dataclass from a part of the configuration.

    A field takes the part's own value of that name, or `options` of the part; one that is in neither its default.

    Args:
      part: a dataclass. key: what it is called, such as `task`.
      options: in place of the part's own.

    Raises:
      ConfigError: an option is unknown, missing or of another type. Or what the class itself refuses.
    """
    given: Mapping[str, Any] = getattr(part, "options", {}) if options is None else options
    kinds = typing.get_type_hints(spec)
    fields = {field.name: field for field in dataclasses.fields(cast("Any", spec)) if field.init}
    shared = {field.name for field in dataclasses.fields(cast("Any", part))} & fields.keys()
    own = fields.keys() - shared
    values = {name: getattr(part, name) for name in shared}
    for name, value in given.items():
        if name not in own:
            close = get_close_matches(name, sorted(own), n=1)
            meant = f"; did you mean {close[0]}?" if close else ""
            there = ", ".join(sorted(own)) or "no options"
            if name in shared:
                meant = f"; it is {key}.{name}"
            raise ConfigError(f"config: {key}.options.{name}: unknown key{meant}; {key} takes {there}")
        values[name] = _typed(value, kinds[name], f"{key}.options.{name}")
    for name in sorted(own - values.keys()):
        field = fields[name]
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"config: {key}.options.{name} is missing; give {key}.options.{name}=…")
    return spec(**values)


def defaults(spec: type, part: type) -> dict[str, Any]:
    """What of a part of the configuration a class brings: its defaults, under `options` where they are its own."""
    found: dict[str, Any] = {}
    options: dict[str, Any] = {}
    shared = {field.name for field in dataclasses.fields(part)}
    for field in dataclasses.fields(spec) if dataclasses.is_dataclass(spec) else ():
        into = found if field.name in shared else options
        if field.default is not dataclasses.MISSING:
            into[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            into[field.name] = field.default_factory()
        elif into is options:
            into[field.name] = "???"  # OmegaConf's word for a value that has to be given
    plain = {name: value.name.lower() if isinstance(value, Enum) else value for name, value in options.items()}
    return {**found, "options": {name: list(v) if isinstance(v, tuple) else v for name, v in plain.items()}}


def _typed(value: Any, kind: Any, key: str) -> Any:
    """The value as a field of that type takes it; a type that is not known here is left to the class."""
    parts = typing.get_args(kind) if typing.get_origin(kind) in (types.UnionType, typing.Union) else (kind,)
    expected = []
    for part in parts:
        if part is type(None):
            if value is None:
                return None
            expected.append("null")
        elif isinstance(part, type) and issubclass(part, Enum):
            if isinstance(value, part):
                return value
            if isinstance(value, str) and value.upper() in part.__members__:
                return part[value.upper()]
            expected.append("one of " + ", ".join(member.name.lower() for member in part))
        elif part in _WORDS:
            if type(value) is part or (part is float and type(value) is int):
                return part(value)
            expected.append(_WORDS[part])
        elif typing.get_origin(part) is tuple and isinstance(value, Sequence) and not isinstance(value, str):
            return tuple(value)
        else:
            return value
    raise ConfigError(f"config: {key}={shown(value)}; expected {' or '.join(expected)}")


_WORDS: Mapping[Any, str] = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}
