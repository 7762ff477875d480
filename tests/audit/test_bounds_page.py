"""The snippets of docs/bounds.md run as they stand."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from letters import LetterModel, LetterTask, trainer_of

from dp_train import audit
from dp_train.privacy.plan import PrivacyPlan
from dp_train.training.optimizers import sgd

PAGE = Path(__file__).parents[2] / "docs" / "bounds.md"
WHITE_BOX, FROM_SCORES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
PLAN = PrivacyPlan(sample_rate=0.25, expected_units=100, steps=4, delta=1e-5, noise_multiplier=1.0)


def test_a_white_box_bound_is_said_beside_its_claim(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Fewer canaries than the page's default: the page is under test here, not the power of the attack.
    monkeypatch.setattr(audit, "white_box", partial(audit.white_box, canaries=400))
    trainer = trainer_of(LetterModel(), LetterTask(), PLAN, optimizer=sgd(lr=0.1))
    exec(WHITE_BOX, {"trainer": trainer, "units": None, "plan": PLAN})
    epsilon, confidence, verdict = capsys.readouterr().out.split(maxsplit=2)
    assert 0 <= float(epsilon) <= PLAN.epsilon()
    assert float(confidence) == 0.95
    assert "consistent" in verdict


def test_bounds_follow_from_scores_of_another_trainer() -> None:
    random = np.random.default_rng(0)
    included = random.integers(0, 2, 400).astype(bool)
    names = {"scores": random.normal(size=400) + included, "included": included, "plan": PLAN}
    exec(
        FROM_SCORES.replace("steinke(scores", "first = steinke(scores").replace("f_dp(scores", "second = f_dp(scores"),
        names,
    )
    assert names["first"].epsilon >= 0
    assert names["second"].epsilon >= 0
