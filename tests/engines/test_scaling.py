"""Scale, then privatise: factors are public, undo themselves, and mean what their power says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dp_train.engines.scaling import FactoredScaling
from dp_train.errors import ConfigError


def outer(rows: int, columns: int, seed: int = 0) -> Tensor:
    """A second moment that is a product of rows and columns."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, 1, generator=generator).add(0.1) * torch.rand(1, columns, generator=generator).add(0.1)


def parameters() -> tuple[nn.Parameter, nn.Parameter]:
    return nn.Parameter(torch.zeros(5, 4)), nn.Parameter(torch.zeros(7))


@given(power=st.floats(0.0, 1.0))
def test_shrinking_undoes_stretching(power: float) -> None:
    matrix, vector = parameters()
    scaling = FactoredScaling({matrix: outer(5, 4), vector: torch.rand(7).add(0.1)}, power=power)
    for parameter in (matrix, vector):
        gradient = torch.randn(parameter.shape)
        scale = scaling.scales[parameter]
        torch.testing.assert_close(scale.shrink(scale.stretch(gradient)), gradient, rtol=1e-4, atol=1e-6)


def test_half_power_makes_all_coordinates_equally_large() -> None:
    matrix, vector = parameters()
    moments = {matrix: outer(5, 4), vector: outer(7, 1).flatten()}
    scales = FactoredScaling(moments, power=0.5).scales
    after = torch.cat([(moments[p] * scales[p].full().square()).flatten() for p in (matrix, vector)])
    torch.testing.assert_close(after, after.mean().expand_as(after))


@given(power=st.floats(0.0, 1.0))
def test_the_mean_square_norm_stays_so_that_a_clip_norm_means_the_same(power: float) -> None:
    matrix, vector = parameters()
    moments = {matrix: outer(5, 4), vector: outer(7, 1).flatten()}
    scales = FactoredScaling(moments, power=power).scales
    after = sum(float((moments[p] * scales[p].full().square()).sum()) for p in (matrix, vector))
    assert after == pytest.approx(sum(float(moment.sum()) for moment in moments.values()), rel=1e-4)


def test_power_zero_is_no_scaling() -> None:
    matrix, _ = parameters()
    torch.testing.assert_close(
        FactoredScaling({matrix: outer(5, 4)}, power=0.0).scales[matrix].full(), torch.ones(5, 4)
    )


def test_what_public_data_never_touched_is_not_blown_up() -> None:
    matrix, vector = parameters()
    moment = outer(5, 4)
    moment[2] = 0.0
    scales = FactoredScaling({matrix: moment, vector: torch.zeros(7)}, power=0.5).scales
    assert float(scales[matrix].rows.max() / scales[matrix].rows.min()) < 1e3
    assert vector not in scales


def test_factors_follow_released_gradients_and_nothing_else() -> None:
    matrix, _ = parameters()
    scaling = FactoredScaling({matrix: torch.ones(5, 4)}, power=0.5, decay=0.5)
    scaling.observe()  # nothing was released
    torch.testing.assert_close(scaling.scales[matrix].full(), torch.ones(5, 4))
    matrix.grad = torch.ones(5, 4)
    matrix.grad[1] = 9.0
    scaling.observe()
    rows = scaling.scales[matrix].rows
    assert float(rows[1]) < float(rows[0])


def test_factors_from_public_data_alone_never_change() -> None:
    matrix, _ = parameters()
    scaling = FactoredScaling({matrix: outer(5, 4)})
    before = scaling.scales[matrix].full()
    matrix.grad = torch.randn(5, 4)
    scaling.observe()
    assert torch.equal(scaling.scales[matrix].full(), before)


@pytest.mark.parametrize("settings", [{"power": 1.5}, {"power": -0.1}, {"decay": 0.0}, {"decay": 1.1}])
def test_an_impossible_setting_is_refused(settings: dict[str, float]) -> None:
    matrix, _ = parameters()
    with pytest.raises(ConfigError, match="scaling"):
        FactoredScaling({matrix: outer(5, 4)}, **settings)
