"""The key that turns a person's id into the pseudonym under which consent is kept.

The key is a file of its own, outside the consent store: destroying it honours erasure without
breaking the store's hash chain, for nobody can link a pseudonym to a person afterwards.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path

from dp_train.atomic import sweep, write_text
from dp_train.errors import ConsentError

KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class PrincipalKey:
    """Secret key of the pseudonyms; never printed, never stored beside the events.

    Args:
      secret: at least 32 bytes.
    """

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) < KEY_BYTES:
            raise ConsentError(
                f"principal key: {len(self.secret)} bytes; expected at least {KEY_BYTES}, as PrincipalKey.create makes"
            )

    def pseudonym(self, person_id: str) -> str:
        """HMAC-SHA256 of the person's id, 64 lower-case hex digits: the `pii_principal_id` of events."""
        return self.digest(person_id).hex()

    def digest(self, person_id: str) -> bytes:
        """The same pseudonym as its 32 bytes."""
        return hmac.digest(self.secret, person_id.encode("utf-8", "surrogatepass"), "sha256")

    @property
    def population_id(self) -> str:
        """Names the population that this key gives pseudonyms to, whatever its snapshots say; not secret.

        32 hex digits of an HMAC by another hash than `pseudonym`, so that no person's id gives it.
        """
        return hmac.digest(self.secret, b"dp_train population population_id 1", "sha3_256").hex()[:32]

    def sealed(self, digest: str) -> str:
        """A digest of private data as it may stand in a ledger: comparable, and of no use without the key.

        A bare digest would tell somebody who knows everybody's data but one person's whether a guess at it is right.
        """
        return hmac.digest(self.secret, b"dp_train sealed 1\x00" + digest.encode(), "sha3_256").hex()

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> PrincipalKey:
        """Draw a key from the OS and write it to a new file that only its owner can read.

        Raises:
          ConsentError: the file exists (a key is never overwritten) or cannot be written.
        """
        secret = secrets.token_bytes(KEY_BYTES)
        try:
            sweep(Path(path).parent)
            write_text(Path(path), secret.hex() + "\n", mode=0o600, replace=False)
        except OSError as error:
            raise ConsentError(
                f"principal key {path}: {error.strerror}; choose a new file that can be written"
            ) from error
        return cls(secret)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PrincipalKey:
        """Read a key that `create` wrote.

        Raises:
          ConsentError: the file is missing, open to others, or not a key.
        """
        try:
            with Path(path).open(encoding="ascii") as lines:
                mode = os.fstat(lines.fileno()).st_mode
                text = lines.read(4096).strip()
        except OSError as error:
            raise ConsentError(f"principal key {path}: {error.strerror}; make one with PrincipalKey.create") from error
        except UnicodeDecodeError:
            text = ""
        else:
            if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise ConsentError(
                    f"principal key {path}: mode {stat.S_IMODE(mode):03o}; expected 600, run chmod 600 on it"
                )
        try:
            return cls(bytes.fromhex(text))
        except ValueError:
            raise ConsentError(f"principal key {path}: not a key; expected the hex digits that create wrote") from None
