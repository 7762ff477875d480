"""Who may ask: the token of systems, and personal links, sessions and forms that are derived from it.

    token = open_token(path)                       # 0600; made at the first start
    signer = Signer(token)
    text = signer.sign(Kind.LINK, pseudonym, until)
    signer.read(Kind.LINK, text, now)              # the pseudonym and when it ends, or None

Guarantee: without the token no one makes a text that `read` accepts, and a text of one kind is none of another. A new
token ends every link and session. A link opens one session; a process that starts anew forgets which were used, and
their time still ends.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import stat
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from threading import Lock

from dp_train.atomic import write_text
from dp_train.consent.events import is_pseudonym
from dp_train.errors import ConfigError

TOKEN_BYTES = 32
_LONGEST = 4_096
_USED_AT_MOST = 100_000


class Kind(Enum):
    """What a signed text is for."""

    LINK = "link"
    SESSION = "session"


def open_token(path: Path) -> str:
    """Read the token of a file, or draw one from the OS into a new file of mode 0600.

    Raises:
      ConfigError: the file is open to others, holds no token of 32 characters or more, or cannot be read or written.
    """
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, secrets.token_urlsafe(TOKEN_BYTES) + "\n", mode=0o600, replace=False)
    except FileExistsError:  # another process was faster
        pass
    except OSError as error:
        raise ConfigError(f"token {path}: {error.strerror}; choose a folder that can be written") from error
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_LONGEST).decode("ascii").strip()
    except OSError as error:
        raise ConfigError(f"token {path}: {error.strerror}; expected a token that can be read") from error
    except UnicodeDecodeError:
        text = ""
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"token {path}: mode {stat.S_IMODE(mode):03o}; expected 600, run chmod 600 on it")
    if len(text) < TOKEN_BYTES or not text.isprintable() or " " in text:
        raise ConfigError(f"token {path}: no token; expected {TOKEN_BYTES} characters or more on one line")
    return text


def renew_token(path: Path) -> None:
    """Put a new token in the place of the one in a file: every link and session ends with the service's next start.

    Raises:
      ConfigError: there is none, or it cannot be written.
    """
    if not path.exists():
        raise ConfigError(f"token {path}: none is there; dp-train consent serve makes it at its first start")
    try:
        write_text(path, secrets.token_urlsafe(TOKEN_BYTES) + "\n", mode=0o600)
    except OSError as error:
        raise ConfigError(f"token {path}: {error.strerror}; choose a folder that can be written") from error


@dataclass(frozen=True, slots=True)
class Said:
    """What a signed text says: whom it is about, and until when it holds (seconds since 1970)."""

    pseudonym: str
    until: int


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs and reads texts under the token; remembers which links were used."""

    token: str = field(repr=False)
    _used: dict[str, int] = field(default_factory=dict, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def is_token(self, given: str) -> bool:
        """Whether a text is the token, in a time that does not tell how much of it fits."""
        return hmac.compare_digest(_digest(given), _digest(self.token))

    def sign(self, kind: Kind, pseudonym: str, until: int) -> str:
        """A text for URLs and cookies that says whom it is about and until when; no two are alike."""
        said = f"{pseudonym}.{until}.{secrets.token_hex(16)}"
        return f"{said}.{self._seal(kind.value, said)}"

    def read(self, kind: Kind, text: str, now: float) -> Said | None:
        """What a text says, if it was signed here for this and has not ended."""
        said, _, seal = text[:_LONGEST].rpartition(".")
        if not text.isascii() or not hmac.compare_digest(seal, self._seal(kind.value, said)):
            return None
        pseudonym, until, _ = said.split(".")
        return Said(pseudonym, int(until)) if is_pseudonym(pseudonym) and now < int(until) else None

    def use(self, text: str, now: float) -> bool:
        """Mark a link as used; whether it was not before."""
        name = _digest(text).hex()
        with self._lock:
            for old in [old for old, until in self._used.items() if until <= now]:
                del self._used[old]
            if name in self._used or len(self._used) >= _USED_AT_MOST:
                return False
            self._used[name] = int(text.split(".")[1])
            return True

    def form(self, session: str) -> str:
        """What a form of a session carries, so that no other site can send it."""
        return self._seal("form", session)

    def is_form(self, session: str, given: str) -> bool:
        """Whether a form was made for this session."""
        return given.isascii() and hmac.compare_digest(given, self.form(session))

    def _seal(self, purpose: str, said: str) -> str:
        key = hashlib.sha256(b"dp_train web 1\x00" + self.token.encode()).digest()
        sealed = hmac.digest(key, f"{purpose}\x00{said}".encode(), "sha256")
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).digest()
