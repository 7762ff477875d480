"""Verbs about the store of consent events: `dp-train consent …`."""

from __future__ import annotations

import argparse

from dp_train.cli.verb import Verb, take_overrides, take_store


def _consent_import(parser: argparse.ArgumentParser) -> None:
    take_store("import", parser)
    parser.add_argument(
        "words",
        nargs="+",
        metavar="FILE",
        help="events: .jsonl, .csv or .parquet; with --embedded key=value words of the configuration instead",
    )
    parser.add_argument(
        "--embedded", action="store_true", help="the events that the embedded corpus of a configuration brings along"
    )
    parser.add_argument(
        "--quarantine",
        metavar="PATH",
        help="go on past rows whose person cannot be read; all that are no events are named there, with the reason",
    )
    parser.add_argument(
        "--format", choices=("fides", "onetrust", "transcend", "gpc"), help="the file is an export of that platform"
    )
    parser.add_argument("--mapping", metavar="FILE", help="what its purposes and ids are here; with --format")
    parser.add_argument("--dry-run", action="store_true", help="read everything, store nothing")


def _consent_key(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(does="key")
    parser.add_argument("file", metavar="FILE", nargs="?", help="(runs/principal.key, or that of the rotated key)")
    parser.add_argument(
        "--rotate",
        choices=("signing", "token", "principal", "ledger", "people"),
        help="put a new key in the place of one: signing (receipts), token (web service); the others say why not",
    )
    parser.add_argument("--operator", help="who replaces it (DP_TRAIN_OPERATOR)")
    parser.add_argument("--reason", help="why; stands beside the key, so it names no person")


def _consent_schema(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(does="schema")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _consent_status(parser: argparse.ArgumentParser) -> None:
    take_store("status", parser)
    parser.add_argument("person", nargs="?", metavar="PERSON", help="one person's events; needs --key")


def _consent_snapshot(parser: argparse.ArgumentParser) -> None:
    take_store("snapshot", parser)
    parser.add_argument("--as-of", metavar="TIME", help="the time that is asked about (now)")
    parser.add_argument("--known-at", metavar="TIME", help="leave out what was recorded later")
    parser.add_argument("--upto", type=int, metavar="N", help="only the first N events of the chain")
    parser.add_argument("--prove", metavar="PERSON", help="write a proof that PERSON is in it, or is not")
    parser.add_argument("--proof", metavar="FILE", default="proof.json", help="where the proof goes (proof.json)")
    take_overrides(parser)


def _consent_verify(parser: argparse.ArgumentParser) -> None:
    take_store("verify", parser)
    parser.add_argument("--head", metavar="HASH", help="a head that was kept elsewhere: the chain must pass through it")
    parser.add_argument("--proof", metavar="FILE", help="a proof of `consent snapshot --prove`; needs no store")
    parser.add_argument("--root", metavar="HASH", help="the root that the proof has to be for")
    parser.add_argument("--person", metavar="PERSON", help="whom the proof has to be about; needs --key")
    parser.add_argument("--receipt", metavar="FILE", help="a withdrawal's receipt; is checked with the files alone")
    parser.add_argument(
        "--public-key", metavar="FILE", help="the public key that receipts are checked by (signing.pub)"
    )


def _consent_export(parser: argparse.ArgumentParser) -> None:
    take_store("export", parser)
    parser.add_argument("file", metavar="FILE", help="a new jsonl file")
    parser.add_argument("--audit", action="store_true", help="the chain with its hashes, without pseudonyms")
    parser.add_argument(
        "--receipts", metavar="CONTROLLER", help="Kantara v1.1 receipts of what was agreed to; YAML of the controller"
    )
    parser.add_argument("--person", metavar="PERSON", help="everything about one person; with --receipts those alone")
    parser.add_argument("--uri", help="MLflow store of the runs (that of each run's configuration)")


def _consent_notice(parser: argparse.ArgumentParser) -> None:
    take_store("notice", parser)
    parser.add_argument("file", metavar="FILE", nargs="?", help="a text to keep; none: list the notices of the events")
    parser.add_argument("--sha256", metavar="HASH", help="print the text with this hash")


def _consent_backup(parser: argparse.ArgumentParser, does: str = "backup") -> None:
    parser.set_defaults(does=does)
    parser.add_argument("--store", metavar="URL", help="sqlite:///PATH (DP_TRAIN_STORE, else here)")
    parser.add_argument("file", metavar="FILE", help="a new file" if does == "backup" else "a backup")


def _consent_restore(parser: argparse.ArgumentParser) -> None:
    _consent_backup(parser, "restore")


def _consent_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", metavar="URL", help="sqlite:///PATH or postgresql://… (DP_TRAIN_STORE, else here)")
    kinds = ("transparency", "art30", "dpia", "audit")
    parser.add_argument("--kind", choices=kinds, help=f"one of {', '.join(kinds)}; all if none")
    parser.add_argument("--out", metavar="FOLDER", help="write Markdown and JSON into a folder")
    parser.add_argument("--json", action="store_true", help="print JSON instead of Markdown")


CONSENT_VERBS: dict[str, Verb] = {
    "consent key": Verb(
        summary="make the key that turns people's ids into pseudonyms, or replace that of receipts or of the service",
        module="consent_key",
        options=_consent_key,
        example="dp-train consent key runs/principal.key; dp-train consent key --rotate signing",
    ),
    "consent schema": Verb(
        summary="the fields that a row of consent may have",
        module="consent_import",
        options=_consent_schema,
        example="dp-train consent schema",
    ),
    "consent import": Verb(
        summary="events from a file into the store; what cannot be read denies; importing twice changes nothing",
        module="consent_import",
        options=_consent_import,
        example="dp-train consent import consent.jsonl; dp-train consent import --embedded corpus=embedded",
    ),
    "consent status": Verb(
        summary="events by state and purpose, or the events of one person",
        module="consent",
        options=_consent_status,
        example="dp-train consent status",
    ),
    "consent snapshot": Verb(
        summary="the Merkle root over every decision, as of a time",
        module="consent",
        options=_consent_snapshot,
        example="dp-train consent snapshot --key principals.key",
    ),
    "consent verify": Verb(
        summary="walk the chain, and name the first event that was changed",
        module="consent",
        options=_consent_verify,
        example="dp-train consent verify",
    ),
    "consent backup": Verb(
        summary="copy consent and ledger into a file, while others write, once both chains verify",
        module="consent_keep",
        options=_consent_backup,
        example="dp-train consent backup /elsewhere/2025-01-31.db",
    ),
    "consent restore": Verb(
        summary="put a backup in place, if it is whole and not older than what was seen of the store",
        module="consent_keep",
        options=_consent_restore,
        example="dp-train consent restore /elsewhere/2025-01-31.db",
    ),
    "consent report": Verb(
        summary="transparency report, Art. 30 record, DPIA evidence, state of the logs; no content, no identity",
        module="consent_report",
        options=_consent_report,
        example="dp-train consent report --kind transparency",
    ),
    "consent export": Verb(
        summary="the events to import elsewhere, the chain for an auditor, or everything about one person",
        module="consent_export",
        options=_consent_export,
        example="dp-train consent export audit.jsonl --audit; dp-train consent export person.json --person u017",
    ),
    "consent notice": Verb(
        summary="keep the text that people agreed to, print it by its hash, or list the notices that events name",
        module="consent_export",
        options=_consent_notice,
        example="dp-train consent notice notice-v2.md",
    ),
}
