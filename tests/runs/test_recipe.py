"""The words of a configuration: each is explained and read in any case; no third member becomes the second."""

from __future__ import annotations

import dataclasses
import inspect
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import yaml

from dp_train.cli.hydra_source import code_words
from dp_train.cli.load_config import compose
from dp_train.engines.spec import EngineName
from dp_train.errors import ConfigError
from dp_train.expect import shown
from dp_train.runs.config_paths import conf_folder
from dp_train.runs.field_docs import FieldDoc, field_docs
from dp_train.runs.registers import GROUPS
from dp_train.tasks.spec import TASKS

DOCS = list(field_docs())
ENUMS = [doc for doc in DOCS if isinstance(doc.kind, type) and issubclass(doc.kind, Enum)]


@pytest.mark.parametrize("doc", DOCS, ids=lambda doc: doc.key)
def test_every_key_is_explained_in_a_sentence(doc: FieldDoc) -> None:
    assert doc.text.endswith((".", ")")), doc.key
    assert len(doc.text) >= 10


def test_every_part_of_a_recipe_is_walked() -> None:
    keys = {doc.key for doc in DOCS}
    assert {"privacy.epsilon", "model.lora.rank", "corpus.chat.language", "ledger"} <= keys
    assert "consent.jurisdictions.NAME.deny.purposes" in keys
    assert len(DOCS) > 147


@pytest.mark.parametrize(("doc", "upper"), [(doc, upper) for doc in ENUMS for upper in (False, True)], ids=str)
def test_an_enum_is_read_in_lower_and_in_upper_case(doc: FieldDoc, upper: bool) -> None:
    needs = {"model.trainable": (), "privacy.mode": ("privacy=none",), "tracking.name": ()}.get(doc.key, ())
    kind: Any = doc.kind
    member = list(kind)[-1]
    word = member.name if upper else member.name.lower()
    recipe, _ = compose([*needs, f"{doc.key}={word}"])
    found: Any = recipe
    for part in doc.key.split("."):
        found = getattr(found, part)
    assert found is member


def test_bf16_is_short_for_bfloat16() -> None:
    assert compose(["trainer.precision=bf16"])[0].trainer.precision.value == "bfloat16"


def words(values: object) -> list[str]:
    """Every text of a tree that has no space in it."""
    if isinstance(values, dict):
        return [word for value in values.values() for word in words(value)]
    if isinstance(values, list):
        return [word for value in values for word in words(value)]
    return [values] if isinstance(values, str) and values.isidentifier() else []


def test_files_of_parts_are_written_in_lower_case() -> None:
    for path in [*conf_folder().rglob("*.yaml"), *(Path(conf_folder()).parent / "experiments").rglob("*.yaml")]:
        for word in words(yaml.safe_load(path.read_text())):
            assert word == word.lower() or word == "MULTIRUN", f"{path.name}: {word}"  # MULTIRUN is Hydra's own


@pytest.mark.parametrize("group", GROUPS)
def test_every_built_in_name_leads_to_a_member_with_fields_that_the_configuration_has(group: str) -> None:
    chosen = GROUPS[group]
    keys = {field.name for field in dataclasses.fields(chosen.part)}
    for name in chosen.register.names():
        found = chosen.register.find(name)
        if dataclasses.is_dataclass(found):
            further = {field.name: field.default for field in dataclasses.fields(found) if field.name not in keys}
            if further:  # what one member alone takes
                options = [f"++{group}.options.{field}={shown(value)}" for field, value in further.items()]
                required = ["corpus.private=anywhere"] if group == "corpus" else []
                assert getattr(compose([f"{group}={name}", *required, *options])[0], group).options == further


@pytest.mark.parametrize("group", GROUPS)
def test_an_unknown_name_is_refused_with_all_there_are(group: str) -> None:
    chosen = GROUPS[group]
    first = chosen.register.names()[0]
    with pytest.raises(ConfigError, match=f"{group}={first}x does not exist; did you mean {first}"):
        compose([f"{group}.{chosen.key}={first}x"])


@pytest.mark.parametrize("name", [name for name in EngineName if name is not EngineName.NON_PRIVATE])
def test_every_engine_of_this_package_can_be_chosen(name: EngineName) -> None:
    assert compose([f"engine.name={name.value}"])[0].engine.engine() is name


def test_a_task_may_train_for_a_purpose_that_people_are_asked_for_alone(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    source = Path(__file__).parents[2] / "examples" / "own_task.py"
    text = source.read_text().replace("Purpose.TRAIN_CHAT_COMPOSE", "Purpose.PUBLISH")
    (tmp_path / "published_task.py").write_text(text)
    with pytest.raises(ConfigError, match="expected one of TRAIN_MEETING_SUMMARY, TRAIN_CHAT_COMPOSE"):
        compose(["task=published_task:Reply"])


def test_code_of_another_name_is_never_taken_for_a_file_of_the_working_folder(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "json.py").write_text("class Task: ...\n")
    with pytest.raises(ConfigError, match="another module is called json"):
        compose(["task=json:Task"])
    with pytest.raises(ConfigError, match="no such file"):
        compose(["task=os.path:join"])
    with pytest.raises(ConfigError, match="no such file"):
        compose(["task=../elsewhere:Task"])


def test_what_is_no_task_is_refused_by_what_it_lacks(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "half_a_task.py").write_text("class Half:\n    purpose = None\n")
    with pytest.raises(ConfigError, match=r"task=half_a_task:Half: has no metric; expected a class with purpose"):
        compose(["task=half_a_task:Half"])
    with pytest.raises(ConfigError, match=r"cannot be imported \(AttributeError"):
        compose(["task=half_a_task:Other"])
    (tmp_path / "private_words.py").write_text("raise ValueError('what somebody wrote')\n")
    with pytest.raises(ConfigError) as found:
        compose(["task=private_words:Task"])
    assert "wrote" not in str(found.value)


def test_units_that_code_of_ones_own_tokenised_are_not_read_by_other_code(tmp_path: Path, monkeypatch: Any) -> None:
    assert TASKS.code("chat_compose") is None
    monkeypatch.chdir(tmp_path)
    source = Path(__file__).parents[2] / "examples" / "own_task.py"
    (tmp_path / "digested_task.py").write_text(source.read_text())
    TASKS.admit("digested_task:Reply")
    before = TASKS.code("digested_task:Reply")
    assert before is not None
    (tmp_path / "digested_task.py").write_text(source.read_text() + "# changed\n")
    assert TASKS.code("digested_task:Reply") != before


def test_a_recipe_is_never_dispatched_on_by_a_chain_that_ends_in_else() -> None:
    """What chose by `if … else` now asks a register: the rooms above know no member by name."""
    from dp_train.runs import populations, prepare

    for module in (prepare, populations):
        text = inspect.getsource(module)
        for name in ("MeetingSummary", "ChatCompose", "Gitter", "CRD3", "sgd(", '"adamw"'):
            assert name not in text, f"{module.__name__}: {name}"


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("task=a:A", ["task=a:A"]),
        ("task='a:A'", ["task=a:A"]),
        ("task=a:A,chat_compose,b:B", ["task=a:A", "task=b:B"]),
        ("+optimizer=choice(a:A,sgd)", ["optimizer=a:A"]),
        ("task.name=a:A", []),
        ("question=a:A", []),
        ("task=[", []),
    ],
)
def test_the_command_line_alone_says_which_code_may_be_chosen(word: str, found: list[str]) -> None:
    assert code_words([word]) == found


def test_nothing_changes_a_recipe_once_it_is_made() -> None:
    recipe, _ = compose([])
    parts: list[Any] = [recipe]
    for part in parts:
        values = [getattr(part, field.name) for field in dataclasses.fields(part)]
        parts += [value for value in values if dataclasses.is_dataclass(value)]
        for field in dataclasses.fields(part):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(part, field.name, None)
            with pytest.raises(dataclasses.FrozenInstanceError):
                delattr(part, field.name)
    assert len(parts) >= 14
    changed = dataclasses.replace(recipe.evaluation, examples=3)
    assert (changed.examples, recipe.evaluation.examples) != (3, 3)
