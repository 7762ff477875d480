"""What an audit found, on the card of its run and in MLflow; a refuted claim is taken off both."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dp_train.atomic import write_text
from dp_train.errors import TrackingError
from dp_train.privacy.rounding import rounded_up
from dp_train.tracking.card import AUDIT_PICTURE, NO_AUDIT, NO_BOUND, Document, card_markdown
from dp_train.tracking.figures import STYLE
from dp_train.tracking.run import EPSILON, TAINTED, TrackedRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CLAIM, _FOUND = "#0072B2", "#D55E00"
_LEAST = 1e-4


def audited_card(card: Document, audit: Mapping[str, Any], *, ledger: Mapping[str, Any] | None = None) -> Document:
    """The card with a section about its audit, and without a claim where the audit refuted it.

    Args:
      audit: as `audit.json` has it. ledger: the card's section anew, where the refutation is in the ledger.
    """
    found = {title: section for title, section in card.items() if title != "audit"}
    if audit["findings"]:
        found = _without_claim(found, audit["findings"])
        if ledger is not None:
            found["ledger"] = dict(ledger)
    # What was released once stays released, whatever a later audit does.
    limits = [limit for limit in found["the ε does not cover"] if limit not in (NO_AUDIT, NO_BOUND)]
    if not audit["attacks"]:
        limits.append(NO_BOUND)
    released = _RELEASED + ", ".join(audit["private"]) + ", which was released on request"
    if audit["released_private"] and released not in limits:
        limits.append(released)
    found["the ε does not cover"] = limits
    document = {}
    for title, section in found.items():
        document[title] = section
        if title == "guarantee as a curve":
            document["audit"] = _section(audit)
    return document


def write_audited(
    folder: Path, audit: Mapping[str, Any], *, ledger: Mapping[str, Any] | None = None
) -> tuple[Path, ...]:
    """Write the section into card.json and card.md of a run's folder, and its picture; returns what was written.

    Raises:
      TrackingError: the card is not there or cannot be read, or the folder cannot be written.
    """
    path = folder / "card.json"
    try:
        document = audited_card(json.loads(path.read_text(encoding="utf-8")), audit, ledger=ledger)
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
        write_text(path, text + "\n")
        write_text(folder / "card.md", card_markdown(document))
    except (OSError, ValueError, KeyError) as error:
        raise TrackingError(f"card: {path} cannot be read or written; expected the card of a finished run") from error
    return path, folder / "card.md", draw_audit(audit, folder / AUDIT_PICTURE)


def draw_audit(audit: Mapping[str, Any], path: Path) -> Path:
    """Draw the claimed ε with the lower bounds, and the ROC of canaries with both axes logarithmic.

    Raises:
      TrackingError: the folder cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 3.2), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        _draw_bounds(left, audit)
        _draw_roc(right, audit["attacks"])
        figure.suptitle(f"Audit: {audit['verdict']}", fontsize=9, x=0.01, ha="left")
        try:
            figure.savefig(path, dpi=160)
        except OSError as error:
            raise TrackingError(f"figure: {path.parent} cannot be written ({error.strerror})") from error
    return path


def log_audit(run: TrackedRun, audit: Mapping[str, Any], files: Sequence[Path]) -> None:
    """Record an audit beside its run: metrics ``audit/…``, the files, and that a claim is withheld.

    Private values are recorded only where they were released, after the run is marked.

    Raises:
      TrackingError: the store cannot be written.
    """
    conformance = audit["conformance"]
    least = min((p for check in conformance["checks"] for p in check["p_values"].values()), default=1.0)
    metrics = {
        "audit/findings": len(audit["findings"]),
        "audit/conformance_tests": conformance["tests"],
        "audit/least_p": least,
    }
    for attack in audit["attacks"]:
        metrics[metric_name(attack["name"])] = attack["bound"]["epsilon"]
    run.log_metrics(metrics)
    run.set_tags({"audit.verdict": audit["verdict"], "audit.level": audit["level"]})
    if audit["released_private"]:
        run.set_tags({TAINTED: "true"})
        run.log_metrics({f"audit/{name}": value for name, value in _numbers(audit["private"])})
    if audit["findings"]:
        reasons = "; ".join(audit["findings"])[:5000]
        run.set_tags({"privacy.withheld": reasons, "privacy.claim": f"claim withheld: {reasons}"})
        history = run.metric_history(EPSILON)
        if history:
            run.log_nan(EPSILON, step=history[-1][0])
    run.log_files(*files)


def metric_name(attack: str) -> str:
    """``audit/epsilon_white_box`` for "white box"."""
    return f"audit/epsilon_{re.sub(r'[^a-z]+', '_', attack)}"


_RELEASED = "what an audit computed from private data: "


def _without_claim(card: Document, findings: Sequence[str]) -> dict[str, Any]:
    reasons = [f"refuted by an audit: {finding}" for finding in findings]
    changed: dict[str, Any] = {
        "claim": {"statement": f"claim withheld: {'; '.join(reasons)}", "withheld because": reasons},
        "guarantee as a curve": {},
        "the ε covers": [],
        "accounting": {
            name: "no: " + "; ".join(reasons) if name == "assumptions held in this run" else value
            for name, value in card["accounting"].items()
            if name != "accountants" and not name.startswith("ε of the plan by ")
        },
    }
    return {title: changed.get(title, section) for title, section in card.items()}


def _section(audit: Mapping[str, Any]) -> dict[str, Any]:
    claim, conformance = audit["claim"], audit["conformance"]
    per = "person" if claim["unit"] == "user" else "example"
    checks = conformance["checks"]
    ran = [check for check in checks if not check["skipped"]]
    found: dict[str, Any] = {
        "what it says": f"{audit['verdict']}; an audit proves nothing",
        "claimed": f"ε={rounded_up(claim['planned'])}, δ={claim['delta']:g} per {per}"
        if claim["epsilon"] is not None
        else "nothing: the claim was withheld before this audit",
    }
    if audit["findings"]:
        found["found"] = list(audit["findings"])
    if audit.get("errors"):
        found["could not be run"] = list(audit["errors"])
    for attack in audit["attacks"]:
        bound = attack["bound"]
        found[f"lower bound, {attack['name']}"] = (
            f"ε ≥ {bound['epsilon']:.3g} at {bound['confidence']:.0%} confidence ({bound['method']}: "
            f"{bound['correct']} of {bound['guesses']} guesses right, {attack['canaries']} canaries in a shadow run on "
            f"published text, from {attack['reads']})"
        )
    passed = sum(not check["findings"] and not check["error"] for check in ran)
    found["conformance"] = (
        f"{passed} of {len(ran)} parts find nothing; {conformance['tests']} tests at a level of "
        f"{conformance['family_wise_level']:g} together"
    )
    for check in checks:
        least = min(check["p_values"].values(), default=None)
        said = "; ".join(check["findings"]) or check["error"] or check["skipped"] or "nothing found"
        tests = f" ({len(check['p_values'])} tests, least p={least:.2g})" if least is not None else ""
        found[check["name"]] = f"{said}{tests}"
    if audit["private"]:
        names = ", ".join(audit["private"])
        found["on private data"] = (
            f"{names}: see below, released on request"
            if audit["released_private"]
            else f"{names}: kept in the run's private folder, for no ε covers it"
        )
    if audit["released_private"]:
        found |= {name: f"{value:.4g}" for name, value in _numbers(audit["private"])}
    return found


def _numbers(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """Numbers of nested mappings, by path; lists, such as curves, are left out."""
    found: list[tuple[str, float]] = []
    for name, value in values.items():
        path = f"{prefix}{name}".replace(" ", "_")  # as MLflow takes it
        if isinstance(value, Mapping):
            found += _numbers(value, f"{path}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((path, float(value)))
    return found


def _draw_bounds(axes: Axes, audit: Mapping[str, Any]) -> None:
    claimed = audit["claim"]["planned"]
    axes.barh(0, claimed, color=_CLAIM, height=0.5)
    names = ["claimed ε" if audit["claim"]["epsilon"] is not None else "planned ε, not claimed"]
    for place, attack in enumerate(audit["attacks"], start=1):
        bound, refuting = attack["bound"], attack["refuting_bound"]
        axes.barh(place, bound["epsilon"], color=_FOUND, height=0.5)
        axes.plot(refuting["epsilon"], place, "|", color="#333333", markersize=14)
        names.append(f"{attack['name']}, ≥ at {bound['confidence']:.0%}")
    axes.axvline(claimed, color=_CLAIM, linestyle=":", linewidth=1.1)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("ε (mark: bound at 99.9 %, which may refute)")
    axes.set_title("Lower bounds beside the claim", loc="left")


def _draw_roc(axes: Axes, attacks: Sequence[Mapping[str, Any]]) -> None:
    for attack, line in zip(attacks, ("-", "--", "-."), strict=False):
        points = [(max(x, _LEAST), max(y, _LEAST)) for x, y in attack["roc"]]
        axes.plot(*zip(*points, strict=True), color=_FOUND, linestyle=line, linewidth=1.6, label=attack["name"])
    axes.plot([_LEAST, 1], [_LEAST, 1], color="#333333", linewidth=1.1, linestyle=":", label="guessing")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("canaries that are out, called in")
    axes.set_ylabel("canaries that are in, called in")
    axes.set_title("Whose canary was it?" if attacks else "No canary was sent", loc="left")
    axes.legend(frameon=False, fontsize=8)


__all__ = ["audited_card", "draw_audit", "log_audit", "metric_name", "write_audited"]
