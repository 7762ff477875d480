"""A frozen answer to every consent question at one time, named by its Merkle root."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import datetime
from struct import error as struct_error
from typing import NoReturn, final

from dp_train.consent.cells import CELL, pack_cells, unpack_cells
from dp_train.consent.decisions import DECISIONS, REASONS, Decision, Fact, Judge, Reason
from dp_train.consent.events import Purpose
from dp_train.consent.facts import microseconds
from dp_train.consent.identities import groups_of
from dp_train.consent.merkle import merkle_root
from dp_train.consent.principals import PrincipalKey, normalised_id
from dp_train.consent.rules import KINDS, PURPOSES, Limits
from dp_train.conversations import ContentKind
from dp_train.errors import ConsentError

_FORMAT = b"dp_train consent snapshot 2\x00"
_SEAL = object()
_PURPOSE_INDEX = {purpose: index for index, purpose in enumerate(PURPOSES)}
_KIND_INDEX = {kind: index for index, kind in enumerate(KINDS)}


def organisation_cells(judge: Judge, facts: Sequence[Fact], limits: Limits | None) -> bytes:
    """The packed cells that an organisation allows, less what the policy denies it."""
    cells = judge.organisation(facts)
    if limits is not None:
        masks = limits.masks
        cells = ((p, kinds & ~masks[p], outcome) for p, kinds, outcome in cells if kinds & ~masks[p])
    return pack_cells(cells)


def look_up(cells: bytes | None, purpose: Purpose, kind: ContentKind, created: int) -> Reason:
    """Reason for content of one kind that was created at `created` µs."""
    wanted, bit = _PURPOSE_INDEX[purpose], 1 << _KIND_INDEX[kind]
    for index, kinds, code, data_from, data_to in CELL.iter_unpack(cells or b""):
        if index == wanted and kinds & bit:
            reason: Reason = REASONS[code]
            if reason is Reason.GRANTED and not data_from <= created <= data_to:
                return Reason.OUTSIDE_DATA_WINDOW
            return reason
    return Reason.NO_RECORD


def decide(
    person: bytes | None,
    organisation: bytes | None,
    *,
    purpose: Purpose,
    kind: ContentKind,
    created: int,
    as_of: int,
) -> Decision:
    """Allow = the person allows AND the organisation allows; the person's reason comes first.

    Content that is younger than `as_of` is outside every window: nobody knows yet what was decided since.
    """
    reason = look_up(person, purpose, kind, created)
    if reason is Reason.GRANTED and created > as_of:
        reason = Reason.OUTSIDE_DATA_WINDOW
    if reason is Reason.GRANTED:
        word = look_up(organisation, purpose, kind, created)
        if word is Reason.OUTSIDE_DATA_WINDOW:  # it allows, and its grant is younger than the data, or ended before
            reason = Reason.ORGANISATION_OUTSIDE_DATA_WINDOW
        elif word is not Reason.GRANTED:
            reason = Reason.ORGANISATION_DENIES
    return DECISIONS[reason]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConsentSnapshot:
    """Every decision of a registry as of one time, as known at one time; made by `ConsentRegistry.snapshot`.

    Guarantee: two snapshots have equal roots exactly when every person and organisation has the same
    reasons and data windows for every purpose and kind (up to SHA-256), whatever order the events came
    in. `as_of` is not in the root.

    It holds pseudonyms and the key that makes them, so it cannot be pickled or copied.
    Memory is about 250 bytes a person; a lookup is one HMAC and one dictionary access.

    Attributes:
      root: SHA-256 in hex over a format tag and two Merkle trees (`merkle`), each with its number of leaves: of
        people, one leaf each (`leaf_of` its pseudonym and its cells of purpose, kinds, reason and data window), in
        the order of their places, and of organisations (SHA-256 of the id for a pseudonym). People with no
        record have no leaf. `proofs` shows that a person has a leaf, or has none.
      as_of: the time that is asked about. known_at: what was recorded later is not in it.
      upto: how many events of a store's chain it was made from; None where no store was asked. Not in the root.
      head, store: hash of the last of them, and where the store lies; to be kept where the store is not.
      set_aside: rows of imports whose person could not be read; nobody knows whom they are about.
    """

    root: str = field(init=False)
    as_of: datetime
    known_at: datetime
    upto: int | None = None
    _key: PrincipalKey = field(repr=False)
    _people: Mapping[bytes, bytes] = field(repr=False)
    _organisations: Mapping[bytes, bytes] = field(repr=False)
    _links: Sequence[tuple[bytes, bytes]] = field(default=(), repr=False)
    head: str | None = None
    store: str | None = None
    set_aside: int = 0

    _at: int = field(init=False, repr=False)  # `as_of` in µs
    _seal: InitVar[object]

    def __post_init__(self, _seal: object) -> None:
        if _seal is not _SEAL:
            raise ConsentError("consent snapshot: made by hand; call ConsentRegistry.snapshot(as_of=…) to get one")
        # Derived here and nowhere else, so that no snapshot can carry the root of another.
        object.__setattr__(self, "root", _root(self._people, self._organisations))
        object.__setattr__(self, "_at", microseconds(self.as_of))

    @property
    def population_id(self) -> str:
        """Names the population, the same for every snapshot of it: `PrincipalKey.population_id`."""
        return self._key.population_id

    def decide(
        self, person_id: str, purpose: Purpose, kind: ContentKind, created_at: datetime, org_id: str
    ) -> Decision:
        """Whether a person's content of one kind, created in an organisation, may be used for a purpose."""
        return decide(
            self._people.get(self._key.digest(person_id)),
            self._organisations.get(organisation_key(org_id)),
            purpose=purpose,
            kind=kind,
            created=microseconds(created_at),
            as_of=self._at,
        )

    def about(self, purpose: Purpose, created_at: datetime, org_id: str) -> Callable[[str, ContentKind], Reason]:
        """The reasons of `decide` for the content of one conversation: a function of person and kind."""
        created, organisation = microseconds(created_at), self._organisations.get(organisation_key(org_id))

        def reason(person_id: str, kind: ContentKind) -> Reason:
            person = self._people.get(self._key.digest(person_id))
            return decide(person, organisation, purpose=purpose, kind=kind, created=created, as_of=self._at).reason

        return reason

    def says(self, pseudonym: str, purpose: Purpose) -> Reason:
        """What a person says about a purpose as a whole: GRANTED where any content of theirs may be used for it.

        Else why not; NO_RECORD for a person who never spoke of it, and for a person who was erased.
        """
        wanted, found = _PURPOSE_INDEX[purpose], Reason.NO_RECORD
        for index, _, code, _, _ in CELL.iter_unpack(self._people.get(bytes.fromhex(pseudonym), b"")):
            if index == wanted:
                found = REASONS[code]
                if found is Reason.GRANTED:
                    break
        return found

    def persons(self) -> Callable[[str], str]:
        """A function that gives every spelling and every linked id of a person the same id, for one pass over a corpus.

        It is the first id of the person that the function was asked about, normalised, so that units and budgets
        count a person once whatever they are called; ids alone decide, so other people's answers do not change.
        """
        if not self._links:
            return normalised_id
        groups = groups_of(self._links)
        first: dict[int, str] = {}

        def person(person_id: str) -> str:
            group = groups.get(self._key.digest(person_id))
            return normalised_id(person_id) if group is None else first.setdefault(group, normalised_id(person_id))

        return person

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise ConsentError("consent snapshot: cannot be pickled or copied, it holds the key; make it from the registry")


def freeze(
    *,
    as_of: datetime,
    known_at: datetime,
    key: PrincipalKey,
    people: Mapping[bytes, bytes],
    organisations: Mapping[bytes, bytes],
    links: Sequence[tuple[bytes, bytes]] = (),
    upto: int | None = None,
    head: str | None = None,
    store: str | None = None,
    set_aside: int = 0,
) -> ConsentSnapshot:
    """The snapshot of packed cells; for `ConsentRegistry.snapshot`, which knows that they are true."""
    return ConsentSnapshot(
        as_of=as_of,
        known_at=known_at,
        upto=upto,
        head=head,
        store=store,
        set_aside=set_aside,
        _key=key,
        _people=people,
        _organisations=organisations,
        _links=links,
        _seal=_SEAL,
    )


def organisation_key(org_id: str) -> bytes:
    """Key of an organisation; organisations are not secret, the hash only makes keys of one length."""
    return hashlib.sha256(org_id.encode("utf-8", "surrogatepass")).digest()


def place_of(name: bytes) -> bytes:
    """By what leaves are sorted: a hash of the pseudonym, so that a proof tells nobody else's."""
    return hashlib.sha256(b"dp_train consent place\x00" + name).digest()


def leaf_of(name: bytes, cells: bytes, *, place: bytes | None = None) -> bytes:
    """A leaf, 64 bytes: its place, and a commitment to the cells that tells nothing without the pseudonym."""
    return (place or place_of(name)) + hashlib.sha256(b"dp_train consent cells\x00" + name + cells).digest()


def people_of(snapshot: ConsentSnapshot) -> tuple[list[bytes], Mapping[bytes, bytes]]:
    """Pseudonyms in the order of their leaves, and the packed cells of each; for `proofs` alone."""
    return [name for _, name in _ordered(snapshot._people)], snapshot._people


def organisations_of(snapshot: ConsentSnapshot) -> tuple[bytes, int]:
    """Root and number of the organisations' leaves."""
    return merkle_root(_leaves(snapshot._organisations))


def total_root(*sides: tuple[bytes, int]) -> str:
    """The root over the people's and the organisations' trees, each given as its root and number of leaves."""
    total = hashlib.sha256(_FORMAT)
    for root, count in sides:
        total.update(count.to_bytes(8, "big") + root)
    return total.hexdigest()


def readable(cells: bytes) -> list[tuple[str, str, str]]:
    """(purpose, content kinds, reason) of packed cells, for people.

    Raises:
      ConsentError: the bytes are no cells.
    """
    try:
        return [
            (
                PURPOSES[purpose].value,
                ", ".join(kind.value for index, kind in enumerate(KINDS) if kinds >> index & 1),
                outcome.reason.value,
            )
            for purpose, kinds, outcome in unpack_cells(cells)
        ]
    except (struct_error, IndexError):
        raise ConsentError("consent proof: its decisions cannot be read; it is of another version") from None


def _root(people: Mapping[bytes, bytes], organisations: Mapping[bytes, bytes]) -> str:
    """The root that `ConsentSnapshot` documents."""
    return total_root(merkle_root(_leaves(people)), merkle_root(_leaves(organisations)))


def _ordered(cells: Mapping[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """(place, pseudonym) in the order of the leaves."""
    return sorted((place_of(name), name) for name, packed in cells.items() if packed)


def _leaves(cells: Mapping[bytes, bytes]) -> Iterator[bytes]:
    return (leaf_of(name, cells[name], place=place) for place, name in _ordered(cells))
