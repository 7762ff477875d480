"""Programs as processes of their own, started from one process that has made the imports.

Torch, Opacus and MLflow take longer to import than a small run takes to train. A program that is not about its start is
forked from a server that holds them and nothing else: it shares no state with the tests, gets its own working folder,
environment and path, and ends as Python ends, handlers of the exit included.
"""

from __future__ import annotations

import atexit
import os
import runpy
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

PRELOADED = (
    *(
        "dp_train.cli.main",
        "dp_train.cli.train",
        "dp_train.cli.sweep",
        "dp_train.runs.trials",
        "dp_train.engines.build",
    ),
    *("dp_train.tracking.figures", "dp_train.privacy.ledger.ledger", "dp_accounting.pld", "mlflow", "alembic.command"),
    *("mlflow.store.tracking.sqlalchemy_store", "transformers.models.gpt_neox.modeling_gpt_neox", "psycopg"),
)


def context() -> ForkServerContext:
    """Processes that are forked from the server; the first one starts it."""
    found = get_context("forkserver")
    found.set_forkserver_preload(list(PRELOADED))
    return found


@dataclass(frozen=True, slots=True)
class Program:
    """A program that runs, or ran."""

    process: BaseProcess
    out_path: Path
    err_path: Path

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, number)

    def ended(self, timeout: float) -> tuple[int, str, str]:
        """Exit code, stdout and stderr, once it has ended.

        Raises:
          TimeoutError: it did not end; it is killed.
        """
        self.process.join(timeout)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
            self.process.join()
            raise TimeoutError(f"the program did not end within {timeout:g} s: {self.err_path.read_text()}")
        return code, self.out_path.read_text(), self.err_path.read_text()


def start(
    words: Sequence[str], *, folder: Path, output: Path, path: Sequence[Path] = (), changes: Mapping[str, str] = {}
) -> Program:
    """Start `python WORDS` (`-m MODULE …`, `-c CODE` or `FILE …`).

    Args:
      folder: its working folder. output: an existing folder for what it prints, outside the working folder.
      path: looked in before everything else that can be imported. changes: of this process' environment.
    """
    number = len(list(output.iterdir()))
    out, err = output / f"{number}.out", output / f"{number}.err"
    out.touch()
    err.touch()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **changes}
    first = [str(each) for each in path]
    process = context().Process(target=_run, args=(list(words), str(folder), str(out), str(err), environment, first))
    process.start()
    return Program(process, out, err)


def _run(words: list[str], folder: str, out: str, err: str, environment: dict[str, str], path: list[str]) -> None:
    for target, descriptor in ((out, 1), (err, 2)):
        opened = os.open(target, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(number), "w", encoding="utf-8") for number in (1, 2))
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    how, *rest = words
    here = str(Path(how).parent.absolute()) if how not in ("-m", "-c") else ""
    sys.path[:] = [here, *path, *(each for each in sys.path if "site-packages" in each or "lib/python" in each), *_ROOT]
    try:
        if how == "-m":
            sys.argv = rest
            sys.modules.pop(rest[0], None)  # it runs as __main__, as if it were read for the first time
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        elif how == "-c":
            sys.argv = ["-c", *rest[1:]]
            exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = words
            runpy.run_path(how, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


_ROOT = [str(Path(__file__).parents[1])]
