"""A chain shows every change but a cut at its end, and that one too to whoever kept the last hash."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from dp_train.store.chain import GENESIS, Link, canonical, row_hash, verify_chain


def chain(bodies: list[bytes]) -> list[Link]:
    links: list[Link] = []
    for body in bodies:
        previous = links[-1].row_hash if links else GENESIS
        links.append(Link(len(links) + 1, previous, row_hash(previous, len(links) + 1, body), body))
    return links


BODIES = st.lists(st.binary(max_size=8), min_size=1, max_size=12)


@given(BODIES)
def test_chain_as_written_holds(bodies: list[bytes]) -> None:
    links = chain(bodies)
    found = verify_chain(links)
    assert found.broken is None
    assert (found.rows, found.head) == (len(links), links[-1].row_hash)


@given(BODIES, st.data())
def test_changed_row_is_named(bodies: list[bytes], data: st.DataObject) -> None:
    links = chain(bodies)
    at = data.draw(st.integers(0, len(links) - 1))
    links[at] = dataclasses.replace(links[at], body=links[at].body + b"x")
    broken = verify_chain(links).broken
    assert broken is not None
    assert broken.seq == at + 1


@given(BODIES, st.data())
def test_row_forged_with_its_own_hash_is_found_at_the_next(bodies: list[bytes], data: st.DataObject) -> None:
    links = chain([*bodies, b"last"])
    at = data.draw(st.integers(0, len(links) - 2))
    body = links[at].body + b"x"
    forged = row_hash(links[at].prev_hash, links[at].seq, body)
    links[at] = dataclasses.replace(links[at], body=body, row_hash=forged)
    broken = verify_chain(links).broken
    assert broken is not None
    assert broken.seq == at + 2


@given(BODIES, st.data())
def test_row_left_out_is_named(bodies: list[bytes], data: st.DataObject) -> None:
    links = chain([*bodies, b"last"])
    at = data.draw(st.integers(0, len(links) - 2))
    del links[at]
    broken = verify_chain(links).broken
    assert broken is not None
    assert broken.seq == at + 1


@given(BODIES)
def test_cut_end_shows_against_a_kept_head(bodies: list[bytes]) -> None:
    links = chain(bodies)
    assert verify_chain(links, expected_head=links[-1].row_hash).broken is None
    assert verify_chain(links[:-1], expected_head=links[-1].row_hash).broken is not None


def test_canonical_json_does_not_depend_on_order() -> None:
    assert canonical({"b": 1, "a": "é"}) == canonical({"a": "é", "b": 1})
