"""No consented word is lost unseen: what each stage on the way to a step loses adds up, beside the key that decides."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dp_train.cli.load_config import compose
from dp_train.consent.decisions import Reason
from dp_train.consent.gate import GateReport
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.units import SelectionReport
from dp_train.runs.funnel import drawn_once, funnel, lines

RECIPE = compose(["experiments=compose/quickstart"])[0]
PLAN = PrivacyPlan(sample_rate=0.1, expected_units=8, steps=10, delta=1e-5)
REMOVED = st.dictionaries(
    st.sampled_from([reason for reason in Reason if reason is not Reason.GRANTED]), st.integers(1, 90)
)


def report_of(removed: Mapping[Reason, int], passed: int) -> GateReport:
    gone = sum(removed.values())
    return GateReport(
        conversations_seen=9,
        conversations_kept=5,
        turns_seen=gone + passed,
        turns_removed=gone,
        denials={},
        removed=removed,
    )


def selection_of(seen: int, kept: int) -> SelectionReport:
    return SelectionReport(examples_seen=seen, examples_kept=kept, people_seen=seen, people_kept=kept)


@given(removed=REMOVED, passed=st.integers(0, 200), made=st.integers(0, 200), kept=st.integers(0, 200))
def test_what_is_left_and_what_is_lost_is_what_was_left_before(
    removed: Mapping[Reason, int], passed: int, made: int, kept: int
) -> None:
    made = min(made, passed)
    kept = min(kept, made)
    stages = funnel(RECIPE, PLAN, report_of(removed, passed), selection_of(made, kept))
    for before, stage in pairwise(stages):
        assert stage.left + stage.lost == before.left or abs(stage.left + stage.lost - before.left) < 1e-9
        assert stage.lost >= 0
        assert stage.because
    assert (stages[0].left, stages[-1].left) == (passed + sum(removed.values()), kept * drawn_once(PLAN))


def test_each_loss_stands_beside_the_key_that_governs_it() -> None:
    removed = {Reason.NO_RECORD: 4, Reason.OTHER_PERSON_DENIES: 3, Reason.TOO_MUCH_REMOVED: 2}
    rows = lines(funnel(RECIPE, PLAN, report_of(removed, 50), selection_of(40, 30)))
    said = {key: lost for _, _, lost, key in rows if lost}
    assert said["consent.max_removed_share"] == "−2"
    assert said["privacy.rows_per_unit=4"] == "−10"
    assert said["trainer.steps × trainer.population"] == "−10"
    assert sum(key.startswith(("consent: ", "another person")) for key in said) == 2


def test_who_takes_turns_is_drawn_as_often_as_the_plan_says() -> None:
    assert abs(drawn_once(PLAN) - (1 - 0.9**10)) < 1e-12
    assert abs(drawn_once(PLAN.replace(bands=2)) - (1 - 0.8**5)) < 1e-12
    # Of three groups one has a fourth turn.
    assert abs(drawn_once(PLAN.replace(bands=3)) - (1 - 0.7**3 * (2 + 0.7) / 3)) < 1e-12
    assert drawn_once(PLAN.replace(sample_rate=1.0)) == 1.0
