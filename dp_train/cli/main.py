"""`dp-train`: finds the verb, runs it, and turns every end into one line and an exit code.

Nothing heavy is imported here: `--help` has to answer at once, and so has a typing error.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import NoReturn

from dp_train.cli.verbs import GROUPS, VERBS
from dp_train.errors import ConfigError, DpTrainError

USAGE = "dp-train <verb> [key=value …] [options]"

EXIT_CODES = """\
exit codes:
  0  done                            5  a privacy parameter or claim does not hold
  1  internal error, failed trials   6  a model cannot be built, loaded or clipped
  2  configuration or command line   7  a run cannot be stored or resumed
  3  an input file or row            8  the tracking store cannot be used
  4  consent is missing              9  the database of consent and ledger cannot be used
  10 an import is done, and rows of it are set aside: held or unread
  11 done, but the folder of a run of these people is not found
  12 an action for people who left is overdue, or something is kept past its date
  13 another process of a run on several is gone, or is not of the same run
                                     130 Ctrl-C, 143 SIGTERM: ended cleanly, ε spent is printed"""


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
    if name in GROUPS:
        if not rest or rest[0] in ("-h", "--help"):
            print(_group_help(name))
            return 0
        name, *rest = f"{name} {rest[0]}", *rest[1:]
    verb = VERBS.get(name)
    if verb is None:
        known = [*VERBS, *GROUPS]
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(known)}"
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
    options.verb, options.typed = name, tuple(words)
    # Set before any library reads them: forked workers of a tokenizer warn, and this tool calls nobody.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if getattr(options, "code", None):
        from dp_train.runs.registers import admit

        admit(options.code)
    looks = getattr(options, "cfg", None) or getattr(options, "info", None)
    return int(import_module(f"dp_train.cli.{'composed' if looks else verb.module}").run(options))


def parse(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """Options and key=value words in any order; `~key` and `+key=value` are words too."""
    options = parser.parse_intermixed_args(words)
    for word in getattr(options, "overrides", ()):
        if "=" not in word and not word.startswith("~"):
            raise ConfigError(f"{parser.prog}: {word!r}; expected key=value, such as privacy.epsilon=4")
    return options


def _table(rows: Iterable[tuple[str, str]]) -> list[str]:
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    return [f"  {name:<{width}}  {summary}" for name, summary in rows]


def _group_help(group: str) -> str:
    inside = ((name, verb.summary) for name, verb in VERBS.items() if name.startswith(f"{group} "))
    return "\n".join(
        [
            f"usage: dp-train {group} <verb> [options]",
            "",
            GROUPS[group],
            "",
            *_table(inside),
            "",
            f"  dp-train {group} <verb> --help shows the options of a verb.",
        ]
    )


def _help() -> str:
    lines = _table(
        [(name, verb.summary) for name, verb in VERBS.items() if " " not in name]
        + [(f"{group} …", summary) for group, summary in GROUPS.items()]
    )
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
