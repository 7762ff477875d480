"""Conversations as lines of text."""

from __future__ import annotations

from itertools import count

from dp_train.conversations import Conversation


def named_lines(conversation: Conversation) -> list[str]:
    """One line a turn, "name: text"; see `speaker_names`."""
    names = speaker_names(conversation)
    return [f"{names[turn.person_id]}: {one_line(turn.text)}" for turn in conversation.turns]


def speaker_names(conversation: Conversation) -> dict[str, str]:
    """What to call each person: the name on the roster, which is a surrogate after `dp_train.anonymize`.

    Who has none gets the next free "[P…]", never the person's id: it would tie conversations together.
    """
    names = dict(conversation.roster)
    taken = frozenset(names.values())
    free = (name for number in count(1) if (name := f"[P{number}]") not in taken)
    for turn in conversation.turns:
        if turn.person_id not in names:
            names[turn.person_id] = next(free)
    return names


def one_line(text: str) -> str:
    """The text with single spaces: a newline would look like the next turn."""
    return " ".join(text.split())
