"""README, docs and CHANGELOG name files, headings, verbs, options and keys that exist."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from dp_train.cli.verbs import GROUPS, VERBS
from dp_train.runs.field_docs import field_docs
from dp_train.runs.registers import GROUPS as OPEN

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
KEYS = [doc.key for doc in field_docs()]
PARTS = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()} | {"experiments"}
PAIRS = ("--code", "--column", "--constant")
"""Options whose value is a pair of another kind than key=value."""
FENCE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def commands(page: Path) -> list[list[str]]:
    """Return the words of every `dp-train …` command of a page, in fences and in code spans."""
    text = page.read_text()
    fenced = [
        line.lstrip("$ ")
        for kind, body in FENCE.findall(text)
        if kind in ("console", "bash")
        for line in body.splitlines()
    ]
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", FENCE.sub("", text))]
    found = []
    for line in [*fenced, *spans]:
        for one in re.split(r"&&|;", line):
            one = one.split(" #")[0].strip()
            if re.match(r"dp-train\s+\S", one):
                found.append(shlex.split(one.replace("\\|", "|").replace("…", ""))[1:])
    return found


WORDS = [(page, words) for page in PAGES for words in commands(page)]


def named(value: object) -> str:
    return value.name if isinstance(value, Path) else " ".join(value) if isinstance(value, list) else str(value)


def verb_of(words: list[str]) -> tuple[str, list[str]]:
    if words[0] in GROUPS:
        return " ".join(words[:2]), words[2:]
    return words[0], words[1:]


def is_key(key: str) -> bool:
    """Return whether a configuration takes a key: a field, a part, an own option or one of Hydra's."""
    key = key.lstrip("+~")
    if key in KEYS or key in PARTS or key.startswith("hydra."):
        return True
    part, _, rest = key.partition(".")
    if rest.startswith("options.") and part in OPEN:
        return True
    patterns = [re.escape(known).replace("NAME", r"[\w-]+") for known in KEYS if ".NAME" in known]
    return any(re.fullmatch(pattern, key) for pattern in patterns)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_relative_link_leads_to_a_file_or_a_heading(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        file, _, heading = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{page.name}: {link}"
        if heading:
            headings = re.findall(r"^#+ (.*)$", FENCE.sub("", target.read_text()), re.MULTILINE)
            assert heading in {anchor(one) for one in headings}, f"{page.name}: {link}"


@pytest.mark.parametrize(("page", "words"), WORDS, ids=named)
def test_every_command_has_a_verb_options_and_keys_that_exist(page: Path, words: list[str]) -> None:
    if words[0].startswith("-") or words == ["<verb>"] or words[0] == "<verb>":
        return
    verb, rest = verb_of(words)
    alternatives = [verb]
    if "|" in verb or rest[:1] == ["|"]:  # `consent key|schema`, `ledger show | verify`
        group = words[0]
        alternatives = [f"{group} {one}" for word in words[1:] for one in word.split("|") if one]
        rest = []
    for one in alternatives:
        assert one in VERBS or one in GROUPS, f"{page.name}: dp-train {one}"
    if verb not in VERBS:
        return
    parser = argparse.ArgumentParser()
    VERBS[verb].options(parser)
    options = {option for action in parser._actions for option in action.option_strings}
    for word in rest:
        if word.startswith("-"):
            assert word.partition("=")[0] in {*options, "--debug"}, f"{page.name}: dp-train {verb} {word}"
        elif re.match(r"[+~]*[a-z_][\w.-]*=", word) and rest[max(0, rest.index(word) - 1)] not in PAIRS:
            key = word.partition("=")[0]
            assert key == "key" or is_key(key), f"{page.name}: dp-train {verb} {word}"


def test_every_verb_stands_in_the_docs() -> None:
    shown = {verb_of(words)[0] for _, words in WORDS}
    assert not set(VERBS) - shown


@pytest.mark.parametrize("page", ["configuration", "api"])
def test_a_written_page_is_what_its_script_writes(page: str) -> None:
    path = ROOT / "scripts" / f"write_{page}.py"
    spec = importlib.util.spec_from_file_location(f"write_{page}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    again = f"python scripts/write_{page}.py"
    assert (ROOT / "docs" / f"{page}.md").read_text() == getattr(module, page)(), f"run {again}"


def test_every_page_of_the_docs_is_in_their_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index


NAMED = [
    (page, name, page.parent / target)
    for page in PAGES
    for name, target in re.findall(r"\[`(\w+)`\]\(([^)#\s]+\.py)\)", page.read_text())
]


def test_pages_name_functions() -> None:
    assert len(NAMED) >= 6


@pytest.mark.parametrize(("page", "name", "file"), NAMED, ids=named)
def test_a_link_that_names_a_function_leads_to_the_file_that_defines_it(page: Path, name: str, file: Path) -> None:
    body = ast.parse(file.read_text()).body
    defined = {getattr(node, "name", None) for node in body}
    defined |= {
        to.id for node in body if isinstance(node, ast.Assign) for to in node.targets if isinstance(to, ast.Name)
    }
    assert name in defined, f"{page.name}: {file} does not define {name}"
