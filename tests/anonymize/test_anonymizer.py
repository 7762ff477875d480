"""What anonymisation takes out, and what it leaves as it was."""

import dataclasses
import io
import logging
import random
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp_train.anonymize import PEOPLE, SURROGATES, Anonymizer
from dp_train.anonymize.patterns import TOKENS, find_patterns
from dp_train.conversations import Conversation, ConversationKind, Turn

ROSTER = {"u-0001": "Anna Berg", "u-0002": "Bob Brix", "u-0003": "Cy Cole"}


def talk(*turns: Turn | str, **changes: Any) -> Conversation:
    """A thread; texts alone are Anna's."""
    fields: dict[str, Any] = {
        "conversation_id": "t",
        "org_id": "acme",
        "created_at": datetime(2024, 1, 1, tzinfo=UTC),
        "kind": ConversationKind.THREAD,
        "turns": tuple(Turn(person_id="u-0001", text=t) if isinstance(t, str) else t for t in turns),
        "roster": ROSTER,
    }
    return Conversation(**fields | changes)


def replaced(text: str) -> str:
    return Anonymizer()(talk(text)).turns[0].text


def test_the_same_person_is_the_same_surrogate_in_turns_and_summary() -> None:
    done = Anonymizer()(
        talk(
            Turn(person_id="u-0002", text="hi Anna, is @cy there?"),
            "Bob Brix: no, Cole's away; ask bob",
            summary="Anna Berg asked Bob about Cy.",
        )
    )
    assert [turn.text for turn in done.turns] == ["hi [P1], is [P3] there?", "[P2]: no, [P3]'s away; ask [P2]"]
    assert done.summary == "[P1] asked [P2] about [P3]."
    assert done.roster == {"u-0001": "[P1]", "u-0002": "[P2]", "u-0003": "[P3]"}


def test_surrogates_follow_the_roster_and_neither_the_person_nor_who_spoke_first() -> None:
    first = Anonymizer()(talk("x", Turn(person_id="u-0003", text="y")))
    second = Anonymizer()(talk(Turn(person_id="u-0003", text="y", mentions=("u-0002", "u-0009"))))
    assert first.roster == second.roster == {"u-0001": "[P1]", "u-0002": "[P2]", "u-0003": "[P3]"}
    other = Anonymizer()(talk(Turn(person_id="new", text="y"), roster=dict(reversed(ROSTER.items()))))
    assert other.roster == {"u-0003": "[P1]", "u-0002": "[P2]", "u-0001": "[P3]", "new": "[P4]"}


def test_who_has_no_seat_is_numbered_within_the_turn() -> None:
    turns = "ask @zed", Turn(person_id="u-0002", text="@yan and @Zed, u-0077 too", mentions=("u-0077",))
    assert [turn.text for turn in Anonymizer()(talk(*turns)).turns] == ["ask [P4]", "[P5] and [P6], [P4] too"]


def test_speakers_without_a_name_have_a_surrogate_too() -> None:
    done = Anonymizer()(talk(Turn(person_id="stranger", text="hello from stranger"), roster={}))
    assert done.roster == {"stranger": "[P1]"}
    assert done.turns[0].text == "hello from [P1]"


def test_every_surrogate_of_a_small_conversation_is_one_token() -> None:
    assert list(SURROGATES) == [*(f"[P{n}]" for n in range(1, 17)), *TOKENS]
    crowd = {f"user-{n}": f"Name{n:02d}x" for n in range(1, 19)}
    done = Anonymizer()(talk("x", roster=crowd, summary="Name15x met Name17x"))
    assert PEOPLE == 16
    assert done.summary == "[P15] met [P17]"


def test_a_declared_mention_decides_who_is_meant() -> None:
    roster = {"u-0001": "Anna Berg", "u-0002": "Grant Brix", "u-0003": "Grant Cole"}
    done = Anonymizer()(
        talk(
            Turn(person_id="u-0001", text="Grant takes it", mentions=("u-0003",)),
            Turn(person_id="u-0001", text="Grant takes it", mentions=("u-0002",)),
            Turn(person_id="u-0001", text="Grant takes it"),
            roster=roster,
            summary="Grant takes it.",
        )
    )
    assert [turn.text for turn in done.turns] == ["[P3] takes it", "[P2] takes it", "Grant takes it"]
    assert done.summary == "[P2] takes it."


PATTERNS: list[tuple[str, str]] = [
    ("mail bob.x@example.co.uk, or ann+a@münchen.de.", "mail [EMAIL], or [EMAIL]."),
    ("see https://zoom.us/j/12345?pwd=aZ9). And www.x.org/a", "see [URL]). And [URL]"),
    ("example.com/path, but node 3.5, e.g. v1.2.3", "[URL], but node 3.5, e.g. v1.2.3"),
    ("+44 7700 900123", "[PHONE]"),
    ("(415) 555-0100 or 415-555-0100 or 555-0142", "[PHONE] or [PHONE] or [PHONE]"),
    ("030 901820, 020 7946 0958, 01 23 45 67 89", "[PHONE], [PHONE], [PHONE]"),
    ("555-0142 192.168.1.1 on 2024-03-15 0170 1234567", "[PHONE] [IP] on 2024-03-15 [PHONE]"),
    ("+91 98765 43210 4111 1111 1111 1111 12", "[PHONE] [CARD] 12"),
    ("call 89301234567 or +91 98765 43210", "call [PHONE] or [PHONE]"),
    ("192.168.1.1 and 2001:db8::ff00:42:8329 and ::1", "[IP] and [IP] and [IP]"),
    ("host 00:1B:44:11:3A:B7, 00-1b-44-11-3a-b7", "host [IP], [IP]"),
    ("Server=db;Password=hunter22;", "Server=db;Password=[PASSCODE];"),
    ("4111 1111 1111 1111, 378282246310005", "[CARD], [CARD]"),
    ("IBAN DE89 3704 0044 0532 0130 00 please gb82WEST12345698765432", "IBAN [IBAN] please [IBAN]"),
    ("SSN 123-45-6789, social security number is 123 45 6789", "SSN [SSN], social security number is [SSN]"),
    ("Meeting ID: 823 4567 8901 Passcode: 482913.", "Meeting ID: [MEETING_ID] Passcode: [PASSCODE]."),
    ("join 823 4567 8901, meet code abc-defg-hij", "join [MEETING_ID], meet code [MEETING_ID]"),
    ("the password for the staging box is hunter22", "the password for the staging box is [PASSCODE]"),
    ("PIN 4821, passcode: kiwi! door code 4711", "PIN [PASSCODE], passcode: [PASSCODE]! door code [PASSCODE]"),
    ("AKIAIOSFODNN7EXAMPLE", "[SECRET]"),
    ("ghp_16C7e42F292c6912E7710c838347Ae178B4a", "[SECRET]"),
    ("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "[SECRET]"),
    ("d41d8cd98f00b204e9800998ecf8427e", "[SECRET]"),
    ("use this token for now: 6c7d2Sq!6ISq.", "use this token for now: [SECRET]."),
    ("Bearer abcdefgh.ijkl", "Bearer [SECRET]"),
    ("api_key=9f8e7d6c5b4a, token: zz-90ab-77x", "api_key=[SECRET], token: [SECRET]"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc", "[SECRET]"),
    ("a -----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- b", "a [SECRET] b"),
    ("-----BEGIN PRIVATE KEY-----\nMIIE and no end", "[SECRET]"),
]


@pytest.mark.parametrize(("text", "expected"), PATTERNS)
def test_every_pattern_is_replaced_by_its_token(text: str, expected: str) -> None:
    assert replaced(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "we paid 1,000,000.00 for 12 items on 2024-03-15 10:00, in 2024-2025",
        "at 12:30:45 or 10:30-11:30, order 48291, std::vector",
        "the password is wrong, I need a password reset",
        "4111-1111-1111-1112 is no card",
        "the feature-branch-2024-fix-login-page is merged",
        "the key point of today: 2024-05-01",
        "a one-time-use code, version 10.0.0.256",
        "The plan is to move it before Friday; thanks all!",
    ],
)
def test_what_is_no_identifier_stays(text: str) -> None:
    assert replaced(text) == text


def test_a_name_in_an_address_is_part_of_the_address() -> None:
    assert replaced("write to anna.berg@example.com or Anna") == "write to [EMAIL] or [P1]"
    assert replaced("https://example.com/~bob and bob") == "[URL] and [P2]"


def test_each_half_can_be_switched_off() -> None:
    text = "Bob is bob@example.com"
    assert Anonymizer(names=False)(talk(text)).turns[0].text == "Bob is [EMAIL]"
    assert Anonymizer(names=False)(talk(text)).roster == ROSTER
    assert Anonymizer(patterns=False)(talk(text)).turns[0].text == "[P2] is [P2]@example.com"
    assert Anonymizer(names=False, patterns=False)(talk(text)) == talk(text)


_pieces = st.sampled_from(
    [*ROSTER.values(), "@anna", "bob's", "will", "[P7]", "[EMAIL]", *(text for text, _ in PATTERNS), "hello", "…", "\n"]
)
_texts = st.lists(_pieces | st.text(max_size=8), max_size=6).map(" ".join)


@settings(deadline=None)
@given(st.lists(_texts, min_size=1, max_size=4), _texts)
def test_doing_it_twice_changes_nothing_more(texts: list[str], summary: str) -> None:
    once = Anonymizer()(talk(*texts, summary=summary))
    assert Anonymizer()(once) == once


@settings(deadline=None)
@given(st.lists(_texts, min_size=1, max_size=4))
def test_everything_but_text_and_roster_stays(texts: list[str]) -> None:
    turns = [
        Turn(person_id=f"u-000{1 + n % 3}", text=text, mentions=("u-0001",), reply_to=n - 1 if n else None)
        for n, text in enumerate(texts)
    ]
    before = talk(*turns)
    after = Anonymizer()(before)
    blank = [dataclasses.replace(turn, text="") for turn in before.turns]
    assert [dataclasses.replace(turn, text="") for turn in after.turns] == blank
    assert dataclasses.replace(after, turns=before.turns, roster=before.roster) == before


@settings(deadline=None)
@given(_texts, st.sampled_from(sorted(ROSTER.values())), st.sampled_from((str, str.upper, str.lower)), _texts)
def test_no_full_name_of_the_roster_survives(before: str, name: str, case: Callable[[str], str], after: str) -> None:
    done = replaced(f"{before} {case(name)} {after}").lower()
    assert name.lower() not in done


@settings(deadline=None)
@given(st.text())
def test_patterns_never_overlap_and_lie_in_the_text(text: str) -> None:
    spans = find_patterns(text)
    assert all(0 <= span.start < span.end <= len(text) for span in spans)
    assert all(left.end <= right.start for left, right in pairwise(spans))


@pytest.mark.parametrize(
    "unit", ["a", "1", "1 ", "a.", "a@", "-", "(", ":", "pin ", "GB82 ", "key:", "0.", "a-", "a@b.co ", "1.1.1.1 "]
)
def test_hostile_repetition_takes_no_more_than_linear_time(unit: str) -> None:
    def cost(length: int) -> float:
        conversation = talk((unit * length)[:length])
        start = time.process_time()
        Anonymizer()(conversation)
        return time.process_time() - start

    cost(100)
    assert cost(20_000) < 2.0


def test_the_settings_are_public_json_values() -> None:
    described = Anonymizer().describe()
    assert described["names"] is True
    assert described["patterns"] == list(TOKENS)
    assert Anonymizer(patterns=False).describe()["patterns"] == []


def test_nothing_is_logged() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        for text, _ in PATTERNS:
            replaced(f"Anna Berg {text}")
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert stream.getvalue() == ""


def test_importing_it_does_not_load_telephone_metadata() -> None:
    code = "import sys, dp_train.anonymize; sys.exit('phonenumbers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_random_secrets_are_found() -> None:
    chance = random.Random(7)
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    keys = ["".join(chance.choices(letters, k=40)) for _ in range(200)]
    found = sum(replaced(f"it is {key} ok") == "it is [SECRET] ok" for key in keys)
    assert found >= 195
