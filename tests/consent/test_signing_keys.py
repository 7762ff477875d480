"""Keys are replaced where no receipt, no no and no budget is lost by it; else they are refused, and nothing changes."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp_train.consent import signing_keys
from dp_train.consent.signing import SigningKey, verified
from dp_train.consent.signing_keys import earlier_keys, keys_file, rotate, verified_receipt
from dp_train.errors import ConsentError

DAY = datetime(2025, 1, 1, tzinfo=UTC)


def receipt(key: SigningKey, day: float) -> dict[str, Any]:
    return key.sign({"type": "receipt", "recorded_at": (DAY + timedelta(days=day)).isoformat()})


@settings(max_examples=30)
@given(st.lists(st.lists(st.floats(0, 0.9), max_size=3), min_size=1, max_size=5), st.data())
def test_after_any_rotations_every_receipt_verifies_and_none_that_was_changed(
    rounds: list[list[float]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "signing.key"
        key, given_out = SigningKey.open(path), []
        for day, moments in enumerate(rounds):
            given_out += [receipt(key, day + moment) for moment in moments]
            late = receipt(key, day + 1.5)  # by a secret that leaked, after it was replaced
            old, key = key, rotate(path, at=DAY + timedelta(days=day + 1), operator="ann")
            assert SigningKey.open(path).public_pem == key.public_pem != old.public_pem
            with pytest.raises(ConsentError, match="after it was replaced"):
                verified_receipt(late, key.public_pem, path.parent)
        given_out.append(receipt(key, 99))
        public = (path.parent / "signing.pub").read_text()
        for one in given_out:
            assert verified_receipt(one, public, path.parent) == one["statement"]
        one = data.draw(st.sampled_from(given_out))
        changed = {**one, "statement": {**one["statement"], "type": "other"}}
        with pytest.raises(ConsentError, match="does not hold"):
            verified_receipt(changed, public, path.parent)
        stranger = SigningKey.draw()
        for forged in (receipt(stranger, 0), {**receipt(stranger, 0), "key": one["key"]}):
            with pytest.raises(ConsentError):
                verified_receipt(forged, public, path.parent)


def test_a_list_of_keys_counts_only_as_its_key_signed_it(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    first = SigningKey.open(path)
    new = rotate(path, at=DAY)
    file = keys_file(tmp_path, new.name)
    stranger = SigningKey.draw()
    said = json.loads(file.read_text())["statement"]
    planted = {
        **said,
        "keys": [{"key": stranger.name, "public": stranger.public_pem, "until": "9999-01-01T00:00:00+00:00"}],
    }
    for signed in (stranger.sign(planted), first.sign(planted), {**new.sign(said), "statement": planted}):
        file.write_text(json.dumps(signed))
        with pytest.raises(ConsentError):
            verified_receipt(receipt(stranger, 0), new.public_pem, tmp_path)
    file.write_text(json.dumps(new.sign({"type": "receipt", "keys": []})))
    with pytest.raises(ConsentError, match="no list of signing keys"):
        earlier_keys(tmp_path, new.public_pem)


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "0" * 15, "A" * 16, "0" * 16, None, 7, ["a"]])
def test_a_key_name_of_a_receipt_opens_no_file(tmp_path: Path, name: object) -> None:
    key = SigningKey.open(tmp_path / "signing.key")
    with pytest.raises(ConsentError):
        verified_receipt({**receipt(key, 0), "key": name}, key.public_pem, tmp_path)


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_rotation_that_is_killed_leaves_one_whole_key_under_which_all_verifies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    path = tmp_path / "signing.key"
    old = SigningKey.open(path)
    before = receipt(old, 0)
    calls, true = [0], signing_keys.write_text

    def killed(*words: Any, **more: Any) -> None:
        calls[0] += 1
        if calls[0] == call:
            raise KeyboardInterrupt
        true(*words, **more)

    monkeypatch.setattr(signing_keys, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        rotate(path, at=DAY + timedelta(days=1))
    monkeypatch.undo()
    now = SigningKey.open(path)
    assert (now.public_pem == old.public_pem) == (call < 3)
    assert verified_receipt(before, now.public_pem, tmp_path) == before["statement"]
    again = rotate(path, at=DAY + timedelta(days=2))
    assert verified_receipt(before, again.public_pem, tmp_path) == before["statement"]


def test_there_has_to_be_a_key_to_replace(tmp_path: Path) -> None:
    with pytest.raises(ConsentError, match="none is there"):
        rotate(tmp_path / "signing.key", at=DAY)
    assert list(tmp_path.iterdir()) == []


def test_a_receipt_of_the_key_in_use_needs_no_list(tmp_path: Path) -> None:
    key = SigningKey.draw()
    assert verified_receipt(receipt(key, 0), key.public_pem, tmp_path) == verified(receipt(key, 0), key.public_pem)
    assert dataclasses.is_dataclass(key)
