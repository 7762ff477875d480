"""Presidio as one more finder: told in one line where it is absent, offline where it is there."""

import socket
import sys
from typing import NoReturn

import pytest
from test_anonymizer import talk

from dp_train.anonymize import Anonymizer
from dp_train.anonymize.patterns import SECRET, PatternSpan
from dp_train.anonymize.presidio import _is_link, presidio_finder
from dp_train.errors import ConfigError


def badges(text: str) -> list[PatternSpan]:
    """Finds "badge", and an empty span everywhere."""
    at = text.find("badge")
    return [PatternSpan(0, 0, SECRET)] if at < 0 else [PatternSpan(0, 0, SECRET), PatternSpan(at, at + 5, SECRET)]


def test_a_finder_adds_to_names_and_patterns_and_takes_nothing_from_them() -> None:
    anonymizer = Anonymizer(finders=(badges,))
    (turn,) = anonymizer(talk("Bob has a badge, badge@example.org too")).turns
    assert turn.text == "[P2] has a [SECRET], [EMAIL] too"
    assert anonymizer.describe()["finders"] == ["badges"]


def test_absent_presidio_is_one_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    with pytest.raises(ConfigError, match=r"pip install 'dp_train\[presidio\]'"):
        presidio_finder.__wrapped__()


def test_presidio_finds_more_and_calls_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("presidio_analyzer", reason="the extra presidio is not installed: pip install -e '.[presidio]'")

    def refused(*_: object) -> NoReturn:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refused)
    anonymizer = Anonymizer(finders=(presidio_finder(),))
    (turn,) = anonymizer(talk("Bob pays to 16Yeky6GMjeNkAiNcBY7ZhrLoMSgg1BoyZ, write to bob@example.org")).turns
    assert turn.text == "[P2] pays to [SECRET], write to [EMAIL]"


def test_a_full_stop_between_words_is_no_link() -> None:
    pytest.importorskip("presidio_analyzer", reason="the extra presidio is not installed: pip install -e '.[presidio]'")
    anonymizer = Anonymizer(finders=(presidio_finder(),))
    text = "ship it.So we call os.system and self.go, then see bob.co/x"
    (turn,) = anonymizer(talk(text)).turns
    assert turn.text == "ship it.So we call os.system and self.go, then see [URL]"


@pytest.mark.parametrize(
    ("text", "link"), [("it.So", False), ("os.system", False), ("https://a.b", True), ("a.co/x", True)]
)
def test_a_link_says_so_itself(text: str, link: bool) -> None:
    assert _is_link(text) is link
