"""`dp-train consent opt-out | link | resolve`: an officer enters what people and organisations said."""

from __future__ import annotations

import json
from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path

from dp_train.atomic import write_text
from dp_train.cli.consent_import import operator
from dp_train.cli.consent_store import open_store
from dp_train.consent.events import Purpose
from dp_train.consent.principals import PrincipalKey, normalised_id
from dp_train.consent.signing import SigningKey
from dp_train.consent.signing_keys import PUBLIC_KEY
from dp_train.consent.store import ConsentStore
from dp_train.consent.withdrawal import Officer, Withdrawal, link, opt_out, resolve, withdraw
from dp_train.errors import ConfigError, ConsentError, DataError
from dp_train.privacy.ledger.ledger import Ledger
from dp_train.runs.inventory import policy_of
from dp_train.runs.project import key_path
from dp_train.store.heads import keep_heads


def run(options: Namespace) -> int:
    """Do what the second word says."""
    store = open_store(options, makes=options.does != "resolve")
    try:
        code = {"opt-out": _opt_out, "link": _link, "resolve": _resolve}[options.does](store, options)
        keep_heads(store.database)
        return code
    finally:
        store.database.close()


def open_key(store: ConsentStore, path: Path, *, make: bool) -> PrincipalKey:
    """The principal key; made with the first no that is entered, where no event of anybody depends on one.

    Raises:
      ConsentError: it is missing and people depend on it, or it is no key.
    """
    if make and not path.exists() and not store.is_bound() and not store.has_people():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConsentError(
                f"principal key {path}: {error.strerror}; choose a folder that can be written"
            ) from error
        return PrincipalKey.create(path)
    return PrincipalKey.load(path)


def bind_proven(store: ConsentStore, key: PrincipalKey, *pseudonyms: str) -> None:
    """Note the key in the store, once it proved to be the one: it gives a person who is known, or no person is yet.

    Raises:
      ConsentError: the store has another key, or nobody can tell whether this is the one.
    """
    if not store.is_bound() and store.has_people() and not any(store.is_linked(each) for each in pseudonyms):
        raise ConsentError(
            "consent: the store does not know under which key its people are, and under this one nobody of this id is "
            "known; import once with --key FILE, the key that the events were made under"
        )
    store.bind(key)


def officer_of(options: Namespace) -> Officer:
    """Who enters it, and why."""
    return Officer(operator=operator(options), reason=(getattr(options, "reason", None) or "").strip())


def signing_key(options: Namespace) -> SigningKey:
    """The key of receipts, with its public half exported beside it."""
    path = Path(options.signing_key or key_path(options.key).with_name("signing.key"))
    key = SigningKey.open(path)
    public = path.with_name(PUBLIC_KEY)
    try:
        if not public.exists() or public.read_text(encoding="ascii", errors="replace") != key.public_pem:
            write_text(public, key.public_pem)  # also where a rotation was killed before it came to it
    except OSError as error:
        raise ConsentError(f"signing key: {public} cannot be written ({error.strerror}); free space") from error
    return key


def _opt_out(store: ConsentStore, options: Namespace) -> int:
    """A no of an organisation, or of everybody in a file of ids, one a line; each with a signed receipt."""
    if (options.organisation is None) == (options.people is None):
        raise ConfigError("consent opt-out: expected one of --organisation ORG and --people FILE")
    people = [] if options.people is None else _ids(Path(options.people))
    purposes = frozenset(Purpose(name) for name in options.purpose or ())
    now, by, policy = datetime.now(UTC), officer_of(options), policy_of(None)
    if options.organisation is not None:
        signing = signing_key(options)
        done = [
            opt_out(
                store,
                options.organisation,
                at=now,
                purposes=purposes,
                method=options.method,
                key=signing,
                policy=policy,
                by=by,
            )
        ]
    else:
        key = open_key(store, key_path(options.key), make=True)
        names = [key.pseudonym(person) for person in people]
        bind_proven(store, key, *names)
        signing = signing_key(options)
        done = [
            withdraw(store, name, at=now, purposes=purposes, method=options.method, key=signing, policy=policy, by=by)
            for name in names
        ]
    if options.receipts is not None:
        _write_receipts(Path(options.receipts), done)
    new = sum(each.new for each in done)
    print(f"stored {new} new of {len(done)}; head of the chain {store.head().event_hash}")
    print("what follows for runs and models: dp-train consent impact PERSON, dp-train ls runs")
    return 0


def _ids(path: Path) -> list[str]:
    """The ids of a file, one a line; all of them, or none is entered.

    Raises:
      DataError: it cannot be read, or a line is no id.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"consent opt-out: {path} cannot be read; expected ids in UTF-8, one a line") from error
    for number, line in enumerate(lines, start=1):
        if line and not normalised_id(line):
            raise DataError(f"consent opt-out: {path}, line {number}: no id; expected one a line")
    found = [line for line in lines if line]
    if not found:
        raise DataError(f"consent opt-out: {path} holds no id; expected one a line")
    return found


def _write_receipts(path: Path, done: list[Withdrawal]) -> None:
    try:
        with path.open("x", encoding="utf-8") as out:
            for each in done:
                out.write(json.dumps(each.receipt, ensure_ascii=False) + "\n")
    except OSError as error:
        raise ConfigError(
            f"consent opt-out: it is stored; --receipts {path}: {error.strerror}; repeat with a new file"
        ) from error


def _link(store: ConsentStore, options: Namespace) -> int:
    key = PrincipalKey.load(key_path(options.key))
    one, other = key.pseudonym(options.one), key.pseudonym(options.other)
    if one == other:
        raise ConfigError("consent link: both ids are spelt alike once normalised; they are one person already")
    bind_proven(store, key, one, other)
    new = link(store, one, other, at=datetime.now(UTC), by=officer_of(options))
    Ledger(store.database).link_people(options.one, options.other)  # what was spent on one was spent on both
    print("linked: a no of one is a no of both" if new else "they were linked before; nothing changed")
    return 0


def _resolve(store: ConsentStore, options: Namespace) -> int:
    """List who is held, by count; or decide about one person."""
    held = store.held()
    if options.person is None:
        print(f"{len(held)} people are held; consent resolve PERSON --reason WHY decides about one")
        return 0
    by = officer_of(options)
    if not by.reason:
        raise ConfigError(
            "consent resolve: expected --reason, what was found out about the row; it stands in the chain"
        )
    pseudonym = PrincipalKey.load(key_path(options.key)).pseudonym(options.person)
    if pseudonym not in held:
        raise ConsentError("consent resolve: nobody of this id is held; expected a person's id, and the key")
    resolve(store, pseudonym, at=datetime.now(UTC), by=by)
    print("resolved: what they said otherwise counts again")
    return 0
