from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

pytest.register_assert_rewrite("engine_contract")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny products gain nothing from threads, and float sums then have one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """An engine's class says which models and clippings its contract runs on."""
    for argument, among in (("kind", "kinds"), ("typical", "typical"), ("clipping", "clippings")):
        if argument in metafunc.fixturenames and hasattr(metafunc.cls, among):
            metafunc.parametrize(argument, getattr(metafunc.cls, among))
