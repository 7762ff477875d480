"""Reports tell counts and figures, never a few people and never who or what."""

import dataclasses
import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import AS_OF, CHAT, COMPANY, COMPOSE, SUMMARY, day, event
from scipy.optimize import linprog

from dp_train.consent.events import CollectionMethod, EntityRole, EventState
from dp_train.consent.practice import Practice
from dp_train.consent.reports import (
    HIDDEN,
    ReportFacts,
    ReportKind,
    RunFigure,
    report,
    report_json,
    report_markdown,
)
from dp_train.consent.store import ConsentStore
from dp_train.consent.suppression import SMALL, Published, publish
from dp_train.consent.tallies import UNKNOWN, Answer, tally
from dp_train.store.chain import Broken, Verified
from dp_train.store.database import Database

TABLES = st.integers(1, 4).flatmap(
    lambda width: st.lists(
        st.lists(st.one_of(st.just(0), st.integers(1, 12), st.integers(0, 80)), min_size=width, max_size=width),
        min_size=1,
        max_size=4,
    )
)


def grid(shown: Published) -> list[list[int | None]]:
    """With totals at the ends."""
    rows = [[*row, total] for row, total in zip(shown.rows, shown.row_totals, strict=True)]
    return [*rows, [*shown.column_totals, shown.total]]


def members(cell: tuple[int, int], height: int, width: int) -> list[tuple[int, int]]:
    """Cells without totals that add up to a cell."""
    rows = range(height) if cell[0] == height else [cell[0]]
    columns = range(width) if cell[1] == width else [cell[1]]
    return list(product(rows, columns))


def possible(shown: Published, cell: tuple[int, int]) -> tuple[float, float]:
    """What an attacker can say of a cell who solves for it with everything that is shown."""
    table = grid(shown)
    height, width = len(table) - 1, len(table[0]) - 1
    place = {inner: index for index, inner in enumerate(product(range(height), range(width)))}

    def line(of: tuple[int, int]) -> list[float]:
        found = [0.0] * len(place)
        for inner in members(of, height, width):
            found[place[inner]] = 1.0
        return found

    known = [(of, table[of[0]][of[1]]) for of in product(range(height + 1), range(width + 1))]
    sums = [(line(of), value) for of, value in known if value is not None]
    ends = []
    for sign in (1, -1):
        equal = {"A_eq": [row for row, _ in sums], "b_eq": [value for _, value in sums]} if sums else {}
        found = linprog([sign * value for value in line(cell)], bounds=(0, None), **equal)
        ends.append(float("inf") if found.status == 3 else sign * found.fun)
    return ends[0], ends[1]


@settings(max_examples=60, deadline=None)
@given(TABLES)
def test_no_hidden_small_count_can_be_derived(counts: list[list[int]]) -> None:
    shown = publish(counts)
    true = [[*row, sum(row)] for row in counts]
    true.append([sum(column) for column in zip(*true, strict=True)])
    for row, line in enumerate(grid(shown)):
        for column, value in enumerate(line):
            assert value in (None, true[row][column])
            if 0 < true[row][column] < SMALL:
                assert value is None
                low, high = possible(shown, (row, column))
                assert high - low >= SMALL - 1e-6


def test_attacker_of_the_test_derives_what_only_primary_suppression_hides() -> None:
    naive = Published(rows=((None, 20), (30, 40)), row_totals=(23, 70), column_totals=(33, 60), total=93)
    assert possible(naive, (0, 0)) == pytest.approx((3, 3))
    assert publish([[3, 20], [30, 40]]) != naive


def test_large_counts_and_zeros_are_shown() -> None:
    shown = publish([[10, 0], [25, 400]])
    assert shown == Published(rows=((10, 0), (25, 400)), row_totals=(10, 425), column_totals=(35, 400), total=435)


@pytest.fixture
def store(store_url: str) -> Iterator[ConsentStore]:
    database = Database(store_url.replace("postgresql://", "postgresql+psycopg://"))
    yield ConsentStore(database)
    database.close()


def test_people_are_counted_once_by_the_newest_thing_they_said(store: ConsentStore) -> None:
    given = {"jurisdiction": "DE", "purpose": frozenset({COMPOSE})}
    for one in (
        COMPANY,
        event("ann", **given),
        event("ann", EventState.WITHDRAWN, 5, **given | {"purpose": frozenset()}),
        event("bob", EventState.WITHDRAWN, 1, **given),
        event("bob", EventState.RENEWED, 2, **given),
        event("cy", expires_at=day(50), **given),
        event("dee", EventState.REFUSED, 3, record_id="d1", **given),
        event("dee", when=3, record_id="d2", **given),
        event("eve", EventState.REQUESTED, **given),
        event("fay", collection_method=CollectionMethod.GPC_SIGNAL, **given),
        event("bob", EventState.REFUSED, 9, entity_role=EntityRole.ORG_ADMIN, **given),
        event("gus", when=0, jurisdiction="Gus Green, 1 Garden Road", purpose=frozenset({SUMMARY})),
        event("hal", when=101, **given),
    ):
        store.append(one)
    found = tally(store, as_of=AS_OF)
    assert {key: count for key, count in found.people.items() if key[0] is COMPOSE} == {
        (COMPOSE, "DE", Answer.WITHDRAWN): 2,
        (COMPOSE, "DE", Answer.GRANTED): 1,
        (COMPOSE, "DE", Answer.EXPIRED): 1,
        (COMPOSE, "DE", Answer.REFUSED): 1,
        (COMPOSE, "DE", Answer.WAITING): 1,
    }
    assert found.people[SUMMARY, UNKNOWN, Answer.GRANTED] == 1
    assert found.people[SUMMARY, "DE", Answer.WITHDRAWN] == 1  # ann, who named no purpose


def facts(store: ConsentStore) -> ReportFacts:
    return ReportFacts(
        as_of=AS_OF,
        tallies=tally(store, as_of=AS_OF),
        consent_chain=store.verify(),
        ledger_chain=None,
        runs=[
            RunFigure(
                reservation="ab12",
                population="7c1e",
                purpose="train_chat_compose",
                state="committed",
                steps=40,
                epsilon=3.0001,
                delta=1e-5,
            )
        ],
        redaction={"EMAIL": 1.0},
        redaction_note="recall 0.9",
    )


def test_no_report_holds_what_was_planted(store: ConsentStore) -> None:
    planted = [
        "Ann Archer",
        "ann.archer@acme.example",
        "my dog is called Rex",
        "planted-record",
        "Acme Ltd",
        "notice of Ann",
    ]
    for number in range(15):
        store.append(
            event(
                f"{planted[0]} {number}",
                record_id=f"planted-record {number}",
                evidence_ref=f"{planted[2]} {planted[1]}",
                org_id="Acme Ltd",
                jurisdiction="Ann Archer's town",
                notice_id="notice of Ann",
                language="Ann Archer",
                withdrawal_method="Ann Archer",
                content_kind=frozenset({CHAT}),
            )
        )
    pseudonyms = [each.pii_principal_id for each in store.events()]
    for kind in ReportKind:
        document = report(kind, facts(store))
        for text in (report_json(document), report_markdown(document)):
            assert not [word for word in [*planted, *pseudonyms] if word is not None and word in text]
            assert "15" in text or kind is not ReportKind.TRANSPARENCY


def test_json_and_markdown_say_the_same(store: ConsentStore) -> None:
    store.append(event("ann", jurisdiction="DE"))
    for kind in ReportKind:
        document = report(kind, facts(store))
        assert json.loads(report_json(document)) == document
        text = report_markdown(document)
        for name, part in document.items():
            assert name in ("as of", "title") or f"## {name}" in text
            values = part if isinstance(part, list) else [part] if isinstance(part, str) else part.values()
            for value in values:
                if not isinstance(value, list):
                    assert str(value) in text


def test_one_person_is_in_no_transparency_report(store: ConsentStore) -> None:
    store.append(event("ann", jurisdiction="DE"))
    document = report(ReportKind.TRANSPARENCY, facts(store))
    table = document[f"people by answer: {COMPOSE.value}"]["table"]
    assert table[0] == {"answer": "asked", "DE": HIDDEN, "all": HIDDEN}
    coverage = report(ReportKind.DPIA, facts(store))["(b) necessity and proportionality: consent"]
    assert set(coverage.values()) == {HIDDEN}


FROM_FACTS = (ReportKind.ART30, ReportKind.DPIA, ReportKind.TRANSPARENCY)
PRACTICE = Practice(runs=5, tasks={"meeting_summary": 5})
COUNTS = [each.name for each in dataclasses.fields(Practice) if each.name != "tasks"]


@pytest.mark.parametrize("kind", FROM_FACTS)
@pytest.mark.parametrize("name", COUNTS)
def test_each_fact_of_the_runs_that_changes_changes_its_sentence(
    store: ConsentStore, name: str, kind: ReportKind
) -> None:
    texts = [
        report_markdown(report(kind, dataclasses.replace(facts(store), practice=practice)))
        for practice in (
            dataclasses.replace(PRACTICE, **{name: count}) for count in ((0, 5, 12) if name == "runs" else (0, 2, 12))
        )
    ]
    assert len(set(texts)) == 3
    assert "not kept" not in "".join(texts)


@pytest.mark.parametrize("kind", FROM_FACTS)
@pytest.mark.parametrize("tasks", [{}, {"chat_compose": 5}, {"meeting_summary": 4, "chat_compose": 1}, {"minutes": 5}])
def test_what_was_learnt_from_follows_from_the_tasks_of_the_runs(
    store: ConsentStore, tasks: dict[str, int], kind: ReportKind
) -> None:
    one, other = (
        report(kind, dataclasses.replace(facts(store), practice=dataclasses.replace(PRACTICE, tasks=tasks)))
        for tasks in (PRACTICE.tasks, tasks)
    )
    assert one != other


@pytest.mark.parametrize("kind", FROM_FACTS)
@pytest.mark.parametrize(
    "change",
    [
        {"redaction_note": "recall 0.8"},
        {"redaction_note": ""},
        {"retired": 2},
        {"ledger_chain": Verified(rows=7, head="ab", broken=None)},
        {"ledger_chain": Verified(rows=7, head="ab", broken=Broken(seq=3, reason="row 3 was changed"))},
        {"consent_chain": Verified(rows=7, head="ab", broken=Broken(seq=3, reason="row 3 was changed"))},
    ],
    ids=["recall", "no recall", "retired", "ledger", "broken ledger", "broken consent"],
)
def test_each_other_fact_that_changes_changes_its_sentence(
    store: ConsentStore, change: dict[str, Any], kind: ReportKind
) -> None:
    known = dataclasses.replace(facts(store), practice=PRACTICE)
    assert report(kind, known) != report(kind, dataclasses.replace(known, **change))


@pytest.mark.parametrize("kind", [ReportKind.DPIA, ReportKind.TRANSPARENCY])
def test_the_bounds_that_are_told_are_those_of_the_ledger(store: ConsentStore, kind: ReportKind) -> None:
    known = facts(store)
    free = [*known.runs, dataclasses.replace(known.runs[0], reservation="cd34", epsilon=None)]
    told = [
        report_markdown(report(kind, dataclasses.replace(known, runs=runs, redaction=recall)))
        for runs, recall in ((known.runs, {"EMAIL": 1.0}), (free, {"EMAIL": 1.0}), ([], {"EMAIL": 1.0}), (free, {}))
    ]
    assert len(set(told)) == 4
    assert "no bound per person" in told[1]


def test_no_document_claims_what_no_run_did(store: ConsentStore) -> None:
    """Runs without noise, names left, in no ledger: nothing says that people are protected."""
    bare = dataclasses.replace(PRACTICE, names_off=5, patterns_off=5, without_privacy=5, no_ledger=5)
    for kind in FROM_FACTS:
        text = report_markdown(report(kind, dataclasses.replace(facts(store), practice=bare)))
        assert "NO differential privacy per person, in any of 5 runs" in text
        assert "NOT accounted in a ledger" in text
        assert "names of a conversation's people were NOT replaced" in text


def test_audit_report_names_the_row_that_does_not_hold(tmp_path: Path) -> None:
    import sqlalchemy as sa

    store = ConsentStore(Database(f"sqlite:///{tmp_path / 'store.db'}"))
    store.append(event("ann"))
    store.append(event("bob"))
    assert report(ReportKind.AUDIT, facts(store))["consent events"]["holds"] == "yes"
    with store.database.writing("consent") as connection:
        connection.execute(sa.text("UPDATE consent_events SET evidence_ref = 'x' WHERE seq = 2"))
    assert "row 2" in report(ReportKind.AUDIT, facts(store))["consent events"]["holds"]
    store.database.close()
