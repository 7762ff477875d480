"""Forms of names beyond the display name, and identifiers in other languages than English."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dp_train.anonymize import Anonymizer
from dp_train.conversations import Conversation, ConversationKind, Turn


def replaced(name: str, *texts: str) -> list[str]:
    """Texts of somebody else in a conversation with the person."""
    turns = tuple(Turn(person_id="me", text=text) for text in texts)
    conversation = Conversation(
        conversation_id="t",
        org_id="o",
        created_at=datetime(2024, 1, 1, tzinfo=UTC),
        kind=ConversationKind.THREAD,
        turns=turns,
        roster={"me": "", "u-1": name},
    )
    return [turn.text for turn in Anonymizer()(conversation).turns]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("Robert Hall", "Bob"),
        ("Elizabeth Roe", "liz"),
        ("Elizabeth Roe", "LizRoe"),
        ("Anna Berg", "A.B."),
        ("Jörg Zorn", "JZ"),
        ("Søren Krüger", "Soren"),
        ("Søren Krüger", "Krueger"),
        ("Дмитрий Иванов", "Dmitry"),
        ("Дмитрий Иванов", "Дмитрий"),
        ("Γιώργος Παπάς", "giorgos"),
        ("藤井健一", "健一"),
        ("김민수", "민수"),
        ("Laure Dos Santos", "L. Dos Santos"),
        ("JaneRoe42", "jane"),
        ("christopherx", "christopher"),
        ("anna.berg", "@anna.b"),
    ],
)
def test_a_person_is_found_by_what_others_call_them(name: str, written: str) -> None:
    assert replaced(name, f"so {written}, yes")[0].rstrip(".").replace("[P2].,", "[P2],") == "so [P2], yes"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("William Just", "we will just see"),
        ("Art Price", "the art of a fair price"),
        ("Adam Iverson", "AI is in the box"),
        ("Justine Theodoropoulos", "just then"),
        ("code_master", "the code is fine"),
        ("Theodore Lane", "Theory and the rest"),
    ],
)
def test_an_ordinary_word_is_no_name(name: str, text: str) -> None:
    assert replaced(name, text) == [text]


def test_somebody_mentioned_who_is_not_on_the_roster_is_one_person_throughout_a_turn() -> None:
    assert replaced("Anna Berg", "ask @zorro99 or @Anna", "@ZORRO99 knows, @kit-x too") == [
        "ask [P3] or [P2]",
        "[P3] knows, [P4] too",
    ]
    assert replaced("Anna Berg", "@kit-x? ask @zorro99, @Kit-X!") == ["[P3]? ask [P4], [P3]!"]


@pytest.mark.parametrize("text", ["use @media and @import", "@here we go", "@Override it", "@app.route('/x')", "a@b"])
def test_what_stands_after_an_at_sign_need_not_be_a_person(text: str) -> None:
    assert replaced("Anna Berg", text) == [text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("der Kenncode lautet 4711x", "der Kenncode lautet [PASSCODE]"),
        ("la contraseña es perroVerde", "la contraseña es [PASSCODE]"),
        ("le mot de passe est nuage-7", "le mot de passe est [PASSCODE]"),
        ("パスコードは9381です", "パスコードは[PASSCODE]です"),
        ("my locker code is still sage umber 644", "my locker code is still [PASSCODE]"),
        ("電話は090-1234-5678です", "電話は[PHONE]です"),
        ("call 206-555-0170x123 now", "call [PHONE] now"),
        ("numéro de réunion : abc-defg-hij", "numéro de réunion : [MEETING_ID]"),
        ("l'ID de réunion est 823 4567 8901", "l'ID de réunion est [MEETING_ID]"),
    ],
)
def test_identifiers_are_found_in_other_languages(text: str, expected: str) -> None:
    assert replaced("Anna Berg", text) == [expected]
