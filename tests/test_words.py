"""Docstrings and comments of the package are written in plain words: the terms that readers stumbled over stay out."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

import dp_train

PACKAGE = Path(dp_train.__file__).parent

OUT = {
    r"(?<!@)\bsomebody\b": "a person, a user, a caller",
    r"\bheld against\b": "compared with",
    r"\btaken up\b": "read, resumed",
}
"""Patterns, and what to write."""


def prose(text: str) -> str:
    """Return the docstrings and comments of a source text."""
    found = tokenize.generate_tokens(io.StringIO(text).readline)
    return " ".join(
        " ".join(token.string.split())
        for token in found
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and token.string.startswith('"""'))
    )


@pytest.mark.parametrize("pattern", OUT)
def test_prose_of_the_package_keeps_to_plain_words(pattern: str) -> None:
    texts = ((path.relative_to(PACKAGE), prose(path.read_text())) for path in PACKAGE.rglob("*.py"))
    found = [
        f"{path}: …{match[0]}…"
        for path, text in texts
        for match in [re.search(f".{{0,30}}{pattern}", text, re.I)]
        if match
    ]
    assert not found, f"write {OUT[pattern]}: {found}"
