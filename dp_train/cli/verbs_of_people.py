"""Verbs about one person who objects, leaves or has several ids: `dp-train consent …`."""

from __future__ import annotations

import argparse

from dp_train.cli.verb import Verb, take_store


def _about_person(does: str, parser: argparse.ArgumentParser) -> None:
    """What verbs about one person take, who is told apart by the principal key."""
    take_store(does, parser)
    parser.set_defaults(key="runs/principal.key")
    parser.add_argument("person", metavar="PERSON", help="id of the person, as the corpus has it")
    parser.add_argument("--policy", metavar="FILE", help="rules of what follows (conf/withdrawal.yaml)")
    parser.add_argument("--uri", help="MLflow store of the runs (that of each run's configuration)")


def _entered(parser: argparse.ArgumentParser) -> None:
    """What verbs take by which an officer enters something."""
    parser.add_argument("--operator", help="who enters it (DP_TRAIN_OPERATOR); stands in the chain")
    parser.add_argument("--reason", help="why; stands in the chain, so it names no person")


def _consent_opt_out(parser: argparse.ArgumentParser) -> None:
    take_store("opt-out", parser)
    parser.set_defaults(key="runs/principal.key")
    parser.add_argument("--organisation", metavar="ORG", help="all content of an organisation")
    parser.add_argument("--people", metavar="FILE", help="everybody in a file of ids, one a line")
    parser.add_argument("--purpose", action="append", choices=_PURPOSES, help="only this one; may be repeated (all)")
    parser.add_argument("--method", choices=_WAYS, default="form", help="how it came (form)")
    parser.add_argument("--signing-key", metavar="FILE", help="key of receipts (signing.key beside the principal key)")
    parser.add_argument("--receipts", metavar="FILE", help="write the signed receipts to this new jsonl file")
    _entered(parser)


def _consent_link(parser: argparse.ArgumentParser) -> None:
    take_store("link", parser)
    parser.set_defaults(key="runs/principal.key")
    parser.add_argument("one", metavar="ID", help="an id of the person")
    parser.add_argument("other", metavar="ID", help="another id of the same person")
    _entered(parser)


def _consent_resolve(parser: argparse.ArgumentParser) -> None:
    take_store("resolve", parser)
    parser.set_defaults(key="runs/principal.key")
    parser.add_argument("person", nargs="?", metavar="PERSON", help="whose holds are decided about; none: how many are")
    _entered(parser)


def _consent_overdue(parser: argparse.ArgumentParser) -> None:
    take_store("overdue", parser)
    parser.set_defaults(key="runs/principal.key")
    parser.add_argument("--policy", metavar="FILE", help="rules of what follows (conf/withdrawal.yaml)")
    parser.add_argument("--uri", help="MLflow store of the runs (that of each run's configuration)")


def _consent_retain(parser: argparse.ArgumentParser) -> None:
    take_store("retain", parser)
    parser.add_argument("--rules", metavar="FILE", help="how long what is kept (conf/retention.yaml)")
    parser.add_argument("--apply", action="store_true", help="remove it; without, it is listed and nothing changes")
    _entered(parser)


def _consent_serve(parser: argparse.ArgumentParser) -> None:
    take_store("serve", parser)
    parser.set_defaults(key="runs/principal.key")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8765, help="port (8765)")
    parser.add_argument("--public-url", metavar="URL", help="https address of the proxy that people reach it by")
    parser.add_argument(
        "--token-file", metavar="FILE", default="runs/serve.token", help="token of systems, made where it is missing"
    )
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second of one address (20)")
    parser.add_argument("--signing-key", metavar="FILE", help="key of receipts (signing.key beside the principal key)")
    parser.add_argument("--policy", metavar="FILE", help="rules of what follows (conf/withdrawal.yaml)")
    parser.add_argument("--uri", help="MLflow store of the runs (that of each run's configuration)")


_PURPOSES = ("train_meeting_summary", "train_chat_compose", "provide_feature", "publish")
_WAYS = ("settings", "form", "letter", "email", "phone", "in_person", "gpc")


def _consent_impact(parser: argparse.ArgumentParser) -> None:
    _about_person("impact", parser)


def _consent_withdraw(parser: argparse.ArgumentParser, does: str = "withdraw") -> None:
    _about_person(does, parser)
    _entered(parser)
    parser.add_argument("--method", choices=_WAYS, default="form", help="how it came (form)")
    parser.add_argument("--at", metavar="TIME", help="from when on it counts, if that was earlier (now)")
    parser.add_argument("--signing-key", metavar="FILE", help="key of receipts (signing.key beside the principal key)")
    parser.add_argument("--receipt", metavar="FILE", help="also write the receipt to this new file")
    parser.add_argument("--dry-run", action="store_true", help="show what would follow, store nothing")
    if does == "withdraw":
        parser.add_argument(
            "--purpose", action="append", choices=_PURPOSES, help="only this one; may be repeated (all)"
        )


def _consent_erase(parser: argparse.ArgumentParser) -> None:
    _consent_withdraw(parser, "erase")


PEOPLE_VERBS: dict[str, Verb] = {
    "consent withdraw": Verb(
        summary="a person leaves: the event, a signed receipt, and what follows for runs and registered models",
        module="withdrawal",
        options=_consent_withdraw,
        example="dp-train consent withdraw prv-00017 --method letter --receipt receipt.json",
    ),
    "consent impact": Verb(
        summary="what a person's withdrawal means or would mean: runs, models, bound, action; changes nothing",
        module="withdrawal",
        options=_consent_impact,
        example="dp-train consent impact prv-00017",
    ),
    "consent erase": Verb(
        summary="a person leaves and is forgotten: nothing that is kept leads back to them; the chain still verifies",
        module="withdrawal",
        options=_consent_erase,
        example="dp-train consent erase prv-00017",
    ),
    "consent overdue": Verb(
        summary="models of people who left whose action was due by now; exit code 12 where there is one",
        module="consent_export",
        options=_consent_overdue,
        example="dp-train consent overdue",
    ),
    "consent retain": Verb(
        summary="list or remove what is kept longer than was promised; exit code 12 where any of it is there still",
        module="consent_retain",
        options=_consent_retain,
        example="dp-train consent retain; dp-train consent retain --apply --operator privacy-office",
    ),
    "consent opt-out": Verb(
        summary="a no of a whole organisation, or of everybody in a list, with signed receipts",
        module="consent_people",
        options=_consent_opt_out,
        example="dp-train consent opt-out --organisation acme --receipts receipts.jsonl",
    ),
    "consent link": Verb(
        summary="two ids are one person: a no of one is a no of both",
        module="consent_people",
        options=_consent_link,
        example="dp-train consent link ann.archer@example.org u017",
    ),
    "consent resolve": Verb(
        summary="decide about a person who is held because a row could not be read",
        module="consent_people",
        options=_consent_resolve,
        example='dp-train consent resolve u017 --reason "the source confirmed that it was a grant"',
    ),
    "consent serve": Verb(
        summary="a small web service: events and opt-outs of systems, and a page on which a person opts out",
        module="consent_serve",
        options=_consent_serve,
        example="dp-train consent serve --port 8765",
    ),
}
