"""How people of a roster are found in text."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp_train.consent.names import NameIndex

PEOPLE = {
    "u-0001": "Dr. Anna-Lena van der Berg",
    "u-0002": "Will Grant",
    "u-0003": "Siobhán O'Brien (she/her)",
    "u-0004": "李 小明",
    "u-0005": "Smith, Bob",
    "u-0006": "May Li",
}
INDEX = NameIndex(PEOPLE)


def _found(text: str, **options: object) -> list[tuple[str, str]]:
    return [(text[start:end], person[-1]) for start, end, person in INDEX.find(text, **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Anna said hi", [("Anna", "1")]),
        ("ask anna-lena VAN DER BERG", [("anna-lena VAN DER BERG", "1")]),
        ("@aberg or a.berg or A. Berg", [("@aberg", "1"), ("a.berg", "1"), ("A. Berg", "1")]),
        ("AnnaLenaBerg", [("AnnaLenaBerg", "1")]),
        ("Berg's plan, Lena’s too", [("Berg", "1"), ("Lena", "1")]),
        ("siobhan and SIOBHÁN and Siobha\u0301n", [("siobhan", "3"), ("SIOBHÁN", "3"), ("Siobha\u0301n", "3")]),
        ("Mr O’Brien", [("O’Brien", "3")]),
        ("李小明说 小明 好", [("李小明", "4"), ("小明", "4")]),
        ("bob smith, Smith, Bob", [("bob smith", "5"), ("Smith, Bob", "5")]),
        ("<@u-0005> and @bob_42", [("<@u-0005>", "5"), ("@bob_42", "5")]),
        ("U-0005 called", [("U-0005", "5")]),
        ("bobby, bobsled, kabob, u-00051", []),
    ],
)
def test_every_form_of_a_name_is_found(text: str, expected: list[tuple[str, str]]) -> None:
    assert _found(text) == expected
    assert INDEX.occurs_in(text) == bool(expected)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("we will grant access", []),
        ("Will you be there? May I ask? Grant me that.", []),
        ("Done. Will do.\nMay be.\n- Grant access", []),
        ("ask Will, or Grant", ["Will", "Grant"]),
        ("Will, can you? Will's turn. Will said so. Thanks. Will", ["Will", "Will", "Will", "Will"]),
        ("@will and @may", ["@will", "@may"]),
        ("Will Grant agreed, as will grant", ["Will Grant"]),
        ("on May 5, 5 May, 5th of May, but ask May", ["May"]),
        ("WILL THEY", []),
    ],
)
def test_a_common_word_is_a_name_only_where_it_is_written_like_one(text: str, names: list[str]) -> None:
    assert [name for name, _ in _found(text)] == names


def test_a_summary_and_a_declared_mention_make_a_capital_enough() -> None:
    assert _found("Grant takes the notes.") == []
    assert _found("Grant takes the notes.", declarative=True) == [("Grant", "2")]
    assert _found("Grant takes the notes.", hints=("u-0002",)) == [("Grant", "2")]
    assert _found("grant takes the notes.", hints=("u-0002",)) == []


def test_who_did_not_agree_is_found_in_any_case() -> None:
    assert INDEX.occurs_in("may I?")
    assert INDEX.occurs_in("we will see")
    assert not INDEX.occurs_in("nobody is named, not even in kabob")
    assert not INDEX.occurs_in("")


def test_of_two_people_with_one_name_the_mentioned_one_is_meant_else_the_first() -> None:
    index = NameIndex({"u-1": "Anna Adler", "u-2": "Anna Brandt"})
    assert [span.person_id for span in index.find("Anna, Anna Brandt")] == ["u-1", "u-2"]
    assert [span.person_id for span in index.find("Anna", hints=("u-2",))] == ["u-2"]


def test_covered_text_is_left_alone() -> None:
    text = "jo bob@example.com bob"
    assert [text[start:end] for start, end, _ in INDEX.find(text, covered=[(3, 18)])] == ["bob"]


def test_a_name_without_words_is_no_name() -> None:
    index = NameIndex({"a": "", "b": "…", "c": "J. (Jr.)", "d": "Dr."})
    assert index.find("a b c d J Dr …") == [] or all(span.person_id == "c" for span in index.find("J"))


@given(st.text(max_size=60), st.sampled_from(list(PEOPLE.values())), st.text(max_size=60))
def test_spans_never_overlap_and_lie_in_the_text(before: str, name: str, after: str) -> None:
    text = f"{before} {name} {after}"
    spans = INDEX.find(text)
    assert all(0 <= span.start < span.end <= len(text) for span in spans)
    assert all(left.end <= right.start for left, right in pairwise(spans))
    assert INDEX.occurs_in(text)
