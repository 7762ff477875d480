from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dp_train.engines.correlated_noise import CorrelatedNoise
from dp_train.engines.noise import SeededNoise
from dp_train.privacy.correlation import strategy, strategy_coefficients

SEED = bytes(range(32))
STEPS = 12


def rows(noise: SeededNoise | CorrelatedNoise, steps: range = range(STEPS), *, std: float = 2.0) -> Tensor:
    """(steps, 30) float64, noise of one tensor."""
    found = []
    for step in steps:
        tensor = torch.zeros(5, 6)
        noise.add(tensor, std, step=step, index=3)
        found.append(tensor.flatten().double())
    return torch.stack(found)


def correlated(bands: int) -> CorrelatedNoise:
    return CorrelatedNoise(SeededNoise(SEED), bands=bands, steps=STEPS)


@pytest.mark.parametrize("bands", [1, 2, 5, 12])
def test_the_strategy_times_the_noise_is_the_independent_noise(bands: int) -> None:
    """The release is C⁻¹(CG + Z), so what protects is Z itself."""
    matrix = torch.from_numpy(strategy(strategy_coefficients(bands), STEPS))
    torch.testing.assert_close(matrix @ rows(correlated(bands)), rows(SeededNoise(SEED)), rtol=0, atol=1e-5)


def test_noise_of_a_step_is_the_same_after_a_resume() -> None:
    noise = correlated(4)
    whole = rows(noise)
    assert torch.equal(rows(correlated(4), range(7, STEPS)), whole[7:])
    assert torch.equal(rows(noise, range(5, 6)), whole[5:6])  # and after going back


def test_tensors_do_not_share_their_past() -> None:
    noise, alone = correlated(3), correlated(3)
    for step in range(4):
        first, second, expected = torch.zeros(8), torch.zeros(9), torch.zeros(8)
        noise.add(first, 1.0, step=step, index=0)
        noise.add(second, 1.0, step=step, index=1)
        alone.add(expected, 1.0, step=step, index=0)
        assert torch.equal(first, expected)


def test_no_noise_asked_is_no_noise() -> None:
    assert not rows(correlated(3), std=0.0).any()
