"""The verbs of the ledger say what is missing, and make nothing on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import Run


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("declare", "--epsilon", "3", "--delta", "1e-5"), 2, "there is no principal key"),
        (("show",), 9, "no store here yet"),
        (("verify",), 9, "no store here yet"),
        (("show", "--store", "mysql://x/y"), 9, "is no database"),
    ],
)
def test_a_ledger_of_nobody_is_one_line_and_makes_no_store(
    cli: Run, folder: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    ended = cli("ledger", *words)
    assert ended.code == code
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert not list(folder.iterdir())
