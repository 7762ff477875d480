"""The part of the schema that says what is learnt, from whose words, and who agreed to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from dp_train.consent.events import Purpose
from dp_train.conversations import ContentKind
from dp_train.errors import ConfigError
from dp_train.runs.expect import expect
from dp_train.runs.names import ContextName, CorpusSource, LanguageName, TaskName, TrainOn


@dataclass(kw_only=True)
class TaskConfig:
    """What is learnt.

    Attributes:
      name: which task.
      max_length: tokens of prompt and target together.
      max_new_tokens: of a meeting summary, how long it may become.
      context, context_turns: of chat compose, whose earlier messages stand before a message, and how many.
      trigger_rate: of chat compose, the share of places at which a suggestion is shown.
      suggestion_places: of chat compose, most places at which suggestions are scored: three short generations each.
    """

    name: TaskName
    max_length: int = 256
    max_new_tokens: int = 48
    context: ContextName = ContextName.OWN
    context_turns: int = 1
    trigger_rate: float = 0.25
    suggestion_places: int = 400

    def __post_init__(self) -> None:
        expect(self, "task.max_length", self.max_length >= 16, "at least 16 tokens")
        expect(self, "task.context_turns", self.context_turns >= 0, "at least 0")
        expect(self, "task.suggestion_places", self.suggestion_places >= 1, "at least 1")
        expect(self, "task.trigger_rate", 0 < self.trigger_rate <= 1, "a share in (0, 1]")
        expect(self, "task.max_new_tokens", self.max_new_tokens >= 1, "at least 1 token")
        expect(
            self,
            "task.max_new_tokens",
            self.max_new_tokens < self.max_length,
            f"fewer than task.max_length={self.max_length}, so that the prompt has room",
        )


@dataclass(kw_only=True)
class ChatConfig:
    """How a public chat becomes threads of three populations; see `dp_train.corpora.adapters`.

    Attributes:
      join_minutes: messages of one person no further apart are one turn.
      silence_minutes, max_turns: where a thread ends.
      public_share, evaluation_share: of the people, by a public hash of their ids.
      evaluation_from: evaluation threads begin here, all others end before, ISO 8601 with an offset.
      bots: whose messages are left out.
      language: of the rooms to keep; empty keeps all.
    """

    join_minutes: float = 3
    silence_minutes: float = 30
    max_turns: int = 40
    public_share: float = 0.2
    evaluation_share: float = 0.1
    evaluation_from: str = "2016-07-01T00:00:00+00:00"
    bots: list[str] = field(default_factory=lambda: ["camperbot"])
    language: LanguageName | None = None

    def __post_init__(self) -> None:
        join = self.join_minutes
        expect(self, "corpus.chat.join_minutes", 0 <= join <= self.silence_minutes, "0 to corpus.chat.silence_minutes")
        expect(self, "corpus.chat.max_turns", self.max_turns >= 1, "at least 1")
        expect(self, "corpus.chat.evaluation_from", _is_time(self.evaluation_from), "a time with an offset")
        for name in ("public_share", "evaluation_share"):
            expect(self, f"corpus.chat.{name}", 0 < getattr(self, name) < 0.5, "a share in (0, 0.5)")


@dataclass(kw_only=True)
class CorpusConfig:
    """Conversations of three populations that share no person.

    For `source: EMBEDDED` the numbers are those of `dp_train.corpora.synthetic.SyntheticCorpus`. For files,
    `private` is the file to train on, `public` (published text, for vocabulary and starting point) and
    `evaluation` (agreed to publication) are files too; without `public` the embedded public population
    is used, without `evaluation` nothing is scored.

    A public corpus such as GITTER lies in `folder`. Its people consented to nothing: it is used with
    `research_only: true` alone, and its models are not promoted. `aliases` is a file of accounts that are one
    person, csv with the header id,person or jsonl; `chat` says how it is cut. `evaluation_source` scores on another
    public corpus, in `evaluation_folder`, in place of the source's own people.
    With `train_on: PUBLIC` the private population is not even read: half of the public conversations stand in for it,
    the other half is left for vocabulary and starting point. Such a run spends nothing, and is in no ledger.
    `tables` is the private folder of tokenised units of the private population (`privacy.tables`), which a
    withdrawal empties; null keeps text in memory instead.
    """

    source: CorpusSource
    people: int = 2000
    public_people: int = 1000
    evaluation_people: int = 300
    seed: int = 0
    meetings_per_person: float = 3.0
    threads_per_person: float = 6.0
    meeting_words: int = 110
    private: str | None = None
    public: str | None = None
    evaluation: str | None = None
    folder: str | None = None
    research_only: bool = False
    aliases: str | None = None
    chat: ChatConfig = field(default_factory=ChatConfig)
    evaluation_source: CorpusSource | None = None
    evaluation_folder: str | None = None
    train_on: TrainOn = TrainOn.PRIVATE
    tables: str | None = "runs/units"

    def __post_init__(self) -> None:
        source = self.source
        for name in ("people", "public_people", "evaluation_people"):
            expect(self, f"corpus.{name}", getattr(self, name) >= 20, "at least 20 people")
        expect(
            self,
            "corpus.source",
            source is not CorpusSource.DIALOGSUM,
            "another to train on: its licence (CC BY-NC-SA) leaves it for corpus.evaluation_source=DIALOGSUM",
        )
        expect(self, "corpus.folder", self.folder is None or source.benchmark, "null; public corpora alone have it")
        expect(self, "corpus.aliases", self.aliases is None or source is CorpusSource.GITTER, "null; Gitter's alone")
        expect(
            self,
            "corpus.evaluation_source",
            self.evaluation_source in (None, CorpusSource.DIALOGSUM)
            and (self.evaluation_source is None or source.benchmark),
            "DIALOGSUM beside a public corpus, or null",
        )
        expect(
            self,
            "corpus.research_only",
            self.research_only == source.benchmark,
            "true: the people of a public corpus did not consent to a product" if source.benchmark else "false",
        )
        if source is CorpusSource.EMBEDDED or source.benchmark:
            for name in ("private", "public", "evaluation"):
                given = getattr(self, name)
                expect(
                    self,
                    f"corpus.{name}",
                    given is None,
                    f"no file with corpus={source.value}; choose corpus=jsonl, csv …",
                )
        else:
            expect(
                self,
                "corpus.private",
                self.private is not None or self.train_on is TrainOn.PUBLIC,
                f"the {self.source.value} file to train on; give corpus.private=PATH",
            )


@dataclass(kw_only=True)
class DenyConfig:
    """What a rule denies: those kinds of content for those purposes; where one of the two is left out, all of it."""

    purposes: list[Purpose] = field(default_factory=list)
    kinds: list[ContentKind] = field(default_factory=list)

    @property
    def nothing(self) -> bool:
        return not self.purposes and not self.kinds


@dataclass(kw_only=True)
class JurisdictionConfig:
    """What holds for consent collected under a jurisdiction; a grant older than `valid_for_days` counts as expired."""

    deny: DenyConfig = field(default_factory=DenyConfig)
    valid_for_days: int | None = None

    def __post_init__(self) -> None:
        days = self.valid_for_days
        expect(self, "consent.jurisdictions.….valid_for_days", days is None or days >= 1, "at least 1 day, or null")


@dataclass(kw_only=True)
class ConsentConfig:
    """Who agreed to what. `events` is the file of consent events; the embedded corpus brings its own.

    With `store: true` the consent store (`store.url`) is asked instead, for the embedded corpus too; see
    `dp-train consent import`. What `jurisdictions` and `organisations` say can only deny.
    `key` is the file of the secret that makes pseudonyms; it is created where it is missing for the
    embedded corpus alone. `as_of` and `known_at` are ISO 8601 times with an offset; empty means now.
    `material_versions` maps a notice to the version of its last material change: who agreed to an older one
    has to agree anew.
    """

    events: str | None = None
    key: str = "runs/principal.key"
    as_of: str | None = None
    known_at: str | None = None
    max_removed_share: float = 0.5
    material_versions: dict[str, int] = field(default_factory=dict)
    store: bool = False
    jurisdictions: dict[str, JurisdictionConfig] = field(default_factory=dict)
    organisations: dict[str, DenyConfig] = field(default_factory=dict)

    def __post_init__(self) -> None:
        share = self.max_removed_share
        for notice, version in self.material_versions.items():
            if version < 1:
                raise ConfigError(f"config: consent.material_versions.{notice}={version}; expected at least 1")
        for org_id, deny in self.organisations.items():
            if deny.nothing:
                raise ConfigError(
                    f"config: consent.organisations.{org_id} denies nothing; expected purposes, kinds or both"
                )
        for place, rule in self.jurisdictions.items():
            if rule.deny.nothing and rule.valid_for_days is None:
                raise ConfigError(
                    f"config: consent.jurisdictions.{place} asks for nothing; expected deny, valid_for_days or both"
                )
        expect(
            self,
            "consent.events",
            self.events is None or not self.store,
            "null with consent.store=true; dp-train consent import brings the file into the store",
        )
        expect(self, "consent.max_removed_share", 0 <= share <= 1, "a share in [0, 1]")
        for name in ("as_of", "known_at"):
            expect(
                self,
                f"consent.{name}",
                _is_time(getattr(self, name)),
                "a time with an offset, such as 2025-01-31T00:00:00+00:00",
            )


@dataclass(kw_only=True)
class AnonymizeConfig:
    """What is replaced by surrogates before anything is learnt."""

    names: bool = True
    patterns: bool = True
    presidio: bool = False


def _is_time(text: str | None) -> bool:
    try:
        return text is None or datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
