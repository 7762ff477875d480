"""A small piece of the synthetic corpus as files, to try readers, consent and commands on.

`conversations.jsonl` and `consent.jsonl` fit each other under `principals.key`, which is **public** and
protects nobody. `python -m dp_train.corpora.sample FOLDER` writes the three, byte for byte the same, into
a folder of one's own.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from dp_train.atomic import write_text
from dp_train.consent.event_json import write_events
from dp_train.consent.principals import PrincipalKey
from dp_train.conversations import Conversation, ConversationKind
from dp_train.corpora.readers import write_jsonl
from dp_train.corpora.synthetic import Population, SyntheticCorpus
from dp_train.errors import DataError

CONVERSATIONS = Path(str(files(__package__) / "conversations.jsonl"))
CONSENT = Path(str(files(__package__) / "consent.jsonl"))
KEY = Path(str(files(__package__) / "principals.key"))

_PEOPLE, _SEED = 200, 3
# Among them: a guest, a minor, an old notice, a late withdrawal, an organisation that denies, personal data,
# personal facts, a shared screen, quotations.
_MEETINGS = (4, 12, 17, 31, 39)
_THREADS = (5, 13, 39, 49, 61)


def sample_key() -> PrincipalKey:
    """The key of the sample: derived from a sentence that everybody can read."""
    return PrincipalKey(hashlib.sha256(b"dp_train sample key: public, protects nobody").digest())


def write_sample(folder: str | os.PathLike[str]) -> None:
    """Write the three files of the sample into `folder`, the key for its owner alone.

    Raises:
      DataError: a file cannot be written.
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{target}: {error.strerror}; choose a folder that can be made or written") from error
    source, sample = SyntheticCorpus(_PEOPLE, Population.PRIVATE, seed=_SEED), _Sample()
    write_jsonl(sample, target / CONVERSATIONS.name)
    people = {person for conversation in sample.conversations() for person in conversation.people}
    known = {sample_key().pseudonym(person) for person in people}
    organisations = {conversation.org_id for conversation in sample.conversations()}
    write_events(
        (
            event
            for event in source.consent_events(sample_key())
            if event.pii_principal_id in known or (event.pii_principal_id is None and event.org_id in organisations)
        ),
        target / CONSENT.name,
    )
    try:
        write_text(target / KEY.name, sample_key().secret.hex() + "\n", mode=0o600)
    except OSError as error:
        raise DataError(f"{target / KEY.name}: {error.strerror}; choose a folder that can be written") from error


@dataclass(frozen=True, slots=True)
class _Sample:
    """Chosen conversations of the source."""

    name: str = "sample"

    def conversations(self) -> Iterator[Conversation]:
        for kind, numbers in ((ConversationKind.MEETING, _MEETINGS), (ConversationKind.THREAD, _THREADS)):
            source = SyntheticCorpus(_PEOPLE, Population.PRIVATE, seed=_SEED, kinds=(kind,))
            for number, conversation in enumerate(source.conversations()):
                if number in numbers:
                    yield conversation
