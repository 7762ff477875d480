"""The key of the pseudonyms."""

import hashlib
import hmac
import stat
from pathlib import Path

import pytest

from dp_train.consent.principals import PrincipalKey
from dp_train.errors import ConsentError


def test_a_pseudonym_is_hmac_sha256_of_the_id() -> None:
    secret = b"k" * 32
    expected = hmac.new(secret, "ånn@example.com".encode(), hashlib.sha256).hexdigest()
    assert PrincipalKey(secret).pseudonym("ånn@example.com") == expected


def test_another_key_gives_other_pseudonyms() -> None:
    assert PrincipalKey(b"a" * 32).pseudonym("ann") != PrincipalKey(b"b" * 32).pseudonym("ann")


def test_a_created_key_is_loaded_equal_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "principal.key"
    key = PrincipalKey.create(path)
    assert PrincipalKey.load(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert PrincipalKey.create(tmp_path / "other.key") != key


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "principal.key"
    PrincipalKey.create(path)
    before = path.read_bytes()
    with pytest.raises(ConsentError, match="File exists"):
        PrincipalKey.create(path)
    assert path.read_bytes() == before


def test_a_key_is_never_printed(tmp_path: Path) -> None:
    key = PrincipalKey(b"super-secret-super-secret-super!!")
    assert "super" not in repr(key)
    assert b"super".hex() not in repr(key)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "principal.key"
    PrincipalKey.create(path)
    path.chmod(0o640)
    with pytest.raises(ConsentError, match="mode 640; expected 600"):
        PrincipalKey.load(path)


@pytest.mark.parametrize("content", [b"", b"not hex", b"\xff\xfe", b"abcd"])
def test_what_is_not_a_key_is_refused_without_showing_it(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "principal.key"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(ConsentError, match=r"not a key|bytes; expected at least 32"):
        PrincipalKey.load(path)


def test_a_missing_key_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConsentError, match="make one: dp-train consent key"):
        PrincipalKey.load(tmp_path / "none.key")
