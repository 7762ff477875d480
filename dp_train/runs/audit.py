"""An audit of a run, and what follows from it: report, card, tracker, and a ledger entry if the claim is refuted.

What leaves. Conformance and shadow runs use published text, canaries and noise alone; of differencing, which reads
private conversations, whether a bound holds. Membership and replay are computed from private data: they go into the
run's private folder, and further only where `release_private` says so. A shadow run is of no one's data, so it spends
nothing; its model is thrown away.

Order: the ledger first, then result.json, card and tracker, so that a crash on the way leaves a claim withheld.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dp_train.audit.conformance import conformance
from dp_train.audit.one_run import white_box, white_box_bounds
from dp_train.audit.report import SHOWN, Attack, AuditReport, Level
from dp_train.audit.scores import canary_contributions
from dp_train.consent.manifest import PRIVATE
from dp_train.errors import CheckpointError, ConfigError, DpTrainError, EpsilonWithheld, ModelError, PrivacyError
from dp_train.privacy.ledger.ledger import Ledger
from dp_train.privacy.plan import PrivacyPlan
from dp_train.runs.audit_model import black_boxes, private_parts
from dp_train.runs.audit_subject import subject_of
from dp_train.runs.folder import RunFolder, read_config
from dp_train.runs.heads import check_start
from dp_train.runs.inventory import tracking_uri
from dp_train.runs.prepare import Parts, prepare
from dp_train.runs.project import store_url
from dp_train.runs.recipe import Recipe, recipe_of
from dp_train.runs.result import RESULT
from dp_train.runs.tracker import NOTE
from dp_train.tracking.audit_card import log_audit, write_audited
from dp_train.tracking.recompute import ledger_section
from dp_train.tracking.run import TAINTED, TrackedRun
from dp_train.tracking.store import TrackingStore

AUDIT = "audit.json"
"""Of a run's folder: what an audit found, public values alone. The private folder has one of the same name."""

CANARIES = 20_000


@dataclass(slots=True)
class _Clock:
    """Seconds of each part."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - begun


def audit(
    folder: RunFolder,
    *,
    level: Level = Level.DEFAULT,
    seed: int | None = None,
    canaries: int = CANARIES,
    release_private: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> AuditReport:
    """Audit a finished run, and leave what was found in its folder, card, tracker and ledger.

    Guarantee: nobody's budget is spent and no model is left. What the returned report and `audit.json` hold is public,
    but for the values of membership and replay where `release_private` asks for them, and the run is then marked.

    Args:
      level: how much is done.
      seed: of canaries' coins, and of which elements and people are looked at; fresh if None.
      canaries: of the white-box shadow run.
      release_private: whether what `Level.FULL` computes from private data may leave the private folder.

    Raises:
      EpsilonWithheld: the run makes no claim that could be audited. ModelError: it has not finished, or is retired.
      ConfigError: its configuration now gives another plan. ConsentError, DataError: as `prepare`.
    """
    result = auditable(folder, level)
    if level is not Level.CONFORMANCE and canaries < 2:
        raise ConfigError(f"audit: canaries={canaries}; expected at least 2, and thousands for a bound worth having")
    clock = _Clock()
    with clock.part("preparation"):
        say("preparation")
        recipe = recipe_of(read_config(folder.config))
        parts = _prepared(recipe, folder, result, level)
        random = np.random.default_rng(secrets.randbits(64) if seed is None else seed)
        subject = subject_of(parts, random)
    with clock.part("conformance"):
        checks = conformance(subject, seed=seed, say=say)
    attacks: list[Attack] = []
    private: dict[str, Any] = {}
    unfinished: list[str] = []

    def attempt(name: str, part: Callable[[], None]) -> None:
        """Run a part; one that fails leaves what the others found."""
        say(name)
        try:
            with clock.part(name):
                part()
        except DpTrainError as error:
            unfinished.append(f"{name}: {error}")

    def white() -> None:
        trainer, company = subject.make(parts.plan), subject.public.whole
        sent = canaries_of(parts.plan, canaries)
        shadow = white_box(trainer, company, canaries=sent, confidence=SHOWN, seed=seed)
        turns = parts.plan.mechanism.draw_law.groups > 1
        reads = "every noised sum, and whose turn each step is" if turns else "every noised sum"
        attacks.append(Attack.of("white box", shadow, parts.plan, white_box_bounds, reads=reads))

    if level is not Level.CONFORMANCE:
        attempt("white box", white)
    if level is Level.FULL:
        attempt("black box", lambda: attacks.extend(black_boxes(parts, subject.make(parts.plan), seed=seed)))
        attempt("membership and replay", lambda: private.update(private_parts(parts, folder)))
    report = AuditReport(
        run=str(result.get("label", folder.path.name)),
        level=level,
        epsilon=result.get("epsilon"),
        planned=parts.plan.epsilon(),
        delta=parts.plan.delta,
        unit=parts.plan.unit.value,
        conformance=checks,
        attacks=tuple(attacks),
        unfinished=tuple(unfinished),
        private=private,
        released=release_private,
        seconds=clock.seconds,
    )
    record(folder, recipe, report, result)
    return report


def canaries_of(plan: PrivacyPlan, wanted: int) -> int:
    """How many canaries a white-box run of the plan has room for: half of the people whom a cap on a step declares."""
    if plan.population is None:
        return wanted
    return min(wanted, plan.population // (2 * canary_contributions(plan)))


def auditable(folder: RunFolder, level: Level) -> dict[str, Any]:
    """Return `result.json` of a run that can be audited.

    Raises:
      EpsilonWithheld: it is without privacy, or withheld and more than conformance is asked for.
      ModelError: it has not finished, or its model is retired.
    """
    result = folder.read_json(RESULT)
    if result.get("status") != "FINISHED":
        raise ModelError(
            f"audit {folder.path}: has not finished, so there is no claim to audit; finish it with dp-train train "
            f"--resume {folder.path}"
        )
    folder.refuse_retired()
    if result.get("epsilon") is None and not result.get("withheld"):
        raise EpsilonWithheld(
            f"audit {folder.path}: was trained without privacy, and claims nothing that could be audited; train one "
            "with privacy.epsilon=…"
        )
    if result.get("withheld") and level is not Level.CONFORMANCE:
        raise EpsilonWithheld(
            f"audit {folder.path}: its claim is withheld, so there is no ε to compare with; --level conformance shows "
            "what its trainer does"
        )
    return result


def _prepared(recipe: Recipe, folder: RunFolder, result: Mapping[str, Any], level: Level) -> Parts:
    """The run's parts, as of now; with text in memory where the model itself is attacked.

    Raises:
      ConfigError: the plan is not the one that the run kept to.
    """
    if level is Level.FULL:
        recipe = replace(recipe, corpus=replace(recipe.corpus, tables=None))
    parts = prepare(recipe)
    if parts.plan.digest != result.get("plan_digest"):
        raise ConfigError(
            f"audit {folder.path}: its configuration gives plan {parts.plan.digest[:12]}, and the run kept to "
            f"{str(result.get('plan_digest'))[:12]}; audit it with the version that trained it"
        )
    return parts


def record(folder: RunFolder, recipe: Recipe, report: AuditReport, result: Mapping[str, Any]) -> None:
    """Leave what an audit found where its run is shown; take the claim away everywhere if it is refuted.

    Raises:
      CheckpointError: the folder cannot be written. TrackingError, StoreError: tracker or ledger cannot.
    """
    values = report.values()
    run = tracked(folder)
    if run is not None and values["released_private"]:
        run.set_tags({TAINTED: "true"})  # before the first file that holds one
    section = None
    if report.findings:
        section = _refute(folder, recipe, report)
        reasons = [*result.get("withheld", ()), *(f"refuted by an audit: {finding}" for finding in report.findings)]
        claim = f"claim withheld: {'; '.join(reasons)}"
        folder.write_json(RESULT, {**result, "epsilon": None, "withheld": reasons, "claim": claim})
    if report.private:
        _write_private(folder, report.private)
    folder.write_json(AUDIT, values)
    written = write_audited(folder.path, values, ledger=section)
    if run is not None:
        log_audit(run, values, (*written, folder.path / AUDIT))
        if report.findings:
            _mark_versions(run, report)


def _refute(folder: RunFolder, recipe: Recipe, report: AuditReport) -> Mapping[str, Any] | None:
    """Enter the refutation in the ledger; the card's section of it, or None for a run in no ledger."""
    ledger = Ledger.peek(store_url(recipe)) if recipe.ledger else None
    if ledger is None or folder.run_id is None:
        return None
    try:
        check_start(ledger.database)
        if folder.run_id not in ledger.book().lines:
            return None
        measured = {
            "level": report.level.value,
            "lower_bounds": {attack.name: attack.refuting.epsilon for attack in report.attacks},
            "tests": report.conformance.tests,
        }
        head = ledger.refute(folder.run_id, "; ".join(report.findings), audit=measured)
        note = folder.read_json("ledger.json")
        folder.write_json("ledger.json", {**note, "head": head})
        return ledger_section(ledger.book(), folder.run_id)
    finally:
        ledger.close()


def _write_private(folder: RunFolder, private: Mapping[str, Any]) -> None:
    place = folder.path / PRIVATE
    try:
        place.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"run folder: {place} cannot be written ({error.strerror}); free space") from error
    RunFolder(place).write_json(AUDIT, dict(private))


def tracked(folder: RunFolder) -> TrackedRun | None:
    """The run in its tracker, its status untouched; None where it was not tracked."""
    note = folder.read_json(NOTE)
    if "run_id" not in note or "experiment_id" not in note:
        return None
    file = (folder.path / note["store"]).resolve() if "store" in note else None
    uri = f"sqlite:///{file}" if file is not None and Path(file).exists() else tracking_uri(folder)
    store = TrackingStore.open(uri)
    return TrackedRun(store.uri, run_id=note["run_id"], experiment_id=note["experiment_id"])


def _mark_versions(run: TrackedRun, report: AuditReport) -> None:
    """Registered versions of the model say that their claim is refuted, and lose the names that point at them."""
    from dp_train.tracking.registry import mark, versions, withdraw_aliases

    store = TrackingStore.open(run.uri)
    for version in versions(store, run.run_id):
        claim = f"claim withheld: refuted by an audit: {'; '.join(report.findings)}"[:5000]
        mark(store, version, {"privacy.claim": claim, "privacy.epsilon": "withheld"})
        withdraw_aliases(store, version)


def expect_consistent(folder: RunFolder, report: AuditReport) -> None:
    """Raise if the audit refutes the claim, or could not be run to its end.

    Raises:
      PrivacyError: it does; says by what.
    """
    if report.findings:
        raise PrivacyError(
            f"audit {folder.path}: refutes the claim, which is withheld from now on: {'; '.join(report.findings)}; "
            "keep the model inside, mend the trainer and train anew"
        )
    if report.errors:
        raise PrivacyError(
            f"audit {folder.path}: is incomplete, and says nothing of the claim: "
            f"{'; '.join(report.errors)}; mend that, and audit again"
        )


__all__ = ["AUDIT", "CANARIES", "audit", "auditable", "canaries_of", "expect_consistent", "record", "tracked"]
