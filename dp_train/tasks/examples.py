"""Which examples a conversation gives, and who owns them. No torch: a plan can be told without a model."""

from __future__ import annotations

from collections.abc import Iterator

from dp_train.conversations import ContentKind, Conversation, ConversationKind, Example, Turn
from dp_train.tasks.transcript import named_lines, one_line, speaker_names


def meeting_examples(conversation: Conversation) -> Iterator[Example]:
    """One example a meeting that has a summary; each belongs to all who are in the meeting."""
    if conversation.kind is ConversationKind.MEETING and conversation.summary and conversation.turns:
        yield Example(
            example_id=conversation.conversation_id,
            prompt="\n".join(named_lines(conversation)),
            target=one_line(conversation.summary),
            owners=conversation.people,
        )


def messages_of_author(conversation: Conversation, *, context_turns: int) -> Iterator[Example]:
    """One example a chat message; its prompt is the author's own `context_turns` messages before it.

    Messages that quote somebody else are left out: they hold that person's words.
    """
    earlier: dict[str, list[str]] = {}
    for index, turn in _messages(conversation):
        if _voices(conversation, index) != {turn.person_id}:
            continue
        own = earlier.setdefault(turn.person_id, [])
        text = one_line(turn.text)
        yield Example(
            example_id=f"{conversation.conversation_id}/{index}",
            prompt="\n".join(own[max(0, len(own) - context_turns) :]),
            target=text,
            owners=frozenset({turn.person_id}),
        )
        own.append(text)


def messages_of_thread(conversation: Conversation, *, context_turns: int) -> Iterator[Example]:
    """One example a chat message; its prompt is the thread's `context_turns` turns before it.

    Everyone whose words enter, by a quote too, owns it.
    """
    lines, names = named_lines(conversation), speaker_names(conversation)
    for index, turn in _messages(conversation):
        before = range(max(0, index - context_turns), index)
        yield Example(
            example_id=f"{conversation.conversation_id}/{index}",
            prompt="\n".join([*(lines[earlier] for earlier in before), f"{names[turn.person_id]}:"]),
            target=one_line(turn.text),
            owners=frozenset().union(*(_voices(conversation, entering) for entering in (*before, index))),
        )


def _messages(conversation: Conversation) -> Iterator[tuple[int, Turn]]:
    if conversation.kind is ConversationKind.THREAD:
        for index, turn in enumerate(conversation.turns):
            if turn.kind is ContentKind.CHAT and turn.text.strip():
                yield index, turn


def _voices(conversation: Conversation, index: int) -> frozenset[str]:
    """Whose words are in a turn: its author's, and those of everyone it quotes, quotes of quotes included."""
    turn = conversation.turns[index]
    quoted = frozenset() if turn.quotes is None else _voices(conversation, turn.quotes)
    return quoted | {turn.person_id}
