"""`dp-train report`: the privacy card of a run, and whether the ledger alone gives every figure of it."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import yaml

from dp_train.cli.show import console
from dp_train.errors import ConfigError, PrivacyError
from dp_train.runs.folder import RunFolder


def run(options: Namespace) -> int:
    """Print the card: for people, as JSON, or as an entry of the OpenDP deployments registry.

    Raises:
      ConfigError: the run has no card, or is in no ledger.
      PrivacyError: a figure of the card does not follow from the ledger.
    """
    folder = RunFolder.find(options.run)
    card = folder.read_json("card.json")
    if not card:
        raise ConfigError(f"run {folder.path}: has no card yet; finish it with dp-train train --resume {folder.path}")
    if options.verify:
        return _verify(folder, card, options.store)
    if options.json:
        print(json.dumps(card, indent=2, ensure_ascii=False))
    elif options.opendp:
        from dp_train.tracking.deployment import deployment_yaml

        print(deployment_yaml(card), end="")
    else:
        from rich.markdown import Markdown

        from dp_train.tracking.card import card_markdown

        out, text = console(), card_markdown(card)
        out.print(Markdown(text) if out.is_terminal else text, markup=False)
    return 0


def _verify(folder: RunFolder, card: dict[str, Any], url: str | None) -> int:
    from dp_train.privacy.ledger.ledger import Ledger
    from dp_train.store.database import absolute_url, shown
    from dp_train.tracking.recompute import differences

    if isinstance(card["ledger"], str):
        raise ConfigError(f"run {folder.path}: is in no ledger, so there is nothing to derive its card from")
    stored = yaml.safe_load(folder.config.read_text()).get("store", {}).get("url")
    address = absolute_url(url or stored, Path.cwd())
    ledger = Ledger.peek(address)
    if ledger is None:
        raise ConfigError(f"report: {shown(address)} does not exist; name the store of the ledger with --store")
    book = ledger.book(until=card["ledger"]["head"])
    if card["ledger"]["reservation"] not in book.lines:
        raise PrivacyError(f"report: the ledger holds no reservation {card['ledger']['reservation']} before that head")
    for found in differences(card, book):
        raise PrivacyError(
            f"report: {found.figure}: the card says {found.on_card}, the ledger gives {found.derived}; "
            "do not rely on this card"
        )
    console().print(
        f"verified: every figure of the card follows from row {book.rows} and those before it ({shown(address)})"
    )
    return 0
