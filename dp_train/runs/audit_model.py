"""The parts of an audit that look at models: black-box shadow runs, membership inference and replay."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from dp_train.audit.canaries import CanaryPeople
from dp_train.audit.membership import membership
from dp_train.audit.one_run import black_box, black_box_bounds
from dp_train.audit.replay import TrainedRow, replays
from dp_train.audit.report import SHOWN, Attack
from dp_train.consent.manifest import read_manifest
from dp_train.consent.principals import PrincipalKey
from dp_train.conversations import Example
from dp_train.errors import DataError
from dp_train.privacy.relations import Unit
from dp_train.privacy.units import Units, build_units
from dp_train.runs.folder import RunFolder
from dp_train.runs.load import load
from dp_train.runs.prepare import Parts
from dp_train.runs.project import key_path
from dp_train.runs.starting import make_model
from dp_train.tasks.base import Sample
from dp_train.tasks.chat_compose import ChatCompose
from dp_train.tasks.sequences import IGNORE
from dp_train.training.trainer import Trainer

_PEOPLE = 400
"""Canary people of a black-box shadow run, and members and others of a membership attack at most."""

_TEXTS = 96
_PLACES = (0.25, 0.5, 0.75)
"""Where in a message suggestions are asked for."""


def black_boxes(parts: Parts, trainer: Trainer, *, seed: int | None) -> list[Attack]:
    """Shadow runs on published text with canary people who write random words, and with ones who write as others do."""
    rows = parts.recipe.privacy.rows_per_unit if parts.plan.unit is Unit.USER else 1  # a canary is one unit
    dice = secrets.randbits(32) if seed is None else seed + 1  # not the bits that the coins are made of
    company = _units(parts, parts.data.task.examples(parts.data.populations.public))
    published = [example.target for unit in islice(company, 2000) for example in unit]
    words = sorted({word for text in published for word in text.split() if word.isalpha()})
    people = {"black box, random words": CanaryPeople.random_words(_PEOPLE, words, rows=rows, seed=dice)}
    unseen = sorted({example.target for example in parts.data.evaluation if len(example.target.split()) > 2})
    if len(unseen) >= _LEAST_TEXTS:
        count = min(_PEOPLE, len(unseen))
        people["black box, ordinary words"] = CanaryPeople.like(unseen, count, rows=rows, seed=dice)
    return [
        Attack.of(
            name,
            black_box(trainer, company, canaries, confidence=SHOWN, seed=seed),
            parts.plan,
            black_box_bounds,
            reads="losses of the trained model",
        )
        for name, canaries in people.items()
    ]


_LEAST_TEXTS = 40


def private_parts(parts: Parts, folder: RunFolder) -> dict[str, Any]:
    """Attack the run's own model with its own people. Private.

    Raises:
      DataError: there are no people outside the run to compare with.
    """
    data = parts.data
    trained = load(folder).model
    if data.populations.evaluation is None:
        raise DataError(
            "audit: corpus.evaluation is null; expected published text of people outside the run, with whom its people "
            "are compared; --level default needs none"
        )
    device = parts.recipe.trainer.device.value
    trained.to(device)  # type: ignore[arg-type]
    start, _ = make_model(parts.recipe, data)
    members = _members(parts, folder)
    others = list(_units(parts, data.task.examples(data.populations.evaluation)))
    attack = membership(start, trained, data.task, members[:_PEOPLE], others[:_PEOPLE])
    output, reference = replays(
        _written(parts, trained),
        _trained_rows(parts, members),
        tokenize=lambda texts: data.tokenizer(list(texts), add_special_tokens=False)["input_ids"],
        decode=lambda ids: str(data.tokenizer.decode(list(ids))),
    )
    return {
        "membership": attack.values(),
        "replay of outputs": output.values(),
        "replay of references": reference.values(),
    }


def _units(parts: Parts, examples: Any) -> Units:
    privacy = parts.recipe.privacy
    return build_units(
        examples,
        unit=privacy.unit,
        max_contributions=privacy.max_contributions,
        rows_per_unit=privacy.rows_per_unit,
    )


def _members(parts: Parts, folder: RunFolder) -> list[tuple[Example, ...]]:
    """Units of today whose people are on the run's list: who left is not looked at."""
    manifest = read_manifest(folder.path)
    if manifest is None:
        raise DataError(f"audit {folder.path}: the run keeps no list of its people; expected one; train it anew")
    key = PrincipalKey.load(key_path(parts.recipe.consent.key))
    there = {person for person in parts.data.units.people if manifest.holds(key.pseudonym(person))}
    return [unit for unit in parts.data.units if all(example.owners <= there for example in unit)]


def _written(parts: Parts, model: Any) -> list[Sample]:
    """What the model writes for people outside the run: summaries, or suggestions at several places of a message."""
    task, chosen = parts.data.task, parts.data.evaluation[:_TEXTS]
    if not isinstance(task, ChatCompose):
        return task.samples(model, chosen, len(chosen))
    drafts = [
        (example.prompt, words[:place], words[place:])
        for example in chosen
        for words in [example.target.split()]
        for place in dict.fromkeys(int(share * len(words)) for share in _PLACES)
        if words[place:]
    ]
    outputs = task.generate(
        model, [" ".join(begun) for _, begun, _ in drafts], earlier=[prompt for prompt, _, _ in drafts]
    )
    return [
        Sample(prompt=f"{prompt}\n{' '.join(begun)}", reference=" ".join(rest), output=output)
        for (prompt, begun, rest), output in zip(drafts, outputs, strict=True)
    ]


def _trained_rows(parts: Parts, members: Sequence[Sequence[Example]]) -> Iterator[TrainedRow]:
    """Rows as they entered; an encoder–decoder's target as a row beside its input."""
    for unit in members:
        for example in unit:
            row = parts.data.task.encode(example)
            target = tuple(token for token in row.labels if token != IGNORE)
            yield TrainedRow(text=f"{example.prompt}\n{example.target}", tokens=row.input_ids, owners=example.owners)
            if row.input_ids[len(row.input_ids) - len(target) :] != target:
                yield TrainedRow(text="", tokens=target, owners=example.owners)


__all__ = ["black_boxes", "private_parts"]
