"""The conformance audit finds nothing in an honest trainer, and what each part looks at when a bug is planted."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from dp_train.audit import draws as draws_part
from dp_train.audit.checks import Check, Conformance, timed
from dp_train.audit.differencing import Differ, differencing
from dp_train.audit.encodings import NAME, encodings, made_up
from dp_train.audit.letters import LETTERS, PLAN, LetterModel, LetterTask, units_of
from dp_train.audit.null_batches import lagged_p, product_p, shape_p, size_p, whitened
from dp_train.audit.planting import Patches, Plant, Run, planted
from dp_train.audit.plants import PLANTS
from dp_train.audit.report import CONSISTENT, INCOMPLETE, REFUTED, UNCLAIMED, AuditReport, Level
from dp_train.audit.self_test import NO_BUG, Caught, audited, letter_subject, self_test
from dp_train.audit.short_run import short_runs
from dp_train.audit.subject import Neighbours
from dp_train.conversations import Example
from dp_train.engines.base import EngineName
from dp_train.engines.correlated_noise import planned_noise
from dp_train.engines.noise import SeededNoise
from dp_train.errors import PlanError
from dp_train.privacy.correlation import NoiseLaw
from dp_train.privacy.plan import Unit
from dp_train.privacy.sampling import CyclicPoissonSampler, PoissonSampler
from dp_train.tasks.base import Row
from dp_train.training.batches import Packing


def noise_of(law: NoiseLaw, steps: int, elements: int) -> NDArray[np.float64]:
    import torch

    source = planned_noise(SeededNoise(bytes(range(16))), law)
    rows = []
    for step in range(steps):
        row = torch.zeros(elements)
        source.add(row, 1.0, step=step, index=0)
        rows.append(row.double().numpy())
    return np.stack(rows)


@pytest.mark.parametrize("law", [NoiseLaw(bands=1, steps=9), NoiseLaw(bands=4, steps=9), NoiseLaw(bands=9, steps=9)])
def test_whitened_noise_of_every_law_is_independent_and_standard(law: NoiseLaw) -> None:
    z = whitened(noise_of(law, 9, 5000), law)
    assert size_p(z) > 1e-4
    assert shape_p(z.ravel()[:20_000]) > 1e-4
    assert min(lagged_p([z], lag) for lag in range(1, 9)) > 1e-4


def test_correlated_noise_that_is_taken_for_independent_is_noticed() -> None:
    z = whitened(noise_of(NoiseLaw(bands=4, steps=9), 9, 5000), NoiseLaw(bands=1, steps=1))
    assert min(size_p(z), lagged_p([z], 1)) < 1e-12


def test_p_values_of_the_noise_are_uniform() -> None:
    random = np.random.default_rng(5)
    p = [
        value
        for _ in range(200)
        for z in [random.standard_normal((4, 300))]
        for value in (size_p(z), lagged_p([z], 1), product_p(z[0], z[1]), shape_p(z.ravel()))
    ]
    assert 0.42 < np.mean(p) < 0.58
    assert 0.005 < np.mean(np.array(p) < 0.05) < 0.1


@pytest.mark.parametrize(("rate", "units", "groups"), [(0.25, 40, 1), (0.002, 3000, 1), (0.9, 30, 1), (0.2, 400, 4)])
def test_p_values_of_draws_hold_for_small_and_large_rates(rate: float, units: int, groups: int) -> None:
    found = []
    for trial in range(60):
        seed = trial.to_bytes(16, "big")
        sampler = CyclicPoissonSampler(rate / groups, groups) if groups > 1 else PoissonSampler(rate)
        every = [sampler.draw(step, units, seed) for step in range(240)]
        turns = (
            [len(sampler.members(step, units, seed)) for step in range(240)]
            if isinstance(sampler, CyclicPoissonSampler)
            else [units] * 240
        )
        found.append(list(draws_part.poisson_p(every, turns, units, rate, groups).values()))
    p = np.array(found)
    assert p.min() > 1e-5
    assert (np.abs(p.mean(0) - 0.5) < 0.17).all()


def test_a_units_that_is_drawn_twice_as_often_is_noticed() -> None:
    random = np.random.default_rng(1)
    every = [np.flatnonzero(random.random(100) < np.where(np.arange(100) == 3, 0.5, 0.1)) for _ in range(480)]
    assert draws_part.poisson_p(every, [100] * 480, 100, 0.1, 1)["how often each unit is drawn"] < 1e-9


def test_an_honest_trainer_passes_and_says_what_was_tested() -> None:
    found = audited(None, seed=3)
    assert found.findings == ()
    assert found.tests > 15
    assert not any(check.skipped for check in found.checks)
    assert found.least is not None


ONE_PART_ALONE = {
    "noise that comes again after four steps": "null batches",
    "a second, uncounted release a step": "a short run, watched",
    "the right people drawn, others' rows taken": "a short run, watched",
    "a task that numbers texts as it meets them": "encodings",
    "a batch left out where one loss is large": "self-check and units",
    "shuffling instead of Poisson": "batch sizes",
    "batch-mean clipping": "add/remove differencing",
}
"""Bugs that one part has to see, whatever else sees them; `scripts/check` plants all there are."""


def test_the_self_test_catches_bugs_of_every_kind_and_none_where_there_is_none() -> None:
    first_of_its_kind = {plant.by: plant for plant in reversed(PLANTS)}.values()
    chosen = [plant for plant in PLANTS if plant.name in ONE_PART_ALONE or plant in first_of_its_kind]
    found = self_test(chosen, seed=4)
    assert [one.bug for one in found if not one.as_it_should] == []
    assert [one.bug for one in found] == [NO_BUG, *(plant.name for plant in chosen)]
    parts = {one.bug: one.parts for one in found}
    assert {bug for bug, part in ONE_PART_ALONE.items() if part not in parts[bug]} == set()
    assert "null batches" in parts["noise × 0.5"]


def test_the_self_test_plants_every_bug_that_is_one_on_its_engine() -> None:
    assert all(not plant.not_on(EngineName.BOOKKEEPING, Packing.NONE) for plant in PLANTS)


class _Numbers(LetterTask):
    """Numbers the words that it meets."""

    def __init__(self) -> None:
        self.words: dict[str, int] = {}

    def encode(self, example: Example) -> Row:
        ids = tuple(self.words.setdefault(word, len(self.words)) % LETTERS for word in example.target.split()[:12])
        return Row(input_ids=ids, labels=ids)


class _PadsToTheLongest(LetterTask):
    longest = 0

    def encode(self, example: Example) -> Row:
        self.longest = max(self.longest, len(example.target))
        ids = (*(ord(letter) % LETTERS for letter in example.target), *(0 for _ in range(self.longest)))[: self.longest]
        return Row(input_ids=ids, labels=ids)


class _DropsWhatItHasSeen(LetterTask):
    def __init__(self) -> None:
        self.seen: set[str] = set()

    def encode(self, example: Example) -> Row:
        row = super().encode(example)
        known = example.target in self.seen
        self.seen.add(example.target)
        return Row(input_ids=row.input_ids[:1], labels=row.labels[:1]) if known else row


@pytest.mark.parametrize("kind", [_Numbers, _PadsToTheLongest, _DropsWhatItHasSeen])
def test_a_task_that_learns_from_texts_is_found_also_when_it_has_met_every_text_of_the_run(
    kind: type[LetterTask],
) -> None:
    task = kind()
    subject = letter_subject(Run(LetterModel(), task, Patches()))
    for unit in subject.units:
        for example in unit:
            task.encode(example)
    for seed in range(5):
        check = timed(NAME, lambda seed=seed: encodings(subject, np.random.default_rng(seed)), refuses=True)  # type: ignore[misc]
        assert any("tokens" in finding for finding in check.findings)


def test_made_up_texts_are_new_and_longer_than_those_that_were_met() -> None:
    examples = [unit[0] for unit in letter_subject(Run(LetterModel(), LetterTask(), Patches())).units]
    made = made_up(examples, np.random.default_rng(1))
    met = {example.target for example in examples}
    assert sum(example.target in met for example in made) <= 2
    assert max(len(one.target.split()) for one in made) == 2 * max(len(text.split()) for text in met)
    assert len({one.target for one in made}) < len(made)  # some come twice


def test_the_self_test_fails_on_a_bug_that_nothing_sees_and_on_a_false_alarm() -> None:
    harmless = Plant("nothing is changed", "nobody", lambda run: None)
    assert [one.as_it_should for one in self_test([harmless], seed=1)] == [True, False]
    assert not Caught(bug=NO_BUG, parts=("null batches",), seconds=0.0).as_it_should


def test_a_plant_is_taken_out_again_also_after_an_error() -> None:
    before = SeededNoise.add
    with suppress(ZeroDivisionError), planted(PLANTS[0], LetterModel(), LetterTask()):
        assert SeededNoise.add is not before
        raise ZeroDivisionError
    assert SeededNoise.add is before


def test_a_trainer_that_refuses_to_start_is_a_finding() -> None:
    def refuse() -> Check:
        raise PlanError("plan: no")

    assert timed("part", refuse, refuses=True).findings == ("plan: no",)


def test_a_part_that_cannot_be_run_says_nothing_of_the_claim() -> None:
    def refuse() -> Check:
        raise PlanError("plan: no")

    found = Conformance(checks=(timed("part", refuse),))
    assert found.findings == ()
    assert found.errors == ("part: plan: no",)


@pytest.mark.parametrize("pairs", ["none", "alike"])
def test_differencing_that_compared_nothing_says_nothing_of_the_claim(pairs: str) -> None:
    with planted(None, LetterModel(), LetterTask()) as run:
        subject = letter_subject(run)
        whole = subject.neighbours[0].whole
        found = differencing(
            replace(subject, neighbours=[] if pairs == "none" else [Neighbours(whole=whole, emptied=whole)]),
            np.random.default_rng(1),
        )
    assert (found.findings, found.skipped) == ((), "")
    assert "nothing was compared" in found.error


def test_a_short_run_that_nobody_heard_or_could_kill_says_nothing_of_the_claim() -> None:
    with planted(None, LetterModel(), LetterTask()) as run:
        subject = letter_subject(run)
        deaf = replace(subject, make=lambda plan, **rest: subject.make(plan, **{**rest, "callbacks": ()}))
        watched, constants, resumed = short_runs(deaf, 1)
    assert (watched.findings, watched.error) == ((), "")
    assert "no step was heard" in constants.error
    assert "could not be killed" in resumed.error


def test_a_part_that_failed_hides_no_finding_and_without_one_leaves_the_audit_incomplete() -> None:
    def report(*, finding: str = "", unfinished: tuple[str, ...] = (), epsilon: float | None = 8.0) -> AuditReport:
        check = Check(name="a", compared="", findings=(finding,) if finding else ())
        return AuditReport(
            run="r",
            level=Level.DEFAULT,
            epsilon=epsilon,
            planned=8.0,
            delta=1e-5,
            unit="user",
            conformance=Conformance(checks=(check,)),
            unfinished=unfinished,
        )

    assert report().verdict == CONSISTENT
    assert report(unfinished=("white box: no",)).verdict == INCOMPLETE
    assert report(finding="too little noise", unfinished=("white box: no",)).verdict == REFUTED
    assert report(epsilon=None).verdict == UNCLAIMED


def test_all_p_values_share_one_level() -> None:
    class Made:
        one: ClassVar = Check(name="a", compared="", p_values={"x": 5e-5, "y": 0.5, "z": 0.2})

    assert Conformance(checks=(Made.one,)).findings == ()  # 5e-5 > 1e-4 ÷ 3
    assert Conformance(checks=(Made.one,), level=2e-4).findings == ("a: x (p=5.0e-05)",)


def test_units_of_more_than_one_person_that_change_are_a_finding() -> None:
    task = LetterTask()
    whole, emptied = (units_of(task.purpose, Unit.USER, 2, silent) for silent in (None, 3))
    one = Differ.of(Neighbours(whole=whole, emptied=emptied), task)
    assert (len(one.gone), one.new) == (1, ())
    run = Run(LetterModel(), task, Patches(), unit=Unit.EXAMPLE)
    subject = letter_subject(run)
    both = Differ.of(subject.neighbours[0], task)
    assert len(both.gone) == 2 > PLAN.max_contributions
