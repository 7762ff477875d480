"""Gaussian noise: seeded, so that a run can resume; or from the operating system's CSPRNG."""

from __future__ import annotations

import hashlib
import os
from enum import Enum
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dp_train.errors import PrivacyError

_CHUNK = 1 << 16  # elements of a block, drawn at a time: noise for a large tensor needs no second tensor
_MIN_SEED_BYTES = 16


class NoiseKind(Enum):
    """Where a run's noise comes from.

    SEEDED: from a secret seed, so that a resumed run draws it again. SECURE: from the operating system's CSPRNG.
    """

    SEEDED = "seeded"
    SECURE = "secure"


class NoiseSource(Protocol):
    """Where the noise of a release comes from."""

    def add(self, tensor: Tensor, std: float, *, step: int, index: int) -> None:
        """Add N(0, std²) to every element of a contiguous float32 tensor, in place.

        Called from several threads at a time, for different tensors.

        Args:
          tensor: any shape, any device.
          std: standard deviation, ≥ 0; at 0 the tensor stays as it is.
          step: the step of the release, ≥ 0.
          index: position of the tensor among the trainable parameters, the same in every run of a model.
        """
        ...


class SeededNoise:
    """Noise as a pure function of (secret seed, step, index, position): resuming needs no state and no replay.

    Each block of 65,536 elements has a Philox stream of its own, keyed with 128 bits of keyed BLAKE2b over (step,
    index, block), so that a tensor cut at blocks over threads or shards gets the noise of the whole. torch's CPU
    generator is not used, as it keeps only 32 bits of a seed. Philox passes statistical tests but is no
    cipher, and float32 samples leave the guarantee open to floating-point attacks (Mironov 2012):
    the noise is as secret as the seed. See `SecureNoise`.

    Args:
      seed: at least 16 secret bytes, `secrets.token_bytes(32)`.
    """

    def __init__(self, seed: bytes) -> None:
        if len(seed) < _MIN_SEED_BYTES:
            raise PrivacyError(f"noise: seed has {len(seed)} bytes; expected {_MIN_SEED_BYTES} or more secret bytes")
        # BLAKE2b takes a key of at most 64 bytes.
        self._key = seed if len(seed) <= 64 else hashlib.blake2b(seed).digest()

    def add(self, tensor: Tensor, std: float, *, step: int, index: int) -> None:
        def draw(out: npt.NDArray[np.float32], block: int) -> None:
            message = b"".join(number.to_bytes(8, "big") for number in (step, index, block))
            digest = hashlib.blake2b(message, key=self._key, person=b"noise", digest_size=16).digest()
            generator = np.random.Generator(np.random.Philox(key=np.frombuffer(digest, dtype=np.uint64)))
            generator.standard_normal(out=out, dtype=np.float32)

        _add_in_chunks(tensor, std, draw)

    def __repr__(self) -> str:
        return "SeededNoise()"  # never the seed


class SecureNoise:
    """Noise from the operating system's CSPRNG: no seed exists, so none can leak, and no run can be repeated.

    Box–Muller in float64 over `os.urandom`, rounded to float32. About three times slower than
    `SeededNoise`. `step` and `index` do not matter: every call is fresh. It does not harden the run
    against floating-point attacks either, as the sums that it hides are float32.
    """

    def add(self, tensor: Tensor, std: float, *, step: int, index: int) -> None:
        _add_in_chunks(tensor, std, _secure_normal)


def _secure_normal(out: npt.NDArray[np.float32], block: int) -> None:
    pairs = (out.size + 1) // 2
    bits = np.frombuffer(os.urandom(16 * pairs), dtype=np.uint64).reshape(2, pairs)
    uniform = ((bits >> np.uint64(11)).astype(np.float64) + 1.0) * 2.0**-53  # (0, 1]: the logarithm is finite
    radius = np.sqrt(-2.0 * np.log(uniform[0]))
    angle = 2.0 * np.pi * uniform[1]
    out[:pairs] = radius * np.cos(angle)
    out[pairs:] = (radius * np.sin(angle))[: out.size - pairs]


class _Draw(Protocol):
    def __call__(self, out: npt.NDArray[np.float32], block: int) -> None: ...


def _add_in_chunks(tensor: Tensor, std: float, draw: _Draw) -> None:
    if tensor.dtype != torch.float32 or not tensor.is_contiguous():
        raise PrivacyError(f"noise: tensor is {tensor.dtype}; expected contiguous float32, as the sums are kept")
    if std == 0:
        return
    flat = tensor.detach().view(-1)
    for start in range(0, flat.numel(), _CHUNK):
        piece = flat[start : start + _CHUNK]
        buffer = np.empty(piece.numel(), dtype=np.float32)
        draw(buffer, start // _CHUNK)
        # A fresh buffer for each chunk: an asynchronous copy to a device may still be reading the last one.
        piece.add_(torch.from_numpy(buffer).to(piece.device), alpha=std)
