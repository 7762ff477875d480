"""`dp-train`: finds the verb, runs it, and turns every end into one line and an exit code.

Nothing heavy is imported here: `--help` has to answer at once, and so has a typing error.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import NoReturn

from dp_train.errors import ConfigError, DpTrainError

USAGE = "dp-train <verb> [key=value …] [options]"

EXIT_CODES = """\
exit codes:
  0  done                            5  a privacy parameter or claim does not hold
  1  internal error, failed trials   6  a model cannot be built, loaded or clipped
  2  configuration or command line   7  a run cannot be stored or resumed
  3  an input file or row            8  the tracking store cannot be used
  4  consent is missing              130 Ctrl-C, 143 SIGTERM: ended cleanly, ε spent is printed"""

OVERRIDES = "values and parts of the configuration: privacy.epsilon=4 model=tiny_seq2seq experiments=summary/quickstart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """What a verb is for, the module whose `run(options)` does it, and its options."""

    summary: str
    module: str
    options: Callable[[argparse.ArgumentParser], None]
    example: str


def _overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=OVERRIDES)


def _stored(parser: argparse.ArgumentParser) -> None:
    _overrides(parser)
    parser.add_argument(
        "--from-run", metavar="RUN", help="start from the configuration of an earlier run: folder or id"
    )


def _train(parser: argparse.ArgumentParser) -> None:
    _stored(parser)
    parser.add_argument("-m", "--multirun", action="store_true", help="one trial per combination of a=1,2 b=3,4")
    parser.add_argument(
        "--resume", metavar="RUN", help="go on with a run that was ended: folder or id; takes no key=value"
    )


def _json_too(parser: argparse.ArgumentParser) -> None:
    _stored(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _run_only(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="folder or id of a run")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _generate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="folder or id of a run")
    parser.add_argument(
        "--file",
        metavar="PATH",
        help="a transcript to summarise, or drafts to complete, as `Name: text` lines; - reads standard input. "
        "Without it: interactive",
    )


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="values that both tasks shall take")


def _ui(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=5000, help="port of the UI (5000)")
    parser.add_argument("--uri", help="tracking store (MLFLOW_TRACKING_URI, else mlflow.db of the working folder)")


def _ls(parser: argparse.ArgumentParser) -> None:
    kinds = ("experiments", "runs", "tasks", "corpora", "models", "engines", "optimizers")
    parser.add_argument(
        "kind", nargs="?", choices=kinds, metavar="KIND", help=f"one of {', '.join(kinds)}; all if none"
    )


def _none(parser: argparse.ArgumentParser) -> None:
    pass


VERBS = {
    "train": Verb(
        summary="train one model, or one a trial with -m",
        module="train",
        options=_train,
        example="dp-train train experiments=summary/quickstart privacy.epsilon=4",
    ),
    "plan": Verb(
        summary="σ, signal to noise, steps, expected units and ε, before anything is spent",
        module="plan",
        options=_json_too,
        example="dp-train plan experiments=compose/quickstart privacy.epsilon=2",
    ),
    "tradeoff": Verb(
        summary="utility against ε: every ε of a grid, the public starting point and no privacy",
        module="tradeoff",
        options=_stored,
        example="dp-train tradeoff experiments=summary/quickstart tradeoff.epsilons=[1,2,4,8] tradeoff.repeats=3",
    ),
    "demo": Verb(
        summary="both quickstart trade-offs, what `make demo` runs",
        module="demo",
        options=_demo,
        example="dp-train demo",
    ),
    "evaluate": Verb(
        summary="score a trained model on the evaluation population",
        module="evaluate",
        options=_run_only,
        example="dp-train evaluate runs/2025-01-31/12-00-00-000000-a1b2c3",
    ),
    "generate": Verb(
        summary="summarise a transcript or complete drafts with a trained model",
        module="generate",
        options=_generate,
        example="dp-train generate RUN --file transcript.txt",
    ),
    "ui": Verb(summary="open the MLflow UI on utility against ε", module="ui", options=_ui, example="dp-train ui"),
    "ls": Verb(
        summary="experiments, runs, and the parts a configuration can choose",
        module="ls",
        options=_ls,
        example="dp-train ls experiments",
    ),
    "validate": Verb(
        summary="compose a configuration, check data and consent files, train nothing",
        module="validate",
        options=_stored,
        example="dp-train validate corpus=jsonl corpus.private=meetings.jsonl consent.events=consent.jsonl",
    ),
    "env": Verb(
        summary="versions, cores, and whether the accountant gives what it should",
        module="env",
        options=_none,
        example="dp-train env",
    ),
}


class _Parser(argparse.ArgumentParser):
    """Errors are one line, as all others."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}; see {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code; what `dp-train` calls."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    old = signal.signal(signal.SIGTERM, _terminated)
    # Read when torch is loaded: threads that wait by spinning take the core from the one that works.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        return _run(words)
    except DpTrainError as error:
        _show(str(error), error, debug)
        return error.exit_code
    except SystemExit as done:  # a signal, or argparse after printing the help
        return int(done.code or 0)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of our output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        # The message of a foreign error may hold content, so it is for --debug alone.
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        _show(f"internal error: {type(error).__name__} at {place}; run again with --debug to see it all", error, debug)
        return 1
    finally:
        signal.signal(signal.SIGTERM, old)


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if words[0] in ("-V", "--version"):
        from importlib.metadata import version

        print(f"dp-train {version('dp_train')}")
        return 0
    name, *rest = words
    verb = VERBS.get(name)
    if verb is None:
        close = get_close_matches(name, VERBS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(VERBS)}"
        raise ConfigError(f"dp-train: {name!r} is no verb; {hint}; see dp-train --help")
    parser = _Parser(
        prog=f"dp-train {name}",
        description=verb.summary,
        epilog=f"example:\n  {verb.example}\n\n--debug shows the traceback of an error.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verb.options(parser)
    options = parse(parser, rest)
    # Set before any library reads them: forked workers of a tokenizer warn, and this tool calls nobody.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    return int(import_module(f"dp_train.cli.{verb.module}").run(options))


def parse(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """Options and key=value words in any order; `~key` and `+key=value` are words too."""
    options = parser.parse_intermixed_args(words)
    for word in getattr(options, "overrides", ()):
        if "=" not in word and not word.startswith("~"):
            raise ConfigError(f"{parser.prog}: {word!r}; expected key=value, such as privacy.epsilon=4")
    return options


def _help() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            f"usage: {USAGE}",
            "",
            "Trains models only on what people agreed to, with a per-person (ε, δ) that the run can show to be true.",
            "",
            "verbs:",
            *lines,
            "",
            "  dp-train <verb> --help shows the options of a verb; --debug the traceback of an error.",
            "",
            EXIT_CODES,
        ]
    )


def _show(line: str, error: BaseException, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    print(" ".join(line.split()), file=sys.stderr)


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM outside the training loop, where the trainer does not listen: leave through every `finally`."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
