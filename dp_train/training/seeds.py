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
    def fixed_for_test(cls, number: int) -> Seeds:
        """Repeatable, for tests and papers. The run is marked: its ε holds only while the number is secret."""

        def derive(stream: str) -> bytes:
            return hashlib.blake2b(str(number).encode(), person=stream.encode(), digest_size=_BYTES).digest()

        return cls(sampling=derive("sampling"), noise=derive("noise"), fixed=True)
