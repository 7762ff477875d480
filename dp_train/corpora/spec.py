"""The words of a corpus in a configuration, and which corpora there are.

A corpus that `corpus=NAME` can choose is a *spec*: a frozen dataclass that names the corpora of up to three
populations which share no person. It never says who agreed to what: that is a file of events or the consent store,
except for the embedded corpus, whose people are invented, and for public corpora, whose records allow research alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from dp_train.conversations import ConversationKind, Corpus
from dp_train.corpora.adapters.language import Language
from dp_train.corpora.columns import ColumnsConfig
from dp_train.corpora.files import EVALUATION, PRIVATE, PUBLIC, ColumnedFiles, Files
from dp_train.expect import expect
from dp_train.register import Register, canonical, fill
from dp_train.settled import settled
from dp_train.words import Word

if TYPE_CHECKING:
    from dp_train.corpora.adapters.gitter import Gitter

_BESIDE = Path("../shared/data")
"""Where public corpora lie if nothing else is said, each in a folder of its name."""


class TrainOn(Word):
    """Whose text a run learns from: the private population's, or published text, to choose settings on for nothing."""

    PRIVATE = "private"
    PUBLIC = "public"


class CorpusSpec(Protocol):
    """What `corpus.source=NAME` leads to, with its numbers filled in."""

    benchmark: ClassVar[bool]
    """Whether its people consented to nothing, so that it is for research alone."""

    def corpora(self, kinds: Collection[ConversationKind]) -> Mapping[str, Corpus]:
        """The corpora by population, each read as a stream; what is not there is left out.

        Args:
          kinds: what the task learns from; other conversations may be left out.
        """
        ...


CORPORA: Register[type[CorpusSpec]] = Register(
    "corpus",
    "dp_train.corpora",
    {
        "embedded": "dp_train.corpora.spec:Embedded",
        "jsonl": "dp_train.corpora.files:Jsonl",
        "csv": "dp_train.corpora.files:Csv",
        "parquet": "dp_train.corpora.files:Parquet",
        "hf": "dp_train.corpora.files:HuggingFace",
        "slack": "dp_train.corpora.slack:SlackSpec",
        "gitter": "dp_train.corpora.spec:GitterSpec",
        "qmsum": "dp_train.corpora.spec:QMSumSpec",
        "crd3": "dp_train.corpora.spec:CRD3Spec",
        "dialogsum": "dp_train.corpora.spec:DialogSumSpec",
    },
    needs=("benchmark", "corpora"),
)


@settled
@dataclass(kw_only=True)
class ChatConfig:
    """How a public chat becomes threads of three populations; see `dp_train.corpora.adapters`."""

    join_minutes: float = 3
    """Messages of one person that are no further apart are one turn."""
    silence_minutes: float = 30
    """A thread ends where nobody writes for so long."""
    max_turns: int = 40
    """A thread ends after so many turns."""
    public_share: float = 0.2
    """Share of the people whose text counts as published, by a public hash of their ids."""
    evaluation_share: float = 0.1
    """Share of the people who are scored on, by the same hash."""
    evaluation_from: str = "2016-07-01T00:00:00+00:00"
    """Threads of evaluation begin here and all others end before; ISO 8601 with an offset."""
    bots: list[str] = field(default_factory=lambda: ["camperbot"])
    """Nicks whose messages are left out."""
    language: Language | None = None
    """Language of the rooms to keep; null keeps all."""

    def __post_init__(self) -> None:
        join = self.join_minutes
        expect(self, "corpus.chat.join_minutes", 0 <= join <= self.silence_minutes, "0 to corpus.chat.silence_minutes")
        expect(self, "corpus.chat.max_turns", self.max_turns >= 1, "at least 1")
        expect(self, "corpus.chat.evaluation_from", is_time(self.evaluation_from), "a time with an offset")
        for name in ("public_share", "evaluation_share"):
            expect(self, f"corpus.chat.{name}", 0 < getattr(self, name) < 0.5, "a share in (0, 0.5)")


@settled
@dataclass(kw_only=True)
class CorpusConfig:
    """Conversations of three populations that share no person.

    A public corpus such as gitter lies in `folder`. Its people consented to nothing: it is used with
    `research_only: true` alone, and its models are not promoted.
    """

    source: str
    """Where conversations come from: `embedded`, a kind of file (`jsonl`, `csv`, `parquet`, `hf`, `slack`), a public
    corpus (`gitter`, `qmsum`, `crd3`), an entry point of an installed package, or module:Name (docs/extending.md)."""
    people: int = 2000
    """Of `embedded`: how many people are learnt from."""
    public_people: int = 1000
    """Of `embedded`, and where files bring no published text: how many people wrote it."""
    evaluation_people: int = 300
    """Of `embedded`: how many people are scored on."""
    seed: int = 0
    """Of `embedded`: a public number; another one invents other people under the same ids."""
    meetings_per_person: float = 3.0
    """Of `embedded`: mean number of meetings that a person is in."""
    threads_per_person: float = 6.0
    """Of `embedded`: mean number of chat threads that a person is in."""
    meeting_words: int = 110
    """Of `embedded`: about how many words are said in a meeting."""
    private: str | None = None
    """Of files: the file to learn from, through the gate."""
    public: str | None = None
    """Of files: published text for vocabulary and starting point; null takes the embedded public population."""
    evaluation: str | None = None
    """Of files: conversations of other people who agreed to publication, to score on; null scores nothing."""
    more: list[str] = field(default_factory=list)
    """Of `jsonl`, `csv` and `parquet`: further files to learn from, each read by its ending."""
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    """Of `jsonl`, `csv` and `parquet`: how files are read whose columns differ from the schema."""
    folder: str | None = None
    """Of public corpora: where it lies; null is ../shared/data/NAME."""
    research_only: bool = False
    """Has to be true with a public corpus, and with nothing else: its people did not consent to a product."""
    aliases: str | None = None
    """Of `gitter`: a file of accounts that are one person, csv with the header id,person or jsonl."""
    chat: ChatConfig = field(default_factory=ChatConfig)
    """Of `gitter` and `slack`: how messages become threads."""
    evaluation_source: str | None = None
    """Beside a public corpus: another one to score on (`dialogsum`), in place of the corpus' own people."""
    evaluation_folder: str | None = None
    """Where the corpus of `evaluation_source` lies; null is ../shared/data/NAME."""
    train_on: TrainOn = TrainOn.PRIVATE
    """`public` reads nothing private: half of the published text stands in for it, the other half is left for
    vocabulary and starting point. Such a run chooses settings, spends nothing, and is in no ledger."""
    tables: str | None = "runs/units"
    """Private folder of tokenised units, which a withdrawal empties; null keeps text in memory instead."""
    options: dict[str, Any] = field(default_factory=dict)
    """Numbers of a corpus from outside, by the names that its class gives them."""

    def __post_init__(self) -> None:
        self.source = source = canonical(self.source)
        benchmark = CORPORA.find(source).benchmark
        for name in ("people", "public_people", "evaluation_people"):
            expect(self, f"corpus.{name}", getattr(self, name) >= 20, "at least 20 people")
        licence = "another to train on: its licence (CC BY-NC-SA) leaves it for corpus.evaluation_source=dialogsum"
        expect(self, "corpus.source", source != "dialogsum", licence)
        expect(self, "corpus.folder", self.folder is None or benchmark, "null; public corpora alone have it")
        expect(self, "corpus.aliases", self.aliases is None or source == "gitter", "null; Gitter's alone")
        if self.evaluation_source is not None:
            self.evaluation_source = canonical(self.evaluation_source)
            scored = self.evaluation_source == "dialogsum" and benchmark
            expect(self, "corpus.evaluation_source", scored, "dialogsum beside a public corpus, or null")
        expect(
            self,
            "corpus.research_only",
            self.research_only == benchmark,
            "true: the people of a public corpus did not consent to a product" if benchmark else "false",
        )
        columned = issubclass(CORPORA.find(source), ColumnedFiles)
        expect(self, "corpus.more", columned or not self.more, "[]; of jsonl, csv and parquet alone")
        expect(self, "corpus.columns", columned or self.columns.nothing, "nothing; of jsonl, csv and parquet alone")
        if issubclass(CORPORA.find(source), Files):
            given = self.private is not None or self.train_on is TrainOn.PUBLIC
            expect(self, "corpus.private", given, f"the {source} file to train on; give corpus.private=PATH")
        elif CORPORA.is_builtin(source):
            for name in (PRIVATE, PUBLIC, EVALUATION):
                no_file = f"no file with corpus={source}; choose corpus=jsonl, csv …"
                expect(self, f"corpus.{name}", getattr(self, name) is None, no_file)
        self.spec()

    @property
    def learnt(self) -> tuple[str, ...]:
        """The files to learn from; none of a corpus that is none, or where published text is learnt from."""
        if self.private is None or self.train_on is TrainOn.PUBLIC:
            return ()
        return (self.private, *self.more)

    @property
    def embedded(self) -> bool:
        """Whether all of its people are invented."""
        return self.source == "embedded"

    def spec(self) -> CorpusSpec:
        """The chosen corpus with its numbers.

        Raises:
          ConfigError: there is no such corpus, or it does not take an option.
        """
        return fill(CORPORA.find(self.source), self, "corpus")

    def corpora(self, kinds: Collection[ConversationKind]) -> dict[str, Corpus]:
        """The corpora of the run by population; what learns from published text reads nothing private.

        Raises:
          DataError: a folder does not hold the corpus.
        """
        public_alone = self.train_on is TrainOn.PUBLIC
        chosen = replace(self, private=None) if public_alone and self.private is not None else self
        found = dict(chosen.spec().corpora(kinds))
        if self.evaluation_source is not None:
            found.pop(EVALUATION, None)
            found |= DialogSumSpec(folder=self.evaluation_folder).corpora(kinds)
        if public_alone:
            found.pop(PRIVATE, None)
        if PUBLIC not in found:
            found = {PUBLIC: fill(Embedded, self, "corpus", options={}).corpora(kinds)[PUBLIC], **found}
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """A company's life from a seeded generator; see `corpora.synthetic.SyntheticCorpus`."""

    benchmark: ClassVar[bool] = False

    people: int
    public_people: int
    evaluation_people: int
    seed: int
    meetings_per_person: float
    threads_per_person: float
    meeting_words: int

    def corpora(self, kinds: Collection[ConversationKind]) -> Mapping[str, Corpus]:
        from dp_train.corpora.synthetic import Population, SyntheticCorpus

        sizes = {
            PRIVATE: (self.people, Population.PRIVATE),
            PUBLIC: (self.public_people, Population.PUBLIC),
            EVALUATION: (self.evaluation_people, Population.EVALUATION),
        }
        return {
            name: SyntheticCorpus(
                people,
                population,
                seed=self.seed,
                meetings_per_person=self.meetings_per_person,
                threads_per_person=self.threads_per_person,
                meeting_words=self.meeting_words,
                kinds=tuple(kinds),
            )
            for name, (people, population) in sizes.items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class GitterSpec:
    """Chat of real people; see `corpora.adapters.gitter`."""

    benchmark: ClassVar[bool] = True

    folder: str | None
    aliases: str | None
    chat: ChatConfig

    def corpora(self, kinds: Collection[ConversationKind]) -> Mapping[str, Corpus]:
        from dp_train.corpora.synthetic import Population

        gitter = self._gitter()
        return {population.value: gitter.corpus(population) for population in Population}

    def _gitter(self) -> Gitter:
        from dp_train.corpora.adapters.chat import Threading
        from dp_train.corpora.adapters.gitter import Gitter
        from dp_train.corpora.adapters.split import PeopleSplit, read_aliases

        chat = self.chat
        return Gitter(
            folder=_folder(self.folder, "gitter"),
            aliases={} if self.aliases is None else read_aliases(Path(self.aliases)),
            bots=frozenset(chat.bots),
            threading=Threading(
                join=timedelta(minutes=chat.join_minutes),
                silence=timedelta(minutes=chat.silence_minutes),
                max_turns=chat.max_turns,
                evaluation_from=datetime.fromisoformat(chat.evaluation_from),
            ),
            split=PeopleSplit(public=chat.public_share, evaluation=chat.evaluation_share),
            language=chat.language,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class QMSumSpec:
    """Whole meetings with summaries; see `corpora.adapters.qmsum`."""

    benchmark: ClassVar[bool] = True

    folder: str | None

    def corpora(self, kinds: Collection[ConversationKind]) -> Mapping[str, Corpus]:
        from dp_train.corpora.adapters.qmsum import QMSum
        from dp_train.corpora.synthetic import Population

        qmsum = QMSum(_folder(self.folder, "qmsum"))
        return {found.value: qmsum.corpus(found) for found in (Population.PRIVATE, Population.EVALUATION)}


@dataclass(frozen=True, slots=True, kw_only=True)
class CRD3Spec:
    """Pieces of a role-playing show, each with a sentence of its summary; see `corpora.adapters.crd3`."""

    benchmark: ClassVar[bool] = True

    folder: str | None

    def corpora(self, kinds: Collection[ConversationKind]) -> Mapping[str, Corpus]:
        from dp_train.corpora.adapters.crd3 import CRD3

        return {PRIVATE: CRD3(_folder(self.folder, "crd3")).corpus()}


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogSumSpec:
    """Everyday dialogues with summaries, for evaluation alone; see `corpora.adapters.dialogsum`."""

    benchmark: ClassVar[bool] = True

    folder: str | None

    def corpora(self, kinds: Collection[ConversationKind]) -> Mapping[str, Corpus]:
        from dp_train.corpora.adapters.dialogsum import DialogSum

        return {EVALUATION: DialogSum(_folder(self.folder, "dialogsum")).corpus()}


def _folder(given: str | None, name: str) -> Path:
    return Path(given or _BESIDE / name)


def is_time(text: str | None) -> bool:
    """Return whether the text is a time in ISO 8601 with an offset; so is None."""
    try:
        return text is None or datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
