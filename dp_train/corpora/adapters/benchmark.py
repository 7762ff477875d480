"""A public corpus whose people were never asked, with records that say so."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dp_train.consent.events import CollectionMethod, ConsentEvent, EntityRole, EventState, LawfulBasis, Purpose
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.rules import ConsentRules
from dp_train.conversations import ContentKind, Conversation
from dp_train.corpora.synthetic import Population

WARNING = "benchmark corpus: its people did not consent to training a product; for research alone, do not deploy"
"""Stands wherever a run on such a corpus is shown."""

NOTICE_ID = "public-benchmark"
RULES = ConsentRules(research_only=True, age_matters=frozenset())
"""What a `ConsentRegistry` of these records has to know; how old the people are is not known either."""

_RECORDED = datetime(2020, 1, 1, tzinfo=UTC)
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_TRAINING = frozenset({Purpose.TRAIN_MEETING_SUMMARY, Purpose.TRAIN_CHAT_COMPOSE})


@dataclass(frozen=True, slots=True)
class BenchmarkCorpus:
    """A population of a public corpus; a `Corpus`.

    Args:
      source: name of the corpus; its conversations carry it as `org_id`.
      population: what its people stand for: PRIVATE is trained on as if it were private, PUBLIC is where
        vocabulary and starting point come from, EVALUATION is scored on.
      read: yields the conversations anew at every call.
    """

    source: str
    population: Population
    _read: Callable[[], Iterator[Conversation]]

    @property
    def name(self) -> str:
        return f"{self.source}-{self.population.value}"

    def conversations(self) -> Iterator[Conversation]:
        """Yield the conversations, as a stream.

        Raises:
          DataError: a file is missing or a row cannot be used; names file and row, never what it says.
        """
        return self._read()

    def consent_events(self, key: PrincipalKey) -> Iterator[ConsentEvent]:
        """One record a person, under the notice `public-benchmark` and the basis RESEARCH: nobody was asked.

        PRIVATE gets the training purposes and the other two PUBLISH alone, so that the gate holds populations
        apart too. Reads the corpus once, in memory for the ids of its people.
        """
        people: dict[str, None] = {}
        for conversation in self.conversations():
            people.update(dict.fromkeys([*conversation.people, *conversation.roster]))
        principals: Sequence[str | None] = [None, *map(key.pseudonym, sorted(people))]
        return (self._event(seq, principal) for seq, principal in enumerate(principals))

    def _event(self, seq: int, principal: str | None) -> ConsentEvent:
        informed: dict[str, Any] = {}
        if principal is not None:
            informed = {
                "notice_id": NOTICE_ID,
                "notice_version": 1,
                "notice_sha256": hashlib.sha256(WARNING.encode()).hexdigest(),
            }
        return ConsentEvent(
            record_id=f"{self.name}-{seq}",
            seq=seq,
            pii_principal_id=principal,
            org_id=self.source,
            entity_role=EntityRole.ORG_ADMIN if principal is None else EntityRole.SELF,
            purpose=_TRAINING if self.population is Population.PRIVATE else frozenset({Purpose.PUBLISH}),
            content_kind=frozenset(ContentKind),
            event_state=EventState.GIVEN,
            event_time=_RECORDED,
            recorded_time=_RECORDED,
            data_from=_BEGINNING,
            lawful_basis=LawfulBasis.RESEARCH,
            collection_method=CollectionMethod.SYSTEM,
            **informed,
        )
