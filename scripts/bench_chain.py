"""What a start pays to verify the consent chain: the whole walk, the first start, and one after it. CPU seconds.

    python scripts/bench_chain.py --events 250000

The events are those of bench_consent.py, five a person, in a SQLite store of the moment with a chain key.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from bench_consent import _START, KEY, RULES, write_events_file

from dp_train.consent.imports import import_events
from dp_train.consent.store import ConsentStore
from dp_train.store.chain_key import key_path, open_key
from dp_train.store.database import Database


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=25_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        events = Path(folder) / "events.parquet"
        write_events_file(events, options.events // 5, options.events)
        database = Database(f"sqlite:///{folder}/dp_train.db")
        open_key(key_path(database.url))
        store = ConsentStore(database)
        import_events(store, events, key=KEY)

        def snapshot() -> object:
            return store.snapshot(as_of=_START + timedelta(days=500), rules=RULES, key=KEY)

        phases: list[tuple[str, Callable[[], object]]] = [
            ("whole walk", store.verify),
            ("first start", store.check),
            ("later start", store.check),
            ("later snapshot", snapshot),
        ]
        for name, call in phases:
            busy = time.process_time()
            call()
            print(f"{options.events:,} events, {name}: {time.process_time() - busy:.2f} CPU s", flush=True)
        database.close()


if __name__ == "__main__":
    main()
