"""The same score vectors through JAX-Privacy's auditing functions; skipped where it is not installed."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from dp_train.audit import Claim, f_dp, steinke
from dp_train.audit.bounds import guess
from dp_train.privacy.plan import PrivacyPlan


@pytest.fixture(scope="module")
def auditing() -> Any:
    pytest.importorskip("jax_privacy", reason="not installed: pip install jax-privacy, in an environment of its own")
    return importlib.import_module("jax_privacy.auditing")


@pytest.mark.parametrize("guesses", [100, 400])
@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.0])
def test_bounds_are_those_of_jax_privacy(auditing: Any, sigma: float, guesses: int) -> None:
    random = np.random.default_rng(guesses)
    included = random.random(2000) < 0.5
    scores = included - 0.5 + sigma * random.standard_normal(2000)
    chosen, guessed = guess(scores, guesses, centre=0.0)
    counted = 0.0, 2000, guesses, int((guessed == included[chosen]).sum()), 0.05, 1e-5
    ours = steinke(scores, included, delta=1e-5, guesses=guesses, centre=0.0)
    assert ours.epsilon == pytest.approx(auditing._epsilon_one_run(*counted), abs=1e-3)
    plan = PrivacyPlan(sample_rate=1.0, expected_units=1, steps=1, delta=1e-5, noise_multiplier=sigma)
    theirs = auditing._epsilon_one_run_fdp(*counted)
    # Ours is rounded down to a member of the family, 3 % apart, over a discretised loss.
    ours = f_dp(scores, included, claim=Claim.of(plan), guesses=guesses, centre=0.0)
    assert 0.95 * theirs < ours.epsilon < 1.005 * theirs
