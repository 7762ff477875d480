"""A Slack export becomes conversations: everyone whose words are there is found, and who cannot agree is a guest."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dp_train.anonymize import Anonymizer
from dp_train.conversations import Conversation
from dp_train.corpora.spec import CorpusConfig
from dp_train.errors import ConfigError, DataError

USERS = [
    {"id": "U1", "team_id": "T1", "name": "ann", "profile": {"real_name": "Ann Archer", "display_name": "annie"}},
    {"id": "U2", "team_id": "T1", "name": "bo", "profile": {"real_name": "Bo Baker", "display_name": ""}},
    {"id": "U3", "team_id": "T2", "name": "cy", "profile": {"real_name": "Cy Cook"}},
    {"id": "U4", "team_id": "T1", "name": "dee", "profile": {"real_name": "Dee Dunn"}},
    {"id": "U9", "team_id": "T1", "name": "helper", "is_bot": True},
]


def says(user: str, minute: float, text: str, **more: Any) -> dict[str, Any]:
    return {"type": "message", "user": user, "ts": f"{1_700_000_000 + int(60 * minute)}.000100", "text": text, **more}


def list_members(folder: Path, **rooms: list[str]) -> None:
    rows = [{"id": f"C-{name}", "name": name, "members": members} for name, members in rooms.items()]
    folder.mkdir(exist_ok=True)
    (folder / "channels.json").write_text(json.dumps(rows))


def read(folder: Path, days: dict[str, list[Any]], **numbers: Any) -> list[Conversation]:
    folder.mkdir(exist_ok=True)
    (folder / "users.json").write_text(json.dumps(USERS))
    for name, rows in days.items():
        day = folder / name
        day.parent.mkdir(exist_ok=True)
        day.write_text(json.dumps(rows))
    config = CorpusConfig(source="slack", private=str(folder), **numbers)
    return list(config.spec().corpora(())["private"].conversations())


def test_a_channel_is_cut_by_silence_and_messages_in_a_row_are_one_turn(tmp_path: Path) -> None:
    rows = [says("U1", 0, "one"), says("U1", 1, "two"), says("U2", 5, "three"), says("U1", 90, "four")]
    first, second = read(tmp_path, {"general/2023-11-14.json": rows})
    assert [(turn.person_id, turn.text) for turn in first.turns] == [("U1", "one\ntwo"), ("U2", "three")]
    assert [turn.text for turn in second.turns] == ["four"]
    assert first.org_id == "T1"
    assert second.created_at - first.created_at == timedelta(minutes=90)


@pytest.mark.parametrize("words", ["", "> only what another person said", "so I did"])
def test_what_one_person_wrote_changes_no_turn_of_another(tmp_path: Path, words: str) -> None:
    rows = [says("U1", 0, "one"), says("U2", 0.5, words.replace(">", "&gt;")), says("U1", 1, "two")]
    (found,) = read(tmp_path, {"general/2023-11-14.json": rows})
    assert [turn.text for turn in found.turns if turn.person_id == "U1"] == ["one", "two"]


def test_replies_stand_with_their_message_alone_and_across_days(tmp_path: Path) -> None:
    root = says("U1", 0, "who comes?")
    root["thread_ts"] = root["ts"]
    days = {
        "general/2023-11-14.json": [root, says("U2", 1, "elsewhere")],
        "general/2023-11-15.json": [says("U2", 1500, "I do", thread_ts=root["ts"])],
    }
    found = [[turn.text for turn in each.turns] for each in read(tmp_path, days)]
    assert found == [["elsewhere"], ["who comes?", "I do"]]


def test_mentions_links_and_signs_read_as_in_slack_and_both_names_stand_on_the_roster(tmp_path: Path) -> None:
    list_members(tmp_path, general=["U1", "U2", "U9"])
    text = "<@U1> and <@U2|bo>: R&amp;D &lt;b&gt; <https://x.example|here> <#C1|plans> <!here> <!subteam^S1|@team>"
    (only,) = read(tmp_path, {"general/2023-11-14.json": [says("U2", 0, text)]})
    assert only.turns[0].text == "@annie and @Bo Baker: R&D <b> https://x.example #plans @here @team"
    assert only.turns[0].mentions == ("U1", "U2")
    assert dict(only.roster) == {"U2": "Bo Baker", "U1": "Ann Archer annie"}


def test_words_of_others_and_of_nobody_are_gone(tmp_path: Path) -> None:
    rows = [
        says("U1", 0, "&gt; what Bo wrote\nmy answer"),
        says("U2", 1, "&gt; only a quotation"),
        says("U9", 2, "beep"),
        says("U2", 3, "joined", subtype="channel_join"),
        {"type": "message", "subtype": "bot_message", "ts": "1700000300.0", "text": "beep"},
        says("U2", 4, "an app speaks", bot_id="B1"),
    ]
    (only,) = read(tmp_path, {"general/2023-11-14.json": rows})
    assert [turn.text for turn in only.turns] == ["my answer", ""]


def test_who_is_of_another_workspace_or_not_listed_is_a_guest(tmp_path: Path) -> None:
    rows = [says("U1", 0, "hi <@U7>"), says("U3", 1, "hello"), says("U8", 2, "hey")]
    (only,) = read(tmp_path, {"shared/2023-11-14.json": rows})
    assert only.guests == {"U3", "U8"}
    assert (only.turns[0].text, only.turns[0].mentions) == ("hi @U7", ("U7",))
    assert only.people == {"U1", "U3", "U8"}


def test_ids_are_stable_tell_no_channel_and_are_of_the_channel(tmp_path: Path) -> None:
    rows = [says("U1", 0, "hi")]
    one, other = read(tmp_path, {"salaries/2023-11-14.json": rows, "general/2023-11-14.json": rows})
    assert one.conversation_id != other.conversation_id
    assert "salaries" not in one.conversation_id + other.conversation_id
    assert read(tmp_path, {})[0].conversation_id == one.conversation_id


WORDS = ["", "hm", "ask <@U1> and <@U3>", "<@U4|dee> knows", "Dee Dunn left", "> no", "I'm U4", "Ann and Bo", "<@U2>?"]


@settings(max_examples=60, deadline=None)
@given(
    said=st.lists(st.tuples(st.sampled_from(["U1", "U2", "U3"]), st.sampled_from(WORDS)), min_size=1, max_size=8),
    members=st.none() | st.lists(st.sampled_from(["U1", "U2", "U3", "U4", "U9"]), unique=True),
    words=st.lists(st.sampled_from(WORDS), min_size=8, max_size=8),
)
@example(said=[("U1", "<@U4|dee> knows"), ("U2", "Dee Dunn left")], members=None, words=[""] * 8)
@example(said=[("U1", "ask <@U1> and <@U3>"), ("U2", "<@U4|dee> knows")], members=None, words=["hm"] * 8)
def test_what_one_person_says_changes_no_seat_and_no_byte_of_another(
    said: list[tuple[str, str]], members: list[str] | None, words: list[str]
) -> None:
    def talks(lines: list[tuple[str, str]]) -> list[Conversation]:
        with TemporaryDirectory() as folder:
            if members is not None:
                list_members(Path(folder), general=members)
            rows = [says(user, 7 * number, text) for number, (user, text) in enumerate(lines)]
            return read(Path(folder), {"general/2023-11-14.json": rows})

    here = talks(said)
    there = talks([(user, word if user == "U1" else text) for (user, text), word in zip(said, words, strict=False)])
    for one, other in zip(here, there, strict=True):
        assert list(one.roster.items()) == list(other.roster.items())
        assert (one.guests, one.conversation_id) == (other.guests, other.conversation_id)
        for before, after in zip(Anonymizer()(one).turns, Anonymizer()(other).turns, strict=True):
            assert before.person_id == after.person_id
            assert before.person_id == "U1" or before == after


def test_who_has_no_seat_is_replaced_where_they_are_mentioned(tmp_path: Path) -> None:
    rows = [says("U1", 0, "ask <@U02ABCDEF|dee>, or <@U2>")]
    (only,) = read(tmp_path, {"general/2023-11-14.json": rows})
    assert Anonymizer()(only).turns[0].text == "ask [P2], or [P3]"


def test_a_large_channel_gives_seats_to_those_who_write_alone(tmp_path: Path) -> None:
    list_members(tmp_path, general=[f"U{number}" for number in range(1, 18)])
    (only,) = read(tmp_path, {"general/2023-11-14.json": [says("U2", 0, "hi")]})
    assert list(only.roster) == ["U2"]


@pytest.mark.parametrize("rows", [{"no": "array"}, ["no object"], [says("U1", 0, "x") | {"ts": "secret"}]])
def test_a_broken_day_is_named_and_never_shown(rows: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^2023-11-14.json") as error:
        read(tmp_path, {"general/2023-11-14.json": rows})
    assert "secret" not in str(error.value)


def test_what_is_no_export_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"users.json.*expected the folder"):
        CorpusConfig(source="slack", private=str(tmp_path)).spec().corpora(())
    with pytest.raises(ConfigError, match=r"give corpus\.private=PATH"):
        CorpusConfig(source="slack")
