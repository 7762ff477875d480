"""What a verb of `dp-train` is, and the options that many of them take. Nothing heavy is imported here."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

OVERRIDES = "values and parts of the configuration: privacy.epsilon=4 model=tiny_seq2seq experiments=summary/quickstart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """What a verb is for, the module whose `run(options)` does it, and its options."""

    summary: str
    module: str
    options: Callable[[argparse.ArgumentParser], None]
    example: str


def take_overrides(parser: argparse.ArgumentParser) -> None:
    """Take key=value words."""
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=OVERRIDES)


def take_code(parser: argparse.ArgumentParser) -> None:
    """A stored configuration chooses no code: the command line says again which it may."""
    parser.add_argument(
        "--code",
        action="append",
        default=[],
        metavar="KIND=MODULE:NAME",
        help="code of the working folder that the stored run was made with, such as task=own_task:OwnTask",
    )


def take_stored(parser: argparse.ArgumentParser) -> None:
    """Take key=value words on top of a stored configuration."""
    take_overrides(parser)
    take_code(parser)
    parser.add_argument(
        "--from-run", metavar="RUN", help="start from the configuration of an earlier run: folder or id"
    )
    parser.add_argument(
        "--cfg", choices=("job", "hydra", "all"), help="print the composed configuration (job: the run's own), and stop"
    )
    parser.add_argument("--resolve", action="store_true", help="with --cfg: with every ${…} replaced by its value")
    parser.add_argument(
        "--info",
        nargs="?",
        const="all",
        choices=("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
        help="print where the configuration comes from, as Hydra says it, and stop",
    )


def take_run(parser: argparse.ArgumentParser) -> None:
    """Take a run, and --json."""
    parser.add_argument("run", metavar="RUN", help="folder or id of a run")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def take_nothing(parser: argparse.ArgumentParser) -> None:
    """Take no option."""


def take_store(does: str, parser: argparse.ArgumentParser) -> None:
    """What all verbs of the consent store take."""
    parser.set_defaults(does=does)
    parser.add_argument("--store", metavar="URL", help="sqlite:///PATH or postgresql://… (DP_TRAIN_STORE, else here)")
    parser.add_argument("--key", metavar="FILE", help="the key that turns a person's id into the pseudonym")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
