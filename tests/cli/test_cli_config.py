"""What a configuration may say, and how it is told that it may not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_runs import Run

from dp_train.cli.load_config import compose, without_hydra
from dp_train.cli.plan import make_plan
from dp_train.errors import ConfigError
from dp_train.runs.config_paths import options
from dp_train.runs.folder import plain, read_config
from dp_train.runs.names import PrivacyMode, StartMode
from dp_train.runs.prepare import model_spec

BAD = {
    "privacy.epsilonn=1": "unknown key; did you mean privacy.epsilon?",
    "epsilon=3": "epsilon=3: unknown key; did you mean privacy.epsilon?",
    "learning_rate=1": "did you mean start.learning_rate or optimizer.learning_rate?",
    "modell=tiny": "unknown key; did you mean model?",
    "consent.material_versions={notice: 2}": "expected a new entry as +consent.material_versions.NAME=VALUE",
    "+surprise=1": "surprise: unknown key",
    "privacy.epsilon=abc": "privacy.epsilon=abc; expected a number or null",
    "trainer.steps=1.5": "trainer.steps=1.5; expected a whole number",
    "trainer.steps=null": "expected a whole number",
    "privacy.unit=PERSON": "expected one of user, example",
    "tradeoff.epsilons=[1,x]": "expected a list, each of it a number",
    "model=tinny": "model=tinny does not exist; did you mean tiny?",
    "experiments=summary/quick": "did you mean summary/quickstart?",
    "privacy.epsilon=1,2": "add -m to run one trial a value",
    "trainer.steps=${nowhere}": "expected the name of a key",
    "~model": "model is missing; choose model=pretrained|small|smollm2|tiny",
    "privacy.epsilon=-1": "privacy.epsilon=-1.0; expected a number > 0",
    "privacy.epsilon=inf": "privacy=none for no privacy",
    "privacy.epsilon=null": "give one, or privacy=none",
    "privacy.noise_multiplier=1": "set one of them to null",
    "privacy.delta=0.5": "privacy.delta=0.5; expected δ in",
    "privacy.delta=1e-12": "expected δ in",
    "privacy.clip_norm=0": "expected a norm > 0",
    "trainer.population=10": "at least trainer.expected_units=64",
    "trainer.sample_rate=0.1": "exactly one of trainer.sample_rate and trainer.population",
    "model.width=127": "a multiple of 2 × model.heads",
    "corpus=jsonl": "give corpus.private=PATH",
    "corpus.private=x.jsonl": "choose corpus=jsonl",
    "consent.as_of=yesterday": "a time with an offset",
    "optimizer.momentum=0.9": "0 with optimizer=adamw",
}


@pytest.mark.parametrize("word", BAD)
def test_a_bad_value_is_one_line_that_names_it_and_what_to_do(word: str, folder: Path, cli: Run) -> None:
    ended = cli("train", word)
    assert ended.code == ConfigError.exit_code
    assert ended.err.count("\n") == 1
    assert ended.err.startswith("config: ")
    assert BAD[word] in ended.err
    assert list(folder.iterdir()) == []


def test_a_bad_experiment_file_is_named(folder: Path, cli: Run) -> None:
    experiments = folder / "experiments"
    experiments.mkdir()
    texts = {
        "typo": "# @package _global_\nprivacy:\n  epsilonn: 3\n",
        "kind": "# @package _global_\nprivacy:\n  epsilon: much\n",
        "yaml": "# @package _global_\nprivacy: [\n",
    }
    for name, text in texts.items():
        (experiments / f"{name}.yaml").write_text(text)
        ended = cli("plan", f"experiments={name}")
        assert ended.code == ConfigError.exit_code
        assert ended.err.count("\n") == 1
        assert f"{name}.yaml" in ended.err


@pytest.mark.parametrize("experiment", options("experiments"))
def test_every_shipped_experiment_composes_and_has_a_plan_and_a_hypothesis(experiment: str) -> None:
    config, _ = compose([f"experiments={experiment}"])
    assert config.question
    assert config.hypothesis
    assert make_plan(config).private
    if config.model.source == "scratch":  # another's weights need not be on this machine
        assert model_spec(config).positions >= config.task.max_length


@pytest.mark.parametrize(
    "part",
    [f"{group}={name}" for group in ("model", "start", "engine", "optimizer", "tracking") for name in options(group)],
)
def test_every_part_composes(part: str) -> None:
    compose([part, "model.path=somewhere"] if part == "model=pretrained" else [part])


@pytest.mark.parametrize(
    ("words", "mode"),
    [
        (["model=smollm2"], StartMode.NONE),
        (["model=pretrained", "model.path=somewhere"], StartMode.NONE),
        (["model=smollm2", "start=public"], StartMode.PUBLIC),
        (["model=tiny"], StartMode.PUBLIC),
    ],
)
def test_a_pretrained_model_is_a_start_already(words: list[str], mode: StartMode) -> None:
    assert compose(words)[0].start.mode is mode


def test_experiments_of_the_working_folder_come_before_the_shipped_ones(folder: Path) -> None:
    own = folder / "experiments" / "summary" / "quickstart.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("# @package _global_\nquestion: mine\n")
    assert compose(["experiments=summary/quickstart"])[0].question == "mine"
    assert options("experiments")["summary/quickstart"] == own


def test_parts_of_the_working_folder_do_not_shadow_those_of_the_tool(folder: Path) -> None:
    (folder / "model").mkdir()
    (folder / "model" / "tiny.yaml").write_text("architecture: DECODER\nlayers: 9\nwidth: 8\nheads: 1\n")
    (folder / "model" / "mine.yaml").write_text("architecture: DECODER\nlayers: 3\nwidth: 8\nheads: 1\n")
    assert compose(["model=tiny"])[0].model.layers == 2
    assert compose(["model=mine"])[0].model.layers == 3


def test_a_stored_configuration_comes_back_equal_and_takes_values_alone(folder: Path, finished: Path) -> None:
    stored = read_config(finished / "config.yaml")
    config, tree = compose([], stored=stored)
    assert plain(without_hydra(compose([], stored=stored)[1])) == plain(without_hydra(tree))
    assert config.model.width == 16
    assert compose(["privacy.epsilon=3"], stored=stored)[0].privacy.epsilon == 3
    assert compose(["privacy.epsilon=null", "privacy.mode=NONE"], stored=stored)[0].privacy.mode is PrivacyMode.NONE
    with pytest.raises(ConfigError, match="picks a part"):
        compose(["model=tiny_seq2seq"], stored=stored)


def test_a_stored_configuration_is_held_to_the_schema(folder: Path, finished: Path) -> None:
    changed = folder / "config.yaml"
    changed.write_text((finished / "config.yaml").read_text().replace("clip_norm:", "clipp_norm:"))
    with pytest.raises(ConfigError, match="unknown key"):
        compose([], stored=read_config(changed))


def test_plan_says_what_will_be_spent_and_spends_nothing(folder: Path, cli: Run) -> None:
    ended = cli("plan", "privacy.delta=1e-3", "privacy.epsilon=2")
    assert ended.code == 0
    assert "2.00 per person, at δ=0.001" in ended.out
    assert "warning: privacy.delta=0.001 is not below 1 ÷ trainer.population" in ended.out
    assert list(folder.iterdir()) == []


def test_plan_tells_kept_share_and_noise_for_each_bound(folder: Path, cli: Run) -> None:
    words = ("corpus.people=300", "trainer.steps=5", "privacy.max_contributions=3", "--picture", "bounds.png")
    ended = cli("plan", "--json", *words)
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)["choices"]
    assert [choice["max_contributions"] for choice in found] == [1, 2, 3, 4, 8]
    for name in ("examples_kept_share", "people_kept_share", "noise_multiplier"):
        values = [choice[name] for choice in found]
        assert values == sorted(values)
    assert found[0]["kept_share_by_owners"]["2"] > found[0]["kept_share_by_owners"]["4"]
    assert found[2]["noise_multiplier"] == json.loads(ended.out)["noise_multiplier"]
    assert (folder / "bounds.png").read_bytes().startswith(b"\x89PNG")


def test_bounds_above_one_are_compared_although_their_noise_is_not_correlated(folder: Path, cli: Run) -> None:
    words = ("experiments=summary/quickstart", "corpus.people=300", "trainer.steps=5")
    found = json.loads(cli("plan", "--json", *words).out)["choices"]
    assert [choice["max_contributions"] for choice in found] == [1, 2, 4, 8]
    assert (
        "bands=4 with max_contributions=2; expected one of them"
        in cli("plan", *words, "privacy.max_contributions=2").err
    )


def test_plan_of_people_who_own_their_rows_alone_has_nothing_to_choose(folder: Path, cli: Run) -> None:
    words = ("experiments=compose/quickstart", "corpus.people=60", "trainer.steps=5")
    (choice,) = json.loads(cli("plan", "--json", *words).out)["choices"]
    assert choice["max_contributions"] == 1
    assert choice["share_of_possible"] is None


def test_an_experiment_file_can_ask_for_a_sweep(folder: Path, cli: Run) -> None:
    (folder / "experiments").mkdir()
    (folder / "experiments" / "grid.yaml").write_text(
        "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      privacy.epsilon: 1,4\n"
    )
    ended = cli("train", "experiments=grid", "dry_run=true")
    assert ended.code == 0
    assert "the plan of the first trial" in ended.out
