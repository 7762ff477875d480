"""How many processes and threads a run is: one process, until several of them can be one run with one ε."""

from __future__ import annotations

import os

from dp_train.errors import ConfigError

_WORLD = {
    "WORLD_SIZE": "torchrun or accelerate",
    "SLURM_NTASKS": "Slurm",
    "OMPI_COMM_WORLD_SIZE": "Open MPI",
    "PMI_SIZE": "MPI",
}


def refuse_several_processes() -> None:
    """Raise if this process was started as one of several.

    Each would be a run of its own that charges and claims its own ε on the same people.

    Raises:
      ConfigError: the launcher's environment says so.
    """
    for name, launcher in _WORLD.items():
        count = os.environ.get(name, "1")
        if count.isdigit() and int(count) > 1:
            raise ConfigError(
                f"{launcher}: {name}={count} processes; expected one, for each would spend an ε of its own on the same "
                f"people; start dp-train without it, or with {name}=1"
            )
