"""Secret seeds: as secret as the data, because who knows them can take the noise off again."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field

_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Separate secret streams for sampling and noise (PRIVACY.md §4).

    The bytes are kept out of `repr`. They go into the private checkpoint and nowhere else, and are
    dropped from it when the run has finished.
    """

    sampling: bytes = field(repr=False)
    noise: bytes = field(repr=False)
    fixed: bool = False

    @classmethod
    def fresh(cls) -> Seeds:
        """From the operating system's entropy: the only seeds under which ε may be claimed as it is."""
        return cls(sampling=secrets.token_bytes(_BYTES), noise=secrets.token_bytes(_BYTES))

    @classmethod
    def fixed_for_test(cls, number: int, *, of: str = "") -> Seeds:
        """Repeatable, for tests and papers. The run is marked: its ε holds only while the number is secret.

        Args:
          of: what is run, in as many words as tell it from all other runs under this number. Two runs that share noise
            and differ in their gradients (by the learning rate, say) would show the difference bare. The trainer adds
            plan and people itself.
        """

        def derive(stream: str, text: str) -> bytes:
            return hashlib.blake2b(text.encode(), person=stream.encode(), digest_size=_BYTES).digest()

        noise = derive("noise", f"{number} {of}" if of else str(number))
        return cls(sampling=derive("sampling", str(number)), noise=noise, fixed=True)
