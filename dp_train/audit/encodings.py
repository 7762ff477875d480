"""Encodings: the tokens of a text follow from that text alone, also of texts that the task has never met.

When a run is audited its task may have met every text of the run, so that one which numbers words as it meets them
gives the same tokens again and again. So texts are made anew, of published words in another order, of words that no one
wrote, and longer than any before; some come twice. One copy of the task encodes them in one order, a second copy in the
opposite order (`privacy.steady_encoding`).
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dp_train.audit.checks import Check
from dp_train.audit.subject import Subject
from dp_train.conversations import Example
from dp_train.privacy.steady_encoding import check_encoding, copied

NAME = "encodings"
_TEXTS, _TWICE = 32, 8
_LETTERS = 7
"""Of a made-up word: one of 8 · 10⁹, so that hardly any was met before."""


def encodings(subject: Subject, random: np.random.Generator) -> Check:
    """Encode made-up texts in two orders, by two copies of the run's task.

    Raises:
      PlanError: a text has other tokens after other texts, or the task cannot be copied.
    """
    task = subject.make(subject.plan).setup.task
    public = subject.public.whole
    chosen = random.choice(len(public), min(_TEXTS, len(public)), replace=False).tolist()
    texts = made_up([public[unit][0] for unit in chosen], random)
    check_encoding(copied(task).encode, copied(task).encode, texts, lambda text: text)
    return Check(
        name=NAME, compared=f"{len(texts)} made-up texts encoded in one order and, by a copy, in the opposite one"
    )


def made_up(examples: Sequence[Example], random: np.random.Generator) -> list[Example]:
    """Return examples alike with other texts, in random order: each number of words from one to twice the most."""
    words = sorted({word for example in examples for word in example.target.split()})
    most = max(len(example.target.split()) for example in examples)
    lengths = random.permutation(np.linspace(1, 2 * most, len(examples)).round().astype(int)).tolist()
    made = [
        replace(example, prompt=_text(len(example.prompt.split()), words, random), target=_text(length, words, random))
        for example, length in zip(examples, lengths, strict=True)
    ]
    again = [made[one] for one in random.choice(len(made), min(_TWICE, len(made)), replace=False).tolist()]
    every = [*made, *again]
    return [every[place] for place in random.permutation(len(every)).tolist()]


def _text(length: int, words: Sequence[str], random: np.random.Generator) -> str:
    """`length` words, of which about every second is made up."""
    known = random.choice(len(words), length).tolist()
    letters = random.choice(list(string.ascii_lowercase), (length, _LETTERS))
    made_up = random.random(length) < 0.5
    return " ".join("".join(new) if own else words[old] for own, new, old in zip(made_up, letters, known, strict=True))


__all__ = ["NAME", "encodings", "made_up"]
