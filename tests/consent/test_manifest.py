"""Who is in a run: private, whole, and of no use without the key."""

import json
import stat
from pathlib import Path

import pytest

from dp_train.consent.events import Purpose
from dp_train.consent.manifest import FILE, PRIVATE, Manifest, manifest_of, read_manifest, write_manifest
from dp_train.consent.principals import PrincipalKey
from dp_train.errors import CheckpointError

KEY = PrincipalKey(b"k" * 32)


def made(*owners: str) -> Manifest:
    return manifest_of(
        [frozenset(people.split()) for people in owners],
        KEY,
        run="r1",
        population=KEY.population_id,
        purpose=Purpose.TRAIN_CHAT_COMPOSE,
        root="ab" * 32,
    )


def test_a_manifest_holds_the_owners_and_nobody_else(tmp_path: Path) -> None:
    write_manifest(made("ann bob", "bob"), tmp_path)
    read = read_manifest(tmp_path)
    assert read == made("bob", "ann")
    assert read is not None
    assert read.holds(KEY.pseudonym("ann"))
    assert read.holds(KEY.pseudonym("bob"))
    assert not read.holds(KEY.pseudonym("eve"))


def test_a_manifest_is_readable_for_its_owner_alone_and_names_nobody(tmp_path: Path) -> None:
    path = write_manifest(made("ann bob"), tmp_path)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "ann" not in path.read_text()
    assert KEY.pseudonym("ann") not in repr(made("ann"))


def test_a_run_without_a_manifest_has_none(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None


@pytest.mark.parametrize("damage", ["format", "order", "person", "cut"])
def test_a_damaged_manifest_is_an_error_and_never_an_empty_one(tmp_path: Path, damage: str) -> None:
    path = write_manifest(made("ann", "bob"), tmp_path)
    header, *people = path.read_text().splitlines()
    lines = {
        "format": [json.dumps(json.loads(header) | {"format": 2}), *people],
        "order": [header, *reversed(people)],
        "person": [header, '{"person": "ann"}'],
        "cut": [header, people[0][:20]],
    }[damage]
    (tmp_path / PRIVATE / FILE).write_text("\n".join(lines))
    with pytest.raises(CheckpointError, match="damaged"):
        read_manifest(tmp_path)


def test_the_lineage_tells_keys_apart_and_is_nobodys_pseudonym() -> None:
    other = PrincipalKey(b"l" * 32)
    assert KEY.population_id == PrincipalKey(b"k" * 32).population_id != other.population_id
    assert not KEY.pseudonym("dp_train population population_id 1").startswith(KEY.population_id)
    assert KEY.sealed("aa") == KEY.sealed("aa") != other.sealed("aa")
