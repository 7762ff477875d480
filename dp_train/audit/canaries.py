"""People who do not exist, in a run on purpose: each in by a fair coin, to see what the run lets out about them.

1. **Dirac canaries**, white box: a unit whose gradient is one coordinate of a bank that belongs to canaries alone, as
   large as the clip lets through. No input could move the sum more, and nothing else moves that coordinate.
2. **Canary people**, black box: they write messages, or speak in meetings of their own, and are ordinary in everything
   else. High-perplexity ones write random words, which nothing else teaches; in-distribution ones write what other
   people write (Panda et al. 2025, arXiv 2503.06808).

Both come through the real gate, by a consent registry of their own that lives in memory: so nothing downstream knows
them from people. They are for shadow runs, whose model is thrown away.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from dp_train.audit.scores import canary_contributions
from dp_train.consent.events import AgeBand, ConsentEvent, EntityRole, EventState, Purpose
from dp_train.consent.gate import ConsentedCorpus, ConsentPolicy, gate
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.registry import ConsentRegistry
from dp_train.conversations import ContentKind, Conversation, ConversationKind, Example, Turn
from dp_train.errors import ConfigError
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.units import Units, build_units
from dp_train.tasks.base import Task

_ORGANISATION = "canaries"
_SPEAKERS = 2


class CanaryKind(Enum):
    """What canary people write.

    HIGH_PERPLEXITY: words drawn at random, which the starting point finds unlikely and no person teaches.
    IN_DISTRIBUTION: texts that the caller gives, such as other people's published ones.
    """

    HIGH_PERPLEXITY = "high_perplexity"
    IN_DISTRIBUTION = "in_distribution"


def draw_coins(canaries: int, *, seed: int | None = None) -> NDArray[np.bool_]:
    """Throw a fair coin for each canary: (canaries,) bool.

    Args:
      seed: for tests; the operating system's randomness if None.

    Raises:
      ConfigError: there are fewer than two canaries.
    """
    if canaries < 2:
        raise ConfigError(f"audit: canaries={canaries}; expected at least 2, and hundreds for a bound worth having")
    random = np.random.default_rng(secrets.randbits(128) if seed is None else seed)
    return random.random(canaries) < 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class DiracCanaries:
    """Canaries of a bank: which coordinate an example stands for.

    Attributes:
      count: m. mark: begins the ids of their examples; random, so that no id of a corpus begins with it.
    """

    count: int
    mark: str = field(default_factory=lambda: f"canary-{secrets.token_hex(8)}/")

    def coordinate(self, example: Example) -> int | None:
        """The canary that an example is of, 0 … m − 1; None for anybody else's."""
        if not example.example_id.startswith(self.mark):
            return None
        return int(example.example_id.removeprefix(self.mark).split(".")[0])

    def units(self, included: NDArray[np.bool_], plan: PrivacyPlan, purpose: Purpose) -> Units:
        """Units of the canaries that are in: one each, or as many as the plan allows a person where that is several.

        Several units of one person have two owners, as a meeting has, for one owner's rows are one unit.
        """
        contributions = canary_contributions(plan)
        people = range(_SPEAKERS if contributions > 1 else 1)
        chosen = np.flatnonzero(included).tolist()
        talks = [
            _conversation(f"{canary}", [(f"canary {canary} {person}", f"canary {canary}") for person in people])
            for canary in chosen
        ]

        def examples(conversation: Conversation) -> Iterator[Example]:
            for number in range(contributions):
                yield Example(
                    example_id=f"{self.mark}{conversation.conversation_id}.{number}",
                    prompt="",
                    target=f"canary {conversation.conversation_id}",
                    owners=conversation.people,
                )

        return build_units(
            _consented(talks, purpose).examples(examples),
            unit=plan.unit,
            max_contributions=plan.max_contributions,
            rows_per_unit=1,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryPeople:
    """Canary people of one kind and what each of them says.

    Attributes:
      texts: of each person, what is said in one message or, in meetings, in one meeting's summary.
      rows: how many messages repeat it; as many as the plan lets one person's unit have is the strongest.
    """

    kind: CanaryKind
    texts: tuple[str, ...]
    rows: int = 1

    @classmethod
    def random_words(
        cls, count: int, vocabulary: Sequence[str], *, words: int = 8, rows: int = 1, seed: int
    ) -> CanaryPeople:
        """People each of whom writes `words` words drawn at random from a public vocabulary.

        Raises:
          ConfigError: there is no vocabulary.
        """
        if not vocabulary:
            raise ConfigError("audit: vocabulary is empty; expected words of public text, for canaries to write")
        random = np.random.default_rng(seed)
        drawn = random.integers(len(vocabulary), size=(count, words))
        texts = tuple(" ".join(vocabulary[index] for index in one) for one in drawn.tolist())
        return cls(kind=CanaryKind.HIGH_PERPLEXITY, texts=texts, rows=rows)

    @classmethod
    def like(cls, texts: Sequence[str], count: int, *, rows: int = 1, seed: int) -> CanaryPeople:
        """People who each write one of `texts`, drawn without replacement: published ones that nothing trained on.

        Raises:
          ConfigError: there are fewer texts than people.
        """
        if len(texts) < count:
            raise ConfigError(f"audit: {count} canaries and {len(texts)} texts; expected a text for each")
        chosen = np.random.default_rng(seed).choice(len(texts), count, replace=False)
        return cls(kind=CanaryKind.IN_DISTRIBUTION, texts=tuple(texts[index] for index in chosen.tolist()), rows=rows)

    @property
    def count(self) -> int:
        """How many people, each with a text; in meetings, how many meetings."""
        return len(self.texts)

    def examples(self, task: Task) -> list[tuple[Example, ...]]:
        """The rows of every canary, in or out, as the task makes them: what they are scored on.

        Raises:
          ConfigError: the task makes no example of one of them.
        """
        found: dict[str, list[Example]] = {}
        for example in task.examples(self._corpus(np.ones(self.count, dtype=np.bool_), task.purpose, task)):
            found.setdefault(example.example_id.split("/")[0], []).append(example)
        missing = [number for number in range(self.count) if str(number) not in found]
        if missing:
            raise ConfigError(
                f"audit: task {task.name} makes no example of {len(missing)} of {self.count} canaries; expected one of "
                "a chat message or of a meeting with a summary; give longer texts"
            )
        return [tuple(found[str(number)]) for number in range(self.count)]

    def units(self, included: NDArray[np.bool_], plan: PrivacyPlan, task: Task, purpose: Purpose) -> Units:
        """Units of the canaries that are in, by the task's own examples and under the plan's own bounds."""
        return build_units(
            task.examples(self._corpus(included, purpose, task)),
            unit=plan.unit,
            max_contributions=plan.max_contributions,
            rows_per_unit=plan.rows_per_unit,
        )

    def _corpus(self, included: NDArray[np.bool_], purpose: Purpose, task: Task) -> ConsentedCorpus:
        """What they say, consented to `purpose`: in meetings where the task learns from those, whatever the purpose."""
        chosen = np.flatnonzero(included).tolist()
        meeting = task.purpose is Purpose.TRAIN_MEETING_SUMMARY
        speakers = range(_SPEAKERS if meeting else 1)
        talks = [
            _conversation(
                f"{canary}",
                [(f"person {canary} {speaker}", self.texts[canary]) for _ in range(self.rows) for speaker in speakers],
                summary=self.texts[canary] if meeting else None,
            )
            for canary in chosen
        ]
        return _consented(talks, purpose)


@dataclass(kw_only=True)
class _Conversations:
    talks: Sequence[Conversation]
    name: str = "canaries"

    def conversations(self) -> Iterator[Conversation]:
        return iter(self.talks)


_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def _conversation(name: str, said: Sequence[tuple[str, str]], *, summary: str | None = None) -> Conversation:
    meeting = summary is not None
    return Conversation(
        conversation_id=name,
        org_id=_ORGANISATION,
        created_at=_BEGAN,
        kind=ConversationKind.MEETING if meeting else ConversationKind.THREAD,
        turns=tuple(
            Turn(person_id=person, text=text, kind=ContentKind.TRANSCRIPT if meeting else ContentKind.CHAT)
            for person, text in said
        ),
        summary=summary,
    )


def _consented(talks: Sequence[Conversation], purpose: Purpose) -> ConsentedCorpus:
    """The conversations past the real gate, by the consent that each canary gave: of their own, in memory."""
    key = PrincipalKey(secrets.token_bytes(32))
    people = sorted({person for talk in talks for person in talk.people})
    registry = ConsentRegistry(
        (_grant(number, one, key, purpose) for number, one in enumerate((None, *people))), key=key
    )
    snapshot = registry.snapshot(as_of=datetime.now(UTC))
    return gate(_Conversations(talks=talks), snapshot, ConsentPolicy(purpose=purpose))


def _grant(number: int, person: str | None, key: PrincipalKey, purpose: Purpose) -> ConsentEvent:
    return ConsentEvent(
        record_id=f"canary {number}",
        seq=number,
        pii_principal_id=None if person is None else key.pseudonym(person),
        org_id=_ORGANISATION,
        entity_role=EntityRole.ORG_ADMIN if person is None else EntityRole.SELF,
        purpose=frozenset({purpose}),
        content_kind=frozenset(ContentKind),
        event_state=EventState.GIVEN,
        event_time=_BEGAN - timedelta(days=30),
        recorded_time=_BEGAN - timedelta(days=30),
        notice_id="canaries",
        notice_version=1,
        age_band=AgeBand.ADULT,
    )


__all__ = ["CanaryKind", "CanaryPeople", "DiracCanaries", "draw_coins"]
