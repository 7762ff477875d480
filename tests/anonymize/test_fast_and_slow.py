"""What is passed over to save time is never what would have been found: the fast way equals the slow way."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from slow_way import every_word_may_be_a_name, slow_patterns

from dp_train.anonymize import labels, links, patterns
from dp_train.anonymize.labels import Place
from dp_train.anonymize.patterns import find_patterns
from dp_train.consent.name_letters import WORD, fold, plain, words
from dp_train.consent.names import NameIndex

SCRIPTS = Path(__file__).parents[2] / "scripts"
WRITTEN = [
    re.sub(r"\{[A-Z_]+\|([^}]*)\}", r"\1", row)
    for file in ("hand_lines.txt", "hand_secrets.txt", "ordinary.txt", "strangers.txt")
    for row in (SCRIPTS / "redaction" / file).read_text(encoding="utf-8").splitlines()
    if row and row[0] not in "@#"
]
LABELLED = [json.loads(row)["text"] for row in (SCRIPTS / "redaction_labels.jsonl").read_text("utf-8").splitlines()]
LABELS = [label.word for label in chain(*labels._BY_BEGIN.values(), labels._WITHIN)]
HEADS_TEXT = """
    SG. whsec_ AC SK hf_ pypi- dop_v1_ dckr_pat_ dapi shpat_ sq0abc- 12345678:AA hvs. GOCSPX- 1//0 lin_api_ secret_ pat
    ATATT3 glsa_ sntrys_ dp.pt. key- EAA v1.0- AKIA ghp_ xoxb- AIza ya29. sk-live- eyJ -us1 AccountKey= sig= bearer
    authorization: basic password= pwd: House No. Road Street Street, box Apt tie Straße Str. rue de caddesi ul. via
    utca meeting passcode code access pin: is call ssn mac www. :// .com .de .io DE12 GB29 SW1A 1AA K1A 0B1 -----BEGIN
    """
HEADS = HEADS_TEXT.split()
SIGNS = [*" .,:;-_/\\@=#+()[]{}<>\"'|?!%&*~`\n\t\u00a0\u3000–°º、“”„’\u200b\u0301\x1f\0¤", "://", "::", "  ", "-----"]
ODD = [*"ſKİı²³①٣४５éÉßẞøñäÖÅבกあ漢한Жжα"]
OF_LINKS = [*'@ <|",)-+._aé1ſİ', "http", "git+ssh", "://", "//", ":", "x.com", "www", "a" * 21, "ftp://"]
NAMES = ["Anna-Lena van der Berg", "Bob O'Brien", "jane_roe42", "Will May", "Theo Ring", "2pac", "Zdeněk Kubiec"]
OTHER_NAMES = ["Анна Петрова", "דנה כהן", "محمد علي", "कमला देव", "小明", "김민준", "José Ñandú", "Finn Ødegård"]

digits = st.from_regex(r"[0-9]{1,12}", fullmatch=True)
runs = st.text("0123456789abcdefXYZ_-.", min_size=12, max_size=40)
pieces = st.sampled_from([piece for text in WRITTEN for piece in re.findall(r"\S+|\s+", text)])
cased = st.builds(
    lambda word, how: how(word), st.sampled_from(LABELS + HEADS), st.sampled_from([str, str.upper, str.title])
)
fragments = st.one_of(cased, digits, runs, pieces, st.sampled_from(SIGNS), st.just(" "), st.sampled_from(ODD))
texts = st.lists(fragments, max_size=12).map("".join) | st.text(max_size=40)
name_parts = st.sampled_from([part for name in NAMES + OTHER_NAMES for part in (name, *name.split())])
endings = st.sampled_from(["", "", "'s", "a", "em", "ovi", "lle", "y", "42", "lar"])
called = st.builds(
    lambda part, end, how: how(part + end), name_parts, endings, st.sampled_from([str, str.lower, str.upper])
)
spoken = st.lists(st.one_of(called, called, st.sampled_from([*SIGNS, "@", " "]), pieces), max_size=10).map("".join)


def places(text: str, cuts: list[int]) -> list[Place]:
    ends = sorted({cut % (len(text) + 1) for cut in cuts})
    return list(zip(ends[::2], ends[1::2], strict=False))


@given(text=texts, cuts=st.lists(st.integers(0, 200), max_size=4))
@example(text="2pac's Pass ſecret: abc12345 İ", cuts=[])
@settings(max_examples=200, deadline=None)
def test_patterns_found_fast_are_those_found_slowly(text: str, cuts: list[int]) -> None:
    covered = places(text, cuts)
    assert find_patterns(text, covered) == slow_patterns(text, covered)


@pytest.mark.parametrize("texts", [WRITTEN, LABELLED], ids=["written by hand", "labelled"])
def test_on_lines_of_all_locales_both_ways_find_the_same(texts: list[str]) -> None:
    for text in texts:
        assert find_patterns(text) == slow_patterns(text)


@given(text=spoken, roster=st.lists(st.sampled_from(NAMES + OTHER_NAMES), min_size=1, max_size=5))
@example(text="the 2pacs", roster=["2pac"])
@settings(max_examples=200, deadline=None)
def test_names_found_fast_are_those_found_slowly(text: str, roster: list[str]) -> None:
    index = NameIndex({f"u-{number:04d}": name for number, name in enumerate(roster)})
    fast = index.find(text), index.occurs_in(text), index.people_in(text)
    with every_word_may_be_a_name():
        assert (index.find(text), index.occurs_in(text), index.people_in(text)) == fast


def test_a_text_is_plain_only_where_each_sign_stands_between_words() -> None:
    for point in range(128, sys.maxunicode + 1):
        sign = chr(point)
        if plain(f"a {sign}") == "a ?":
            assert not re.match(r"[\w\s]", sign)
            assert WORD.findall(f"a{sign}b") == ["a", "b"]
        else:
            assert plain(f"a {sign}") == f"a {sign}"


def test_every_label_may_stand_in_a_text_that_holds_it() -> None:
    entries = [label for label in chain(*labels._BY_BEGIN.values(), labels._WITHIN) if not label.word.isascii()]
    assert [label.word for label in entries if not label.table.may_stand(f"my {label.word}: 1")] == []


@given(text=st.lists(st.sampled_from(OF_LINKS), max_size=9).map("".join))
@settings(max_examples=500, deadline=None)
def test_links_are_found_before_their_colon_as_by_a_search_of_the_whole_text(text: str) -> None:
    if "www." not in text.lower():
        assert [m.span() for m in links._with_scheme(text)] == [m.span() for m in links._URL.finditer(text)]


@given(text=st.text(st.characters(max_codepoint=127), max_size=60))
def test_words_of_ascii_are_what_the_rule_for_all_scripts_gives(text: str) -> None:
    assert list(words(text)) == [fold(word) for word in WORD.findall(text)]


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Sequence[patterns._Kind]], None]]:
    """Puts other kinds in place of those that are looked for."""

    def put(kinds: Sequence[patterns._Kind]) -> None:
        patterns._kinds.cache_clear()
        monkeypatch.setattr(patterns, "_KINDS", tuple(kinds))

    yield put
    patterns._kinds.cache_clear()


Put = Callable[[Sequence[patterns._Kind]], None]


def test_plain_chat_is_searched_by_no_recogniser(kinds: Put) -> None:
    def never(text: str) -> list[Place]:
        raise AssertionError("searched")

    kinds([replace(kind, find=never) for kind in patterns._KINDS])
    for text in ("thanks, I'll have a look later :)", "@bob did you see it? the code looks fine"):
        assert find_patterns(text) == []


@pytest.mark.parametrize("number", range(len(patterns._KINDS)), ids=lambda n: patterns._KINDS[n].find.__name__)
def test_a_kind_that_is_wrongly_passed_over_would_be_seen(number: int, kinds: Put) -> None:
    changed = list(patterns._KINDS)
    changed[number] = replace(changed[number], may_find=lambda seen, taken: False)
    kinds(changed)
    known = [*WRITTEN, *LABELLED, *EXAMPLES]
    assert any(find_patterns(text) != slow_patterns(text) for text in known)


ASKING = [number for number, kind in enumerate(patterns._KINDS) if kind.asks > 0]


@pytest.mark.parametrize("number", ASKING, ids=lambda n: patterns._KINDS[n].find.__name__)
def test_a_sign_that_is_wrongly_asked_for_would_be_seen(number: int, kinds: Put) -> None:
    changed = list(patterns._KINDS)
    changed[number] = replace(changed[number], asks=0)
    kinds(changed)
    known = [*WRITTEN, *LABELLED, *EXAMPLES]
    assert any(find_patterns(text) != slow_patterns(text) for text in known)


EXAMPLES = [
    "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----",
    "bearer abcdefgh1234",
    "ping 10.1.2.3 and aa:bb:cc:dd:ee:ff and fe80::1 first",
    "Authorization: Basic dXNlcjpwYXNzd29yZA==",
    "the lock opens with umber 644",
    "hash 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b it is",
    "512 3456 7890 at ten",
    "the meeting ID is 123456789",
    "mine is 12345678Z",
    "AB-123-CD is parked",
    "GB29 NWBK 6016 1331 9268 19",
    "4111 1111 1111 1111",
    "078-05-1120",
]
