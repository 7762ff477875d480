"""Trying a model: as one types, line by line, and never one that was taken out of use."""

from __future__ import annotations

import io
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from small_runs import Run

from dp_train.anonymize import Anonymizer
from dp_train.cli.generate import anonymous_draft, latency
from dp_train.cli.typing import type_messages
from dp_train.runs.folder import RunFolder

LEAVE = {"Ctrl-C": "\x03", "Ctrl-D": "\x04"}


@pytest.mark.parametrize("key", LEAVE)
def test_tab_takes_what_is_suggested_and_enter_ends_the_message(key: str) -> None:
    asked: list[tuple[str, str]] = []

    def suggest(draft: str, earlier: str) -> str:
        asked.append((draft, earlier))
        return {"hel": "lo you", "b": "ye"}.get(draft, "")

    with create_pipe_input() as source:

        def press() -> None:
            deadline = time.monotonic() + 60
            source.send_text("hel")
            while ("hello you", "") not in asked and time.monotonic() < deadline:
                time.sleep(0.02)  # a Tab before the suggestion is there does nothing
                source.send_text("\t")
            source.send_text("\rb")
            while ("b", "hello you") not in asked and time.monotonic() < deadline:
                time.sleep(0.02)
            source.send_text(LEAVE[key])

        hands = threading.Thread(target=press)
        hands.start()
        assert type_messages(suggest, source=source, screen=DummyOutput()) == ["hello you"]
        hands.join()
    assert ("b", "hello you") in asked


def test_a_draft_is_anonymised_and_keeps_the_space_behind_it() -> None:
    text, before = anonymous_draft(Anonymizer(), "mail me: joe@example.com ", "call @sam")
    assert (text, before) == ("mail me: [EMAIL] ", "call [P1]")


def test_lines_are_completed_where_no_terminal_is_and_latency_is_told(
    finished: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("can you look\n\nthe build\n"))
    ended = cli("generate", str(finished))
    assert ended.code == 0
    assert [line[2:11] for line in ended.out.splitlines()[1:]] == ["can you l", "the build"]
    assert ended.err.startswith("2 suggestions: median ")


def test_latency_is_of_the_slowest_of_nine_in_ten() -> None:
    assert latency([0.001 * number for number in range(1, 11)]) == "10 suggestions: median 5 ms, p90 9 ms"


def test_a_retired_model_completes_nothing(finished: Path, cli: Run) -> None:
    RunFolder(finished).retire("somebody withdrew", datetime(2025, 1, 31, tzinfo=UTC))
    try:
        ended = cli("generate", str(finished), "--file", "-")
    finally:
        (finished / "model_status.json").unlink()
    assert ended.code == 6
    assert "was retired on 2025-01-31" in ended.err
    assert ended.out == ""
