"""Conversations as lines of text."""

from __future__ import annotations

from dp_train.conversations import Conversation


def named_lines(conversation: Conversation) -> list[str]:
    """One line a turn, "name: text"; see `speaker_names`."""
    names = speaker_names(conversation)
    return [f"{names[turn.person_id]}: {one_line(turn.text)}" for turn in conversation.turns]


def speaker_names(conversation: Conversation) -> dict[str, str]:
    """What to call each person: the name on the roster, which is a surrogate after `dp_train.anonymize`.

    Who has none is called by their seat, "[P…]", never by their id: it would tie conversations together.
    """
    seats = conversation.public_order.seats
    unnamed = (turn.person_id for turn in conversation.turns if turn.person_id not in conversation.roster)
    return {**conversation.roster, **{person: f"[P{seats[person]}]" for person in unnamed}}


def one_line(text: str) -> str:
    """The text with single spaces: a newline would look like the next turn."""
    return " ".join(text.split())
