"""DialogSum: 500 everyday dialogues with summaries, `dev.jsonl.gz` (CC BY-NC-SA 4.0). For evaluation alone.

The licence excludes commercial use, and a model that has learnt from it may have to be shared alike: it is read as
EVALUATION and as nothing else. Speakers are "#Person1#" and so on, in the summary too; each dialogue has people of its
own. Known for the test set: lead-3 ROUGE-1/2/L 26.95/6.71/20.39, longest-3 23.31/6.24/16.88.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dp_train.conversations import Conversation, ConversationKind, Turn
from dp_train.corpora.adapters.benchmark import BenchmarkCorpus
from dp_train.corpora.adapters.qmsum import NOMINAL
from dp_train.corpora.adapters.rows import open_folder, read_rows
from dp_train.corpora.adapters.split import pseudonym
from dp_train.corpora.synthetic import Population
from dp_train.errors import DataError

SOURCE = "dialogsum"
FILE = "dev.jsonl.gz"
_FIELDS = dict.fromkeys(("fname", "dialogue", "summary"), str)
_TURN = re.compile(r"#(Person\d+)#:\s*(.*)")
_MARKED = re.compile(r"#(Person\d+)#")


@dataclass(frozen=True, slots=True)
class DialogSum:
    """The corpus in a folder.

    Raises:
      DataError: the folder does not hold it. Rows are looked at when they are read.
    """

    folder: Path

    def __post_init__(self) -> None:
        open_folder(self.folder, FILE)

    def corpus(self) -> BenchmarkCorpus:
        """All dialogues, as meetings to score summaries on."""
        return BenchmarkCorpus(SOURCE, Population.EVALUATION, self._dialogues)

    def _dialogues(self) -> Iterator[Conversation]:
        for where, row in read_rows(self.folder / FILE, _FIELDS):
            lines = [_TURN.fullmatch(line.strip()) for line in row["dialogue"].splitlines() if line.strip()]
            spoken = [line.groups() for line in lines if line is not None]
            if not lines or len(spoken) < len(lines):
                raise DataError(f'{where}: a line names no speaker; expected lines as "#Person1#: …"')
            people = {name: pseudonym(SOURCE, f"{row['fname']} {name}") for name, _ in spoken}
            yield Conversation(
                conversation_id=f"{SOURCE}-{row['fname']}",
                org_id=SOURCE,
                created_at=NOMINAL,
                kind=ConversationKind.MEETING,
                turns=tuple(Turn(person_id=people[name], text=_MARKED.sub(r"\1", text)) for name, text in spoken),
                roster={person: name for name, person in people.items()},
                summary=_MARKED.sub(r"\1", row["summary"]),
            )
