"""The privacy card says what holds, and beside it what does not."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from card_facts import FACTS, PLAN, claim
from hypothesis import given
from hypothesis import strategies as st

from dp_train.errors import TrackingError
from dp_train.privacy.plan import Unit
from dp_train.tracking.card import CardFacts, card_document, card_markdown, write_card
from dp_train.tracking.plain_words import _factor


def text(facts: CardFacts) -> str:
    return card_markdown(card_document(facts))


def test_the_claim_stands_with_its_limits() -> None:
    card = text(FACTS)
    assert "ε=3.00, δ=1e-06 per person (fixed meeting graph" in card
    for words in (
        "central: who trains sees the consented text",
        "add_or_remove_one",
        "ε of the plan by prv | 3.01",
        "| steps | 300 |",
        "| sample_rate | 0.02 |",
        "| clip_norm | 1.0 |",
        "starting point cdcdcdcdcdcdcdcd",
        "secret, drawn from the system",
        "who met whom",
        "floating-point attacks on the noise (not hardened)",
        "no empirical lower bound",
        PLAN.digest,
        "ab" * 32,
    ):
        assert words in card, words


def test_a_withheld_claim_shows_reasons_and_no_epsilon_of_the_run() -> None:
    facts = replace(FACTS, claim=claim(None, withheld=("a step is missing",)))
    card, document = text(facts), card_document(facts)
    assert "claim withheld: a step is missing" in card
    assert "| assumptions held in this run | no: a step is missing |" in card
    assert "epsilon" not in document["claim"]
    assert not document["the ε covers"]
    assert "ε=" not in card
    assert "3.01" not in card  # the plan's ε would be read as the run's


def test_without_privacy_the_card_promises_nothing() -> None:
    facts = replace(FACTS, plan=PLAN.without_privacy(), claim=claim(None, private=False), cross_check={})
    card = text(facts)
    assert "no privacy: nothing is promised to anybody" in card
    assert "The ε covers" not in card
    assert "| clip_norm | – |" in card


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trials": 9}, "the other 8 of 9 runs on these people"),
        ({"trials": 9, "non_private_trials": 1}, "1 of these runs had no privacy"),
        ({"private_statistics_logged": True}, "losses, clipped shares and batch sizes"),
        ({"seed_is_fixed": True}, "the ε holds only while that seed is secret"),
        ({"secure_noise": True}, "from the system's CSPRNG"),
        ({"anonymized": None}, "| anonymised before training | nothing |"),
        ({"starting_point": None}, "random weights"),
        ({"loaded": True}, "what the loaded weights and their vocabulary had learnt before"),
        ({"trained_before": 2}, "2 earlier runs trained them"),
        ({"claim": replace(claim(), steps=200)}, "ended after 200 of 300 steps"),
        ({"plan": PLAN.replace(unit=Unit.EXAMPLE)}, "a person who owns several examples: the ε is per example"),
        ({"plan": PLAN.replace(max_contributions=4)}, "replace_special"),
        ({"claim": claim(float("inf"))}, "| epsilon | unbounded |"),
    ],
)
def test_each_limit_is_said_where_it_applies(changes: dict[str, object], words: str) -> None:
    assert words not in text(FACTS)
    assert words in text(replace(FACTS, **changes))  # type: ignore[arg-type]


def test_a_withheld_claim_has_no_curve_and_no_picture(tmp_path: Path) -> None:
    facts = replace(FACTS, claim=claim(None, withheld=("a step is missing",)))
    assert "3.0" not in json.dumps(card_document(facts)["guarantee as a curve"])
    assert len(write_card(facts, tmp_path)) == 2


def test_what_the_bound_kept_is_told_as_a_share() -> None:
    shares = {"examples kept, %": 38, "people kept, %": None, "leans to": None}
    several = PLAN.replace(max_contributions=4)
    kept = card_document(replace(FACTS, selection=shares, plan=several))["what the bound kept"]
    assert kept == {"examples kept, %": 38, "people kept, %": "too few to tell"}


def test_a_share_of_one_owner_units_is_not_told() -> None:
    """The relation protects who is there: one heavy writer moves the share of examples kept from 100 to 38 %."""
    assert PLAN.max_contributions == 1
    assert "38" not in text(replace(FACTS, selection={"examples kept, %": 38, "people kept, %": 38, "leans to": None}))


def test_a_start_from_a_private_run_is_not_called_published() -> None:
    for changes in ({"trained_before": 1}, {"loaded": True}):
        for purpose in ("train_meeting_summary", "publish"):
            assert "published text alone" not in text(replace(FACTS, purpose=purpose, **changes))  # type: ignore[arg-type]
    assert "published text alone" in text(FACTS)


def test_what_a_person_is_and_whose_words_are_whose_is_said() -> None:
    card = text(FACTS)
    assert "an id: of someone with two ids each is protected by itself" in card
    assert "what others say about them is the others'" in card


def test_who_may_stop_follows_from_what_ran() -> None:
    assert "the plan alone: all of its steps ran" in text(FACTS)
    early = replace(claim(PLAN.epsilon()), steps=200)
    assert "charged in full" in text(replace(FACTS, claim=early))


def test_small_counts_are_not_told() -> None:
    consent = card_document(FACTS)["consent"]
    assert (consent["conversations kept"], consent["denied: guest"], consent["denied: expired"]) == (
        410,
        "fewer than 10",
        0,
    )


def test_json_and_markdown_come_from_one_document(tmp_path: Path) -> None:
    markdown, data, picture = write_card(FACTS, tmp_path / "run")
    assert picture.read_bytes().startswith(b"\x89PNG")
    document = json.loads(data.read_text())
    assert markdown.read_text() == card_markdown(document)
    assert document["claim"]["epsilon"] == 3.0
    assert document["scores"]["perplexity"] == "unbounded"


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrackingError, match=r"^card: \S+ cannot be written \(.+\); choose another run folder$"):
        write_card(FACTS, tmp_path / "file")


def test_two_deltas_that_round_alike_keep_their_own_epsilon() -> None:
    curve = card_document(replace(FACTS, curve=((3.0, 1.2e-6), (3.1, 1e-6))))["guarantee as a curve"]
    assert curve == {"δ=1.2e-06": 3.0, "δ=1e-06": 3.1}


def test_people_who_never_consented_stand_at_the_top_of_the_card() -> None:
    said = "benchmark corpus: nobody consented"
    document = card_document(replace(FACTS, research_only=said))
    assert document["consent"]["research only"] == said
    assert f"**{said}**" in card_markdown(document).split("## ")[0]
    assert "research only" not in card_document(FACTS)["consent"]


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({}, "change by at most a factor of 21 (e^ε), but for a chance of 1e-06 (δ)."),
        (
            {"claim": claim(None, withheld=("a step is missing",))},
            "Nothing is promised about this model: the run departed",
        ),
        ({"claim": claim(None, private=False)}, "Nothing is promised about this model: it was trained without privacy"),
    ],
)
def test_a_card_opens_with_three_plain_sentences(changes: dict[str, object], first: str) -> None:
    facts = replace(FACTS, **changes)  # type: ignore[arg-type]
    sentences = card_document(facts)["in plain words"]
    assert len(sentences) == 3
    assert first in sentences[0]
    card = text(facts)
    assert card.index(sentences[2]) < card.index("## ")
    assert "had agreed, as of " in sentences[1]
    asked = card_document(replace(facts, research_only="never asked"))["in plain words"][1]
    assert "were never asked" in asked


@given(st.floats(1e-6, 90))
def test_the_factor_is_never_below_e_to_the_epsilon(epsilon: float) -> None:
    shown = float(_factor(epsilon).replace(",", ""))
    assert math.exp(epsilon) <= shown * (1 + 1e-9)
    assert shown <= 1.11 * math.exp(epsilon)
