"""The key that turns a person's id into the pseudonym under which consent is kept.

The key is a file of its own, outside the consent store: destroying it honours erasure without
breaking the store's hash chain, for nobody can link a pseudonym to a person afterwards.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from dp_train.atomic import sweep, write_text
from dp_train.errors import ConsentError

KEY_BYTES = 32
ID_RULE = "ids 1: NFKC, case folded, without invisible characters, one space between words, trimmed"
"""How an id is spelt before it becomes a pseudonym; a store notes the rule that its pseudonyms were made by."""

_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")  # default-ignorable, yet no format characters


def normalised_id(person_id: str) -> str:
    """The one spelling of an id: what people and programs do not see as different is the same person.

    | differs in | example |
    |---|---|
    | composition | e + U+0301 and é; full-width letters |
    | case | Ann and ann; ß and ss |
    | invisible characters | zero-width space, joiners, bidi marks, soft hyphen, variation selectors, controls |
    | space | at the ends, or several between words |

    Guarantee: idempotent. Ids that differ in case alone are one person: where a directory tells people apart by case
    alone, give ids that do not.
    """
    if person_id.isascii() and person_id.isprintable() and person_id == person_id.lower() and " " not in person_id:
        return person_id
    return _normalised(person_id)


@lru_cache(maxsize=65_536)
def _normalised(text: str) -> str:
    while True:
        folded = unicodedata.normalize("NFKC", text).casefold()
        shown = "".join(" " if letter.isspace() else letter for letter in folded if not _is_invisible(letter))
        found = unicodedata.normalize("NFKC", " ".join(shown.split()))
        if found == text:
            return found
        text = found


def _is_invisible(letter: str) -> bool:
    if letter.isspace():
        return False
    return (
        unicodedata.category(letter) in ("Cf", "Cc")
        or letter in _INVISIBLE
        or "\ufe00" <= letter <= "\ufe0f"
        or "\U000e0100" <= letter <= "\U000e01ef"
    )


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
        """HMAC-SHA256 of the person's `normalised_id`, 64 lower-case hex digits: the `pii_principal_id` of events."""
        return self.digest(person_id).hex()

    def digest(self, person_id: str) -> bytes:
        """The same pseudonym as its 32 bytes."""
        return hmac.digest(self.secret, normalised_id(person_id).encode("utf-8", "surrogatepass"), "sha256")

    @property
    def population_id(self) -> str:
        """Names the population that this key gives pseudonyms to, whatever its snapshots say; not secret.

        32 hex digits of an HMAC by another hash than `pseudonym`, so that no person's id gives it.
        """
        return hmac.digest(self.secret, b"dp_train population population_id 1", "sha3_256").hex()[:32]

    def sealed(self, digest: str) -> str:
        """A digest of private data as it may stand in a ledger: comparable, and of no use without the key.

        A bare digest would tell whoever knows everybody's data but one person's whether a guess at it is right.
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
            raise ConsentError(
                f"principal key {path}: {error.strerror}; make one: dp-train consent key {path}"
            ) from error
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
