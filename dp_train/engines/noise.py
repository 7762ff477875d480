"""Gaussian noise: seeded, so that a run can resume; or from the operating system's CSPRNG."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dp_train.engines.parts import BLOCK, Part
from dp_train.errors import PrivacyError

_SERIAL = 1 << 14
"""Elements that torch adds without threads of its own; more than that are shared out here, between blocks."""

_MIN_SEED_BYTES = 16


class NoiseKind(Enum):
    """Where a run's noise comes from.

    SEEDED: from a secret seed, so that a resumed run draws it again. SECURE: from the operating system's CSPRNG.
    """

    SEEDED = "seeded"
    SECURE = "secure"


class NoiseSource(Protocol):
    """Where the noise of a release comes from."""

    def add(self, tensor: Tensor, std: float, *, step: int, index: int, block: int = 0) -> None:
        """Add N(0, std²) to every element of a contiguous float32 tensor, in place.

        Called from several threads at a time, for different tensors or parts of one.

        Args:
          tensor: any shape, any device; the whole tensor, or a flat part of it that begins and ends between blocks.
          std: standard deviation, ≥ 0; at 0 the tensor stays as it is.
          step: the step of the release, ≥ 0.
          index: position of the tensor among the trainable parameters, the same in every run of a model.
          block: number of the part's first block in the tensor (`engines.parts`).
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

    def add(self, tensor: Tensor, std: float, *, step: int, index: int, block: int = 0) -> None:
        def draw(out: npt.NDArray[np.float32], further: int) -> None:
            message = b"".join(number.to_bytes(8, "big") for number in (step, index, block + further))
            digest = hashlib.blake2b(message, key=self._key, person=b"noise", digest_size=16).digest()
            generator = np.random.Generator(np.random.Philox(key=np.frombuffer(digest, dtype=np.uint64)))
            generator.standard_normal(out=out, dtype=np.float32)

        _add_in_blocks(tensor, std, draw)

    def __repr__(self) -> str:
        return "SeededNoise()"  # never the seed


class SecureNoise:
    """Noise from the operating system's CSPRNG: no seed exists, so none can leak, and no run can be repeated.

    Box–Muller in float64 over `os.urandom`, rounded to float32. About three times slower than
    `SeededNoise`. `step`, `index` and `block` do not matter: every call is fresh. It does not harden the run
    against floating-point attacks either, as the sums that it hides are float32.
    """

    def add(self, tensor: Tensor, std: float, *, step: int, index: int, block: int = 0) -> None:
        _add_in_blocks(tensor, std, _secure_normal)


def add_in_parts(
    noise: NoiseSource, tensors: Sequence[Tensor], parts: Iterable[Part], std: float, *, step: int
) -> None:
    """Add the noise of a step to the parts of its tensors, on as many threads as torch has.

    A large tensor is made by all threads together: numpy draws without Python's lock, and every block has a stream of
    its own, so that neither their number nor their order changes a bit.
    """
    pieces = sorted((piece for part in parts for piece in part.pieces()), key=lambda piece: -piece.elements)

    def add(piece: Part) -> None:
        noise.add(piece.of(tensors), std, step=step, index=piece.index, block=piece.block)

    with ThreadPoolExecutor(max_workers=torch.get_num_threads()) as threads:
        for _ in threads.map(add, pieces):
            pass  # an error in a thread is raised here


def _secure_normal(out: npt.NDArray[np.float32], further: int) -> None:
    pairs = (out.size + 1) // 2
    bits = np.frombuffer(os.urandom(16 * pairs), dtype=np.uint64).reshape(2, pairs)
    uniform = ((bits >> np.uint64(11)).astype(np.float64) + 1.0) * 2.0**-53  # (0, 1]: the logarithm is finite
    radius = np.sqrt(-2.0 * np.log(uniform[0]))
    angle = 2.0 * np.pi * uniform[1]
    out[:pairs] = radius * np.cos(angle)
    out[pairs:] = (radius * np.sin(angle))[: out.size - pairs]


class _Draw(Protocol):
    def __call__(self, out: npt.NDArray[np.float32], further: int) -> None: ...


def _add_in_blocks(tensor: Tensor, std: float, draw: _Draw) -> None:
    if tensor.dtype != torch.float32 or not tensor.is_contiguous():
        raise PrivacyError(f"noise: tensor is {tensor.dtype}; expected contiguous float32, as the sums are kept")
    if std == 0:
        return
    for further, piece in enumerate(torch.split(tensor.detach().view(-1), BLOCK)):
        # A fresh buffer for each block: an asynchronous copy to a device may still be reading the last one.
        buffer = np.empty(piece.numel(), dtype=np.float32)
        draw(buffer, further)
        drawn = torch.from_numpy(buffer)
        if piece.device.type == "cpu":
            for to, values in zip(torch.split(piece, _SERIAL), torch.split(drawn, _SERIAL), strict=True):
                to.add_(values, alpha=std)
        else:
            piece.add_(drawn.to(piece.device), alpha=std)
