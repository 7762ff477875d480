"""From a checked configuration to people: corpora, consent events → a snapshot → gated, anonymised populations.

Torch is not loaded here, so that what depends on people alone (who owns what) is quick to tell.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path

from dp_train.anonymize import Anonymizer
from dp_train.cli.config import TaskConfig, TrainConfig
from dp_train.cli.names import ContextName, CorpusSource, TaskName
from dp_train.consent.events import ConsentEvent, Purpose, read_events
from dp_train.consent.gate import ConsentedCorpus, ConsentedExamples, ConsentPolicy, GateReport, gate
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.registry import ConsentRegistry, ConsentRules, ConsentSnapshot
from dp_train.conversations import Conversation, ConversationKind, Corpus, Example
from dp_train.corpora.readers import read_csv, read_jsonl, read_parquet
from dp_train.corpora.synthetic import HISTORY_END, Population, SyntheticCorpus
from dp_train.corpora.synthetic import RULES as SYNTHETIC_RULES
from dp_train.errors import ConfigError, ConsentError
from dp_train.tasks.examples import meeting_examples, messages_of_author, messages_of_thread

_READERS: Mapping[CorpusSource, Callable[[Path], Corpus]] = {
    CorpusSource.JSONL: read_jsonl,
    CorpusSource.CSV: read_csv,
    CorpusSource.PARQUET: read_parquet,
}
_PURPOSES = {
    TaskName.MEETING_SUMMARY: Purpose.TRAIN_MEETING_SUMMARY,
    TaskName.CHAT_COMPOSE: Purpose.TRAIN_CHAT_COMPOSE,
}
_PRIVATE, _PUBLIC, _EVALUATION = "private", "public", "evaluation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Populations:
    """What passed the gate, anonymised; `evaluation` is None where no file of it was given."""

    private: ConsentedCorpus
    public: ConsentedCorpus
    evaluation: ConsentedCorpus | None
    as_of: datetime

    @property
    def reports(self) -> dict[str, GateReport]:
        """The gate's counts, by population."""
        named = {_PRIVATE: self.private, _PUBLIC: self.public, _EVALUATION: self.evaluation}
        return {name: corpus.report for name, corpus in named.items() if corpus is not None}


def populations(config: TrainConfig, moment: ConsentSnapshot | None = None) -> Populations:
    """Gate and anonymise the three populations.

    Args:
      moment: the snapshot, if it was made before for an equal corpus and consent.

    Raises:
      DataError, ConsentError: a file cannot be read, or a key is missing.
    """
    corpora = _corpora(config)
    decided = moment or snapshot(config)
    anonymizer = Anonymizer(names=config.anonymize.names, patterns=config.anonymize.patterns)

    def consented(name: str, purpose: Purpose) -> ConsentedCorpus:
        policy = ConsentPolicy(purpose=purpose, max_removed_share=config.consent.max_removed_share)
        return gate(corpora[name], decided, policy).redact(anonymizer)

    return Populations(
        private=consented(_PRIVATE, _PURPOSES[config.task.name]),
        public=consented(_PUBLIC, Purpose.PUBLISH),
        evaluation=consented(_EVALUATION, Purpose.PUBLISH) if _EVALUATION in corpora else None,
        as_of=decided.as_of,
    )


def snapshot(config: TrainConfig, *, key: PrincipalKey | None = None) -> ConsentSnapshot:
    """Every decision there is, frozen: of the file of events, and of the embedded corpora's own.

    Args:
      key: of pseudonyms; that of the configuration if not given.

    Raises:
      ConfigError: files of conversations without a file of consent.
      DataError, ConsentError: events or key cannot be read.
    """
    consent = config.consent
    embedded = [corpus for corpus in _corpora(config).values() if isinstance(corpus, SyntheticCorpus)]
    if consent.events is None and config.corpus.source is not CorpusSource.EMBEDDED:
        raise ConfigError(
            "config: consent.events=null; expected the file of consent events of the people in corpus.private; "
            "without consent nothing is trained"
        )
    key = key or _principal_key(config)
    given: Iterable[ConsentEvent] = () if consent.events is None else read_events(consent.events)
    events = chain(given, *(corpus.consent_events(key) for corpus in embedded))
    notices = {**(SYNTHETIC_RULES.material_versions if embedded else {}), **consent.material_versions}
    registry = ConsentRegistry(events, rules=ConsentRules(material_versions=notices), key=key)
    known_at = None if consent.known_at is None else datetime.fromisoformat(consent.known_at)
    return registry.snapshot(as_of=_as_of(config), known_at=known_at)


def consented_examples(config: TrainConfig) -> ConsentedExamples:
    """Examples of the private population as they pass the gate, not anonymised: for who owns what, and no training.

    Anonymising changes no id and no owner, so the selection is that of the run.
    """
    policy = ConsentPolicy(purpose=_PURPOSES[config.task.name], max_removed_share=config.consent.max_removed_share)
    # A look writes nothing: pseudonyms of the embedded corpus, which enter no file here, get a key of the moment.
    passing = config.consent.events is None and not Path(config.consent.key).exists()
    key = PrincipalKey(secrets.token_bytes(32)) if passing else None
    return gate(_corpora(config)[_PRIVATE], snapshot(config, key=key), policy).examples(_examples_of(config.task))


def _examples_of(task: TaskConfig) -> Callable[[Conversation], Iterable[Example]]:
    if task.name is TaskName.MEETING_SUMMARY:
        return meeting_examples
    of = messages_of_author if task.context is ContextName.OWN else messages_of_thread
    return partial(of, context_turns=task.context_turns)


def _as_of(config: TrainConfig) -> datetime:
    if config.consent.as_of is not None:
        return datetime.fromisoformat(config.consent.as_of)
    now = datetime.now(UTC)
    # The embedded history ends on a day of its own: before it, people would not have decided yet.
    return max(now, HISTORY_END) if config.corpus.source is CorpusSource.EMBEDDED else now


def _principal_key(config: TrainConfig) -> PrincipalKey:
    """The key of pseudonyms; made where it is missing and nobody's events depend on it."""
    path = Path(config.consent.key)
    if config.consent.events is None and not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return PrincipalKey.create(path)
        except OSError as error:
            raise ConfigError(
                f"config: consent.key={path} cannot be written ({error.strerror}); expected a file in a folder that can"
            ) from error
        except ConsentError:
            if not path.exists():
                raise  # else another process made it in the meantime
    return PrincipalKey.load(path)


def _corpora(config: TrainConfig) -> dict[str, Corpus]:
    corpus = config.corpus
    # What the task does not learn from is not generated.
    kinds = {
        TaskName.MEETING_SUMMARY: (ConversationKind.MEETING,),
        TaskName.CHAT_COMPOSE: (ConversationKind.THREAD,),
    }[config.task.name]

    def embedded(people: int, population: Population) -> SyntheticCorpus:
        return SyntheticCorpus(
            people,
            population,
            seed=corpus.seed,
            meetings_per_person=corpus.meetings_per_person,
            threads_per_person=corpus.threads_per_person,
            meeting_words=corpus.meeting_words,
            kinds=kinds,
        )

    if corpus.source is CorpusSource.EMBEDDED:
        return {
            _PRIVATE: embedded(corpus.people, Population.PRIVATE),
            _PUBLIC: embedded(corpus.public_people, Population.PUBLIC),
            _EVALUATION: embedded(corpus.evaluation_people, Population.EVALUATION),
        }
    read = _READERS[corpus.source]
    files = {_PRIVATE: corpus.private, _PUBLIC: corpus.public, _EVALUATION: corpus.evaluation}
    found: dict[str, Corpus] = {name: read(Path(path)) for name, path in files.items() if path is not None}
    return {_PUBLIC: embedded(corpus.public_people, Population.PUBLIC), **found}
