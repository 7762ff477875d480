"""What a study's baselines gave, on the cards of its runs: no private score stands without them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from dp_train.atomic import write_text
from dp_train.errors import TrackingError
from dp_train.tracking.card import Document, card_markdown

COMPARED = "compared with"


def compared_card(card: Document, baselines: Mapping[str, str]) -> Document:
    """The card with a section behind its scores, in place of an earlier one.

    Args:
      baselines: what each baseline gave, and what speaks against it.
    """
    document = {}
    for title, section in card.items():
        if title != COMPARED:
            document[title] = section
        if title == "scores":
            document[COMPARED] = dict(baselines)
    return document


def write_compared(folder: Path, baselines: Mapping[str, str]) -> tuple[Path, Path]:
    """Write the section into card.json and card.md of a run's folder; returns both.

    Raises:
      TrackingError: the card is not there or cannot be read, or the folder cannot be written.
    """
    path = folder / "card.json"
    try:
        document = compared_card(json.loads(path.read_text(encoding="utf-8")), baselines)
        write_text(path, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        write_text(folder / "card.md", card_markdown(document))
    except (OSError, ValueError, KeyError) as error:
        raise TrackingError(f"card: {path} cannot be read or written; expected the card of a finished run") from error
    return path, folder / "card.md"


__all__ = ["COMPARED", "compared_card", "write_compared"]
