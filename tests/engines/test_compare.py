"""experiments/compare: the hand-written loop spends what it says for one message, and more for who has several."""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
import transformers

FOLDER = Path(__file__).parents[2] / "experiments" / "compare"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.mark.filterwarnings("ignore:Secure RNG turned off", "ignore:Full backward hook is", "ignore:Optimal order is")
def test_what_the_script_says_is_true_for_one_message_and_not_for_a_person(tmp_path: Path) -> None:
    config = transformers.GPTNeoXConfig(
        vocab_size=32, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, use_cache=False
    )
    start = transformers.GPTNeoXForCausalLM(config)
    start.save_pretrained(tmp_path / "start")
    rows = [{"input_ids": [1, 2 + n % 7, 3, 4], "labels": [-100, 2 + n % 7, 3, 4]} for n in range(60)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = argparse.Namespace(
        rows=tmp_path / "rows.jsonl",
        start=str(tmp_path / "start"),
        out=str(tmp_path / "out"),
        epsilon=4.0,
        steps=7,
        batch=12,
        learning_rate=1e-2,
        threads=1,
    )
    told = module("opacus_script").train(options)

    trained = transformers.AutoModelForCausalLM.from_pretrained(options.out)
    assert not torch.equal(trained.gpt_neox.embed_in.weight, start.gpt_neox.embed_in.weight)
    assert told["epsilon"] == pytest.approx(4.0, rel=0.02)
    of_a_person = module("compare").of_a_person
    assert of_a_person(told, options, 1) == pytest.approx(told["epsilon"], rel=0.02)
    assert of_a_person(told, options, 5) > 3 * told["epsilon"]


def test_only_lines_that_do_something_are_counted(tmp_path: Path) -> None:
    docstring, comment = '"""What it is.\n\nMore of it.\n"""', "    # because"
    lines = [docstring, "", "import os  # of everybody", "", "def cut(", "    text: str,", ") -> str:"]
    lines += ['    """Why."""', comment, "    return text[:5]", ""]
    (tmp_path / "one.py").write_text("\n".join(lines))
    assert module("compare").lines_of_code(tmp_path / "one.py") == 5
