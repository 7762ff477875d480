"""Secret randomness of a run: one nonce; coins and noise follow from it under the run's identity (docs/privacy.md)."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import NoReturn

from dp_train.errors import PrivacyError

_BYTES = 32
_SEAL = object()
_USED: set[bytes] = set()
"""Digests of the fresh nonces that a run of this process has begun with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """Keys of one run's randomness, all derived from its nonce and its identity.

    Attributes:
      sampling: of coins, and of dropout. noise: of the noise. public_name: what the run may be called in public: the
        identity under the nonce, so that no reader can test a guess at the units that went into it.
    """

    sampling: bytes = field(repr=False)
    noise: bytes = field(repr=False)
    public_name: str


class Seeds:
    """The nonce of one run. Only `fresh` and `fixed_for_test` make one; it cannot be copied, pickled or read.

    Guarantee: the streams of two runs whose identities differ are independent, also under one fixed seed. Equal
    streams mean equal runs: the same plan, units, start weights and method, and so the same release twice.

    The nonce goes into the private checkpoint and nowhere else, and is dropped from it when the run has finished.
    """

    __slots__ = ("_nonce", "fixed")

    def __init__(self, nonce: bytes = b"", *, fixed: bool = False, seal: object = None) -> None:
        if seal is not _SEAL:
            raise PrivacyError(
                "seeds: made by hand; expected Seeds.fresh(), whose nonce nobody knows, or Seeds.fixed_for_test(number)"
            )
        object.__setattr__(self, "_nonce", nonce)
        object.__setattr__(self, "fixed", fixed)

    fixed: bool
    """Whether someone chose the seed: the ε then holds only while it is secret."""
    _nonce: bytes

    @classmethod
    def fresh(cls) -> Seeds:
        """Draw a nonce from the operating system: the only seeds under which ε may be claimed as it is. For one run."""
        return cls(secrets.token_bytes(_BYTES), seal=_SEAL)

    @classmethod
    def fixed_for_test(cls, number: int) -> Seeds:
        """Repeat runs, for tests and papers. The run is marked: its ε holds only while the number is secret."""
        digest = hashlib.blake2b(str(number).encode(), person=b"fixed seed", digest_size=_BYTES).digest()
        return cls(digest, fixed=True, seal=_SEAL)

    def streams(self, identity: str) -> Streams:
        """Derive the keys of the run that has this identity."""

        def derive(purpose: bytes, size: int = _BYTES) -> bytes:
            return hashlib.blake2b(identity.encode(), key=self._nonce, person=purpose, digest_size=size).digest()

        return Streams(sampling=derive(b"sampling"), noise=derive(b"noise"), public_name=derive(b"name", 16).hex())

    def use(self) -> None:
        """Spend a fresh nonce on a run that is about to draw its first coin.

        Raises:
          PrivacyError: a run of this process began with it before.
        """
        if self.fixed:
            return
        digest = hashlib.blake2b(self._nonce, person=b"used").digest()
        if digest in _USED:
            raise PrivacyError(
                "seeds: a run began with these before; expected Seeds of its own for each run; call Seeds.fresh() "
                "again, or leave seeds out"
            )
        _USED.add(digest)

    def for_checkpoint(self) -> list[str | bool]:
        """Return what `from_checkpoint` reads; as secret as the data."""
        return [self._nonce.hex(), self.fixed]

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("Seeds cannot be changed")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise PrivacyError("seeds: cannot be copied or pickled; expected Seeds of its own for each run")

    def __repr__(self) -> str:
        return f"Seeds(fixed={self.fixed})"  # never the nonce


def from_checkpoint(values: list[str | bool]) -> Seeds:
    """Read the seeds of a run that goes on; for `training.checkpoint` alone."""
    nonce, fixed = values
    return Seeds(bytes.fromhex(str(nonce)), fixed=bool(fixed), seal=_SEAL)
