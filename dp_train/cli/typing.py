"""A prompt that shows, dim behind the cursor, how a message might go on."""

from __future__ import annotations

from collections.abc import Callable

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggest, Suggestion, ThreadedAutoSuggest
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.document import Document
from prompt_toolkit.history import DummyHistory
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import Output
from prompt_toolkit.styles import Style

_STYLE = Style.from_dict({"auto-suggestion": "ansibrightblack"})


class _Suggests(AutoSuggest):
    """Asks `suggest` for what follows the draft; `earlier` is the message before it."""

    def __init__(self, suggest: Callable[[str, str], str]) -> None:
        self._suggest = suggest
        self.earlier = ""

    def get_suggestion(self, buffer: Buffer, document: Document) -> Suggestion | None:
        if not document.is_cursor_at_the_end:
            return None
        text = self._suggest(document.text, self.earlier)
        return Suggestion(text) if text else None


def type_messages(
    suggest: Callable[[str, str], str], *, source: Input | None = None, screen: Output | None = None
) -> list[str]:
    """Let a person type messages until they leave, and return what was typed; nothing of it is kept elsewhere.

    Args:
      suggest: given the draft so far and the message before it, what may follow; called at every key, in a thread
        of its own, one call at a time: typing never waits for it.
      source, screen: the terminal, unless others are given.
    """
    suggests = _Suggests(suggest)
    session: PromptSession[str] = PromptSession(
        auto_suggest=ThreadedAutoSuggest(suggests),
        key_bindings=_keys(),
        history=DummyHistory(),
        style=_STYLE,
        input=source,
        output=screen,
    )
    messages: list[str] = []
    while True:
        try:
            message = session.prompt("> ").strip()
        except (EOFError, KeyboardInterrupt):
            return messages
        if message:
            messages.append(message)
            suggests.earlier = message


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("tab")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.suggestion is not None and buffer.document.is_cursor_at_the_end:
            buffer.insert_text(buffer.suggestion.text)

    @keys.add("c-d")
    def _(event: KeyPressEvent) -> None:
        event.app.exit(exception=EOFError)

    return keys
