"""Signed statements: what the organisation says of a withdrawal, to be checked by anybody with the files alone.

A statement is a JSON object. Its signature is Ed25519 (RFC 8032) over the canonical JSON of it. The secret key is a
file beside the principal key, for its owner alone; the public key is exported beside it as PEM.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from dp_train.atomic import sweep, write_text
from dp_train.errors import ConsentError
from dp_train.store.chain import canonical

ALGORITHM = "Ed25519"
_CONTEXT = b"dp_train statement 1\x00"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """Secret key of an organisation's statements; never printed. `open` makes it where it is missing."""

    _secret: Ed25519PrivateKey

    def __repr__(self) -> str:
        return f"SigningKey({self.name})"

    @classmethod
    def open(cls, path: Path) -> SigningKey:
        """Read the key of a file, or draw one from the OS into a new file of mode 0600.

        Raises:
          ConsentError: the file is open to others, is no such key, or cannot be read or written.
        """
        try:
            return cls._read(path)
        except FileNotFoundError:
            pass
        made = cls.draw()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep(path.parent)
            write_text(path, made.secret_pem, mode=0o600, replace=False)
        except FileExistsError:  # another process was faster
            return cls._read(path)
        except OSError as error:
            raise ConsentError(f"signing key {path}: {error.strerror}; choose a folder that can be written") from error
        return made

    @classmethod
    def draw(cls) -> SigningKey:
        """Draw a key from the OS; it is written nowhere."""
        return cls(Ed25519PrivateKey.generate())

    @property
    def secret_pem(self) -> str:
        """The secret key, for its owner's file alone."""
        plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return self._secret.private_bytes(serialization.Encoding.PEM, *plain).decode("ascii")

    @classmethod
    def _read(cls, path: Path) -> SigningKey:
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                text = file.read(4096)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ConsentError(f"signing key {path}: {error.strerror}; expected a key that can be read") from error
        if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConsentError(f"signing key {path}: mode {stat.S_IMODE(mode):03o}; expected 600, run chmod 600 on it")
        try:
            secret = serialization.load_pem_private_key(text, password=None)
        except (ValueError, TypeError):
            secret = None
        if not isinstance(secret, Ed25519PrivateKey):
            raise ConsentError(
                f"signing key {path}: not an Ed25519 key in PEM; restore it, or move it away for a new one"
            )
        return cls(secret)

    @property
    def public_pem(self) -> str:
        """The public key, to be given to whoever checks statements."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._secret.public_key().public_bytes(serialization.Encoding.PEM, form).decode("ascii")

    @property
    def name(self) -> str:
        """Names the key in statements: 16 hex digits of SHA-256 of the public key."""
        return _name(self._secret.public_key())

    def sign(self, statement: Mapping[str, Any]) -> dict[str, Any]:
        """The statement with its signature."""
        signature = self._secret.sign(_CONTEXT + canonical(statement))
        return {"statement": dict(statement), "algorithm": ALGORITHM, "key": self.name, "signature": signature.hex()}


def verified(signed: object, public_pem: str) -> dict[str, Any]:
    """The statement of a signed document, if the public key's owner signed it as it stands.

    Raises:
      ConsentError: it is no such document, or was signed by another key or changed since.
    """
    key = _public_key(public_pem)
    try:
        assert isinstance(signed, dict)
        statement, name, algorithm = signed["statement"], signed["key"], signed["algorithm"]
        signature = bytes.fromhex(signed["signature"])
        assert isinstance(statement, dict)
    except (AssertionError, KeyError, TypeError, ValueError):
        raise ConsentError("statement: not a signed statement; expected the file that withdraw wrote") from None
    if algorithm != ALGORITHM or name != _name(key):
        raise ConsentError(
            f"statement: signed by key {name!s:.16}; the public key is {_name(key)}; ask for the right one"
        )
    try:
        key.verify(signature, _CONTEXT + canonical(statement))
    except (InvalidSignature, ValueError):
        raise ConsentError("statement: the signature does not hold; it was changed after it was signed") from None
    return statement


def read_signed(path: Path) -> object:
    """The JSON of a signed document's file.

    Raises:
      ConsentError: it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConsentError(f"statement {path}: {error.strerror}; expected the file that withdraw wrote") from error
    except ValueError:
        raise ConsentError(f"statement {path}: not JSON; expected the file that withdraw wrote") from None


def key_name(public_pem: str) -> str:
    """What a key is called in statements.

    Raises:
      ConsentError: it is no such key.
    """
    return _name(_public_key(public_pem))


def _public_key(public_pem: str) -> Ed25519PublicKey:
    try:
        key = serialization.load_pem_public_key(public_pem.encode())
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ConsentError("statement: the public key is no Ed25519 key in PEM; expected the file signing.pub")
    return key


def _name(key: Ed25519PublicKey) -> str:
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:16]
