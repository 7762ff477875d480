"""Write docs/api.md: every name of `dp_train`, how it is called and what it is for, from the code itself.

    python scripts/write_api.py

`tests/test_docs.py` fails while the file differs from what this writes.
"""

from __future__ import annotations

import inspect
from enum import Enum
from pathlib import Path

import dp_train

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "api.md"

_HEAD = """\
# Names of `dp_train`

<!-- Written by scripts/write_api.py; do not edit. -->

`import dp_train as dp` imports nothing: a name is loaded at its first use. The docstring says what a name guarantees,
takes and raises: `help(dp.Trainer.fit)`. [`quickstart.py`](../examples/quickstart.py) uses most of them, the notebook
[`first_hour.ipynb`](../examples/first_hour.ipynb) explains them on the way.

| name | for | methods |
|---|---|---|
"""


def api() -> str:
    """Return the whole page."""
    return _HEAD + "".join(_row(name) for name in dp_train.__all__)


def _row(name: str) -> str:
    value = getattr(dp_train, name)
    # Where it is defined; a plain value does not know, and is where its home says.
    home = getattr(value, "__module__", f"dp_train.{dp_train._HOMES[name]}").replace(".", "/")
    file = next(one for one in (f"{home}.py", f"{home}/__init__.py") if (ROOT / one).is_file())
    methods = ""
    if isinstance(value, type) and not issubclass(value, (Enum, Exception)):
        own = [each for each, found in vars(value).items() if not each.startswith("_") and _is_method(found)]
        methods = ", ".join(f"`{each}`" for each in own)
    return f"| [`{name}`](../{file}) | {_first(value)} | {methods} |\n"


def _is_method(found: object) -> bool:
    return inspect.isfunction(found) or isinstance(found, (classmethod, staticmethod))


def _first(value: object) -> str:
    """First sentence of a docstring; of a plain value, its kind."""
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return f"A `{type(value).__name__}`."
    text = " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())
    return text.replace("|", "\\|")


if __name__ == "__main__":
    TARGET.write_text(api())
