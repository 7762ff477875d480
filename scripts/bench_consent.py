"""The consent store at scale: import, snapshot and gate, each in a process of its own: time and peak memory.

    python scripts/bench_consent.py --people 1000000 --events 5000000 --conversations 1000000
    python scripts/bench_consent.py --url postgresql://postgres@127.0.0.1:5432/empty

People belong to organisations of a hundred. Each granted under the notice in force; the further events of a person
withdraw and grant in turn, and every tenth person ends with a withdrawal. Conversations are chat threads of three
people and six messages, made on the fly; `only made` is the time that this takes by itself.

The file of events (parquet) is made first, and is not part of any figure. The store has to be empty.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dp_train.consent.events import Purpose
from dp_train.consent.gate import ConsentPolicy, gate
from dp_train.consent.imports import import_events
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.registry import ConsentRules
from dp_train.consent.store import ConsentStore
from dp_train.conversations import ContentKind, Conversation, ConversationKind, Turn
from dp_train.store.database import Database, absolute_url

KEY = PrincipalKey(b"the key of a benchmark, not a secret")
RULES = ConsentRules(material_versions={"features": 2})
PHASES = ("import", "snapshot", "only made", "gate compose", "gate summary")
_START = datetime(2024, 1, 1, tzinfo=UTC)
_COMPANY = 100
_PLACES = ("DE", "FR", "IE", "GB", "US-CA", "US-NY", "JP", "PT")
_TEXT = "the build of the second release went out late and we should look at the notes before we meet again"
_WORDS = _TEXT.split()
_TEXTS = [" ".join((_WORDS * 2)[start : start + 12]) for start in range(len(_WORDS))]


class Threads:
    """Conversations of three colleagues each."""

    name = "threads"

    def __init__(self, count: int, people: int) -> None:
        self._count = count
        self._people = people

    def conversations(self) -> Iterator[Conversation]:
        for number in range(self._count):
            company = number * 7 % max(1, self._people // _COMPANY)
            three = [company * _COMPANY + (number * 13 + step * 29) % _COMPANY for step in range(3)]
            ids = [f"person-{index}" for index in three]
            turns = tuple(
                Turn(
                    person_id=ids[turn % 3],
                    text=_TEXTS[(number + turn * 5) % len(_TEXTS)],
                    kind=ContentKind.CHAT,
                )
                for turn in range(6)
            )
            yield Conversation(
                conversation_id=f"thread-{number}",
                org_id=f"company-{company}",
                created_at=_START + timedelta(days=400),
                kind=ConversationKind.THREAD,
                turns=turns,
                roster={one: f"Given{index % 997} Family{index % 9973}" for one, index in zip(ids, three, strict=True)},
            )


def write_events_file(path: Path, people: int, events: int) -> None:
    """The file of events, a hundred thousand rows at a time."""
    import pyarrow as pa
    from pyarrow import parquet

    writer = None
    for start in range(0, events, 100_000):
        table = pa.Table.from_pylist([_row(n, people, events) for n in range(start, min(start + 100_000, events))])
        writer = writer or parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    companies = [_row(-1 - company, people, events) for company in range(-(-people // _COMPANY))]
    assert writer is not None
    writer.write_table(pa.Table.from_pylist(companies, schema=table.schema))
    writer.close()


def _row(number: int, people: int, events: int) -> dict[str, Any]:
    person, turn = number % people, number // people
    last = (events - 1 - person) // people
    grants = (last - turn) % 2 == (1 if person % 10 == 0 else 0)
    when = (_START + timedelta(hours=10 * turn, seconds=person % 3600)).isoformat()
    row = {
        "record_id": f"record-{number}",
        "person_id": f"person-{person}",
        "org_id": f"company-{person // _COMPANY}",
        "entity_role": "self",
        "purpose": ["train_chat_compose", "train_meeting_summary"],
        "content_kind": ["chat", "transcript"],
        "event_state": "RenewedConsentGiven" if grants else "ConsentWithdrawn",
        "collection_method": "form",
        "event_time": when,
        "recorded_time": when,
        "notice_id": "features",
        "notice_version": 2,
        "jurisdiction": _PLACES[person % len(_PLACES)],
        "age_band": "adult",
        "lawful_basis": "consent",
    }
    if number >= 0:
        return row
    company = {"person_id": None, "org_id": f"company-{-1 - number}", "entity_role": "org_admin"}
    return {**row, **company, "event_state": "ConsentGiven", "age_band": "unknown"}


def phase(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Do one thing; what it took."""
    database = Database(options.url)
    store = ConsentStore(database)
    found: dict[str, Any] = {"phase": name}
    started, busy = time.perf_counter(), time.process_time()
    if name == "import":
        done = import_events(store, options.file, key=KEY)
        found |= {"rows": done.rows, "set aside": done.set_aside}
    elif name == "only made":
        found["rows"] = sum(1 for _ in Threads(options.conversations, options.people).conversations())
    else:
        frozen = store.snapshot(as_of=_START + timedelta(days=500), rules=RULES, key=KEY)
        found |= {"root": frozen.root[:12], "snapshot seconds": round(time.perf_counter() - started, 1)}
        if name != "snapshot":
            found["snapshot cpu seconds"] = round(time.process_time() - busy, 1)
            started, busy = time.perf_counter(), time.process_time()
            purpose = Purpose.TRAIN_CHAT_COMPOSE if name == "gate compose" else Purpose.TRAIN_MEETING_SUMMARY
            threads = Threads(options.conversations, options.people)
            report = gate(threads, frozen, ConsentPolicy(purpose=purpose)).report
            found |= {"rows": report.conversations_seen, "kept": report.conversations_kept}
    found["seconds"] = round(time.perf_counter() - started, 1)
    found["cpu seconds"] = round(time.process_time() - busy, 1)  # of this process; a loaded machine does not add to it
    found["peak MiB"] = _peak() // 1024
    database.close()
    return found


def _peak() -> int:
    """KiB of this process alone: getrusage tells a parent's where that was larger."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise SystemExit("bench_consent: /proc/self/status has no VmHWM; run it on Linux")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=50_000)
    parser.add_argument("--events", type=int, default=250_000)
    parser.add_argument("--conversations", type=int, default=50_000)
    parser.add_argument("--url", help="an empty store (a SQLite file of the moment)")
    parser.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.phase:
        print(json.dumps(phase(options.phase, options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        options.file = str(Path(folder) / "events.parquet")
        options.url = absolute_url(options.url or "sqlite:///store.db", Path(folder))
        started = time.perf_counter()
        write_events_file(Path(options.file), options.people, options.events)
        print(f"file of events: {time.perf_counter() - started:.0f} s", flush=True)
        numbers = [
            f"--{name}={getattr(options, name)}" for name in ("people", "events", "conversations", "url", "file")
        ]
        for name in PHASES:
            done = subprocess.run(
                [sys.executable, __file__, *numbers, f"--phase={name}"], check=True, capture_output=True, text=True
            )
            print(done.stdout.strip(), flush=True)


if __name__ == "__main__":
    main()
