"""`dp-train generate`: a summary of a transcript, or the rest of a draft, by a finished run.

Text is anonymised as the training text was; in what comes out, surrogates become the names again.
"""

from __future__ import annotations

import math
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from rich.console import Console

from dp_train.anonymize import Anonymizer
from dp_train.cli.show import console
from dp_train.conversations import ContentKind, Conversation, ConversationKind, Turn
from dp_train.errors import ConfigError, DataError
from dp_train.runs.folder import RunFolder
from dp_train.runs.load import Trained, load
from dp_train.runs.populations import anonymizer_of
from dp_train.tasks.chat_compose import ChatCompose
from dp_train.tasks.meeting_summary import MeetingSummary
from dp_train.tasks.transcript import named_lines

_UNNAMED = "speaker"


def run(options: Namespace) -> int:
    """Generate from a file, or line by line from the terminal."""
    trained = load(RunFolder.find(options.run))
    if not isinstance(trained.task, MeetingSummary | ChatCompose):
        raise ConfigError(
            f"generate: task {trained.config.task.name} writes neither summaries nor messages; expected a run of "
            "meeting_summary or chat_compose; dp-train evaluate shows samples of any task"
        )
    out = console()
    if options.file is not None:
        for text in _from_file(trained, options.file):
            out.print(text, markup=False, soft_wrap=True)
        return 0
    return _interactive(trained, out)


def summarise(trained: Trained, transcript: list[str]) -> str:
    """Summary of a transcript of `Name: text` lines."""
    task = trained.task
    assert isinstance(task, MeetingSummary)
    conversation = read_lines(transcript, ConversationKind.MEETING)
    anonymous = anonymizer_of(trained.config)(conversation)
    summary = task.generate(trained.model, ["\n".join(named_lines(anonymous))])[0]
    return _with_names(summary, conversation, anonymous)


def complete(trained: Trained, draft: str, earlier: str = "") -> str:
    """How the draft goes on; `earlier` is the author's message before it."""
    task = trained.task
    assert isinstance(task, ChatCompose)
    text, before = anonymous_draft(anonymizer_of(trained.config), draft, earlier)
    return task.generate(trained.model, [text], earlier=[before])[0]


def anonymous_draft(anonymizer: Anonymizer, draft: str, earlier: str) -> tuple[str, str]:
    """A draft and its author's message before it, both as the training text was; a space at the end stays."""
    texts = [text for text in (earlier, draft) if text.strip()]
    conversation = anonymizer(read_lines([f"{_UNNAMED}: {text}" for text in texts], ConversationKind.THREAD))
    *before, text = [turn.text for turn in conversation.turns]
    return text + draft[len(draft.rstrip()) :], "\n".join(before)


def read_lines(lines: list[str], kind: ConversationKind) -> Conversation:
    """A conversation from `Name: text` lines; a line without a name goes on with what was said before.

    Raises:
      DataError: there is no text.
    """
    turns: list[tuple[str, str]] = []
    for line in filter(None, map(str.strip, lines)):
        name, colon, text = line.partition(": ")
        if colon and len(name) <= 60:
            turns.append((name, text))
        elif turns:
            turns[-1] = (turns[-1][0], f"{turns[-1][1]} {line}")
        else:
            turns.append((_UNNAMED, line))
    if not turns:
        raise DataError("generate: no text; expected `Name: text` lines")
    content = ContentKind.CHAT if kind is ConversationKind.THREAD else ContentKind.TRANSCRIPT
    return Conversation(
        conversation_id="given",
        org_id="given",
        created_at=datetime.now(UTC),
        kind=kind,
        turns=tuple(Turn(person_id=name, text=text, kind=content) for name, text in turns),
        roster={name: name for name, _ in turns if name != _UNNAMED},
    )


def _from_file(trained: Trained, name: str) -> Iterator[str]:
    try:
        lines = (sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")).splitlines()
    except OSError as error:
        raise DataError(f"generate: {name}: {error.strerror}; expected a text file of `Name: text` lines") from error
    except UnicodeDecodeError as error:
        raise DataError(f"generate: {name}: not UTF-8; save the file as UTF-8") from error
    if isinstance(trained.task, MeetingSummary):
        yield summarise(trained, lines)
        return
    drafts = [line.strip() for line in lines if line.strip()]
    if not drafts:
        raise DataError(f"generate: {name}: no text; expected one draft a line")
    for draft in drafts:
        yield f"{draft} {complete(trained, draft)}"


def _interactive(trained: Trained, out: Console) -> int:
    if isinstance(trained.task, MeetingSummary):
        out.print(
            "Paste a transcript of `Name: text` lines and end it with an empty line; Ctrl-D leaves.", markup=False
        )
        while lines := _paragraph(sys.stdin):
            out.print(summarise(trained, lines), markup=False, soft_wrap=True)
        return 0
    seconds: list[float] = []
    if sys.stdin.isatty() and out.is_terminal:
        from dp_train.cli.typing import type_messages

        out.print("Type a message: Tab takes what is suggested, Enter ends the message, Ctrl-C or Ctrl-D leaves.")
        task = trained.task
        assert isinstance(task, ChatCompose)
        typing, anonymizer = task.typing(trained.model), anonymizer_of(trained.config)

        def suggest(draft: str, earlier: str) -> str:
            return typing.suggest(*anonymous_draft(anonymizer, draft, earlier))

        type_messages(timed(suggest, seconds))
    else:
        _by_line(trained, out, seconds)
    if seconds:
        print(latency(seconds), file=sys.stderr)
    return 0


def _by_line(trained: Trained, out: Console, seconds: list[float]) -> None:
    out.print("Type the beginning of a message; Ctrl-D leaves.")
    completed, earlier = timed(lambda draft, earlier: complete(trained, draft, earlier), seconds), ""
    for line in sys.stdin:
        if draft := line.strip():
            earlier = f"{draft} {completed(draft, earlier)}"
            out.print(f"  {earlier}", markup=False, soft_wrap=True)


def timed(suggest: Callable[[str, str], str], seconds: list[float]) -> Callable[[str, str], str]:
    """`suggest`, which notes in `seconds` how long each call took."""

    def noted(draft: str, earlier: str) -> str:
        started = time.perf_counter()
        try:
            return suggest(draft, earlier)
        finally:
            seconds.append(time.perf_counter() - started)

    return noted


def latency(seconds: list[float]) -> str:
    """How long suggestions took: half of them at most the median, nine of ten at most the p90."""
    rising = sorted(seconds)
    middle, high = (1000 * rising[math.ceil(share * len(rising)) - 1] for share in (0.5, 0.9))
    return f"{len(rising)} suggestions: median {middle:.0f} ms, p90 {high:.0f} ms"


def _paragraph(source: TextIO) -> list[str]:
    lines: list[str] = []
    for line in source:
        if line.strip():
            lines.append(line)
        elif lines:
            break
    return lines


def _with_names(text: str, conversation: Conversation, anonymous: Conversation) -> str:
    for person, surrogate in anonymous.roster.items():
        if person in conversation.roster:
            text = text.replace(surrogate, conversation.roster[person])
    return text
