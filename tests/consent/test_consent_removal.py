"""Decision 7 of docs/consent.md for chat: what of a thread stays when somebody did not agree. Cy never agrees."""

import dataclasses
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import COMPOSE, SUMMARY, Listed, meeting, says, snapshot, thread

from dp_train.consent.decisions import Reason
from dp_train.consent.events import Purpose
from dp_train.consent.gate import ConsentPolicy, GateReport, gate
from dp_train.conversations import Conversation, ConversationKind, Example, Turn

AGREED = snapshot(agreeing=["ann", "bob"])


def _pass(
    conversation: Conversation, share: float = 0.99, purpose: Purpose = COMPOSE
) -> tuple[Conversation | None, GateReport]:
    corpus = gate(Listed(conversation), AGREED, ConsentPolicy(purpose=purpose, max_removed_share=share))
    return next(iter(corpus.conversations()), None), corpus.report


def _texts(*turns: Turn, **changes: Any) -> list[str]:
    passed, _ = _pass(thread(*turns, **changes))
    return [turn.text for turn in passed.turns if turn.text] if passed else []


def test_turns_of_who_did_not_agree_are_left_out() -> None:
    assert _texts(says("ann", "one"), says("cy", "two"), says("bob", "three")) == ["one", "three"]


def test_a_reply_stays_and_loses_its_link_a_quotation_goes() -> None:
    passed, report = _pass(
        thread(
            says("cy", "x"),
            says("ann", "one", reply_to=0),
            says("bob", "> x so two", reply_to=0, quotes=0),
            says("ann", "three", reply_to=1),
            says("bob", "four", quotes=2),
            says("bob", "five", reply_to=3, quotes=3),
        )
    )
    assert passed is not None
    assert [turn.text for turn in passed.turns] == ["one", "three", "five"]
    assert [(turn.reply_to, turn.quotes) for turn in passed.turns] == [(None, None), (0, None), (1, 1)]
    assert report.denials[Reason.OTHER_PERSON_DENIES] == 2


@pytest.mark.parametrize(
    "text",
    [
        "> We should move the launch to May 5",
        "as was said, WE SHOULD MOVE THE LAUNCH TO may!",
        "should move the launch to May",
    ],
)
def test_a_quotation_is_known_without_its_link(text: str) -> None:
    assert _texts(says("ann", "ok"), says("cy", "We should move the launch to May 5."), says("bob", text)) == ["ok"]


def test_a_short_turn_is_quoted_by_repeating_all_of_it() -> None:
    assert _texts(says("ann", "ok"), says("cy", "purple velvet monkey"), says("bob", '"purple velvet monkey" lol')) == [
        "ok"
    ]
    assert _texts(says("ann", "ok"), says("cy", "thanks all"), says("bob", "thanks all")) == ["ok", "thanks all"]


def test_a_quotation_of_a_turn_that_names_somebody_goes_with_it_by_its_link() -> None:
    said = "Cy told me that the lease of the house is gone"
    again = "he told me that the lease of the house is gone"
    ok = says("ann", "ok"), says("ann", "fine"), says("bob", "well")
    assert _texts(*ok, says("ann", said), says("bob", again, quotes=3)) == ["ok", "fine", "well"]
    # Without the link Bob's row would depend on what Ann, who agreed, said.
    assert _texts(*ok, says("ann", said), says("bob", again)) == ["ok", "fine", "well", again]


def test_what_is_withheld_stays_in_its_place_and_says_nothing() -> None:
    passed, report = _pass(thread(says("ann", "a"), says("bob", "ask Cy", mentions=("cy",)), says("bob", "b")))
    assert passed is not None
    assert [(turn.person_id, turn.text, turn.mentions) for turn in passed.turns] == [
        ("ann", "a", ()),
        ("bob", "", ()),
        ("bob", "b", ()),
    ]
    assert (report.turns_removed, report.conversations_kept) == (1, 1)


def test_of_whose_turns_too_many_are_withheld_the_rest_is_too() -> None:
    turns = says("ann", "one"), says("bob", "Cy left"), says("bob", "two"), says("bob", "three")
    passed, report = _pass(thread(*turns), share=0.4)
    assert passed is not None
    assert [turn.text for turn in passed.turns] == ["one", "", "two", "three"]
    passed, report = _pass(thread(*turns), share=0.3)
    assert passed is not None
    assert [turn.text for turn in passed.turns] == ["one", "", "", ""]
    assert report.turns_removed == 3


def test_what_was_said_before_is_no_quotation() -> None:
    first = "We should move the launch to May 5"
    assert _texts(says("ann", first), says("cy", first)) == [first]


@pytest.mark.parametrize(
    "text",
    [
        "ask cy about it",
        "ask Cole about it",
        "CY COLE knows",
        "that is Cy's job",
        "@cy please",
        "@cy_cole please",
        "cole.cy@example.com",
        "cycole knows",
        "c.cole knows",
    ],
)
def test_a_turn_that_names_who_did_not_agree_is_dropped(text: str) -> None:
    assert _texts(says("ann", "ok"), says("bob", text)) == ["ok"]


@pytest.mark.parametrize("text", ["the cycle is over", "chocolate", "ask Ann Archer", "coleslaw"])
def test_a_name_inside_another_word_is_no_name(text: str) -> None:
    assert _texts(says("ann", "ok"), says("bob", text)) == ["ok", text]


def test_a_declared_mention_of_who_did_not_agree_drops_the_turn() -> None:
    assert _texts(says("ann", "ok"), says("bob", "she is away", mentions=("cy",))) == ["ok"]
    assert _texts(says("ann", "ok"), says("bob", "she is away", mentions=("stranger",))) == ["ok"]
    assert _texts(says("ann", "ok"), says("bob", "she is away", mentions=("ann",))) == ["ok", "she is away"]


def test_a_name_that_is_a_common_word_counts_in_any_case() -> None:
    roster = {"ann": "Ann Archer", "cy": "Will May"}
    assert _texts(says("ann", "ok"), says("ann", "we may go"), says("ann", "so will I"), roster=roster) == ["ok"]


def test_a_guest_is_neither_heard_nor_named() -> None:
    turns = says("ann", "ok"), says("bob", "hi"), says("ann", "thanks Bob")
    assert _texts(*turns, guests=frozenset({"bob"})) == ["ok"]


def test_the_id_of_who_is_not_on_the_roster_counts_as_a_name() -> None:
    turns = says("ann", "ok"), says("user-77", "hi"), says("ann", "<@user-77> hello")
    assert _texts(*turns) == ["ok"]


def test_who_agreed_to_no_kind_that_is_left_leaves_the_roster() -> None:
    passed, _ = _pass(thread(says("ann", "ok"), says("cy", "x"), guests=frozenset({"cy"})))
    assert passed is not None
    assert set(passed.roster) == {"ann", "bob"}
    assert not passed.guests


def test_the_summary_goes_with_the_first_turn_that_is_left_out() -> None:
    whole, _ = _pass(meeting(says("ann", "ok"), says("bob", "x")))
    part, _ = _pass(meeting(says("ann", "ok"), says("bob", "x"), says("cy", "y")))
    assert whole is not None
    assert part is not None
    assert (whole.summary, part.summary) == ("They agreed.", None)


def test_a_published_thread_passes_in_part_too() -> None:
    passed, _ = _pass(thread(says("ann", "ok"), says("cy", "x")), purpose=Purpose.PUBLISH)
    assert passed is not None
    assert len(passed.turns) == 1


def test_a_thread_is_dropped_when_more_than_the_share_is_gone() -> None:
    half = thread(says("ann", "ok"), says("cy", "x"))
    assert _pass(half, share=0.5)[0] is not None
    passed, report = _pass(half, share=0.49)
    assert passed is None
    assert report.denials == {Reason.NO_RECORD: 1, Reason.TOO_MUCH_REMOVED: 1}
    assert report.turns_removed == 2


def test_nothing_passes_of_which_nothing_is_left() -> None:
    assert _pass(thread(says("cy", "x")), share=1.0)[0] is None
    assert _pass(thread(), share=1.0)[0] is None


@st.composite
def _threads(draw: st.DrawFn) -> tuple[Conversation, set[str]]:
    """A thread in which each turn has a phrase of its own, and the phrases that must not come out."""
    turns: list[Turn] = []
    phrases: list[str] = []
    carries: list[set[int]] = []  # turn → turns whose phrase its text holds
    for index in range(draw(st.integers(1, 9))):
        phrase = " ".join(f"{word}{index}q" for word in ("violet", "anchor", "harbour"))
        earlier = draw(st.none() | st.integers(0, index - 1)) if index else None
        text, held, links = phrase, {index}, {}
        if earlier is not None:
            how = draw(st.sampled_from(("reply", "linked quote", "bare quote", "mention")))
            if how == "reply":
                links["reply_to"] = earlier
            elif how == "linked quote":
                links["quotes"] = earlier
            if "quote" in how:
                text = f"{turns[earlier].text} | {phrase}"
                held |= carries[earlier]
        person = draw(st.sampled_from(("ann", "bob", "cy")))
        if draw(st.booleans()) and draw(st.booleans()):
            text += " said Cy"
        turns.append(says(person, text, **links))
        phrases.append(phrase)
        carries.append(held)
    secret = {phrase for phrase, turn in zip(phrases, turns, strict=True) if turn.person_id == "cy"}
    return thread(*turns), secret


@given(_threads(), st.sampled_from((0.3, 0.5, 1.0)), st.sampled_from((COMPOSE, Purpose.PUBLISH)))
def test_no_phrase_of_who_did_not_agree_comes_out(
    planted: tuple[Conversation, set[str]], share: float, purpose: Purpose
) -> None:
    conversation, secret = planted
    corpus = gate(Listed(conversation), AGREED, ConsentPolicy(purpose=purpose, max_removed_share=share))

    def whole(passed: Conversation) -> list[Example]:
        text = "\n".join([*(turn.text for turn in passed.turns), *passed.roster.values()])
        return [Example(example_id="x", prompt=text, target=passed.summary or "", owners=passed.people)]

    for example in corpus.examples(whole):
        assert not [phrase for phrase in secret if phrase in example.prompt]
        assert "Cy" not in example.prompt
        assert "cy" not in example.owners


@given(_threads())
def test_links_of_what_stays_point_at_the_turns_they_pointed_at(planted: tuple[Conversation, set[str]]) -> None:
    conversation, _ = planted
    passed, _ = _pass(conversation)
    if passed is None:
        return
    original = {turn.text: turn for turn in conversation.turns}
    for turn in passed.turns:
        if not turn.text:
            continue
        before = original[turn.text]
        for now, then in ((turn.reply_to, before.reply_to), (turn.quotes, before.quotes)):
            if now is not None:
                assert then is not None
                assert passed.turns[now].text in ("", conversation.turns[then].text)
        kept = {one.text for one in passed.turns}
        if before.quotes is not None:
            assert turn.quotes is not None
        if before.reply_to is not None and conversation.turns[before.reply_to].text in kept:
            assert turn.reply_to is not None


def test_every_subset_of_people_keeps_exactly_its_turns() -> None:
    turns = [says(person, f"{person} says {word}") for person, word in (("ann", "a"), ("bob", "b"), ("cy", "c"))]
    quiet = {"ann": "", "bob": "", "cy": ""}
    for count in range(4):
        for agreeing in itertools.combinations(("ann", "bob", "cy"), count):
            corpus = gate(
                Listed(thread(*turns, roster=quiet)),
                snapshot(agreeing=agreeing),
                ConsentPolicy(purpose=COMPOSE, max_removed_share=1.0),
            )
            people = {turn.person_id for passed in corpus.conversations() for turn in passed.turns}
            assert people == set(agreeing)


@given(_threads(), st.sampled_from((0.0, 0.3, 0.5, 1.0)), st.sampled_from((COMPOSE, SUMMARY)), st.booleans())
def test_the_reasons_add_up_to_the_turns_that_did_not_come_out(
    planted: tuple[Conversation, set[str]], share: float, purpose: Purpose, own_words: bool
) -> None:
    conversation, _ = planted
    policy = ConsentPolicy(purpose=purpose, max_removed_share=share, own_words=own_words)
    for given_ in (conversation, dataclasses.replace(conversation, kind=ConversationKind.MEETING, summary="Said.")):
        corpus = gate(Listed(given_, given_), AGREED, policy)
        came_out = sum(bool(turn.text) for passed in corpus.conversations() for turn in passed.turns)
        report = corpus.report
        assert sum(report.removed.values()) == report.turns_removed == 2 * len(given_.turns) - came_out
        # Whoever agreed is removed for another's sake alone, and whoever did not for their own answer.
        own = sum(turn.person_id == "cy" for turn in given_.turns)
        others = {Reason.OTHER_PERSON_DENIES, Reason.TOO_MUCH_REMOVED}
        assert sum(count for reason, count in report.removed.items() if reason not in others) == 2 * own


def test_rows_of_their_authors_words_alone_lose_no_thread_to_what_others_took_away() -> None:
    talk = thread(*(says("cy", f"x{number}") for number in range(9)), says("ann", "one"))
    for own_words, expected in ((False, []), (True, ["one"])):
        policy = ConsentPolicy(purpose=COMPOSE, max_removed_share=0.1, own_words=own_words)
        passed = list(gate(Listed(talk), AGREED, policy).conversations())
        assert [turn.text for one in passed for turn in one.turns] == expected
    # The share of what an author's own turns say of others still counts.
    talk = thread(says("cy", "hm"), says("ann", "Cy said"), says("ann", "Cy left"), says("ann", "one"))
    policy = ConsentPolicy(purpose=COMPOSE, max_removed_share=0.5, own_words=True)
    corpus = gate(Listed(talk), AGREED, policy)
    assert not [turn.text for one in corpus.conversations() for turn in one.turns if turn.text]
    assert corpus.report.removed == {Reason.NO_RECORD: 1, Reason.OTHER_PERSON_DENIES: 2, Reason.TOO_MUCH_REMOVED: 1}
