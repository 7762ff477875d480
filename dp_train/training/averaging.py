"""An exponential moving average of the weights: noise that each step added averages out, and no ε is spent.

Reference: for private training De et al. 2022, arXiv 2204.13650, §3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dp_train.errors import ConfigError


class WeightAverage:
    """Average of what the trainable parameters were after each step, newer steps weighing more.

    A step weighs `decay` times as much as the one after it, and the weights of all steps sum to one: the starting
    point is not among them. Post-processing of what was released, so the guarantee of the run covers it.

    Args:
      parameters: those that are trained.
      decay: in (0, 1).

    Raises:
      ConfigError: a decay out of range.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, decay: float) -> None:
        if not 0 < decay < 1:
            raise ConfigError(f"average: decay={decay:g}; expected a value in (0, 1), such as 0.9")
        self._parameters = tuple(parameters)
        self._decay = decay
        self._steps = 0
        self._averages = [parameter.detach().clone() for parameter in self._parameters]

    @torch.no_grad()
    def take(self) -> None:
        """Take up the parameters as they are after a step."""
        self._steps += 1
        weight = (1 - self._decay) / (1 - self._decay**self._steps)
        for average, parameter in zip(self._averages, self._parameters, strict=True):
            average.lerp_(parameter, weight)

    @torch.no_grad()
    def write(self) -> None:
        """Put the average into the model, for good. Before the first step it is the starting point."""
        for average, parameter in zip(self._averages, self._parameters, strict=True):
            parameter.copy_(average)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The model holds the average inside, and what it held before outside."""
        held = [parameter.detach().clone() for parameter in self._parameters]
        self.write()
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, values in zip(self._parameters, held, strict=True):
                    parameter.copy_(values)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self._steps, "averages": self._averages}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        self._steps = int(state["steps"])
        loaded: list[Tensor] = state["averages"]
        for average, values in zip(self._averages, loaded, strict=True):
            average.copy_(values)
