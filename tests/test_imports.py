"""The import rule of the house, read from the source: imports point down, one door a framework."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dp_train

PACKAGE = Path(dp_train.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# A room may import from itself and from rooms with a lower number. Rooms that share a number may
# meet: an engine names a model, a task is handed a consented corpus.
STOREYS = {
    "atomic": 0,
    "errors": 0,
    "settled": 0,
    "words": 0,
    "expect": 1,
    "register": 1,
    "conversations": 1,
    "store": 1,
    "anonymize": 2,
    "privacy": 2,
    "consent": 2,
    "corpora": 2,
    "engines": 3,
    "models": 3,
    "tasks": 3,
    "training": 4,
    "audit": 4,
    "tracking": 5,
    "runs": 6,
    "web": 7,
    "cli": 8,
    "__main__": 9,
}

DOORS = {
    "fastapi": {"web"},
    "starlette": {"web"},
    "uvicorn": {"web"},
    "opacus": {"engines"},
    "mlflow": {"tracking"},
    "hydra": {"cli"},
    "omegaconf": {"cli", "runs"},
    "dp_accounting": {"privacy"},
    "sqlalchemy": {"store", "privacy", "consent", "tracking"},  # tracking: the errors of MLflow's store
    "torch": {"engines", "models", "tasks", "training", "audit", "runs", "cli"},
    "transformers": {"models", "tasks", "training", "runs", "cli"},
}


def imports(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, at import or later."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module)


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def relative(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize(
    "path", [file for file in FILES if file.parent != PACKAGE or file.stem != "__init__"], ids=relative
)
def test_imports_point_down(path: Path) -> None:
    for name in imports(path):
        if name.startswith("dp_train."):
            target = name.split(".")[1]
            assert STOREYS[target] <= STOREYS[room(path)], f"{relative(path)} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_each_framework_has_one_door(path: Path) -> None:
    for name in imports(path):
        allowed = DOORS.get(name.split(".")[0])
        assert allowed is None or room(path) in allowed, f"{relative(path)} imports {name}"


def imported_files(path: Path) -> Iterator[Path]:
    """Files of the package that a file imports when it is loaded, not later and not for types alone."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("dp_train."):
            for alias in node.names:
                for dotted in (f"{node.module}.{alias.name}", str(node.module)):
                    file = PACKAGE.joinpath(*dotted.split(".")[1:])
                    found = next(
                        (one for one in (file.with_suffix(".py"), file / "__init__.py") if one.is_file()), None
                    )
                    if found is not None:
                        yield found
                        break


def test_a_circle_between_files_is_found() -> None:
    one, other = FILES[:2]
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter({one: {other}, other: {one}}).prepare()
    assert PACKAGE / "errors.py" in set(imported_files(PACKAGE / "expect.py"))


def test_no_circle_between_files() -> None:
    imported = {path: set(imported_files(path)) - {path} for path in FILES}
    graphlib.TopologicalSorter(imported).prepare()  # raises CycleError, which names it


def test_no_file_is_longer_than_a_sitting() -> None:
    limits = {"cli": 250, "training/trainer.py": 250}
    lengths = {
        relative(path): (
            len(path.read_text().splitlines()),
            limits.get(relative(path), limits.get(room(path), 400)),
        )
        for path in FILES
    }
    assert {name: lines for name, (lines, limit) in lengths.items() if lines > limit} == {}


def test_public_names_are_sorted_and_all_there() -> None:
    assert dp_train.__all__ == sorted(dp_train.__all__)
    for name in dp_train.__all__:
        assert getattr(dp_train, name).__module__.startswith("dp_train."), name
    assert dir(dp_train) == dp_train.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Trainor'"):
        _ = dp_train.Trainor


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys, dp_train; print(sorted(name for name in sys.modules if name.startswith('dp_train')))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "['dp_train']"


FRAMEWORKS = {"torch", "transformers", "opacus", "hydra", "mlflow", "matplotlib"}
LIGHT = {
    "dp_train.privacy.units": FRAMEWORKS,
    "dp_train.consent.gate": FRAMEWORKS,
    "dp_train.cli.main": FRAMEWORKS,
    "dp_train.runs.registers": FRAMEWORKS,
    "dp_train.tracking.store": {"mlflow", "matplotlib", "opacus", "hydra"},
    "dp_train.tracking.figures": {"mlflow", "matplotlib", "opacus", "hydra"},
}


@pytest.mark.parametrize("name", LIGHT)
def test_importing_a_room_loads_no_framework_that_it_may_not_need(name: str) -> None:
    code = f"import sys, {name}; print(sorted({LIGHT[name]} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
