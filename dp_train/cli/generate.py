"""`dp-train generate`: a summary of a transcript, or the rest of a draft, by a finished run.

Text is anonymised as the training text was; in what comes out, surrogates become the names again.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from rich.console import Console

from dp_train.anonymize import Anonymizer
from dp_train.cli.folders import RunFolder
from dp_train.cli.show import console
from dp_train.cli.trained import Trained, load
from dp_train.conversations import ContentKind, Conversation, ConversationKind, Turn
from dp_train.errors import DataError
from dp_train.tasks.chat_compose import ChatCompose
from dp_train.tasks.meeting_summary import MeetingSummary
from dp_train.tasks.transcript import named_lines

_UNNAMED = "speaker"


def run(options: Namespace) -> int:
    """Generate from a file, or line by line from the terminal."""
    trained = load(RunFolder.find(options.run))
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
    anonymous = _anonymizer(trained)(conversation)
    summary = task.generate(trained.model, ["\n".join(named_lines(anonymous))])[0]
    return _with_names(summary, conversation, anonymous)


def complete(trained: Trained, draft: str, earlier: str = "") -> str:
    """How the draft goes on; `earlier` is the author's message before it."""
    task = trained.task
    assert isinstance(task, ChatCompose)
    texts = [text for text in (earlier, draft) if text]
    conversation = read_lines([f"{_UNNAMED}: {text}" for text in texts], ConversationKind.THREAD)
    anonymous = _anonymizer(trained)(conversation)
    before = [turn.text for turn in anonymous.turns[:-1]]
    return task.generate(trained.model, [anonymous.turns[-1].text], earlier=["\n".join(before)])[0]


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
    out.print("Type the beginning of a message; Ctrl-D leaves.")
    earlier = ""
    for line in sys.stdin:
        if draft := line.strip():
            rest = complete(trained, draft, earlier)
            out.print(f"  {draft} {rest}", markup=False, soft_wrap=True)
            earlier = f"{draft} {rest}"
    return 0


def _paragraph(source: TextIO) -> list[str]:
    lines: list[str] = []
    for line in source:
        if line.strip():
            lines.append(line)
        elif lines:
            break
    return lines


def _anonymizer(trained: Trained) -> Anonymizer:
    config = trained.config.anonymize
    return Anonymizer(names=config.names, patterns=config.patterns)


def _with_names(text: str, conversation: Conversation, anonymous: Conversation) -> str:
    for person, surrogate in anonymous.roster.items():
        if person in conversation.roster:
            text = text.replace(surrogate, conversation.roster[person])
    return text
