"""What a model repeats of training text is found, with how many people's it is, and nothing of the text is kept."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from dp_train.audit.replay import Replay, TrainedRow, details_in, replays
from dp_train.tasks.base import Sample
from dp_train.tasks.verbatim import common_spans, longest_common_spans


def row(text: str, *owners: str) -> TrainedRow:
    return TrainedRow(text=text, tokens=tuple(map(ord, text)), owners=frozenset(owners))


def compare(outputs: list[str], rows: list[TrainedRow], *, prompt: str = "") -> tuple[Replay, Replay]:
    return replays(
        [Sample(prompt=prompt, reference="nothing alike", output=output) for output in outputs],
        rows,
        tokenize=lambda texts: [list(map(ord, text)) for text in texts],
        decode=lambda ids: "".join(map(chr, ids)),
    )


def test_a_span_of_one_person_is_told_from_one_of_several() -> None:
    rows = [row("the vault code is nine", "ann"), row("see you on monday", "ann"), row("so see you on monday", "bob")]
    found, reference = compare(["so the vault code it is", "see you on monday then"], rows)
    assert {(span.text, span.people) for span in found.spans} == {("the vault code i", 1), ("see you on monday", 2)}
    assert (found.longest, found.of_one_person) == (17, 1)
    assert reference.longest < 8


def test_details_of_one_person_alone_that_no_prompt_gave_away() -> None:
    rows = [row("mail ann@example.org or call 070 123 4567, Zuzana", "ann"), row("call 0800 1111 and Zuzana", "bob")]
    output = "ann@example.org, 070 123 4567; then 0800 1111 Zuzana"
    found, _ = compare([output], rows)
    assert {(one.kind, one.text) for one in found.details} >= {
        ("address", "ann@example.org"),
        ("number", "0800 1111"),
    }
    assert not any(one.text == "Zuzana" for one in found.details)
    given_away, _ = compare([output], rows, prompt="ann@example.org said 0800 1111")
    assert not any(one.text in ("ann@example.org", "0800 1111") for one in given_away.details)


def test_what_is_kept_holds_no_text() -> None:
    found, _ = compare(["the vault code is nine 070 123 4567"], [row("the vault code is nine 070 123 4567", "ann")])
    kept = json.dumps(found.values())
    assert "vault" not in kept
    assert "4567" not in kept
    assert found.values()["details_of_one_person"] >= 1


def test_kinds_of_details() -> None:
    found = {(one.kind, one.text) for one in details_in("Ask Åsa at https://x.org/a or +44 7700 900123, room 12")}
    assert {("name", "Ask"), ("name", "Åsa"), ("address", "https://x.org/a")} <= found
    assert any(kind == "number" and text.startswith("+44") for kind, text in found)
    assert not any(text == "12" for _, text in found)


@given(
    st.lists(st.lists(st.integers(0, 3), max_size=12), min_size=1, max_size=3),
    st.lists(st.lists(st.integers(0, 3), max_size=12), max_size=3),
)
def test_places_of_spans_are_those_of_the_longest_by_hand(outputs: list[list[int]], texts: list[list[int]]) -> None:
    def stands(piece: list[int]) -> bool:
        return any(piece == text[i : i + len(piece)] for text in texts for i in range(len(text)))

    for output, (begin, end), length in zip(
        outputs, common_spans(outputs, texts), longest_common_spans(outputs, texts), strict=True
    ):
        by_hand = max(
            (j - i for i in range(len(output)) for j in range(i + 1, len(output) + 1) if stands(output[i:j])),
            default=0,
        )
        assert end - begin == length == by_hand
        assert not length or stands(output[begin:end])
