"""All that can fail is told before anything is reserved, by `train` and by `validate` alike, in one line."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from small_runs import SMALL, Run
from transformers import PreTrainedModel

from dp_train.corpora.sample import write_sample
from dp_train.engines import cross_check
from dp_train.models.tokenizer import train_tokenizer
from dp_train.runs import checks
from dp_train.training.trainer import Trainer

QUIET = (*SMALL, "tracking=off")
FILES = (
    *QUIET,
    "corpus=jsonl",
    "corpus.private=mine/conversations.jsonl",
    "consent.events=mine/consent.jsonl",
    "consent.key=mine/principals.key",
)


@pytest.fixture
def sample(folder: Path) -> Path:
    write_sample("mine")
    return folder / "mine"


def refused(cli: Run, code: int, *told: str, words: tuple[str, ...]) -> None:
    """Hold that both verbs refuse by the same line, and that nothing was reserved and no run begun."""
    lines = []
    for verb in ("validate", "train"):
        ended = cli(verb, *words)
        assert ended.code == code, ended.err
        assert ended.err.count("\n") == 1
        lines.append(ended.err)
        assert not Path("dp_train.db").exists()
        assert not list(Path().glob("runs/*/*/config.yaml"))
    assert lines[0] == lines[1]
    for words_ in told:
        assert words_ in lines[0]


def without(lines: Path, keep: Callable[[dict[str, object]], bool]) -> None:
    rows = [line for line in lines.read_text().splitlines() if keep(json.loads(line))]
    lines.write_text("".join(f"{row}\n" for row in rows))


def test_what_validates_trains(sample: Path, cli: Run) -> None:
    for verb in ("validate", "train"):
        ended = cli(verb, *FILES)
        assert ended.code == 0, ended.err
        assert "parameters are trained" in ended.out


def test_consent_of_other_people_is_told_by_its_filter(sample: Path, cli: Run) -> None:
    without(sample / "consent.jsonl", lambda row: False)
    told = ("corpus.private: no conversation passes the gate, most often for: no_record", "consent events")
    refused(cli, 3, *told[:1], words=FILES)


@pytest.mark.parametrize("role", ["private", "public", "evaluation"])
def test_a_population_without_an_example_of_the_task_is_told(role: str, sample: Path, cli: Run) -> None:
    shutil.copy(sample / "conversations.jsonl", sample / "meetings.jsonl")
    without(sample / "meetings.jsonl", lambda row: row["kind"] == "meeting")
    # Consent to publication is rare in the sample: who is in these files agrees to all.
    words = (*FILES, f"corpus.{role}=mine/meetings.jsonl")
    ended = cli("validate", *words)
    assert ended.code == 3
    assert f"corpus.{role}: " in ended.err
    assert "no example of task=chat_compose" in ended.err or "passes the gate" in ended.err
    refused(cli, 3, f"corpus.{role}: ", words=words)


def test_an_empty_file_is_told(sample: Path, cli: Run) -> None:
    (sample / "conversations.jsonl").write_text("")
    refused(cli, 3, "corpus.private: holds no conversation", words=FILES)


def test_a_key_that_others_can_read_is_told_before_conversations_are_read(sample: Path, cli: Run) -> None:
    (sample / "principals.key").chmod(0o644)
    (sample / "conversations.jsonl").write_text("not json")
    refused(cli, 4, "mode 644; expected 600", words=FILES)


@pytest.mark.parametrize("name", ["WORLD_SIZE", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "FLUX_JOB_SIZE"])
@pytest.mark.parametrize("words", [["train"], ["train", "-m", "privacy.epsilon=2,8"], ["tradeoff"]])
def test_several_processes_are_not_several_runs(
    words: list[str], name: str, folder: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "2")
    ended = cli(*words, *QUIET)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert f"{name}=2 processes; expected one" in ended.err
    assert not (folder / "dp_train.db").exists()
    assert not list(folder.glob("*/*/*/study.json"))


def test_adapters_of_a_model_that_is_made_here_are_not_left_alone(folder: Path, cli: Run) -> None:
    refused(
        cli, 2, "model.export=adapter; expected merged", words=(*QUIET, "model.trainable=LORA", "model.export=ADAPTER")
    )


def gpt2(folder: Path, *, tokenizer: bool = True, broken: bool = False) -> tuple[str, ...]:
    config = transformers.GPT2Config(vocab_size=400, n_positions=64, n_embd=16, n_layer=1, n_head=2, eos_token_id=0)
    model = transformers.GPT2LMHeadModel(config)
    if broken:
        with torch.no_grad():
            model.transformer.ln_f.weight.fill_(float("nan"))
    model.save_pretrained(folder / "m")
    if tokenizer:
        train_tokenizer(["we ship the report on friday"] * 4, vocab_size=320).save_pretrained(folder / "m")
    return (*QUIET, "model=pretrained", "model.path=./m")


def test_a_model_without_a_tokenizer_is_told(folder: Path, cli: Run) -> None:
    refused(cli, 6, "the folder holds no tokenizer; expected tokenizer.json", words=gpt2(folder, tokenizer=False))


def test_a_model_that_gives_no_number_is_told(folder: Path, cli: Run) -> None:
    refused(cli, 6, "a row of text has a loss of nan", words=gpt2(folder, broken=True))


def test_an_export_that_would_be_another_model_is_told(folder: Path, cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (*gpt2(folder), "model.trainable=LORA")

    def another(model: PreTrainedModel) -> PreTrainedModel:
        torch.manual_seed(0)
        return transformers.GPT2LMHeadModel(model.config)

    monkeypatch.setattr("dp_train.models.export.merged", another)
    refused(cli, 6, "gives other logits than as it is trained", words=words)


def test_a_full_disk_is_told(folder: Path, cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: usage(1, 1, 1000))
    refused(cli, 7, "free where the run is to lie", words=QUIET)


def test_too_little_memory_to_score_is_told(folder: Path, cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_free_memory", lambda recipe: 1000)
    refused(cli, 6, "memory: scoring takes about", words=QUIET)


def test_accountants_that_disagree_are_told(folder: Path, cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_check, "opinions", lambda plan: {"pld": 1.0, "rdp": 0.5})
    refused(cli, 5, "RDP, an upper bound, lies below PLD", words=QUIET)


def test_no_accountant_is_asked_after_the_first_step(folder: Path, cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Trainer.fit

    def fit(*arguments: object, **named: object) -> object:
        def late(*_: object, **__: object) -> float:
            raise MemoryError

        monkeypatch.setattr(cross_check.PRVAccountant, "get_epsilon", late)
        cross_check.accounting.cross_check = late  # type: ignore[assignment]
        return real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(cross_check.accounting, "cross_check", cross_check.accounting.cross_check)
    monkeypatch.setattr(Trainer, "fit", fit)
    assert cli("train", *QUIET, "start=none", "trainer.steps=4").code == 0


@pytest.mark.parametrize(("epsilon", "told"), [("0.001", "leaves next to nothing"), ("100", "bounds hardly anything")])
def test_an_epsilon_that_is_seldom_meant_is_warned_of(epsilon: str, told: str, folder: Path, cli: Run) -> None:
    ended = cli("train", *QUIET, f"privacy.epsilon={epsilon}", "dry_run=true")
    assert ended.code == 0
    assert told in " ".join(ended.out.split())
    assert "warning: ε" not in cli("train", *QUIET, "dry_run=true").out
