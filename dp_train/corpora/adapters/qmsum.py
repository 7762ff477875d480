"""QMSum: 162 + 35 whole meetings with summaries, `train.jsonl.gz` and `val.jsonl.gz` (Yale-LILY, MIT).

The target is the answer to the first general query, which asks for the whole meeting.

**Who a person is.** The corpus tells what speakers were called, not who they were. Where that leaves a doubt people are
merged, never split: a merged person is protected as one, so the ε holds for each of them, and the bound k keeps less.

| meetings | speakers are called | a person is |
|---|---|---|
| AMI (`ES2002a` … `TS3010d`) | by role: "Project Manager" | role in a series of four: AMI kept both through a series |
| ICSI (`Bed`, `Bmr`, `Bro`, …) | title and a letter of the meeting's: "Grad A" | all of one title in all of ICSI |
| parliaments (`covid`, `education`) | by name, with or without an office | the name; all who chair are one |

Limits: in ICSI two people of one title have one surrogate in a transcript too. A name that is written in two ways
counts as two people, and a person who took part in two AMI series as two.

Nobody of EVALUATION speaks in training: meetings of `val` with anybody of `train` are left out, which leaves AMI's.
There are no times in the corpus, so all of it is of one nominal time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dp_train.conversations import Conversation, ConversationKind, Turn
from dp_train.corpora.adapters.benchmark import BenchmarkCorpus
from dp_train.corpora.adapters.rows import open_folder, read_rows
from dp_train.corpora.adapters.split import pseudonym
from dp_train.corpora.synthetic import Population
from dp_train.errors import DataError

SOURCE = "qmsum"
TRAIN, VAL = "train.jsonl.gz", "val.jsonl.gz"
NOMINAL = datetime(2021, 1, 1, tzinfo=UTC)
_FIELDS = {"meeting_id": str, "general_query_list": list, "meeting_transcripts": list}

_AMI = re.compile(r"(ES|IS|TS)\d+[a-d]")
_ICSI = re.compile(r"B[a-z]{2}\d+")
_CHAIR = re.compile(r"the (?:acting )?chair(?:man|person)?\b(?: \((?P<name>.*)\))?", re.IGNORECASE)
_ASIDE = re.compile(r"\([^()]*\)")
_TITLE = re.compile(
    r"(?:the honourable|right hon\.?|hon\.?|mr\.?|mrs\.?|ms\.?|miss|m\.|dr\.?|professor)\s+", re.IGNORECASE
)
_OFFICE = re.compile(r"\s+(?:AM|MS|MP)$")
_NOISE = re.compile(r"\{[a-z ]+\}")


@dataclass(frozen=True, slots=True)
class QMSum:
    """The corpus in a folder.

    Raises:
      DataError: the folder does not hold it. Rows are looked at when they are read.
    """

    folder: Path

    def __post_init__(self) -> None:
        open_folder(self.folder, TRAIN, VAL)

    def corpus(self, population: Population) -> BenchmarkCorpus:
        """PRIVATE is `train`; EVALUATION is what of `val` has nobody of `train` in it."""

        def read() -> Iterator[Conversation]:
            person_of = self._person_of()
            if population is Population.PRIVATE:
                yield from self._meetings(TRAIN, person_of)
                return
            trained = {person for meeting in self._meetings(TRAIN, person_of) for person in meeting.people}
            for meeting in self._meetings(VAL, person_of):
                if trained.isdisjoint(meeting.people):
                    yield meeting

        return BenchmarkCorpus(SOURCE, population, read)

    def _person_of(self) -> Callable[[str, str], str]:
        """(meeting, speaker) → person; reads the speakers of both files to learn who has chaired."""
        chairs = set()
        for name in (TRAIN, VAL):
            for where, row in read_rows(self.folder / name, _FIELDS):
                for speaker, _ in _spoken(where, row):
                    named = _CHAIR.fullmatch(speaker)
                    if named and named["name"]:
                        chairs.add(plain_name(named["name"]))
        return lambda meeting_id, speaker: pseudonym(SOURCE, person_key(meeting_id, speaker, frozenset(chairs)))

    def _meetings(self, name: str, person_of: Callable[[str, str], str]) -> Iterator[Conversation]:
        for where, row in read_rows(self.folder / name, _FIELDS):
            roster: dict[str, str] = {}
            turns = []
            for speaker, text in _spoken(where, row):
                person = person_of(row["meeting_id"], speaker)
                roster.setdefault(person, _shown(row["meeting_id"], speaker))
                turns.append(Turn(person_id=person, text=text))
            yield Conversation(
                conversation_id=f"{SOURCE}-{row['meeting_id']}",
                org_id=SOURCE,
                created_at=NOMINAL,
                kind=ConversationKind.MEETING,
                turns=tuple(turns),
                roster=roster,
                summary=_summary(where, row),
            )


def person_key(meeting_id: str, speaker: str, chairs: frozenset[str] = frozenset()) -> str:
    """Which person a speaker of a meeting is, as the table above says; `chairs` are plain names of who has chaired."""
    if _AMI.fullmatch(meeting_id):
        return f"{meeting_id[:-1]} {speaker}"
    if _ICSI.fullmatch(meeting_id):
        return f"icsi {speaker.split()[0]}"
    parliament = meeting_id.rstrip("0123456789_")
    name = plain_name(speaker)
    return f"{parliament} chair" if _CHAIR.fullmatch(speaker) or name in chairs else f"{parliament} {name}"


def _shown(meeting_id: str, speaker: str) -> str:
    """What others may call the speaker in the text."""
    if _AMI.fullmatch(meeting_id) or _ICSI.fullmatch(meeting_id):
        return speaker
    chair = _CHAIR.fullmatch(speaker)
    return _name(chair["name"] if chair and chair["name"] else speaker)


def plain_name(speaker: str) -> str:
    """A name in small letters alone, without titles, offices and constituencies."""
    return "".join(filter(str.isalpha, _name(speaker).casefold()))


def _name(speaker: str) -> str:
    name = speaker
    while (shorter := _ASIDE.sub("", name)) != name:
        name = shorter
    name = name.strip()
    while title := _TITLE.match(name):
        name = name[title.end() :]
    return _OFFICE.sub("", name) or speaker


def _spoken(where: str, row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(speaker, words) of each turn that has words; marks of noises are none."""
    for turn in row["meeting_transcripts"]:
        speaker, content = (turn.get("speaker"), turn.get("content")) if isinstance(turn, dict) else (None, None)
        if not isinstance(speaker, str) or not speaker.strip() or not isinstance(content, str):
            raise DataError(f"{where}: a turn has no speaker or no content; every turn needs both")
        text = " ".join(_NOISE.sub(" ", content).split())
        if text:
            yield speaker.strip(), text


def _summary(where: str, row: dict[str, Any]) -> str:
    query = next(iter(row["general_query_list"]), None)
    answer = query.get("answer") if isinstance(query, dict) else None
    if not isinstance(answer, str) or not answer.strip():
        raise DataError(f"{where}: no summary; expected an answer to the first of general_query_list")
    return answer.strip()
