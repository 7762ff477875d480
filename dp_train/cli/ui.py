"""`dp-train ui`: MLflow's UI on the store, opened at utility against ε."""

from __future__ import annotations

import sys
from argparse import Namespace

from dp_train.cli.show import console
from dp_train.tracking.store import TrackingStore
from dp_train.tracking.ui import start_ui

_ITSELF = ("127.0.0.1", "localhost", "::1")


def run(options: Namespace) -> int:
    """Start the UI, print the address of the newest experiment's view, serve until Ctrl-C."""
    out = console()
    store = TrackingStore.open(options.uri)
    if options.host not in _ITSELF:
        print(
            f"ui: whoever reaches {options.host}:{options.port} reads and changes these runs: MLflow asks for no "
            "password",
            file=sys.stderr,
        )
    newest = store.runs(limit=1)
    with start_ui(store, port=options.port, host=options.host) as server:
        address = server.url(store.experiment(newest[0].experiment)) if newest else server.base
        out.print(address, soft_wrap=True, markup=False)
        out.print("Ctrl-C ends it")
        server.wait()
    return 0
