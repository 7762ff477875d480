"""What the consent service does, without a word of HTTP: events in, opt-outs, receipts, and what one person may see."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock
from typing import Any

from dp_train.consent.events import Purpose
from dp_train.consent.imports import Imported, import_rows
from dp_train.consent.notices import text_of
from dp_train.consent.policy import WithdrawalPolicy
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.row_files import parsed_line
from dp_train.consent.rows import read_row
from dp_train.consent.signing import SigningKey
from dp_train.consent.store import ConsentStore
from dp_train.consent.withdrawal import GPC, Officer, Withdrawal, opt_out, receipts_of, withdraw
from dp_train.errors import ConsentError, DataError
from dp_train.runs.inventory import inventory
from dp_train.runs.leaving import purge_tables
from dp_train.runs.person import about_pseudonym
from dp_train.store.heads import keep_heads

OPERATOR = "consent serve"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One store and its keys, for many threads.

    Attributes:
      url: of the store. uri: MLflow store to ask instead of that of each run.
    """

    url: str
    store: ConsentStore
    key: PrincipalKey
    signing: SigningKey
    policy: WithdrawalPolicy
    uri: str | None = None
    _lock: Lock = field(default_factory=Lock, repr=False)

    def bind(self) -> None:
        """Note the key in the store; refuse a store whose people may be under another one.

        Raises:
          ConsentError: they are, or nobody can tell.
        """
        if not self.store.is_bound() and self.store.has_people():
            raise ConsentError(
                "consent serve: the store does not know under which key its people are; import once with --key FILE, "
                "the key that the events were made under"
            )
        self.store.bind(self.key)

    def pseudonym(self, person_id: str) -> str:
        """The pseudonym of a person's own id."""
        return self.key.pseudonym(person_id)

    def take_events(self, body: bytes) -> Imported:
        """Bring rows into the store by the reader of `consent import`: one JSON object a line, or an array of them.

        Guarantee: as `import_rows` without a quarantine; what cannot be read and names a person holds them.

        Raises:
          DataError: the body is neither.
        """
        received = datetime.now(UTC)
        rows = ((number, read_row(each, self.key, received=received)) for number, each in enumerate(_rows(body), 1))
        with self._lock:
            done = import_rows(self.store, rows, key=self.key, received=received)
            keep_heads(self.store.database)
        return done

    def opt_out(
        self,
        *,
        pseudonym: str | None = None,
        organisation: str | None = None,
        purposes: Collection[Purpose] = (),
        method: str,
    ) -> Withdrawal:
        """Store a no of a person or of an organisation with its receipt, and delete the tables that may hold them.

        Guarantee: two at once are one after the other; the second gets the receipt of the first where they say the
        same.
        """
        with self._lock:
            words: dict[str, Any] = {
                "at": datetime.now(UTC),
                "purposes": frozenset(purposes),
                "method": method,
                "key": self.signing,
                "policy": self.policy,
                "by": Officer(operator=OPERATOR),
            }
            done = (
                opt_out(self.store, organisation, **words)
                if organisation is not None
                else withdraw(self.store, pseudonym or "", **words)
            )
            keep_heads(self.store.database)
            if done.new:
                purge_tables(inventory(self.url, uri=self.uri).runs, self.url)
        return done

    def heard_gpc(self, pseudonym: str) -> None:
        """Store a Global Privacy Control signal of a person, once."""
        self.opt_out(pseudonym=pseudonym, method=GPC)

    def receipt(self, record_id: str) -> dict[str, Any] | None:
        """The signed receipt of an event, or None."""
        found = receipts_of(self.store, [record_id])
        return found[0] if found else None

    def person(self, pseudonym: str) -> dict[str, Any]:
        """All that is kept about a person; see `runs.person.about`."""
        return about_pseudonym(self.url, self.store, self.key, pseudonym, uri=self.uri)

    def notice(self, sha256: str) -> str | None:
        """The text that a person agreed to, where it is kept."""
        return text_of(self.store.database, sha256) if sha256 else None


def _rows(body: bytes) -> Iterator[object]:
    if body.lstrip()[:1] != b"[":
        return (parsed_line(line) for line in body.splitlines() if line.strip())
    found = parsed_line(body)
    if not isinstance(found, list):
        raise DataError("events: not a JSON array; expected an array of objects, or one object a line")
    return iter(found)


def shown(done: Imported) -> dict[str, Any]:
    """An import as JSON has it."""
    stopped = None if done.stopped is None else {"row": done.stopped[0], "problem": done.stopped[1]}
    counts = {name: getattr(done, name) for name in ("rows", "new", "same", "held", "unread", "suppressed", "near")}
    return {**counts, "problems": dict(done.problems), "stopped": stopped}


__all__ = ["OPERATOR", "Service", "shown"]
