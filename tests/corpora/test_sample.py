"""The sample that ships is what its command writes, and its consent fits its conversations."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from dp_train.consent.decisions import Reason
from dp_train.consent.event_json import read_events
from dp_train.consent.events import Purpose
from dp_train.consent.gate import ConsentPolicy, gate
from dp_train.consent.principals import PrincipalKey
from dp_train.consent.registry import ConsentRegistry
from dp_train.conversations import ConversationKind
from dp_train.corpora.readers import read_jsonl
from dp_train.corpora.sample import CONSENT, CONVERSATIONS, KEY, sample_key, write_sample
from dp_train.corpora.synthetic import HISTORY_END, RULES
from dp_train.errors import DataError


def test_the_command_writes_what_ships(tmp_path: Path) -> None:
    new = tmp_path / "not" / "there"
    command = [sys.executable, "-m", "dp_train.corpora.sample", str(new)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(path.name for path in new.iterdir()) == sorted(one.name for one in (CONVERSATIONS, CONSENT, KEY))
    for shipped in (CONVERSATIONS, CONSENT, KEY):
        assert (new / shipped.name).read_bytes() == shipped.read_bytes()
    assert stat.S_IMODE((new / KEY.name).stat().st_mode) == 0o600
    assert PrincipalKey.load(new / KEY.name).secret == sample_key().secret


def test_the_sample_is_small_and_of_both_kinds() -> None:
    kinds = Counter(conversation.kind for conversation in read_jsonl(CONVERSATIONS).conversations())
    assert kinds == {ConversationKind.MEETING: 5, ConversationKind.THREAD: 5}


def test_consent_of_the_sample_keeps_some_and_denies_some() -> None:
    registry = ConsentRegistry(read_events(CONSENT), rules=RULES, key=sample_key())
    snapshot = registry.snapshot(as_of=HISTORY_END)
    corpus = read_jsonl(CONVERSATIONS)
    denials: Counter[Reason] = Counter()
    for purpose in (Purpose.TRAIN_MEETING_SUMMARY, Purpose.TRAIN_CHAT_COMPOSE):
        report = gate(corpus, snapshot, ConsentPolicy(purpose=purpose)).report
        assert 0 < report.conversations_kept < report.conversations_seen
        denials.update(report.denials)
    assert {Reason.GUEST, Reason.ORGANISATION_DENIES, Reason.WITHDRAWN, Reason.OLD_NOTICE} <= set(denials)


def test_a_new_folder_is_made(tmp_path: Path) -> None:
    write_sample(tmp_path / "a/b")
    assert len(list((tmp_path / "a/b").iterdir())) == 3


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/no: Not a directory; choose a folder that can be made"):
        write_sample(tmp_path / "file/no")
