"""Ways in which words or the name of somebody who said no could get past the gate; `docs/gate.md` has the same table.

Cy Cole, or who stands in for Cy, refused. Each way is a turn of Bob's after Cy's turn, or a meeting; Bob agreed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from records import COMPOSE, SUMMARY, Listed, event, meeting, says, snapshot, thread

from dp_train.consent.events import EventState
from dp_train.consent.gate import ConsentPolicy, gate
from dp_train.conversations import Turn

SAID = "We should move the launch to May 5."
CJK = "我们应该把发布移到五月"
AGREED = snapshot(event("cy", EventState.REFUSED), event("dee", EventState.REFUSED), agreeing=["ann", "bob"])


class Way(NamedTuple):
    what: str
    text: str
    name: str = "Cy Cole"
    said: str = SAID
    links: dict[str, Any] = {}  # noqa: RUF012 (never changed)
    before: str = "hello there"
    open: bool = False


WAYS = [
    Way("quotes it by a link", "as he put it", links={"quotes": 1}),
    Way("repeats all of it", SAID),
    Way("repeats six words of it", "so should move the launch to May then"),
    Way("repeats it in capitals", SAID.upper()),
    Way("repeats it with other punctuation", "we -- should, move: the launch (to) may 5"),
    Way("repeats it with accents", "wé shóuld móve the láunch to May"),
    Way("repeats it with zero-width spaces", "we sho\u200buld mo\u200bve the lau\u200bnch to May"),
    Way("repeats it in look-alikes", "we shоuld mоve the lаunch tо May"),
    Way("repeats it full-width", "Ｗｅ　ｓｈｏｕｌｄ　ｍｏｖｅ　ｔｈｅ　ｌａｕｎｃｈ　ｔｏ"),
    Way("quotes two words with a mark", "> the launch\nwhich one?"),
    Way("quotes two words in quotation marks", "what “the launch” is that?"),
    Way("repeats a short turn", "so purple velvet monkey it is", said="purple velvet monkey"),
    Way("repeats a turn of one long word", "Donaudampfschifffahrt it is", said="Donaudampfschifffahrt!"),
    Way("quotes a turn of one word", '"Bankruptcy"?', said="bankruptcy"),
    Way("repeats six signs of Chinese", f"好的，{CJK[4:10]}", said=CJK),
    Way("quotes four signs of Chinese", "「移到五月」吗", said=CJK),
    Way("repeats Japanese", "はい、来週の発表を延期します", said="来週の発表を延期します"),
    Way("repeats Thai", "โอเค เราควรเลื่อนการเปิดตัว", said="เราควรเลื่อนการเปิดตัว"),
    Way("answers a question of theirs", "on Friday, I think", said="When is my operation?", links={"reply_to": 1}),
    Way("mentions the id", "she is away", links={"mentions": ("cy",)}),
    Way("names them", "ask Cy Cole"),
    Way("names them in small letters", "ask cole"),
    Way("names them with @", "@cycole please"),
    Way("names them in an address", "cy.cole@example.com"),
    Way("names them in the genitive", "that is Cole’s"),
    Way("names them in a Slavic case", "mluvil jsem s Novákem", name="Petr Novák"),
    Way("names them in another Slavic case", "bez Anny", name="Anna Nová"),
    Way("names them in a Russian case", "с Анной", name="Анна Петрова"),
    Way("names them in a Finnish case", "annoin sen Mikalle", name="Mika Virtanen"),
    Way("names them in a Turkish case", "Mehmetten geldi", name="Mehmet Kaya"),
    Way("names them in a Hungarian case", "a Kovácsnak", name="Zsófia Kovács"),
    Way("names them with a Hebrew prefix", "תגיד לדנה", name="דנה כהן"),
    Way("names them with an Arabic prefix", "ومحمد جاء", name="محمد علي"),
    Way("names them in Devanagari", "देव से बात हुई", name="देव शर्मा"),
    Way("names them in Tamil, inflected", "கமலாவின் திட்டம்", name="கமலா ராஜன்"),
    Way("names them in Burmese", "မနေ့ကကျော်လာတယ်", name="အောင် ကျော်"),
    Way("names them in Hebrew with niqqud", "דָּנָה באה", name="דנה כהן"),
    Way("names them in Chinese, by the given name", "小明说的", name="李小明"),
    Way("names them with homoglyphs", "ask Cоlе"),
    Way("names them with a soft hyphen", "ask Co\u00adle"),
    Way("names them with a zero-width space", "ask Co\u200ble"),
    Way("names them in mathematical letters", "ask 𝐂𝐨𝐥𝐞"),
    Way("names them by the first of two surnames", "ask Ruiz", name="Carla Ruiz Soto"),
    Way("names them without the apostrophe", "ask OBrien", name="Sean O'Brien"),
    Way("names them transliterated", "ask Odegaard", name="Finn Ødegård"),
    Way("names them in Latin letters", "ask Petrova", name="Анна Петрова"),
    Way("names somebody of the directory in full", "Dee Dunn left"),
    Way("tells it in other words", "the start slips into late spring", open=True),
    Way("names somebody of the directory by the first name alone", "Dee left", open=True),
    Way("names them by a nickname that does not follow from the name", "ask Sparky", open=True),
    Way("names them with a typing error", "ask Coel"),
    Way("names them with a letter left out", "ask Hargreves", name="Cy Hargreaves"),
    Way("names them by how a Korean name sounds", "ask Seoyeon", name="박서연"),
    Way("names them by how an Indic name sounds", "ask Sunita", name="सुनीता चौहान"),
    Way("names them by the consonants of an Arabic name", "ask Tarek", name="طارق منصور"),
    Way("quotes it with words left out", "what “the launch … to May” is that?"),
    Way("quotes it with words left out in brackets", '"should [...] launch"?'),
    Way("quotes it in backticks", "what `the launch` is that?"),
    Way("quotes it in single angles", "what ‹the launch› is"),
    Way("quotes it in low single marks", "what ‚the launch‘ is"),
    Way("quotes it in full-width marks", "what ＂the launch＂ is"),
    Way("quotes it in Japanese double primes", "what 〝the launch〞 is"),
    Way("quotes it by a bar", "| the launch"),
    Way("quotes it by a full-width mark", "＞ the launch"),
    Way("quotes it in HTML", "<blockquote>the launch</blockquote>"),
    Way("forwards it", "---------- Forwarded message\nmove the launch to May"),
    Way("announces it", "Am Mo schrieb er:\nmove the launch to May"),
    Way("repeats it joined to one word", "WeShouldMoveTheLaunchToMay"),
    Way("spells the name with spaces", "ask C o l e"),
    Way("spells the name with dots", "ask C.o.l.e"),
    Way("spells the name with hyphens", "ask C-o-l-e"),
    Way("writes a digit for a letter of the name", "ask C0le"),
    Way("puts an emoji into the name", "ask Co🙂le"),
    Way("emphasises a letter of the name", "ask *C*ole and **Co**le"),
    Way("marks up a letter of the name", "ask <b>C</b>ole"),
    Way("escapes a letter of the name", "ask &#67;ole"),
    Way("brackets a letter of the name", "ask (C)ole"),
    Way("joins the name to a word", "askCole"),
    Way("joins the name to a number", "cole1987"),
    Way("writes the genitive with a letter apostrophe", "Coleʼs plan"),
    Way("names them in small capitals", "ask ᴄᴏʟᴇ"),
    Way("names them in circled letters", "ask Ⓒⓞⓛⓔ"),
    Way("names them in letters white on black", "🅲🅾🅻🅴"),
    Way("names them in the letters of flags", "🇨🇴🇱🇪"),
    Way("names them with a Cherokee letter", "ask Ꮯole"),
    Way("names them with a Lisu letter", "ask ꓚole"),
    Way("names them with a Coptic letter", "ask Ⲥole"),
    Way("names them with a turned letter", "ask Colɘ"),
    Way("puts a blank that nobody sees into the name", "Co\u2800le"),
    Way("puts a thin space into the name", "Co\u200ale"),
    Way("puts tag characters into the name", "Co\U000e0041le"),
    Way("encloses a letter of the name", "C\u20ddole"),
    Way(
        "repeats what another, who agreed, said of them",
        "so the operation went badly",
        before="Cole's operation went badly",
        open=True,
    ),
    Way(
        "answers at length another's question about them",
        "the doctors say that it will take until the end of June at least",
        before="How is Cole?",
        links={"reply_to": 0},
        open=True,
    ),
]


def comes_out(way: Way) -> bool:
    turns: list[Turn] = [says("ann", way.before), says("cy", way.said), says("ann", "fine")]
    turns.append(says("bob", way.text, **way.links))
    conversation = thread(*turns, roster={"ann": "Ann Archer", "bob": "Bob Brix", "cy": way.name})
    policy = ConsentPolicy(purpose=COMPOSE, max_removed_share=1.0)
    (passed,) = gate(Listed(conversation), AGREED, policy, directory={"dee": "Dee Dunn"}).conversations()
    return any(turn.person_id == "bob" and turn.text for turn in passed.turns)


@pytest.mark.parametrize("way", WAYS, ids=[way.what for way in WAYS])
def test_no_way_leads_round_the_gate_but_the_named_ones(way: Way) -> None:
    assert comes_out(way) is way.open


def test_an_ordinary_answer_passes() -> None:
    assert comes_out(Way("", "the numbers look good to me, thanks", links={"reply_to": 0}))


def test_an_answer_that_leaves_open_whom_it_is_about_goes_where_somebody_said_no() -> None:
    assert not comes_out(Way("", "yes, she did", links={"reply_to": 0}))
    assert comes_out(Way("", "yes, she did"))


@pytest.mark.parametrize("where", ["turn", "summary", "directory", "mention"])
def test_a_meeting_that_speaks_of_who_refused_is_withheld(where: str) -> None:
    turn = "Cy is ill" if where == "turn" else "Dee Dunn is ill" if where == "directory" else "all is well"
    changes = {"summary": "Cole will not come."} if where == "summary" else {}
    mentions = ("cy",) if where == "mention" else ()
    talk = meeting(says("ann", turn, mentions=mentions), says("bob", "ok"), **changes)
    corpus = gate(Listed(talk), AGREED, ConsentPolicy(purpose=SUMMARY), directory={"dee": "Dee Dunn"})
    (passed,) = corpus.conversations()
    assert (passed.summary, [turn.text for turn in passed.turns]) == ("", ["", ""])
    assert (corpus.report.conversations_kept, corpus.report.turns_removed) == (0, 2)


def test_a_meeting_that_speaks_of_who_said_nothing_passes() -> None:
    talk = meeting(says("ann", "Zoe is ill"), roster={"ann": "Ann Archer", "zoe": "Zoe Zed"})
    (passed,) = gate(Listed(talk), AGREED, ConsentPolicy(purpose=SUMMARY)).conversations()
    assert passed is talk


def test_at_most_five_ways_are_open_and_the_page_names_all() -> None:
    assert len(WAYS) >= 44
    left = [way.what for way in WAYS if way.open]
    assert len(left) <= 5
    page = (Path(__file__).parents[2] / "docs" / "gate.md").read_text(encoding="utf-8")
    rows = [f"| {way.what} | {'**open**' if way.open else 'closed'} |" for way in WAYS]
    assert [row for row in rows if row not in page] == []
