"""A new key for receipts, under which the receipts of the old ones still verify.

    runs/signing.key                    the secret key; replaced
    runs/signing.pub                    its public key; replaced
    runs/signing-<name>.keys.json       signed by the key of that name: the public keys before it, each with its end

Whoever trusts the newest public key can check a receipt of any earlier one: the newest key vouches for those before
it, and says until when each signed. A receipt that an old key signed for a later time is refused, so a secret that
leaks after it was replaced signs nothing that is new. (It can still sign for an earlier time: whether an event stands
in the chain, its hash says.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dp_train.atomic import sweep, write_text
from dp_train.consent.signing import SigningKey, key_name, read_signed, verified
from dp_train.errors import ConsentError

TYPE = "dp_train signing keys 1"
PUBLIC_KEY = "signing.pub"
_NAME = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierKey:
    """A public key that signed receipts until some time."""

    key: str
    public: str
    until: datetime


def keys_file(folder: Path, name: str) -> Path:
    """Where the key called `name` keeps the keys before it."""
    return folder / f"signing-{name}.keys.json"


def rotate(path: Path, *, at: datetime, operator: str = "", reason: str = "") -> SigningKey:
    """Replace the signing key of a file by a new one, which vouches for the public keys before it.

    Guarantee: whenever the process is killed, the key of the file is the old or the new one, whole, and every receipt
    that the earlier keys signed verifies under the public key of the one that is there.

    Raises:
      ConsentError: there is no key to replace, its list of earlier keys does not verify, or nothing can be written.
    """
    if not path.exists():
        raise ConsentError(f"signing key {path}: none is there, so none has to be replaced; the first receipt makes it")
    old, new = SigningKey.open(path), SigningKey.draw()
    known = earlier_keys(path.parent, old.public_pem)
    ended = EarlierKey(key=old.name, public=old.public_pem, until=at)
    statement = {
        "type": TYPE,
        "keys": [{**asdict(each), "until": each.until.isoformat()} for each in (*known, ended)],
        "rotated_at": at.isoformat(),
        "operator": operator,
        "reason": reason,
    }
    try:
        sweep(path.parent)
        # The list first: it is of use only once its key is there, and then it has to be.
        write_text(keys_file(path.parent, new.name), json.dumps(new.sign(statement), indent=2) + "\n")
        write_text(path, new.secret_pem, mode=0o600)
        write_text(path.with_name(PUBLIC_KEY), new.public_pem)
    except OSError as error:
        raise ConsentError(f"signing key {path}: {error.strerror}; free space, and repeat the command") from error
    return new


def earlier_keys(folder: Path, public_pem: str) -> tuple[EarlierKey, ...]:
    """The keys that the owner of a public key vouches for, from its file in `folder`; none where there is no file.

    Raises:
      ConsentError: the file was not signed by that key, or cannot be read.
    """
    file = keys_file(folder, key_name(public_pem))
    if not file.exists():
        return ()
    statement = verified(read_signed(file), public_pem)
    try:
        if statement["type"] != TYPE:
            raise ValueError
        found = tuple(
            EarlierKey(key=each["key"], public=each["public"], until=datetime.fromisoformat(each["until"]))
            for each in statement["keys"]
        )
        if any(each.until.tzinfo is None or key_name(each.public) != each.key for each in found):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise ConsentError(f"statement {file}: no list of signing keys; restore the file that --rotate wrote") from None
    return found


def verified_receipt(signed: object, public_pem: str, folder: Path) -> dict[str, Any]:
    """`signing.verified` of a receipt, also of one that a key before the given one signed.

    Args:
      folder: where the list of the given key's predecessors lies, if there is one: beside `signing.pub`.

    Raises:
      ConsentError: it does not hold; or an earlier key signed it for a time when it was replaced already.
    """
    name = signed.get("key") if isinstance(signed, Mapping) else None
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name == key_name(public_pem):
        return verified(signed, public_pem)
    for earlier in earlier_keys(folder, public_pem):
        if earlier.key == name:
            statement = verified(signed, earlier.public)
            if not _recorded(statement) <= earlier.until:
                raise ConsentError(
                    f"statement: signed by key {name} for a time after it was replaced ({earlier.until:%Y-%m-%d}); "
                    "ask for a receipt of the key that is in use"
                )
            return statement
    return verified(signed, public_pem)


def _recorded(statement: Mapping[str, Any]) -> datetime:
    try:
        found = datetime.fromisoformat(statement["recorded_at"])
        return found if found.tzinfo is not None else datetime.max.replace(tzinfo=UTC)
    except (KeyError, TypeError, ValueError):
        return datetime.max.replace(tzinfo=UTC)


__all__ = ["PUBLIC_KEY", "EarlierKey", "earlier_keys", "keys_file", "rotate", "verified_receipt"]
