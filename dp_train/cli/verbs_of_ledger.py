"""Verbs about what was spent: `dp-train ledger …`."""

from __future__ import annotations

import argparse

from dp_train.cli.verb import Verb


def _ledger(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", metavar="URL", help="sqlite:///PATH or postgresql://… (DP_TRAIN_STORE, dp_train.db)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _ledger_population(parser: argparse.ArgumentParser) -> None:
    _ledger(parser)
    parser.add_argument(
        "--population", metavar="ID", help="whose: the start of its id, or its label; else the people of --key"
    )
    parser.add_argument("--key", default="runs/principal.key", help="file of the principal key (runs/principal.key)")


def _ledger_declare(parser: argparse.ArgumentParser) -> None:
    _ledger_population(parser)
    parser.add_argument("--epsilon", type=float, required=True, help="what all runs together may spend, per person")
    parser.add_argument("--delta", type=float, required=True, help="δ of the whole, below 1 ÷ population")
    parser.add_argument("--label", help="a public name for these people")
    parser.add_argument("--reason", help="why; needed to raise a budget")


def _ledger_verify(parser: argparse.ArgumentParser) -> None:
    _ledger(parser)
    parser.add_argument("--expect", metavar="HASH", help="a hash kept elsewhere (ledger.json of a run folder)")


def _ledger_recompute(parser: argparse.ArgumentParser) -> None:
    _ledger_population(parser)
    parser.add_argument("--accountant", choices=("pld", "rdp"), default="pld", help="pld (published) or rdp")


def _ledger_person(parser: argparse.ArgumentParser) -> None:
    _ledger(parser)
    parser.add_argument("person", metavar="PERSON", help="id of the person, as the corpus has it")
    parser.add_argument("--key", default="runs/principal.key", help="file of the principal key (runs/principal.key)")


LEDGER_VERBS: dict[str, Verb] = {
    "ledger show": Verb(
        summary="budgets, what is spent, and every run",
        module="ledger",
        options=_ledger,
        example="dp-train ledger show",
    ),
    "ledger declare": Verb(
        summary="set what a population may spend in all",
        module="ledger",
        options=_ledger_declare,
        example="dp-train ledger declare --epsilon 8 --delta 1e-5 --label acme",
    ),
    "ledger verify": Verb(
        summary="walk the chain, derive every ε again, name the first row that does not hold",
        module="ledger",
        options=_ledger_verify,
        example="dp-train ledger verify --expect HASH",
    ),
    "ledger recompute": Verb(
        summary="ε of every run and of all together, from the stored events alone",
        module="ledger",
        options=_ledger_recompute,
        example="dp-train ledger recompute --accountant rdp",
    ),
    "ledger person": Verb(
        summary="which runs a person's data was in, and what bound holds; reads the lists in the run folders",
        module="ledger",
        options=_ledger_person,
        example="dp-train ledger person u017",
    ),
}
