"""Corpora that are files on this machine, a file or a folder a population; each kind says how one is read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dp_train.conversations import Conversation, ConversationKind, Corpus
from dp_train.corpora.columns import Columns, ColumnsConfig

PRIVATE, PUBLIC, EVALUATION = "private", "public", "evaluation"
"""Names of the populations: what is learnt from, what vocabulary and start come from, what is scored on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """A file, or a folder, a population; a kind of its own says how one is read."""

    benchmark: ClassVar[bool] = False

    private: str | None
    public: str | None
    evaluation: str | None

    def corpora(self, kinds: Collection[ConversationKind]) -> Mapping[str, Corpus]:
        files = {PRIVATE: self.private, PUBLIC: self.public, EVALUATION: self.evaluation}
        return {name: self.read(Path(path)) for name, path in files.items() if path is not None}

    def read(self, path: Path) -> Corpus:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Joined:
    """Several corpora as one, in their order."""

    parts: Sequence[Corpus]

    @property
    def name(self) -> str:
        return self.parts[0].name

    def conversations(self) -> Iterator[Conversation]:
        for part in self.parts:
            yield from part.conversations()


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnedFiles(Files):
    """Files with columns of their own; `more` files to learn from are read by their endings."""

    more: Sequence[str]
    columns: ColumnsConfig

    def corpora(self, kinds: Collection[ConversationKind]) -> Mapping[str, Corpus]:
        from dp_train.corpora.readers import read_file

        found = dict(Files.corpora(self, kinds))
        if PRIVATE in found and self.more:
            columns = self.columns.columns()
            found[PRIVATE] = Joined((found[PRIVATE], *(read_file(path, columns) for path in self.more)))
        return found

    def read(self, path: Path) -> Corpus:
        return self.read_columns(path, self.columns.columns())

    def read_columns(self, path: Path, columns: Columns) -> Corpus:
        """The corpus of a file."""
        raise NotImplementedError


class Jsonl(ColumnedFiles):
    """Conversations from jsonl files."""

    def read_columns(self, path: Path, columns: Columns) -> Corpus:
        from dp_train.corpora.readers import read_jsonl

        return read_jsonl(path, columns)


class Csv(ColumnedFiles):
    """Conversations from csv files."""

    def read_columns(self, path: Path, columns: Columns) -> Corpus:
        from dp_train.corpora.readers import read_csv

        return read_csv(path, columns)


class Parquet(ColumnedFiles):
    """Conversations from parquet files."""

    def read_columns(self, path: Path, columns: Columns) -> Corpus:
        from dp_train.corpora.readers import read_parquet

        return read_parquet(path, columns)


class HuggingFace(Files):
    """Conversations from datasets on this machine."""

    def read(self, path: Path) -> Corpus:
        from dp_train.corpora.hugging_face import read_hf

        return read_hf(path)
