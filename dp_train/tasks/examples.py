"""Which examples a conversation gives, and who owns them. No torch: a plan can be told without a model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

from dp_train.conversations import ContentKind, Conversation, ConversationKind, Example, Turn
from dp_train.tasks.transcript import named_lines, one_line, speaker_names


def meeting_examples(conversation: Conversation) -> Iterator[Example]:
    """One example a meeting that has a summary; each belongs to all who are in the meeting.

    Where one of them says nothing it is a place (`Example`): a person whose turns are emptied takes along what others
    said of them, the summary too.
    """
    if conversation.kind is ConversationKind.MEETING and conversation.summary is not None and conversation.turns:
        everything = range(len(conversation.turns))
        yield _example(
            conversation.conversation_id, named_lines(conversation), conversation.summary, conversation, everything
        )


def messages_of_author(conversation: Conversation, *, context_turns: int) -> Iterator[Example]:
    """One example a chat message; its prompt is the author's own `context_turns` messages before it.

    Guarantee: every row is a function of its author's own turns and of public order. Messages that quote another person
    are left out: they hold that person's words. An id is of the author and counts their turns as they came, so nobody
    else's turn moves it, there or not.
    """
    ids = _ids(conversation)
    earlier: dict[str, list[str]] = {}
    for index, turn in _messages(conversation):
        text = one_line(turn.text)
        if not text or _voices(conversation, index) != {turn.person_id}:
            continue
        own = earlier.setdefault(turn.person_id, [])
        yield Example(
            example_id=ids[index],
            prompt="\n".join(own[max(0, len(own) - context_turns) :]),
            target=text,
            owners=frozenset({turn.person_id}),
        )
        own.append(text)


def messages_of_thread(conversation: Conversation, *, context_turns: int) -> Iterator[Example]:
    """One example a chat message; its prompt is what stood at the `context_turns` places before it.

    Guarantee: which examples there are and who owns them follows from who wrote where, as it came, and from the links;
    no word changes it. Everyone who stands in it, by a quote too, owns the example. Where one of them says nothing in
    it, the author too, it is a place (`Example`).
    """
    ids, places = _ids(conversation), conversation.public_order.places
    lines, names = named_lines(conversation), speaker_names(conversation)
    for index, turn in _messages(conversation):
        before = [earlier for earlier in range(index) if places[earlier] >= places[index] - context_turns]
        spoken = [lines[earlier] for earlier in before if conversation.turns[earlier].text.strip()]
        prompt = [*spoken, f"{names[turn.person_id]}:"]
        yield _example(ids[index], prompt, turn.text, conversation, (*before, index))


def _messages(conversation: Conversation) -> Iterator[tuple[int, Turn]]:
    if conversation.kind is ConversationKind.THREAD:
        for index, turn in enumerate(conversation.turns):
            if turn.kind is ContentKind.CHAT:
                yield index, turn


def _ids(conversation: Conversation) -> list[str]:
    """Of each turn: its author, as a digest, and which of the author's turns it is, as the conversation came."""
    authors = {person: _author_digest(conversation.conversation_id, person) for person in conversation.people}
    return [
        f"{conversation.conversation_id}/{authors[turn.person_id]}.{ordinal}"
        for turn, ordinal in zip(conversation.turns, conversation.public_order.ordinals, strict=True)
    ]


def _author_digest(conversation_id: str, person_id: str) -> str:
    """16 hex digits that tell an author from the others of the conversation, and tie no two conversations together."""
    said = f"dp_train author 1\x00{len(conversation_id)}:{conversation_id}{person_id}"
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _example(
    example_id: str, prompt: Sequence[str], target: str, conversation: Conversation, indices: Iterable[int]
) -> Example:
    """The example that these turns make, or its place."""
    owners: set[str] = set()
    heard: set[str] = set()
    for index in _with_quoted(conversation, indices):
        turn = conversation.turns[index]
        owners.add(turn.person_id)
        if turn.text.strip():
            heard.add(turn.person_id)
    said = one_line(target) if owners == heard else ""
    return Example(
        example_id=example_id, prompt="\n".join(prompt) if said else "", target=said, owners=frozenset(owners)
    )


def _voices(conversation: Conversation, index: int) -> frozenset[str]:
    """Whose words are in a turn: its author's, and those of everyone it quotes, quotes of quotes included."""
    return frozenset(conversation.turns[each].person_id for each in _with_quoted(conversation, (index,)))


def _with_quoted(conversation: Conversation, indices: Iterable[int]) -> Iterator[int]:
    """The turns, and those that they quote by a link, quotes of quotes included."""
    for index in indices:
        link: int | None = index
        while link is not None:
            yield link
            link = conversation.turns[link].quotes
