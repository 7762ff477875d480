"""What survives a kill: weights, optimizer, step, seeds and what really ran, written all or nothing.

A checkpoint folder is as private as the data: it holds the secret seeds and realised batch sizes.
It is created with mode 0700 and never sent to a tracker. When the run has finished, the seeds and
the optimizer state are dropped and the weights stay.
"""

from __future__ import annotations

import io
import shutil
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dp_train.atomic import sweep, whole_folder
from dp_train.errors import CheckpointError
from dp_train.training.seeds import Seeds, from_checkpoint

_FORMAT = 2
_STATE = "state.pt"


@dataclass(frozen=True, kw_only=True)
class TrainState:
    """Everything the loop needs to go on as if nothing had happened.

    `seeds`, `optimizer`, `average` and `scaling` are None once the run is `finished`: `model` is then the average.
    `identity` are the parts of `training.identity` (private: they hold a digest of the units, and are compared, never
    shown); `name` is what the run is called in public. `before` are the phases of the model's weights that earlier
    runs trained, as `training.phases` writes them; `start_marks` name the tensors that the run began with, and
    `known_start` says whether someone knows where they came from; `tried`, whether the self-check passed; `history`
    holds the public values of each step.
    """

    step: int
    identity: dict[str, str]
    name: str
    model: dict[str, Tensor]
    optimizer: dict[str, Any] | None
    monitor: dict[str, Any]
    seeds: Seeds | None
    seconds: float
    finished: bool = False
    average: dict[str, Any] | None = None
    scaling: dict[str, Any] | None = None
    seed_is_fixed: bool = False
    before: list[dict[str, str | None]] = field(default_factory=list)
    start_marks: list[str] = field(default_factory=list)
    known_start: bool = False
    tried: bool = False
    history: list[tuple[Any, ...]] = field(default_factory=list)


class CheckpointFolder:
    """A folder with the newest state of one run; `step-000120/` appears by one rename."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def save(self, state: TrainState) -> Path:
        """Write `state` beside the old one, make it durable, rename, then drop older ones.

        Raises:
          CheckpointError: the folder cannot be written (full disk, no permission); the older state stays.
        """
        final = self.path / f"step-{state.step:08d}{'-final' if state.finished else ''}"
        if final.is_dir():  # a step has one state: it was written when the step ended
            return final
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            sweep(self.path)  # parts hold the secret seeds, too
            with whole_folder(final, mode=0o700) as part:
                torch.save(_to_plain(state), part / _STATE)
        except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
            reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            raise CheckpointError(
                f"checkpoint: step {state.step} cannot be written to {self.path} ({reason}); "
                "free space or choose another folder, then resume"
            ) from error
        for other in self._states():
            if other != final:
                shutil.rmtree(other, ignore_errors=True)
        return final

    def load(self) -> TrainState | None:
        """The newest whole state, or None in a folder that holds none."""
        states = self._states()
        if not states:
            return None
        try:
            plain = torch.load(states[-1] / _STATE, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged archive surfaces as one of many types
            raise CheckpointError(
                f"checkpoint: {states[-1]} cannot be read ({type(error).__name__}); restore it from a backup, or "
                "start a new run: what this one reserved stays spent"
            ) from error
        if plain.get("format") != _FORMAT:
            raise CheckpointError(
                f"checkpoint: {states[-1]} has format {plain.get('format')}; expected {_FORMAT}; resume it with the "
                "version that wrote it"
            )
        return _from_plain(plain)

    def _states(self) -> list[Path]:
        if not self.path.is_dir():
            return []
        return sorted(path for path in self.path.glob("step-*") if (path / _STATE).is_file())


def to_bytes(state: TrainState) -> bytes:
    """Return the state as another process of the same run takes it; as secret as the data."""
    held = io.BytesIO()
    torch.save(_to_plain(state), held)
    return held.getvalue()


def from_bytes(data: bytes) -> TrainState:
    """Read what `to_bytes` wrote."""
    return _from_plain(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))


def _to_plain(state: TrainState) -> dict[str, Any]:
    values = {one.name: getattr(state, one.name) for one in fields(state)}
    seeds = None if state.seeds is None else state.seeds.for_checkpoint()
    return {"format": _FORMAT, **values, "seeds": seeds}


def _from_plain(plain: dict[str, Any]) -> TrainState:
    values = {name: value for name, value in plain.items() if name != "format"}
    if values["seeds"] is not None:
        values["seeds"] = from_checkpoint(values["seeds"])
    return TrainState(**values)
