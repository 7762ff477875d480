"""Where a run came from: tolerant where there is no git, silent about secrets."""

import subprocess
from pathlib import Path

import pytest

from dp_train.tracking import provenance
from dp_train.tracking.provenance import git_state, public_config, public_overrides, versions


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that holds a package, whose provenance is asked for."""
    package = tmp_path / "dp_train"
    package.mkdir()
    (package / "errors.py").write_text("A = 1\n")
    (tmp_path / "people.jsonl").write_text("{}\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    monkeypatch.setattr(provenance, "_PACKAGE_FOLDER", package)
    return tmp_path


def test_a_clean_commit_is_clean(project: Path) -> None:
    state = git_state()
    assert state is not None
    assert (len(state.commit), state.dirty, state.diff, state.diff_digest) == (40, False, "", None)


def test_the_diff_holds_the_packages_code_and_no_data(project: Path) -> None:
    (project / "dp_train" / "errors.py").write_text("A = 2\n")
    (project / "people.jsonl").write_text('{"name": "Zora Quist"}\n')
    state = git_state()
    assert state is not None
    assert state.dirty
    assert "+A = 2" in state.diff
    assert "Zora" not in state.diff
    assert state.diff_digest is not None


def test_an_installed_package_gives_the_project_around_and_no_diff(
    project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "_PACKAGE_FOLDER", tmp_path_factory.mktemp("site-packages"))
    (project / "dp_train" / "errors.py").write_text("A = 2\n")
    state = git_state(project)
    assert state is not None
    assert (state.dirty, state.diff) == (True, "")


def test_without_a_repository_or_without_git_there_is_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_PACKAGE_FOLDER", tmp_path)
    assert git_state(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path) is None


def test_versions_name_what_decides_a_run_and_skip_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_PACKAGES", ("numpy", "no-such-package"))
    assert set(versions()) == {"python", "numpy"}


def test_a_configuration_loses_its_seed_alone() -> None:
    config = {"trainer": {"seed": 7, "steps": 3}, "corpus": {"seed": 5}, "tradeoff": {"epsilons": [1.0]}}
    public = public_config(config)
    assert public == {"trainer": {"seed": None, "steps": 3}, "corpus": {"seed": 5}, "tradeoff": {"epsilons": [1.0]}}
    assert config["trainer"]["seed"] == 7


@pytest.mark.parametrize(
    "override",
    [
        "trainer.seed=7",
        "+trainer.seed=7",
        "++trainer.seed=7",
        "trainer.seed=1,2,3",
        "trainer={steps: 3, seed: 7}",
        "hydra.sweeper.params={trainer.seed: '7,8'}",
        "+hydra.sweeper.params.trainer.seed=7,8",
        "hydra.sweeper.params.'trainer.seed'=7",
        "+hydra.sweeper.params={'trainer':\n {'seed': 7}}",
    ],
)
def test_overrides_of_the_seed_are_left_out(override: str) -> None:
    assert public_overrides([override, "privacy.epsilon=8"]) == ["privacy.epsilon=8"]


@pytest.mark.parametrize("override", ["corpus.seed=5", "trainer=long", "experiments=summary/three_seeds", "~tradeoff"])
def test_other_overrides_stay(override: str) -> None:
    assert public_overrides([override]) == [override]
