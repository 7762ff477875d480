"""From a checked configuration to people: corpora, consent events → a snapshot → gated, anonymised populations.

Torch is not loaded here, so that what depends on people alone (who owns what) is quick to tell.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

from dp_train.anonymize import Anonymizer
from dp_train.anonymize.presidio import people_finder, presidio_finder
from dp_train.consent.directory import read_directory
from dp_train.consent.events import ConsentEvent, Purpose
from dp_train.consent.gate import ConsentedCorpus, ConsentedExamples, ConsentPolicy, GateReport, gate
from dp_train.consent.imports import events_of_file
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.registry import ConsentRegistry, ConsentRules, ConsentSnapshot
from dp_train.consent.rules import JurisdictionRule, Limits
from dp_train.consent.store import ConsentStore, Tombstones
from dp_train.consent.withdrawal import withdrawals
from dp_train.conversations import Conversation, Corpus
from dp_train.corpora.adapters.benchmark import RULES as BENCHMARK_RULES
from dp_train.corpora.adapters.benchmark import BenchmarkCorpus
from dp_train.corpora.files import EVALUATION, PRIVATE, PUBLIC
from dp_train.corpora.spec import TrainOn
from dp_train.corpora.synthetic import HISTORY_END, SyntheticCorpus
from dp_train.corpora.synthetic import RULES as SYNTHETIC_RULES
from dp_train.errors import ConfigError, ConsentError
from dp_train.runs.heads import check_start
from dp_train.runs.project import key_path, store_url
from dp_train.runs.recipe import Recipe
from dp_train.runs.recipe_data import ConsentConfig, DenyConfig
from dp_train.store.database import Database
from dp_train.store.run_folders import places


@dataclass(frozen=True, slots=True, kw_only=True)
class Populations:
    """What passed the gate, anonymised; `evaluation` is None where no file of it was given.

    `private` is what is learnt from: published text, too, with `corpus.train_on=public`.
    """

    private: ConsentedCorpus
    public: ConsentedCorpus
    evaluation: ConsentedCorpus | None
    decided: ConsentSnapshot

    @property
    def as_of(self) -> datetime:
        """The time that consent was asked about."""
        return self.decided.as_of

    @property
    def reports(self) -> dict[str, GateReport]:
        """The gate's counts, by population."""
        named = {PRIVATE: self.private, PUBLIC: self.public, EVALUATION: self.evaluation}
        return {name: corpus.report for name, corpus in named.items() if corpus is not None}


def populations(config: Recipe, moment: ConsentSnapshot | None = None) -> Populations:
    """Gate and anonymise the three populations.

    Args:
      moment: the snapshot, if it was made before for an equal corpus and consent.

    Raises:
      DataError, ConsentError: a file cannot be read, or a key is missing.
    """
    decided = moment or snapshot(config)
    consented = _gate_of(config, decided)
    if config.corpus.train_on is TrainOn.PUBLIC:
        learnt, public = (consented(PUBLIC, Purpose.PUBLISH, part) for part in (0, 1))
    else:
        learnt, public = consented(PRIVATE, config.task.spec().purpose), consented(PUBLIC, Purpose.PUBLISH)
    return Populations(
        private=learnt,
        public=public,
        evaluation=consented(EVALUATION, Purpose.PUBLISH) if EVALUATION in _corpora(config) else None,
        decided=decided,
    )


def published_text(config: Recipe) -> tuple[ConsentedCorpus, ConsentedCorpus | None]:
    """Gate and anonymise the published text, all of it, and what is scored on; nothing private is opened.

    Raises:
      DataError, ConsentError: a file cannot be read, or a key is missing.
    """
    config = replace(config, corpus=replace(config.corpus, train_on=TrainOn.PUBLIC))
    consented = _gate_of(config, snapshot(config))
    scored = consented(EVALUATION, Purpose.PUBLISH) if EVALUATION in _corpora(config) else None
    return consented(PUBLIC, Purpose.PUBLISH), scored


def _gate_of(config: Recipe, decided: ConsentSnapshot) -> Callable[..., ConsentedCorpus]:
    """Return what gates and anonymises a population, by name and purpose, or one half of it."""
    corpora, anonymizer, directory = _corpora(config), anonymizer_of(config), directory_of(config)

    def consented(name: str, purpose: Purpose, part: int | None = None) -> ConsentedCorpus:
        corpus = corpora[name] if part is None else _Part(corpora[name], part)
        return gate(corpus, snapshot_of(config, name, decided), policy_of(config, purpose), directory=directory).redact(
            anonymizer
        )

    return consented


@dataclass(frozen=True, slots=True)
class _Part:
    """One half of a corpus' conversations, by their ids."""

    corpus: Corpus
    part: int

    @property
    def name(self) -> str:
        return f"{self.corpus.name}, half {self.part + 1}"

    def conversations(self) -> Iterator[Conversation]:
        for conversation in self.corpus.conversations():
            if hashlib.sha256(conversation.conversation_id.encode()).digest()[0] % 2 == self.part:
                yield conversation


def refuse_the_past(config: Recipe, gated: Populations) -> None:
    """Nothing, unless consent is asked about an earlier time and a person whose words passed denies them today.

    An earlier time is for looking and for repeating; it must not be a way around a withdrawal.

    Raises:
      ConsentError: a person does; who and how many is not told.
    """
    consent = config.consent
    if consent.as_of is None and consent.known_at is None:
        return
    if not still_pass(config, gated, snapshot_now(config)):
        raise ConsentError(
            "consent.as_of and consent.known_at ask about an earlier time, and people who agreed then do not agree "
            "any more; leave both empty, so that today's answers count"
        )


def snapshot_now(config: Recipe) -> ConsentSnapshot:
    """Every decision as of now, whatever time the recipe asks about."""
    return snapshot(replace(config, consent=replace(config.consent, as_of=None, known_at=None)))


def still_pass(config: Recipe, gated: Populations, now: ConsentSnapshot) -> bool:
    """Return whether everything that passed the gate passes it under a later snapshot."""
    if now.root == gated.decided.root:  # the same reasons and windows for everyone
        return True
    read, directory = _corpora(config), directory_of(config)
    for name, corpus in ((PRIVATE, gated.private), (PUBLIC, gated.public), (EVALUATION, gated.evaluation)):
        answers = not config.consent.store or (
            corpus is not None and in_store(config, read.get(name, read[PUBLIC]))
        )  # train_on=public has no private one
        if corpus is None or not answers:
            continue
        if gate(corpus, now, corpus.policy, directory=directory).report.turns_removed:
            return False
    return True


def anonymizer_of(config: Recipe) -> Anonymizer:
    """What replaces names and identifiers.

    Raises:
      ConfigError: Presidio, or a model of people, is asked for and not installed.
    """
    finders = (presidio_finder(),) if config.anonymize.presidio else ()
    if config.anonymize.people is not None:
        finders = (*finders, people_finder(config.anonymize.people))
    return Anonymizer(names=config.anonymize.names, patterns=config.anonymize.patterns, finders=finders)


def directory_of(config: Recipe) -> dict[str, str] | None:
    """People of the organisation whose no counts wherever they are named, or None where no file of them was given."""
    return None if config.consent.directory is None else read_directory(config.consent.directory)


def asked(config: Recipe) -> Iterator[tuple[Corpus, ConsentPolicy]]:
    """The corpora of a run that its store answers for, each with what is asked of it."""
    for name, corpus in _corpora(config).items():
        if in_store(config, corpus):
            purpose = config.task.spec().purpose if name == PRIVATE else Purpose.PUBLISH
            yield corpus, policy_of(config, purpose)


def policy_of(config: Recipe, purpose: Purpose) -> ConsentPolicy:
    """How the gate treats conversations for a purpose."""
    share, own_words = config.consent.max_removed_share, config.task.own_words
    return ConsentPolicy(purpose=purpose, max_removed_share=share, own_words=own_words)


def in_store(config: Recipe, corpus: Corpus) -> bool:
    """Whether the consent store answers for a corpus."""
    if not config.consent.store:
        return False
    return config.corpus.embedded or not isinstance(corpus, SyntheticCorpus)


def snapshot_of(config: Recipe, name: str, decided: ConsentSnapshot) -> ConsentSnapshot:
    """The decisions about the population `name`.

    The embedded public text beside files of one's own is in no store: it brings its events along.
    """
    return (
        decided if in_store(config, _corpora(config)[name]) or not config.consent.store else _of_its_own(config, name)
    )


def _of_its_own(config: Recipe, name: str) -> ConsentSnapshot:
    """The decisions that an embedded corpus brings along, under a key that nobody keeps."""
    corpus, key = _corpora(config)[name], PrincipalKey(secrets.token_bytes(32))
    assert isinstance(corpus, SyntheticCorpus)
    return ConsentRegistry(corpus.consent_events(key), rules=SYNTHETIC_RULES, key=key).snapshot(as_of=as_of(config))


def snapshot(config: Recipe, *, key: PrincipalKey | None = None) -> ConsentSnapshot:
    """Every decision there is, frozen: of the store, or of the file of events and the embedded corpora's own.

    Args:
      key: of pseudonyms; that of the configuration if not given.

    Raises:
      ConfigError: files of conversations without a file of consent.
      DataError, ConsentError: events or key cannot be read, or the store is empty. StoreError: it cannot be used.
    """
    consent = config.consent
    if consent.store:
        known_at = None if consent.known_at is None else datetime.fromisoformat(consent.known_at)
        return stored_snapshot(config, as_of=as_of(config), known_at=known_at)
    corpora = _corpora(config)
    bringing = [corpus for corpus in corpora.values() if isinstance(corpus, SyntheticCorpus | BenchmarkCorpus)]
    if consent.events is None and corpora.get(PRIVATE, corpora[PUBLIC]) not in bringing:
        raise ConfigError(
            "config: consent.events=null; expected the file of consent events of the people in corpus.private; "
            "without consent nothing is trained"
        )
    key = key or principal_key(config)
    given: Iterable[ConsentEvent] = () if consent.events is None else events_of_file(consent.events, key)
    withdrawn, erased = _left(config)
    events = chain(given, *(corpus.consent_events(key) for corpus in bringing))
    kept = (event for event in events if not erased.keeps_out(event))
    registry = ConsentRegistry(chain(kept, withdrawn), rules=rules(config), key=key)
    known_at = None if consent.known_at is None else datetime.fromisoformat(consent.known_at)
    return registry.snapshot(as_of=as_of(config), known_at=known_at)


def stored_snapshot(
    config: Recipe, *, as_of: datetime, known_at: datetime | None = None, upto: int | None = None
) -> ConsentSnapshot:
    """Every decision of the configuration's store, under its rules and key; makes no store where there is none.

    Raises:
      ConsentError: the store holds no event, or not as many as `upto`.
    """
    url = store_url(config)
    key = PrincipalKey.load(key_path(config.consent.key))
    path = url.removeprefix("sqlite:///")
    events = 0
    if path == url or Path(path).exists():
        database = Database(url)
        try:
            check_start(database)
            store = ConsentStore(database)
            events = store.head().seq
            if events and events >= (upto or 0):
                return store.snapshot(as_of=as_of, known_at=known_at, upto=upto, rules=rules(config), key=key)
        finally:
            database.close()
    expected = f"the {upto} that the run began with" if upto else "some: dp-train consent import FILE, or --embedded"
    raise ConsentError(f"consent: the store at store.url holds {events or 'no'} events; expected {expected}")


def rules(config: Recipe) -> ConsentRules:
    """The rules of notices, jurisdictions and organisations that decide for a configuration."""
    consent = config.consent
    embedded = any(isinstance(corpus, SyntheticCorpus) for corpus in _corpora(config).values())
    base = BENCHMARK_RULES if config.corpus.research_only else ConsentRules()
    return replace(
        base,
        material_versions={**(SYNTHETIC_RULES.material_versions if embedded else {}), **consent.material_versions},
        jurisdictions=_jurisdictions(consent),
        organisations={org_id: _limits(deny) for org_id, deny in consent.organisations.items()},
    )


def embedded_events(config: Recipe) -> Iterator[ConsentEvent]:
    """The events that the embedded corpora of a configuration bring along, under its key, which is made if missing."""
    key = principal_key(config)
    for corpus in _corpora(config).values():
        if isinstance(corpus, SyntheticCorpus):
            yield from corpus.consent_events(key)


def _jurisdictions(consent: ConsentConfig) -> dict[str, JurisdictionRule]:
    return {
        place: JurisdictionRule(
            deny=_limits(rule.deny),
            valid_for=None if rule.valid_for_days is None else timedelta(days=rule.valid_for_days),
        )
        for place, rule in consent.jurisdictions.items()
    }


def _limits(deny: DenyConfig) -> Limits:
    return Limits(purposes=frozenset(deny.purposes), kinds=frozenset(deny.kinds))


def _left(config: Recipe) -> tuple[list[ConsentEvent], Tombstones]:
    """What was withdrawn or erased in the store counts for events of files and of embedded corpora as well."""
    url = store_url(config)
    path = url.removeprefix("sqlite:///")
    if path != url and not Path(path).exists():
        return [], Tombstones({})
    database = Database(url)
    try:
        check_start(database)
        store = ConsentStore(database)
        return list(withdrawals(store)), store.tombstones()
    finally:
        database.close()


def consented_examples(config: Recipe) -> ConsentedExamples:
    """Examples of the private population as they pass the gate, not anonymised: for who owns what, and no training.

    Anonymising changes no id and no owner, so the selection is that of the run.
    """
    corpora, policy = _corpora(config), policy_of(config, config.task.spec().purpose)
    learnt = corpora.get(PRIVATE)
    if learnt is None:
        learnt, policy = _Part(corpora[PUBLIC], 0), policy_of(config, Purpose.PUBLISH)
    return gate(learnt, look(config), policy, directory=directory_of(config)).examples(config.task.spec().examples)


def look(config: Recipe) -> ConsentSnapshot:
    """`snapshot` that writes nothing: where the key would be made, pseudonyms get a key of the moment."""
    made_here = config.consent.events is None and not config.consent.store
    passing = made_here and not key_path(config.consent.key).exists()
    return snapshot(config, key=PrincipalKey(secrets.token_bytes(32)) if passing else None)


def as_of(config: Recipe) -> datetime:
    """The time that a configuration asks consent about."""
    if config.consent.as_of is not None:
        return datetime.fromisoformat(config.consent.as_of)
    now = datetime.now(UTC)
    # The embedded history ends on a day of its own: before it, people would not have decided yet.
    return max(now, HISTORY_END) if config.corpus.embedded else now


def principal_key(config: Recipe) -> PrincipalKey:
    """The key of pseudonyms; made where it is missing, nobody's events depend on it, and no run of the store does.

    Raises:
      ConsentError: it is missing, and the store holds runs on people that a key named.
    """
    path = key_path(config.consent.key)
    if config.consent.events is None:
        return made_key(path, store_url(config))
    return PrincipalKey.load(path)


def made_key(path: Path, url: str) -> PrincipalKey:
    """The key in a file; a new one where there is no file, and the store at `url` holds no run on people.

    Raises:
      ConsentError: it is missing and there is such a run, or the file is no key. ConfigError: it cannot be written.
    """
    if not path.exists():
        if places(url):
            raise ConsentError(
                f"principal key {path}: is missing, and the store holds runs on people whom a key named; restore it, "
                f"name it as consent.key, or make another on purpose: dp-train consent key {path}"
            )
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


def _corpora(config: Recipe) -> dict[str, Corpus]:
    """The corpora of a run by population; what the task does not learn from need not be read."""
    return config.corpus.corpora(config.task.spec().kinds)
