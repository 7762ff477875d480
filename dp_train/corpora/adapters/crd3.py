"""CRD3: pieces of a role-playing show, each with a sentence of its summary, `pairs.jsonl.gz` (CC BY-SA 4.0).

8,953 pieces of `train` are PRIVATE. About eight people own nearly everything, so no bound on a person's share is of
use: it is trained on per example, and its ε says nothing of a person. The same people speak in `val`, which is
therefore no evaluation set here.

A person is a speaker's label. What several say together stands under the first of them; there are no times, so all
of it is of one nominal time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dp_train.conversations import Conversation, ConversationKind, Turn
from dp_train.corpora.adapters.benchmark import BenchmarkCorpus
from dp_train.corpora.adapters.qmsum import NOMINAL
from dp_train.corpora.adapters.rows import open_folder, read_rows
from dp_train.corpora.adapters.split import pseudonym
from dp_train.corpora.synthetic import Population
from dp_train.errors import DataError

SOURCE = "crd3"
FILE = "pairs.jsonl.gz"
_FIELDS = {"id": str, "split": str, "turns": list, "summary": str}


@dataclass(frozen=True, slots=True)
class CRD3:
    """The corpus in a folder.

    Raises:
      DataError: the folder does not hold it. Rows are looked at when they are read.
    """

    folder: Path

    def __post_init__(self) -> None:
        open_folder(self.folder, FILE)

    def corpus(self) -> BenchmarkCorpus:
        """The pieces of `train` that have a summary."""
        return BenchmarkCorpus(SOURCE, Population.PRIVATE, self._pieces)

    def _pieces(self) -> Iterator[Conversation]:
        for where, row in read_rows(self.folder / FILE, _FIELDS):
            spoken = [_spoken(where, turn) for turn in row["turns"]]
            summary = row["summary"].strip()
            if row["split"] != "train" or not summary or not spoken:
                continue
            labels = {label: pseudonym(SOURCE, label) for label, _ in spoken}
            yield Conversation(
                conversation_id=f"{SOURCE}-{row['id']}",
                org_id=SOURCE,
                created_at=NOMINAL,
                kind=ConversationKind.MEETING,
                turns=tuple(Turn(person_id=labels[label], text=text) for label, text in spoken),
                roster={person: label.title() for label, person in labels.items()},
                summary=summary,
            )


def _spoken(where: str, turn: Any) -> tuple[str, str]:
    """(label of the first speaker, words) of a turn."""
    speakers, text = (turn.get("speakers"), turn.get("text")) if isinstance(turn, dict) else (None, None)
    if not (isinstance(speakers, list) and speakers and isinstance(speakers[0], str) and isinstance(text, str)):
        raise DataError(f"{where}: a turn has no speakers or no text; every turn needs both")
    return speakers[0], text
