"""`--cfg` and `--info` of every verb that composes a configuration: what it is, and where it comes from."""

from __future__ import annotations

from argparse import Namespace

from dp_train.cli.load_config import show, stored_by


def run(options: Namespace) -> int:
    """Print it, by Hydra's own means; nothing is read, checked or begun."""
    show(options.overrides, stored=stored_by(options), cfg=options.cfg, resolve=options.resolve, info=options.info)
    return 0
