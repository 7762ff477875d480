"""Verbs about runs: train, price, score, show."""

from __future__ import annotations

import argparse

from dp_train.cli.verb import Verb, take_code, take_nothing, take_run, take_stored


def _init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="conversations: .jsonl, .csv or .parquet")
    parser.add_argument(
        "--column", action="append", default=[], metavar="FIELD=NAME", help="what the files call a field: text=body"
    )
    parser.add_argument(
        "--constant",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="org_id or kind (meeting, thread) of files that have no such column: kind=thread",
    )
    parser.add_argument(
        "--task", choices=("meeting_summary", "chat_compose"), help="what to learn (that of which there are most rows)"
    )
    parser.add_argument(
        "--consent", metavar="FILE", help="consent events that are there, or a .csv for the template (consent.csv)"
    )
    parser.add_argument("--key", metavar="FILE", default="runs/principal.key", help="made where it is missing")
    parser.add_argument("--name", default="own", help="of the experiment that is written (own)")
    parser.add_argument(
        "--force", action="store_true", help="overwrite the experiment, and the template of consent with what is in it"
    )


def _train(parser: argparse.ArgumentParser) -> None:
    take_stored(parser)
    parser.add_argument("-m", "--multirun", action="store_true", help="one trial per combination of a=1,2 b=3,4")
    parser.add_argument(
        "--resume",
        metavar="RUN",
        help="go on with a run or study that was ended: folder or id; takes no key=value but the trainer.seed it had",
    )


def _tradeoff(parser: argparse.ArgumentParser) -> None:
    take_stored(parser)
    parser.add_argument(
        "--resume",
        metavar="FOLDER",
        help="go on with a trade-off or sweep that was ended: what has finished is not run again; takes no key=value "
        "but the trainer.seed it had",
    )


def _pretrain(parser: argparse.ArgumentParser) -> None:
    take_stored(parser)
    parser.add_argument(
        "--to", metavar="FOLDER", required=True, help="new folder of the starting point, which start.name can take"
    )


def _json_too(parser: argparse.ArgumentParser) -> None:
    take_stored(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _plan(parser: argparse.ArgumentParser) -> None:
    _json_too(parser)
    parser.add_argument("--picture", metavar="PATH", help="draw kept share and σ against k as a PNG")
    parser.add_argument(
        "--without-people", action="store_true", help="from public numbers alone: open neither corpus nor consent"
    )


def _evaluate(parser: argparse.ArgumentParser) -> None:
    take_run(parser)
    take_code(parser)
    parser.add_argument(
        "--on", choices=["dialogsum"], help="score on this public corpus instead; for runs on a public corpus"
    )


def _report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="folder or id of a run")
    shapes = parser.add_mutually_exclusive_group()
    shapes.add_argument("--json", action="store_true", help="print the card as JSON")
    shapes.add_argument("--opendp", action="store_true", help="print an entry of the OpenDP deployments registry")
    shapes.add_argument("--verify", action="store_true", help="derive every figure again from the ledger alone")
    parser.add_argument("--store", metavar="URL", help="store of the ledger, for --verify (that of the run)")


def _audit(parser: argparse.ArgumentParser) -> None:
    take_code(parser)
    parser.add_argument("run", metavar="RUN", nargs="?", help="folder or id of a finished run")
    parser.add_argument(
        "--level",
        choices=("conformance", "default", "full"),
        default="default",
        help="conformance: does the trainer do what its plan says; default: and a white-box lower bound on ε; "
        "full: and black box, membership inference and replay",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--seed", type=int, help="of coins and of what is looked at; fresh if none, as it should be")
    parser.add_argument("--canaries", type=int, default=20_000, help="of the white-box shadow run (20,000)")
    parser.add_argument(
        "--release-private",
        action="store_true",
        help="let what --level full computes from private data leave the private folder: no ε covers it, and the run "
        "is marked",
    )
    parser.add_argument("--self-test", action="store_true", help="plant known bugs, and show which part catches each")


def _generate(parser: argparse.ArgumentParser) -> None:
    take_code(parser)
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
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (127.0.0.1, this machine alone); no password is asked"
    )
    parser.add_argument("--uri", help="tracking store (MLFLOW_TRACKING_URI, else mlflow.db of the working folder)")


def _ls(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "kind", nargs="?", metavar="KIND", help="experiments, runs, or a group of parts such as model; all if none"
    )


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shell", choices=("bash", "zsh", "fish", "words"), help="print the script of a shell; words is what it asks for"
    )


def _promote(parser: argparse.ArgumentParser) -> None:
    take_run(parser)
    parser.add_argument("--name", help="of the registered model (the task's name)")
    parser.add_argument("--alias", help="a name that shall point at this version, such as champion")
    parser.add_argument("--policy", metavar="FILE", help="rules of what follows (conf/withdrawal.yaml)")
    parser.add_argument("--uri", help="MLflow store of the run (that of its configuration)")
    parser.add_argument("--dry-run", action="store_true", help="check everything, register nothing")


RUN_VERBS: dict[str, Verb] = {
    "init": Verb(
        summary="your own files of conversations: a recipe, a key and a template of consent to fill in",
        module="init",
        options=_init,
        example="dp-train init meetings.jsonl chat.csv --column text=body",
    ),
    "train": Verb(
        summary="train one model, or one a trial with -m",
        module="train",
        options=_train,
        example="dp-train train experiments=summary/quickstart privacy.epsilon=4",
    ),
    "plan": Verb(
        summary="σ, steps, ε, and what each bound on a person's examples keeps, before anything is spent",
        module="plan",
        options=_plan,
        example="dp-train plan experiments=compose/quickstart privacy.epsilon=2",
    ),
    "tradeoff": Verb(
        summary="utility against ε: every ε of a grid, the public starting point and no privacy",
        module="tradeoff",
        options=_tradeoff,
        example="dp-train tradeoff experiments=summary/quickstart tradeoff.epsilons=[1,2,4,8] tradeoff.repeats=3",
    ),
    "pretrain": Verb(
        summary="train a starting point on published text alone, for start=published; goes on where it was ended",
        module="pretrain",
        options=_pretrain,
        example="dp-train pretrain experiments=compose/quickstart start=public start.steps=4000 --to my_start",
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
        options=_evaluate,
        example="dp-train evaluate runs/2025-01-31/12-00-00-000000-a1b2c3",
    ),
    "generate": Verb(
        summary="summarise a transcript or complete drafts with a trained model",
        module="generate",
        options=_generate,
        example="dp-train generate RUN --file transcript.txt",
    ),
    "report": Verb(
        summary="the privacy card of a run, and whether the ledger gives every figure of it",
        module="report",
        options=_report,
        example="dp-train report RUN --verify",
    ),
    "audit": Verb(
        summary="lower bounds on ε beside the claim, by attacks on a run and checks of its trainer",
        module="audit",
        options=_audit,
        example="dp-train audit RUN --level full",
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
        options=take_stored,
        example="dp-train validate corpus=jsonl corpus.private=meetings.jsonl consent.events=consent.jsonl",
    ),
    "completion": Verb(
        summary="completion of verbs, options, keys and values, for bash, zsh or fish",
        module="completion",
        options=_completion,
        example="source <(dp-train completion bash)",
    ),
    "env": Verb(
        summary="versions, cores, and whether the accountant gives what it should",
        module="env",
        options=take_nothing,
        example="dp-train env",
    ),
    "promote": Verb(
        summary="register a finished run's model in MLflow, if its ε may be shown and its people still agree",
        module="promote",
        options=_promote,
        example="dp-train promote RUN --alias champion",
    ),
}
