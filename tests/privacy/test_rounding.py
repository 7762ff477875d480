"""An ε is written one way wherever it stands: what is spent never below its value, what is left never above."""

from __future__ import annotations

import ast
import doctest
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp_train.privacy import rounding
from dp_train.privacy.monitor import EpsilonClaim
from dp_train.privacy.relations import Unit
from dp_train.privacy.rounding import rounded_down, rounded_up

PACKAGE = Path(rounding.__file__).parents[1]
_UPPER_BOUND = re.compile(r"ε ?= ?$")
_OWN_ROUNDING = re.compile(r"\.\d+[efg]?$")
_A_CHECK = ("cli/env.py",)
"""Figures beside a tolerance, which are no one's ε."""


def _roundings_of_their_own(source: str) -> list[int]:
    """Lines where a figure behind "ε=" is cut to digits by a format, which rounds to the nearest."""
    found = []
    for text in ast.walk(ast.parse(source)):
        if not isinstance(text, ast.JoinedStr):
            continue
        before = ""
        for part in text.values:
            if isinstance(part, ast.Constant):
                before = str(part.value)
                continue
            cut = part.format_spec if isinstance(part, ast.FormattedValue) else None
            if cut is not None and _UPPER_BOUND.search(before) and _OWN_ROUNDING.search(ast.unparse(cut).strip("f'\"")):
                found.append(part.lineno)
            before = ""
    return found


def test_no_line_rounds_an_epsilon_by_itself() -> None:
    assert _roundings_of_their_own('f"spent ε={left:.3g} of ε={budget:g}"') == [1]
    found = {
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in PACKAGE.rglob("*.py")
        if str(path.relative_to(PACKAGE)) not in _A_CHECK
        for line in _roundings_of_their_own(path.read_text())
    }
    assert found == set()


@given(st.floats(1e-6, 1e4))
def test_the_claim_writes_an_epsilon_as_tables_do_and_never_below_it(epsilon: float) -> None:
    claim = EpsilonClaim(private=True, withheld=(), spent=epsilon, delta=1e-6, unit=Unit.USER, steps=1)
    assert claim.describe().startswith(f"ε={rounded_up(epsilon)},")
    assert float(rounded_up(epsilon)) >= epsilon * (1 - 1e-11)


@given(st.floats(-10, 1e3))
def test_what_is_left_is_never_written_above_what_there_is(left: float) -> None:
    assert 0 <= float(rounded_down(left)) <= max(left, 0)


def test_the_examples_of_the_file_hold() -> None:
    assert doctest.testmod(rounding).failed == 0


@pytest.mark.parametrize("written", [rounded_up(12.345), rounded_up(12.3401)])
def test_twelve_point_345_is_12_35_everywhere(written: str) -> None:
    assert written == "12.35"
