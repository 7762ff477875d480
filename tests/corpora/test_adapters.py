"""Laws of the adapters of public corpora, on small invented files in their formats; the real ones are counted alone."""

from __future__ import annotations

import gzip
import json
import re
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dp_train.consent.events import LawfulBasis, Purpose
from dp_train.consent.gate import ConsentPolicy, gate
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.registry import ConsentRegistry
from dp_train.consent.rules import ConsentRules
from dp_train.conversations import Conversation
from dp_train.corpora.adapters import benchmark
from dp_train.corpora.adapters.benchmark import BenchmarkCorpus
from dp_train.corpora.adapters.crd3 import CRD3
from dp_train.corpora.adapters.dialogsum import DialogSum
from dp_train.corpora.adapters.gitter import THREADING, Gitter
from dp_train.corpora.adapters.language import Language
from dp_train.corpora.adapters.qmsum import QMSum, person_key
from dp_train.corpora.adapters.split import PeopleSplit, pseudonym, read_aliases
from dp_train.corpora.synthetic import Population
from dp_train.errors import ConfigError, DataError

DATA = Path(__file__).parents[2].parent / "shared" / "data"
PLANTED = "the spare key lies under the blue flower pot"
START = datetime(2015, 3, 1, tzinfo=UTC)
LATER = THREADING.evaluation_from + timedelta(days=1)


def write(path: Path, rows: Iterable[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def somebody(population: Population, number: int = 0) -> str:
    """An account that the default split puts into a population."""
    split = PeopleSplit()
    accounts = (f"account-{index}" for index in range(10_000))
    found = [a for a, _ in zip(accounts, range(400), strict=False) if split(pseudonym("gitter", a)) is population]
    return found[number]


ANNA, BEN = somebody(Population.PRIVATE), somebody(Population.PRIVATE, 1)
PAT, EVE = somebody(Population.PUBLIC), somebody(Population.EVALUATION)


def said(
    account: str, text: str, minutes: float = 0, *, room: str = "lobby", start: datetime = START, nick: str = ""
) -> dict[str, str]:
    sent = start + timedelta(minutes=minutes)
    return {
        "room": room,
        "sent_at": sent.isoformat().replace("+00:00", "Z"),
        "user_id": account,
        "username": nick or f"nick{account.removeprefix('account-')}",
        "message_id": f"{room}-{sent:%Y%m%d%H%M%S}-{account}",
        "text": text,
    }


def gitter(folder: Path, rows: Iterable[Mapping[str, str]], **settings: Any) -> Gitter:
    write(folder / "messages.jsonl.gz", rows)
    return Gitter(folder=folder, **settings)


def read(corpus: Gitter, population: Population = Population.PRIVATE) -> list[Conversation]:
    return list(corpus.corpus(population).conversations())


def texts(conversations: Iterable[Conversation]) -> list[str]:
    return [turn.text for conversation in conversations for turn in conversation.turns]


# gitter


def test_populations_share_no_person_and_no_words(tmp_path: Path) -> None:
    talk = [
        said(person, f"words of {number} {index}", 4 * index, start=start, room=room)
        for room, start in (("early", START), ("late", LATER))
        for index, (number, person) in enumerate([*enumerate([ANNA, PAT, EVE, BEN])] * 6)
    ]
    corpus = gitter(tmp_path, talk)
    found = {population: read(corpus, population) for population in Population}
    people = {name: {p for c in some for p in c.people | set(c.roster)} for name, some in found.items()}
    for population in Population:
        assert found[population]
        for other in Population:
            if other is not population:
                assert people[population].isdisjoint(people[other])
                assert set(texts(found[population])).isdisjoint(texts(found[other]))
    split = PeopleSplit()
    assert all(split(person) is population for population, some in people.items() for person in some)


def test_training_is_before_evaluation_even_where_a_talk_goes_on(tmp_path: Path) -> None:
    before = timedelta(minutes=10)
    start = THREADING.evaluation_from - before
    talk = [said(who, f"minute {2 * i}", 2 * i, start=start) for i, who in enumerate([ANNA, EVE, PAT] * 4)]
    corpus = gitter(tmp_path, talk)
    for population in Population:
        minutes = [int(text.split()[-1]) for text in texts(read(corpus, population))]
        assert minutes
        later = population is Population.EVALUATION
        assert all((minute >= 10) is later for minute in minutes)


@pytest.mark.parametrize("quoting", [f"> {PLANTED}", f"you wrote that {PLANTED}, right?", f"> {PLANTED}\nI agree"])
def test_no_words_of_another_population_enter_by_a_quotation(quoting: str, tmp_path: Path) -> None:
    corpus = gitter(tmp_path, [said(PAT, PLANTED), said(ANNA, quoting, 5), said(ANNA, "something else", 10)])
    private = texts(read(corpus))
    assert "something else" in private
    assert not any("flower pot" in text for text in private)


def test_nobody_of_another_population_is_named_where_no_roster_would_find_it(tmp_path: Path) -> None:
    corpus = gitter(
        tmp_path,
        [said(PAT, "hello", nick="wanderer"), said(ANNA, "wanderer is right", 5), said(ANNA, "@wanderer hello", 10)],
    )
    (conversation,) = read(corpus)
    assert texts([conversation]) == ["@wanderer hello"]
    assert "wanderer" not in conversation.roster.values()


def test_bots_and_messages_of_nobody_are_gone(tmp_path: Path) -> None:
    talk = [said("account-bot", "beep", nick="camperbot"), said("", "who am I?", 1), said(ANNA, "hi", 2)]
    assert texts(read(gitter(tmp_path, talk))) == ["hi"]
    assert texts(read(Gitter(folder=tmp_path, bots=frozenset({f"nick{ANNA.removeprefix('account-')}"})))) == []


def test_continuations_are_joined_for_one_person_in_one_room_alone(tmp_path: Path) -> None:
    talk = [
        said(ANNA, "one"),
        said(ANNA, "two", 1),
        said(BEN, "three", 2),
        said(ANNA, "four", 3),
        said(ANNA, "five", 9),
        said(ANNA, "six", 9, room="kitchen"),
    ]
    lobby, kitchen = read(gitter(tmp_path, talk))
    assert texts([lobby]) == ["one\ntwo", "three", "four", "five"]
    assert texts([kitchen]) == ["six"]


def test_threads_end_in_silence_and_at_the_most_turns(tmp_path: Path) -> None:
    talk = [said([ANNA, BEN][i % 2], f"{i}", i) for i in range(45)] + [said(ANNA, "late", 45 + 31)]
    lengths = [len(conversation.turns) for conversation in read(gitter(tmp_path, talk))]
    assert lengths == [THREADING.max_turns, 45 - THREADING.max_turns, 1]


@pytest.mark.parametrize("alias", [f"id,person\n{ANNA},x\nother-nick,x\n", f'{{"id": "{ANNA}", "person": "{BEN}"}}'])
def test_an_alias_file_makes_accounts_one_owner(alias: str, tmp_path: Path) -> None:
    path = tmp_path / ("aliases.csv" if alias.startswith("id") else "aliases.jsonl")
    path.write_text(alias)
    rows = [said(ANNA, "one"), said(BEN, "two", 5, nick="other-nick"), said(BEN, "three", 10, nick="other-nick")]
    assert len({message.person_id for message in gitter(tmp_path, rows).messages()}) == 2
    merged = Gitter(folder=tmp_path, aliases=read_aliases(path))
    assert len({message.person_id for message in merged.messages()}) == 1
    for population in Population:
        assert all(len(conversation.people) == 1 for conversation in read(merged, population))


def test_an_alias_that_stands_for_two_persons_is_refused(tmp_path: Path) -> None:
    (tmp_path / "aliases.csv").write_text("id,person\na,x\na,y\n")
    with pytest.raises(DataError, match=r"aliases\.csv row 2: .* two persons"):
        read_aliases(tmp_path / "aliases.csv")


def test_a_language_is_told_by_public_people_alone(tmp_path: Path) -> None:
    english = {
        PAT: "I do not know what you are going to do with all of it, but we can take a look at that one",
        ANNA: "so who was it that said they would like to go out there with us and have some of the cake",
    }
    german = {
        PAT: "ich weiß nicht genau was ihr damit vorhabt, aber wir sehen uns das später gemeinsam an",
        ANNA: "wer hatte denn gesagt, dass er gern mitkommen und etwas vom kuchen haben wollte",
    }

    def talk(**anna: dict[str, str]) -> list[dict[str, str]]:
        return [
            said(who, f"{(anna.get(room, words) if who == ANNA else words)[who]} {index}", 4 * index, room=room)
            for room, words in (("de", german), ("en", english))
            for index, who in enumerate([PAT, ANNA] * 4)
        ]

    kept = read(gitter(tmp_path, talk(), language=Language.EN))
    assert [text[:6] for text in texts(kept)] == ["so who"] * 4
    for anna in ({"en": german}, {"de": english}):
        changed = read(gitter(tmp_path, talk(**anna), language=Language.EN))
        assert [c.conversation_id for c in changed] == [c.conversation_id for c in kept], "her own words decide nothing"


def test_ids_are_pseudonyms_and_names_stand_on_the_roster(tmp_path: Path) -> None:
    (conversation,) = read(
        gitter(tmp_path, [said(ANNA, "@nimble hello", nick="anne"), said(BEN, "x", 5, nick="nimble")])
    )
    assert conversation.people.isdisjoint({ANNA, BEN, "anne", "nimble"})
    assert sorted(conversation.roster.values()) == ["anne", "nimble"]
    assert conversation.turns[0].mentions == (conversation.turns[1].person_id,)


BROKEN = {
    "not JSON": "{",
    "no object": "[1]",
    "no time": {**said(ANNA, PLANTED), "sent_at": "yesterday"},
    "no offset": {**said(ANNA, PLANTED), "sent_at": "2015-03-01T00:00:00"},
    "no text": {k: v for k, v in said(ANNA, PLANTED).items() if k != "text"},
    "text is a number": {**said(ANNA, PLANTED), "text": 7},
    "no id": {**said(ANNA, PLANTED), "message_id": ""},
    "older": said(ANNA, PLANTED, -60),
    "a lone surrogate": {**said(ANNA, PLANTED), "text": "\ud800"},
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=list(BROKEN))
def test_a_broken_row_is_named_by_number_and_never_shown(broken: object, tmp_path: Path) -> None:
    row = broken if isinstance(broken, str) else json.dumps(broken)
    with gzip.open(tmp_path / "messages.jsonl.gz", "wt") as out:
        out.write(f"{json.dumps(said(BEN, 'hi', 0.5))}\n{row}\n")
    with pytest.raises(DataError, match=r"messages\.jsonl\.gz row 2: ") as error:
        read(Gitter(folder=tmp_path))
    assert "flower" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_room_that_comes_back_is_refused(tmp_path: Path) -> None:
    talk = [said(ANNA, "a"), said(ANNA, "b", room="kitchen"), said(ANNA, "c", 1)]
    with pytest.raises(DataError, match="row 3: its room came before"):
        read(gitter(tmp_path, talk))


def test_a_file_that_is_cut_off_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "messages.jsonl.gz", [said(ANNA, secrets.token_hex(4000), i) for i in range(9)])
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match="cannot be read as gzip"):
        read(Gitter(folder=tmp_path))


@pytest.mark.parametrize("kind", [lambda folder: Gitter(folder=folder), QMSum, CRD3, DialogSum])
def test_a_missing_folder_is_one_line_with_the_remedy(kind: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not in corpus\.folder=.*corpus\.folder=PATH") as error:
        kind(tmp_path / "nothing")
    assert "\n" not in str(error.value)


def test_impossible_shares_are_refused() -> None:
    with pytest.raises(ConfigError, match="leave some private"):
        PeopleSplit(public=0.6, evaluation=0.4)


# consent


def gated(corpus: BenchmarkCorpus, purpose: Purpose, rules: ConsentRules) -> list[Conversation]:
    key = PrincipalKey(secrets.token_bytes(32))
    snapshot = ConsentRegistry(corpus.consent_events(key), rules=rules, key=key).snapshot(as_of=datetime.now(UTC))
    return list(gate(corpus, snapshot, ConsentPolicy(purpose=purpose)).conversations())


def test_records_of_a_benchmark_count_under_research_only_rules_alone(tmp_path: Path) -> None:
    private = gitter(tmp_path, [said(ANNA, "hi"), said(BEN, "ho", 5)]).corpus(Population.PRIVATE)
    assert gated(private, Purpose.TRAIN_CHAT_COMPOSE, benchmark.RULES)
    assert not gated(private, Purpose.TRAIN_CHAT_COMPOSE, ConsentRules(age_matters=frozenset()))
    assert not gated(private, Purpose.PUBLISH, benchmark.RULES)


def test_records_say_that_nobody_consented(tmp_path: Path) -> None:
    corpus = gitter(tmp_path, [said(ANNA, "hi")]).corpus(Population.PRIVATE)
    events = list(corpus.consent_events(PrincipalKey(bytes(32))))
    assert len(events) == 2
    assert all(event.lawful_basis is LawfulBasis.RESEARCH for event in events)
    assert events[1].notice_id == "public-benchmark"


# qmsum


def meeting(meeting_id: str, *speakers: str, summary: str = "They met.") -> dict[str, object]:
    turns = [{"speaker": speaker, "content": f"{{vocalsound}} words {i}"} for i, speaker in enumerate(speakers)]
    return {
        "meeting_id": meeting_id,
        "general_query_list": [{"query": "Summarize.", "answer": summary}, {"query": "Other?", "answer": "No."}],
        "meeting_transcripts": [*turns, {"speaker": speakers[0], "content": "{disfmarker}"}],
    }


def qmsum(folder: Path, train: Iterable[object], val: Iterable[object]) -> QMSum:
    write(folder / "train.jsonl.gz", train)
    write(folder / "val.jsonl.gz", val)
    return QMSum(folder)


def test_speakers_of_qmsum_are_merged_where_in_doubt_and_never_split() -> None:
    same = [
        (("ES2002a", "Marketing"), ("ES2002d", "Marketing")),
        (("Bed004", "Grad A"), ("Bro007", "Grad F")),
        (("covid_1", "Hon. Mary Poe (Minister of Small Things)"), ("covid_4", "Hon. Mary Poe (Some-Where, Lib.)")),
        (("education_1", "Ann Poe AM"), ("education_2", "Ann Poe")),
        (("covid_1", "The Chair"), ("covid_2", "The Acting Chair (Mr. A. B. (There, X.))")),
    ]
    other = [
        (("ES2002a", "Marketing"), ("ES2003a", "Marketing")),
        (("ES2002a", "Marketing"), ("ES2002a", "Project Manager")),
        (("Bed004", "Grad A"), ("Bed004", "PhD A")),
        (("covid_1", "Mr. Jim Poe"), ("covid_1", "Ms. Mary Poe")),
    ]
    assert all(person_key(*a) == person_key(*b) for a, b in same)
    assert all(person_key(*a) != person_key(*b) for a, b in other)
    assert person_key("covid_1", "Mr. A. B.", frozenset({"ab"})) == person_key("covid_1", "The Chair")


def test_nobody_of_qmsum_is_scored_on_who_speaks_in_training(tmp_path: Path) -> None:
    corpus = qmsum(
        tmp_path,
        [meeting("ES2002a", "Marketing"), meeting("covid_1", "The Chair (Mr. Al Poe)", "Ms. Bo Roe")],
        [meeting("ES2002c", "Marketing"), meeting("covid_2", "Mr. Al Poe"), meeting("ES2009a", "Marketing")],
    )
    train = list(corpus.corpus(Population.PRIVATE).conversations())
    val = list(corpus.corpus(Population.EVALUATION).conversations())
    assert [c.conversation_id for c in train] == ["qmsum-ES2002a", "qmsum-covid_1"]
    assert [c.conversation_id for c in val] == ["qmsum-ES2009a"]
    assert train[0].summary == "They met."
    assert [turn.text for turn in train[0].turns] == ["words 0"], "marks of noises are no words"
    assert sorted(train[1].roster.values()) == ["Al Poe", "Bo Roe"]


def test_a_meeting_without_a_summary_is_named_by_its_row(tmp_path: Path) -> None:
    corpus = qmsum(tmp_path, [meeting("ES2002a", "Marketing"), meeting("ES2002b", "Marketing", summary=" ")], [])
    with pytest.raises(DataError, match=r"train\.jsonl\.gz row 2: no summary"):
        list(corpus.corpus(Population.PRIVATE).conversations())


# crd3, dialogsum


def test_crd3_gives_its_training_pieces_alone(tmp_path: Path) -> None:
    turns = [{"speakers": ["ZED", "ALL"], "text": "Roll."}, {"speakers": ["IDA"], "text": "Seven."}]
    rows = [
        {"id": "a:0", "split": "train", "turns": turns, "summary": "Ida rolls."},
        {"id": "a:1", "split": "val", "turns": turns, "summary": "Ida rolls."},
        {"id": "a:2", "split": "train", "turns": turns, "summary": ""},
    ]
    write(tmp_path / "pairs.jsonl.gz", rows)
    (piece,) = CRD3(tmp_path).corpus().conversations()
    assert sorted(piece.roster.values()) == ["Ida", "Zed"]
    assert piece.summary == "Ida rolls."
    write(tmp_path / "pairs.jsonl.gz", [{**rows[0], "turns": [{"speakers": [], "text": PLANTED}]}])
    with pytest.raises(DataError, match=r"pairs\.jsonl\.gz row 1: a turn has no speakers"):
        list(CRD3(tmp_path).corpus().conversations())


def test_dialogsum_is_for_evaluation_and_each_dialogue_has_its_own_people(tmp_path: Path) -> None:
    row = {"dialogue": "#Person1#: Hi, #Person2#!\n#Person2#: Hi.", "summary": "#Person1# greets #Person2#."}
    write(tmp_path / "dev.jsonl.gz", [{"fname": f"dev_{i}", **row} for i in range(2)])
    corpus = DialogSum(tmp_path).corpus()
    first, second = corpus.conversations()
    assert corpus.population is Population.EVALUATION
    assert first.people.isdisjoint(second.people)
    assert first.summary == "Person1 greets Person2."
    assert texts([first]) == ["Hi, Person2!", "Hi."]
    write(tmp_path / "dev.jsonl.gz", [{"fname": "dev_0", "dialogue": PLANTED, "summary": "x"}])
    with pytest.raises(DataError, match=r"dev\.jsonl\.gz row 1: a line names no speaker"):
        list(corpus.conversations())


# the real ones


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not here: the real corpora are counted where they are")
def test_the_real_corpora_are_as_described() -> None:
    with gzip.open(DATA / "gitter" / "messages.jsonl.gz", "rt") as lines:
        users = [re.search(r'"user_id": "(\w*)"', line) for line in lines]
    assert (len(users), len({user[1] for user in users if user})) == (185_200, 6_772)
    qmsum, crd3, dialogsum = QMSum(DATA / "qmsum"), CRD3(DATA / "crd3"), DialogSum(DATA / "dialogsum")
    assert sum(1 for _ in qmsum.corpus(Population.PRIVATE).conversations()) == 162
    assert sum(1 for _ in qmsum.corpus(Population.EVALUATION).conversations()) == 20
    assert sum(1 for _ in crd3.corpus().conversations()) == 8_854
    assert sum(1 for _ in dialogsum.corpus().conversations()) == 500
