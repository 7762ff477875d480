"""The public starting point is made once, from published text alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from letters import LetterModel, LetterTask

from dp_train.consent.events import Purpose
from dp_train.errors import ConsentError
from dp_train.models import weights
from dp_train.models.weights import mark_tensors, names_of
from dp_train.privacy.plan import NeighboringRelation, PrivacyPlan
from dp_train.privacy.units import Units
from dp_train.training import phases
from dp_train.training.optimizers import adamw
from dp_train.training.phases import Phase, phases_of, record_phases
from dp_train.training.pretrain import StartingPoint, starting_point

UnitsOf = Callable[..., Units]


def make(
    units: Units, plan: PrivacyPlan, cache: Path, facts: dict[str, object] | None = None
) -> tuple[LetterModel, StartingPoint]:
    model = LetterModel()
    start = starting_point(
        LetterTask(), model, units, plan, optimizer=adamw(lr=0.1), cache=cache, facts=facts or {"model": "letters"}
    )
    return model, start


def test_the_second_call_loads_what_the_first_made(units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path) -> None:
    units = units_of(20, Purpose.PUBLISH)
    first, made = make(units, plan, tmp_path)
    second, found = make(units, plan, tmp_path)
    assert (made.cached, found.cached) == (False, True)
    assert made.digest == found.digest
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.output.weight, LetterModel().output.weight)


def test_other_weights_under_the_same_name_are_not_what_the_cache_holds(
    units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phases, "_LEARNT", {})
    monkeypatch.setattr(weights, "_KNOWN", set())
    units = units_of(20, Purpose.PUBLISH)

    def start(model: LetterModel) -> StartingPoint:
        facts = {"model": "/models/the_same_path"}
        return starting_point(LetterTask(), model, units, plan, optimizer=adamw(lr=0.1), cache=tmp_path, facts=facts)

    private = LetterModel()
    torch.nn.init.normal_(private.output.weight)
    run = Phase(run="private", population="people", event=None, relation=NeighboringRelation.ADD_OR_REMOVE_ONE)
    record_phases(names_of(mark_tensors(private)), [run])
    start(private)
    assert phases_of(mark_tensors(private)) == (run,)

    phases._LEARNT.clear()  # another process, in which a published model lies at that path
    published = LetterModel()
    assert not start(published).cached
    assert not torch.equal(published.output.weight, private.output.weight)


@pytest.mark.parametrize("change", ["people", "plan", "facts"])
def test_another_text_plan_or_model_is_another_starting_point(
    units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path, change: str
) -> None:
    _, first = make(units_of(20, Purpose.PUBLISH), plan, tmp_path)
    units = units_of(21 if change == "people" else 20, Purpose.PUBLISH)
    other = plan.replace(steps=3) if change == "plan" else plan
    _, second = make(units, other, tmp_path, {"model": "other"} if change == "facts" else None)
    assert second.digest != first.digest
    assert not second.cached


def test_private_units_make_no_starting_point(units_of: UnitsOf, plan: PrivacyPlan, tmp_path: Path) -> None:
    with pytest.raises(ConsentError, match="expected publish"):
        make(units_of(5), plan, tmp_path)
