"""`dp-train audit`: a run's claim beside the strongest attacks that there are, and whether the audit itself works."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from dp_train.cli.show import console, table
from dp_train.errors import ConfigError, PrivacyError
from dp_train.runs.folder import RunFolder


def run(options: Namespace) -> int:
    """Audit a run, or with --self-test the audit.

    Raises:
      PrivacyError: the audit refutes the claim, or the self-test misses a bug.
    """
    if options.self_test:
        return _self_test(options)
    if options.run is None:
        raise ConfigError("audit: no run is named; expected the folder or id of one, or --self-test")
    from dp_train.audit.report import Level
    from dp_train.runs.audit import audit, expect_consistent

    folder = RunFolder.find(options.run)
    out = console()
    report = audit(
        folder,
        level=Level[options.level],
        seed=options.seed,
        canaries=options.canaries,
        release_private=options.release_private,
        say=(lambda line: None) if options.json else lambda line: out.print(f"[dim]{line} …[/]"),
    )
    if options.json:
        print(json.dumps(report.values(), indent=2, ensure_ascii=False))
    else:
        _show(out, folder, report.values())
    expect_consistent(folder, report)
    return 0


def _show(out: Console, folder: RunFolder, audit: Mapping[str, Any]) -> None:
    out.print(
        table(
            ("part", "tests", "least p", "found", "s"),
            map(_check_row, audit["conformance"]["checks"]),
            title="conformance",
        )
    )
    if audit["attacks"]:
        rows = [("claimed", f"{audit['claim']['planned']:.4g}", "", "", ""), *map(_attack_row, audit["attacks"])]
        columns = ("", "ε at 95 %", "ε at 99.9 %", "guesses right", "s")
        out.print(table(columns, rows, title="shadow runs on published text"))
    if audit["private"]:
        where = "released on request: the card says so" if audit["released_private"] else f"in {folder.path}/private"
        out.print(f"{', '.join(audit['private'])}: {where}", markup=False)
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in audit["seconds"].items())
    out.print(f"{audit['verdict']}; an audit proves nothing ({seconds})", markup=False)


def _check_row(check: Mapping[str, Any]) -> tuple[str, ...]:
    p = check["p_values"]
    found = "; ".join(check["findings"]) or check["error"] or check["skipped"] or "nothing"
    least = f"{min(p.values()):.2g}" if p else ""
    return check["name"], str(len(p) or ""), least, found, f"{check['seconds']:.1f}"


def _attack_row(attack: Mapping[str, Any]) -> tuple[str, ...]:
    bound = attack["bound"]
    return (
        attack["name"],
        f"≥ {bound['epsilon']:.3g}",
        f"≥ {attack['refuting_bound']['epsilon']:.3g}",
        f"{bound['correct']} of {bound['guesses']} ({bound['method']})",
        f"{attack['seconds']:.1f}",
    )


def _self_test(options: Namespace) -> int:
    from dp_train.audit.self_test import NO_BUG, self_test, table_of

    out = console()
    found = self_test(seed=options.seed)
    if options.json:
        rows = [{"bug": one.bug, "caught_by": list(one.parts), "seconds": round(one.seconds, 2)} for one in found]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        out.print(table(("planted bug", "caught by"), table_of(found).items()))
        out.print(f"{len(found) - 1} bugs, {sum(one.seconds for one in found):.0f} s")
    missed = ["a bug where there is none" if one.bug == NO_BUG else one.bug for one in found if not one.as_it_should]
    if missed:
        raise PrivacyError(f"audit: the self-test fails: {', '.join(missed)}; do not rely on an audit of this version")
    return 0
