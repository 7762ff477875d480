"""What files of conversations hold, before anyone is asked: people, rows, and what each bound would keep of them.

All of it is for the eyes of whoever holds the files. What may leave them is `proposal`, whose numbers are coarse.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from dp_train.consent.events import Purpose
from dp_train.conversations import ContentKind, Conversation, ConversationKind
from dp_train.corpora.columns import Columns, ColumnsConfig, Noted
from dp_train.corpora.readers import read_file
from dp_train.errors import DataError
from dp_train.privacy.contribution_bounding import Ownership
from dp_train.privacy.plan import Unit
from dp_train.tasks.spec import TaskConfig

TASKS = ("meeting_summary", "chat_compose")
"""What files are looked at for."""


@dataclass(slots=True)
class Rows:
    """The rows that one task would make of the files, if everybody agreed; guests cannot.

    Attributes:
      kinds: of content in the conversations that it learns from.
      people: who speaks in them → an organisation of theirs.
    """

    owners: Ownership = field(default_factory=Ownership)
    ids: list[str] = field(default_factory=list)
    kinds: set[ContentKind] = field(default_factory=set)
    people: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_owners(self) -> int:
        """How many people own a row."""
        return self.owners.num_people

    @property
    def shared(self) -> bool:
        """Whether a row belongs to several people, so that a bound chooses among them."""
        return bool((self.owners.sizes > 1).any())

    @property
    def per_person(self) -> tuple[int, int, int]:
        """Fewest, median and most rows that a person owns; zeros where there are none."""
        counts = self.owners.rows_per_person
        return (int(counts.min()), int(np.median(counts)), int(counts.max())) if len(counts) else (0, 0, 0)

    def kept(self, max_contributions: int, rows_per_unit: int) -> int:
        """How many rows a selection within the bounds keeps."""
        selected = self.owners.select(
            lambda: self.ids, unit=Unit.USER, max_contributions=max_contributions, rows_per_unit=rows_per_unit
        )
        return len(selected.chosen)


@dataclass(slots=True, kw_only=True)
class Survey:
    """What files hold.

    Attributes:
      rows: by task. named: who has a name on a roster, which is what anonymisation finds them by.
      first: when the oldest conversation was. columns: what the files call their fields, those left out among them.
    """

    conversations: Counter[ConversationKind] = field(default_factory=Counter)
    turns: int = 0
    guests: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)
    organisations: dict[str, None] = field(default_factory=dict)
    first: datetime | None = None
    rows: dict[str, Rows] = field(default_factory=lambda: {task: Rows() for task in TASKS})
    columns: Noted = field(default_factory=Noted)

    @property
    def task(self) -> str:
        """The task of which there is most to learn, by rows."""
        return max(TASKS, key=lambda task: len(self.rows[task]))

    def add(self, conversation: Conversation) -> None:
        """Count one conversation."""
        self.conversations[conversation.kind] += 1
        self.turns += len(conversation.turns)
        self.guests |= conversation.guests
        self.named.update(person for person, name in conversation.roster.items() if name.strip())
        self.organisations[conversation.org_id] = None
        self.first = min(filter(None, (self.first, conversation.created_at)))
        for task, rows in self.rows.items():
            spec = _SPECS[task]
            if conversation.kind in spec.kinds:
                rows.kinds |= {turn.kind for turn in conversation.turns}
                for turn in conversation.turns:
                    if turn.person_id not in conversation.guests:
                        rows.people.setdefault(turn.person_id, conversation.org_id)
                for example in spec.examples(conversation):
                    if example.owners.isdisjoint(conversation.guests):
                        rows.owners.add(example.example_id, example.owners, empty=example.empty)
                        rows.ids.append(example.example_id)


_SPECS = {task: TaskConfig(name=task).spec() for task in TASKS}


def purpose_of(task: str) -> Purpose:
    """What people have to agree to for a task."""
    return _SPECS[task].purpose


def survey(paths: Sequence[Path], columns: ColumnsConfig) -> Survey:
    """Read files of conversations once, by the readers that a run reads them by.

    Raises:
      DataError: a file cannot be read, holds nothing, or has a conversation twice; names file and row, no content.
    """
    found = Survey()
    reading = columns.columns()
    noting = Columns(names=reading.names, left_out=reading.left_out, constants=reading.constants, noted=found.columns)
    seen: set[bytes] = set()
    for path in paths:
        before = len(seen)
        try:
            for conversation in read_file(path, noting).conversations():
                digest = hashlib.sha256(conversation.conversation_id.encode()).digest()[:16]
                if digest in seen:
                    raise DataError(
                        f"{path.name}: a conversation comes twice; expected an id of its own for each, and the rows of "
                        "one together"
                    )
                seen.add(digest)
                found.add(conversation)
        except DataError as error:
            raise DataError(f"{error}{_hint(found.columns) if ' is missing' in str(error) else ''}") from None
        if len(seen) == before:
            raise DataError(f"{path.name}: holds no conversation; expected some, as dp_train/corpora/readers.py says")
    return found


def _hint(noted: Noted) -> str:
    """Columns that may be what is missing. Without one that is known, the first row of a table may be no header."""
    if not (noted.known and noted.unknown):
        return ""
    return f"; nothing reads {', '.join(sorted(noted.unknown))}: --column FIELD=NAME says which field one is"


__all__ = ["TASKS", "Rows", "Survey", "purpose_of", "survey"]
