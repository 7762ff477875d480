"""A corpus of one's own: chat logs of lines `thread<TAB>time<TAB>person<TAB>text`, one file a population.

    dp-train train task=chat_compose corpus=own_corpus:ChatLog corpus.private=log.tsv consent.events=consent.jsonl …

    [project.entry-points."dp_train.corpora"]
    chat_log = "own_corpus:ChatLog"

It says who wrote what. Who agreed to what is never its to say: that is `consent.events`, or the consent store.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path

from dp_train.conversations import ContentKind, Conversation, ConversationKind, Corpus, Turn
from dp_train.errors import DataError


@dataclass(frozen=True, kw_only=True)
class ChatLog:
    """The populations that have a file; without a public one, invented text stands in for it."""

    benchmark = False  # True: its people consented to nothing, so corpus.research_only=true alone may use it

    private: str | None = None  # the configuration's corpus.private, .public and .evaluation
    public: str | None = None
    evaluation: str | None = None
    org: str = "acme"  # of our own: corpus.options.org

    def corpora(self, kinds: Collection[ConversationKind]) -> Mapping[str, Corpus]:
        files = {"private": self.private, "public": self.public, "evaluation": self.evaluation}
        return {population: _Log(Path(path), self.org) for population, path in files.items() if path}


@dataclass(frozen=True)
class _Log:
    path: Path
    org: str
    name: str = "chat_log"

    def conversations(self) -> Iterator[Conversation]:
        with self.path.open(encoding="utf-8") as file:
            rows = [line.rstrip("\n").split("\t") for line in file]
        if bad := next((number for number, row in enumerate(rows, 1) if len(row) != 4), None):
            raise DataError(f"{self.path.name} row {bad}: expected thread, time, person, text with tabs between")
        for thread, lines in groupby(rows, key=lambda row: row[0]):
            said = list(lines)
            yield Conversation(
                conversation_id=thread,
                org_id=self.org,
                created_at=datetime.fromisoformat(said[0][1]),
                kind=ConversationKind.THREAD,
                turns=tuple(Turn(person_id=row[2], text=row[3], kind=ContentKind.CHAT) for row in said),
                roster={row[2]: row[2] for row in said},
            )
