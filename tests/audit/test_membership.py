"""A model that learnt its people by heart tells them from others; one that learnt nothing does not."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from dp_train.audit.letters import LetterModel, LetterTask
from dp_train.audit.membership import losses, membership, rows_of_people
from dp_train.conversations import Example
from dp_train.errors import DataError


def people(names: list[str], random: np.random.Generator) -> list[tuple[Example, ...]]:
    def say() -> str:
        return "".join(map(chr, random.integers(97, 123, 8)))

    return [
        tuple(
            Example(example_id=f"{name}/{number}", prompt="", target=say(), owners=frozenset({name}))
            for number in range(2)
        )
        for name in names
    ]


def test_the_area_is_large_where_people_were_learnt_by_heart_and_a_half_where_not() -> None:
    random = np.random.default_rng(0)
    members = people([f"in {number}" for number in range(30)], random)
    others = people([f"out {number}" for number in range(30)], random)
    task, start = LetterTask(), LetterModel()
    trained = copy.deepcopy(start)
    optimizer = torch.optim.Adam(trained.parameters(), lr=0.1)
    inputs = task.collate([task.encode(example) for unit in members for example in unit])
    for _ in range(100):
        optimizer.zero_grad()
        task.row_losses(trained, inputs).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    found = membership(start, trained, task, members, others)
    assert found.area.low > 0.6
    assert found.tpr[0.01].value > 0
    assert (found.members, found.others) == (30, 30)
    same = membership(start, copy.deepcopy(start), task, members, others)
    assert same.area.value == 0.5
    assert same.area.low <= 0.5 <= same.area.high


def test_a_person_is_scored_by_all_of_their_rows_and_a_row_of_two_counts_for_both() -> None:
    example = Example(example_id="m", prompt="", target="together", owners=frozenset({"ann", "bob"}))
    own = Example(example_id="n", prompt="", target="alone", owners=frozenset({"ann"}))
    assert rows_of_people([(example,), (own,)]) == {"ann": [example, own], "bob": [example]}


def test_losses_keep_the_order_of_rows() -> None:
    task, model = LetterTask(), LetterModel()
    random = np.random.default_rng(2)
    rows = [
        task.encode(Example(example_id=str(n), prompt="", target="x" * int(n), owners=frozenset({"a"})))
        for n in random.integers(2, 12, 90)
    ]
    assert losses(model, task, rows).tolist() == pytest.approx([float(losses(model, task, [one])[0]) for one in rows])


def test_someone_on_both_sides_or_no_one_on_one_is_refused() -> None:
    random = np.random.default_rng(0)
    some = people(["a", "b"], random)
    for others in (some[:1], []):
        with pytest.raises(DataError, match="membership: expected people of the run"):
            membership(LetterModel(), LetterModel(), LetterTask(), some, others)
