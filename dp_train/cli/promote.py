"""`dp-train promote`: a finished run's model into MLflow's registry, if its ε may be shown and its people still agree.

Consent is asked anew, as of now: of the run's own events or corpus, and of the store, where withdrawals stand.
"""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from dp_train.cli.load_config import compose
from dp_train.cli.show import console, table
from dp_train.consent.decisions import Reason
from dp_train.consent.impact import RunImpact, gone, judge
from dp_train.consent.manifest import Manifest
from dp_train.consent.policy import Action
from dp_train.consent.principals import PrincipalKey
from dp_train.corpora.adapters.benchmark import WARNING
from dp_train.errors import ConsentError, EpsilonWithheld, ModelError, TrackingError
from dp_train.privacy.ledger.ledger import Ledger
from dp_train.privacy.ledger.lines import Book
from dp_train.runs.folder import RunFolder, read_config
from dp_train.runs.heads import check_start
from dp_train.runs.inventory import PastRun, gone_by_store, kept, policy_of, refuse_other_store, tracking_uri
from dp_train.runs.populations import snapshot
from dp_train.runs.project import key_path, store_url
from dp_train.runs.recipe import Recipe
from dp_train.tracking.registry import RESERVATION


def run(options: Namespace) -> int:
    """Check everything, then register."""
    folder = RunFolder.find(options.run)
    result = folder.read_json("result.json")
    config, _ = compose([], stored=read_config(folder.config))
    if config.corpus.research_only:
        raise ConsentError(
            f"promote {folder.path}: {WARNING}; train one on people who agreed: corpus=jsonl consent.events=PATH"
        )
    _check_model(folder, result)
    refuse_other_store(folder, config)
    ledger = Ledger.peek(store_url(config))
    book = Book() if ledger is None else ledger.book()
    if ledger is not None:
        check_start(ledger.database)
        ledger.close()
    found = kept(folder, book, options.uri, registry=False)
    line = book.lines.get(folder.run_id or "")
    if line is not None and line.refuted is not None:
        raise EpsilonWithheld(
            f"promote {folder.path}: its claim was refuted ({line.refuted}); only a model with an ε is promoted; train "
            "it anew once dp-train audit finds nothing"
        )
    if line is not None and line.withheld:
        raise EpsilonWithheld(
            f"promote {folder.path}: the ledger has its ε withheld, for it departed from its plan; only a model with "
            "an ε is promoted; train it anew"
        )
    if found.run.manifest is None:
        raise ConsentError(
            f"promote {folder.path}: the run keeps no list of its people, so nobody can ask them again; train it anew"
        )
    now = datetime.now(UTC)
    people = _left(found.run.manifest, config)
    due = judge(found.run, people, policy_of(options.policy), since=now)
    if due.action.severity >= Action.BLOCK_PROMOTION.severity:
        raise ConsentError(
            f"promote {folder.path}: people whose data is in it do not agree any more, and the policy says "
            f"{due.action.value} ({', '.join(due.because)}); train it anew: dp-train train --from-run {folder.path}"
        )
    tags = _tags(found, result, book, due, now)
    name = options.name or str(result["task"])
    if options.dry_run:
        return _tell(options, name, None, tags)
    from dp_train.tracking.registry import register
    from dp_train.tracking.store import TrackingStore

    store = TrackingStore.open(options.uri or tracking_uri(folder))
    made = register(store, str(result["mlflow_run_id"]), folder.model, name=name, alias=options.alias, tags=tags)
    return _tell(options, name, made.version, tags)


def _check_model(folder: RunFolder, result: dict[str, object]) -> None:
    """Whether there is a model with a claim.

    Raises:
      ModelError, EpsilonWithheld, TrackingError: there is none, it makes no claim, or MLflow does not know the run.
    """
    if result.get("status") != "FINISHED" or not folder.model.is_dir():
        raise ModelError(f"promote {folder.path}: holds no finished model; finish it with dp-train train --resume")
    folder.refuse_retired()
    if result.get("withheld"):
        raise EpsilonWithheld(f"promote {folder.path}: {result.get('claim')}; only a model with an ε is promoted")
    if result.get("epsilon") is None:
        raise EpsilonWithheld(
            f"promote {folder.path}: it was trained without privacy; only a model with an ε is promoted"
        )
    if result.get("mlflow_run_id") is None:
        raise TrackingError(
            f"promote {folder.path}: it was trained with tracking=off, and a version belongs to a run of MLflow; "
            "train it with tracking=mlflow"
        )


def _left(manifest: Manifest, config: Recipe) -> int:
    """People of the run who do not agree any more: by the run's own events as of now, or by the store."""
    by_store = gone_by_store(manifest, store_url(config), PrincipalKey.load(key_path(config.consent.key)))
    moment = snapshot(replace(config, consent=replace(config.consent, as_of=None, known_at=None)))
    return len(by_store | gone(manifest, moment, staying={Reason.GRANTED})) + manifest.erased


def _tags(found: PastRun, result: dict[str, object], book: Book, due: RunImpact, now: datetime) -> dict[str, str]:
    manifest = found.run.manifest
    assert manifest is not None
    line = book.lines.get(manifest.run)
    tags = {
        "privacy.epsilon": f"{result['epsilon']}",
        "privacy.delta": f"{found.run.delta}",
        "privacy.claim": str(result["claim"])[:5000],
        "privacy.plan_digest": str(result["plan_digest"]),
        "consent.root": manifest.consent_root,
        "consent.purpose": manifest.purpose.value,
        "consent.checked_at": now.isoformat(timespec="seconds"),
        "consent.action": due.action.value,
        "dp_train.run": Path(found.run.name).name,
        RESERVATION: manifest.run,
    }
    if line is not None:
        tags |= {"ledger.row": str(line.first_row), "ledger.row_hash": line.row_hash}
    if due.act_by is not None:
        tags["consent.act_by"] = due.act_by.isoformat(timespec="seconds")
    return tags


def _tell(options: Namespace, name: str, version: str | None, tags: dict[str, str]) -> int:
    if options.json:
        values = {"model": name, "version": version, "alias": options.alias, "tags": tags}
        print(json.dumps(values, indent=2, ensure_ascii=False))
        return 0
    title = f"{name}/{version}" if version is not None else f"{name}: dry run, nothing was registered"
    console().print(table(("tag", ""), tags.items(), title=title))
    return 0
