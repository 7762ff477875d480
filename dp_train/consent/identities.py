"""One person, several ids: a no of one is a no of all, and a yes of one is a yes of that id alone.

A link can only take away. An id is allowed what it was granted itself, less what any linked id denies for the same
purpose and content kind, for whatever reason; an id of which nothing is known neither grants nor denies. So a link
that was made by mistake costs data and never consent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping

from dp_train.consent.cells import pack_cells, unpack_cells
from dp_train.consent.decisions import REASONS, Outcome, Reason
from dp_train.consent.rules import KINDS, PURPOSES

Link = tuple[bytes, bytes]
"""Two pseudonyms of one person."""

_Cell = tuple[int, int]  # purpose index, kind index


def groups_of(links: Iterable[Link]) -> dict[bytes, int]:
    """Pseudonym → number of its group; ids that are linked, however many steps apart, share one."""
    members: dict[int, set[bytes]] = {}
    groups: dict[bytes, int] = {}
    for number, (one, other) in enumerate(links):
        joined = {one, other}
        for group in {groups[name] for name in (one, other) if name in groups}:
            joined |= members.pop(group)
        members[number] = joined
        groups.update(dict.fromkeys(joined, number))
    return groups


def same_person(name: bytes, links: Iterable[Link]) -> set[bytes]:
    """All pseudonyms of the person of one, itself among them."""
    groups = groups_of(links)
    return {name} if name not in groups else {each for each, group in groups.items() if group == groups[name]}


def join(people: MutableMapping[bytes, bytes], links: Iterable[Link]) -> None:
    """Let every linked id deny what any other of its group denies; `people` is pseudonym → packed cells."""
    together: dict[int, list[bytes]] = {}
    for name, group in groups_of(links).items():
        together.setdefault(group, []).append(name)
    for names in together.values():
        said = {name: _spread(people.get(name, b"")) for name in names}
        denials: dict[_Cell, Outcome] = {}
        for outcomes in said.values():
            for cell, outcome in outcomes.items():
                if outcome.reason is not Reason.GRANTED:
                    denials[cell] = min(denials.get(cell, outcome), outcome, key=_order)
        for name, outcomes in said.items():
            packed = _packed(outcomes | denials)
            if packed:
                people[name] = packed


def _order(outcome: Outcome) -> int:
    return REASONS.index(outcome.reason)


def _spread(packed: bytes) -> dict[_Cell, Outcome]:
    return {
        (purpose, kind): outcome
        for purpose, kinds, outcome in unpack_cells(packed)
        for kind in range(len(KINDS))
        if kinds >> kind & 1
    }


def _packed(outcomes: Mapping[_Cell, Outcome]) -> bytes:
    """In the canonical order of `Judge.cells`: equal decisions have equal bytes."""
    cells = []
    for purpose in range(len(PURPOSES)):
        masks: dict[Outcome, int] = {}
        for (about, kind), outcome in outcomes.items():
            if about == purpose:
                masks[outcome] = masks.get(outcome, 0) | 1 << kind
        cells += [(purpose, mask, outcome) for outcome, mask in sorted(masks.items(), key=lambda item: item[1])]
    return pack_cells(cells)
