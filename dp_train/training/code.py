"""Name the code that moves a gradient, so that a run does not resume under another.

| code | what it is known by |
|---|---|
| of this package | the files of `engines` and `tasks`, and those of `training` that lay out a step |
| of an installed package, of Python | its version |
| any other: a task, model, engine or optimizer of one's own | its compiled functions, and all that they name which is |
| | itself of no package: functions, classes, constants |

Comments and where code stands are not in it. What a function imports while it runs, or finds by a name that it makes
up, is not followed.
"""

from __future__ import annotations

import hashlib
import sys
import sysconfig
import types
from collections.abc import Iterator
from enum import Enum
from functools import cached_property, lru_cache, partial
from pathlib import Path

import torch

_OF_CLASSES = frozenset(
    {
        "__abstractmethods__",
        "__annotate_func__",
        "__annotations__",
        "__annotations_cache__",
        "__dict__",
        "__doc__",
        "__firstlineno__",
        "__module__",
        "__static_attributes__",
        "__weakref__",
        "_abc_impl",
    }
)
_TRAINING = (
    "batches.py",
    "averaging.py",
    "dealing.py",
    "loop.py",
    "opening.py",
    "optimizers.py",
    "run_state.py",
    "seeds.py",
)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_OF_OPTIMIZERS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
_DEPTH = 3


def code_digest(*roots: object) -> str:
    """Return a digest of the code of these functions, classes and objects, and of all that it names."""
    walk = _Walk()
    for root in roots:
        walk.add(root)
    return hashlib.blake2b("\n".join(sorted(walk.lines)).encode(), digest_size=32).hexdigest()


def code_of_model(model: torch.nn.Module) -> str:
    """Return the digest of the code of all layers of a model, of their hooks and of methods that were put in place."""
    roots: list[object] = []
    for module in model.modules():
        roots.append(type(module))
        roots += [one for one in vars(module).values() if isinstance(one, types.FunctionType | types.MethodType)]
        roots += [hook for kind in _HOOKS for hook in getattr(module, kind, {}).values()]
    return code_digest(*roots)


def code_of_optimizer(optimizer: torch.optim.Optimizer) -> str:
    """Return the digest of the code of an optimizer and of its hooks."""
    hooks = [hook for kind in _OF_OPTIMIZERS for hook in getattr(optimizer, kind, {}).values()]
    return code_digest(type(optimizer), *hooks)


class _Walk:
    """Gathers a line for each function, class and constant that is reached."""

    def __init__(self) -> None:
        self.lines: set[str] = set()
        self._seen: set[int] = set()
        self._kept: list[object] = []  # an id names an object while that lives

    def add(self, found: object, depth: int = 0) -> None:
        """Take a function, a class, or an object by its class and by what it holds."""
        if id(found) in self._seen or isinstance(found, types.ModuleType):
            return
        self._seen.add(id(found))
        self._kept.append(found)
        if isinstance(found, partial):
            for one in (found.func, *found.args, *found.keywords.values()):
                self.add(one, depth)
        elif isinstance(found, types.MethodType):
            self.add(found.__func__, depth)
            self.add(found.__self__, depth)
        elif isinstance(found, staticmethod | classmethod):
            self.add(found.__func__, depth)
        elif isinstance(found, property):
            for accessor in (found.fget, found.fset, found.fdel):
                self.add(accessor, depth)
        elif isinstance(found, cached_property):
            self.add(found.func, depth)
        elif isinstance(found, types.FunctionType):
            self._function(found)
        elif isinstance(found, type):
            self._class(found)
        elif not isinstance(found, str | bytes | int | float | bool | Enum | torch.Tensor | None):
            self.add(type(found))
            if depth < _DEPTH and _package(type(found).__module__) is None:
                for one in getattr(found, "__dict__", {}).values():
                    self.add(one, depth + 1)

    def _class(self, kind: type) -> None:
        for base in kind.__mro__:
            package = _package(base.__module__)
            if package is not None:
                self.lines.add(f"{base.__module__}.{base.__qualname__} of {package}")
                continue
            for name, value in vars(base).items():
                if name not in _OF_CLASSES:
                    self._value(f"{base.__module__}.{base.__qualname__}.{name}", value)

    def _function(self, function: types.FunctionType) -> None:
        name = f"{function.__module__}.{function.__qualname__}"
        package = _package(function.__module__)
        if package is not None:
            self.lines.add(f"{name} of {package}")
            return
        self.lines.add(f"{name} = {_compiled(function.__code__, function.__doc__)}")
        for number, value in enumerate((*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())):
            self._value(f"{name} default {number}", value)
        for number, cell in enumerate(function.__closure__ or ()):
            try:
                self._value(f"{name} closure {number}", cell.cell_contents)
            except ValueError:
                continue  # not set yet
        named = set(_names(function.__code__))
        for one in sorted(named.intersection(function.__globals__)):
            value = function.__globals__[one]
            self._value(f"{function.__module__}.{one}", value)
            if isinstance(value, types.ModuleType) and _package(value.__name__) is None:
                for attribute in sorted(named.intersection(vars(value))):
                    self._value(f"{value.__name__}.{attribute}", vars(value)[attribute])

    def _value(self, name: str, value: object) -> None:
        if isinstance(value, str | bytes | int | float | bool | Enum | tuple | frozenset | None):
            self.lines.add(f"{name} = {_constant(value)}")
        elif not isinstance(value, list | dict | set):  # what may change while a run goes on is no code
            self.add(value)


def _compiled(code: types.CodeType, doc: str | None = None) -> str:
    constants = [_constant(one) for one in code.co_consts if one is not doc or doc is None]
    parts = (code.co_code.hex(), code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, constants)
    return hashlib.blake2b(repr(parts).encode(), digest_size=32).hexdigest()


def _constant(value: object) -> str:
    if isinstance(value, types.CodeType):
        return _compiled(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(_constant, value))})"
    if isinstance(value, frozenset):
        return f"{{{', '.join(sorted(map(_constant, value)))}}}"
    if isinstance(value, str | bytes | int | float | bool | complex | None):
        return f"{type(value).__name__} {value!r}"
    return value.name if isinstance(value, Enum) else f"a {type(value).__qualname__}"


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for one in code.co_consts:
        if isinstance(one, types.CodeType):
            yield from _names(one)


@lru_cache(maxsize=4096)
def _package(module: str | None) -> str | None:
    """The package that a module is of, with its version; None for code of no package."""
    top = (module or "").partition(".")[0]
    if top in sys.stdlib_module_names or top == "builtins":
        return f"Python {sys.version_info.major}.{sys.version_info.minor}"
    if top == __name__.partition(".")[0]:
        return f"{top} {_own_files()}"
    file = getattr(sys.modules.get(top), "__file__", None)
    roots = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    if file is None or not any(Path(file).is_relative_to(root) for root in roots):
        return None
    return f"{top} {getattr(sys.modules[top], '__version__', '')}"


@lru_cache(maxsize=1)
def _own_files() -> str:
    home = Path(__file__).parent
    files = [*home.parent.glob("engines/*.py"), *home.parent.glob("tasks/*.py"), *(home / name for name in _TRAINING)]
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(files):
        digest.update(f"{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()
