"""What a table of tokenised units takes: messages streamed through the real gate onto disk, then steps drawn from it.

    python scripts/bench_units.py                       # 100,000 messages
    python scripts/bench_units.py --messages 10000000   # the target: ≤ 2 GiB of resident memory

Tokenising is stood in for by eight arithmetic ids a word, as its price is the tokenizer's. `hit` is a second start
that finds the table: it reads the messages through the gate again, and tokenises nothing.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from dp_train.consent.events import AgeBand, ConsentEvent, EntityRole, EventState, Purpose
from dp_train.consent.gate import ConsentedExamples, ConsentPolicy, gate
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.registry import ConsentRegistry
from dp_train.conversations import ContentKind, Conversation, ConversationKind, Example, Turn
from dp_train.privacy.plan import Unit
from dp_train.privacy.sampling import PoissonSampler
from dp_train.privacy.tables import UnitTables
from dp_train.privacy.units import Units, build_units
from dp_train.tasks.base import Row
from dp_train.tasks.examples import messages_of_author

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = PrincipalKey(b"k" * 32)
PURPOSE = Purpose.TRAIN_CHAT_COMPOSE
WORDS = 8


@dataclass(frozen=True)
class Chat:
    """Threads of ten messages of one person each; `people` take turns."""

    messages: int
    people: int
    name: str = "chat"

    def conversations(self) -> Iterator[Conversation]:
        for thread in range(self.messages // 10):
            person = f"u{thread % self.people:07d}"
            yield Conversation(
                conversation_id=f"t{thread:08d}",
                org_id="org",
                created_at=NOW - timedelta(days=1),
                kind=ConversationKind.THREAD,
                turns=tuple(
                    Turn(
                        person_id=person,
                        text=" ".join(f"w{(thread * 31 + turn * 7 + word) % 9973}" for word in range(WORDS)),
                        kind=ContentKind.CHAT,
                    )
                    for turn in range(10)
                ),
            )


def consent(people: int) -> Iterator[ConsentEvent]:
    for number in range(-1, people):
        yield ConsentEvent(
            record_id=f"r{number}",
            seq=number + 1,
            pii_principal_id=None if number < 0 else KEY.pseudonym(f"u{number:07d}"),
            org_id="org",
            entity_role=EntityRole.ORG_ADMIN if number < 0 else EntityRole.SELF,
            purpose=frozenset({PURPOSE}),
            content_kind=frozenset({ContentKind.CHAT}),
            event_state=EventState.GIVEN,
            event_time=NOW - timedelta(days=30),
            recorded_time=NOW - timedelta(days=30),
            notice_id="notice",
            notice_version=1,
            age_band=AgeBand.ADULT,
        )


def encode(example: Example) -> Row:
    head, tail = (tuple(hash_of(word) for word in text.split()[:64]) for text in (example.prompt, example.target))
    return Row(input_ids=head + tail, labels=(-100,) * len(head) + tail)


def hash_of(word: str) -> int:
    return sum(word.encode()) % 50257


def given(messages: int, people: int) -> ConsentedExamples:
    snapshot = ConsentRegistry(consent(people), key=KEY).snapshot(as_of=NOW)
    corpus = gate(Chat(messages, people), snapshot, ConsentPolicy(purpose=PURPOSE))
    return corpus.examples(lambda conversation: messages_of_author(conversation, context_turns=1))


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--messages", type=int, default=100_000)
    options.add_argument("--people", type=int, help="default: a tenth of the messages, at most 1,000,000")
    options.add_argument("--rows-per-unit", type=int, default=10)
    options.add_argument("--steps", type=int, default=200)
    options.add_argument("--folder", type=Path, help="where the table goes; default: a temporary one")
    chosen = options.parse_args()
    people = chosen.people or min(1_000_000, max(1, chosen.messages // 10))
    print("phase      rows        s     rows/s   peak MiB")

    def told(phase: str, rows: int, since: float) -> None:
        seconds = time.perf_counter() - since
        print(f"{phase:8} {rows:>10,} {seconds:>8.1f} {rows / seconds:>10,.0f} {peak_mib():>10,.0f}", flush=True)

    def build(folder: Path, examples: ConsentedExamples) -> Units:
        tables = UnitTables(folder, encode=encode, facts={})
        return build_units(examples, unit=Unit.USER, rows_per_unit=chosen.rows_per_unit, tables=tables)

    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        start = time.perf_counter()
        examples = given(chosen.messages, people)
        told("consent", people, start)
        start = time.perf_counter()
        units = build(Path(folder), examples)
        told("build", chosen.messages, start)
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        start, rows = time.perf_counter(), 0
        sampler = PoissonSampler(sample_rate=min(1.0, 256 / len(units)))
        for step in range(chosen.steps):
            rows += sum(len(units.tokens(int(unit), encode)) for unit in sampler.draw(step, len(units), bytes(32)))
        told("draw", rows, start)
        del units
        start = time.perf_counter()
        units = build(Path(folder), examples)
        told("hit", chosen.messages, start)
        start, rows = time.perf_counter(), 0
        for unit in np.random.default_rng(0).permutation(len(units)):
            rows += len(units.tokens(int(unit), encode))
        told("epoch", rows, start)
        print(f"table on disk: {size / 2**20:,.0f} MiB")


if __name__ == "__main__":
    main()
