"""From overrides such as `a=1,2` to trials, by Hydra's own parser, sweeper, config loader and launchers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import yaml
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from dp_train.cli import study as studies
from dp_train.cli.config_errors import explain
from dp_train.cli.load_config import HYDRA_VERSION, ROOT, check, prepare_hydra
from dp_train.cli.show import ShowRun
from dp_train.errors import ConfigError
from dp_train.runs.config_paths import conf_folder
from dp_train.runs.folder import RunFolder
from dp_train.runs.plan import make_plan
from dp_train.runs.recipe import Recipe

if TYPE_CHECKING:
    from dp_train.runs.result import TrialOf
    from dp_train.runs.study import Study

_SWEEPER = f"{BasicSweeper.__module__}.{BasicSweeper.__qualname__}"
_LAUNCHER = f"{BasicLauncher.__module__}.{BasicLauncher.__qualname__}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """All trials of a sweep, composed: their words, recipes and folders, and the launcher that they agree on."""

    folder: Path
    combinations: Sequence[Sequence[str]]
    recipes: Sequence[Recipe]
    subfolders: Sequence[str]
    keys: frozenset[str]
    master: DictConfig = field(repr=False)

    @property
    def launches_elsewhere(self) -> bool:
        return str(self.master.hydra.launcher["_target_"]) != _LAUNCHER

    def launch(self, study: Study, trial_of: Callable[..., TrialOf]) -> None:
        """Give every trial to the launcher that was chosen, and wait for all of them."""
        known = studies.parent_of(study)
        names = [trial.name for trial in study.trials]
        folders = [study.folder_of(trial).path.absolute() for trial in study.trials]
        ofs = [trial_of(study, known, trial) for trial in study.trials]

        def trial(tree: DictConfig) -> None:
            number = int(HydraConfig.get().job.num)
            _trial(tree, names[number], folders[number], ofs[number])

        loader = GlobalHydra.instance().config_loader()
        context = HydraContext(config_loader=loader, callbacks=Callbacks(self.master))
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=trial, config=self.master
        )
        with _children_end_first():
            launcher.launch([list(words) for words in self.combinations], initial_job_idx=0)


def _trial(tree: DictConfig, name: str, folder: Path, of: TrialOf) -> None:
    """One trial, in whichever process a launcher put it.

    It says its failure and does not raise it: Hydra would print all overrides, a seed among them.
    """
    from dp_train.runs.study import Trial
    from dp_train.runs.trials import Job, one_line, run_trial

    signal.signal(signal.SIGTERM, _leave)
    reporter = ShowRun(None)
    words = tuple(HydraConfig.get().overrides.task)
    try:
        recipe = check(tree)
        trial = Trial(name=name, folder=folder.name, recipe=recipe, plan=make_plan(recipe), overrides=words)
        done = run_trial(Job(trial=trial, folder=RunFolder(folder), trial_of=of, reporter=reporter))
    except Exception as error:
        reporter.failed(f"{name}: {one_line(error)}")
    except SystemExit as ended:
        _end_worker(int(ended.code or 0))
        raise
    else:
        if done.result.stopped_by is not None:
            _end_worker(128 + done.result.stopped_by)


def _end_worker(code: int) -> None:
    """End the launcher's process once its run is closed: it would catch the exit and take the next trial."""
    if multiprocessing.parent_process() is not None:
        sys.stdout.flush()
        os._exit(code)


@contextmanager
def _children_end_first() -> Iterator[None]:
    """A SIGTERM to this process goes to the launcher's processes first, which close what they opened."""

    def terminated(number: int, frame: FrameType | None) -> NoReturn:
        children = multiprocessing.active_children()
        for child in children:
            child.terminate()
        for child in children:
            child.join(60)
        raise SystemExit(128 + number)

    old = signal.signal(signal.SIGTERM, terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


@contextmanager
def composer(stored: Mapping[str, Any] | None, overrides: Sequence[str]) -> Iterator[None]:
    """Hydra's global instance for as long as trials are composed or launched; its errors as one line."""
    prepare_hydra(stored)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_folder()), job_name="dp-train", version_base=HYDRA_VERSION):
            yield
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise explain(error, overrides) from error
    finally:
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None


def expand(words: Sequence[str], typed: Sequence[str]) -> Sweep:
    """Compose every combination, as Hydra's sweeper and launchers do.

    Raises:
      ConfigError: a combination is impossible, a sweeper chooses by results, or trials disagree on the launcher.
    """
    loader: ConfigLoader = GlobalHydra.instance().config_loader()
    master = loader.load_configuration(config_name=ROOT, overrides=list(words), run_mode=RunMode.MULTIRUN)
    sweeper = str(master.hydra.sweeper["_target_"])
    if sweeper != _SWEEPER:
        raise ConfigError(
            f"sweep: hydra/sweeper={sweeper.rpartition('.')[2]} chooses trials by the results of others, which no ε of "
            "trials declared together covers; expected hydra/sweeper=basic"
        )
    params = [f"{key}={value}" for key, value in (master.hydra.sweeper.get("params") or {}).items()]
    task = [*params, *(str(word) for word in master.hydra.overrides.task)]
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(task)
    keys = frozenset(str(word.key_or_group) for word in parsed if word.is_sweep_override())
    (combinations,) = BasicSweeper.split_arguments(parsed, None)
    recipes, subfolders, launchers = [], [], []
    for number, combination in enumerate(combinations):
        try:
            tree = loader.load_sweep_config(master, list(combination))
            with open_dict(tree):
                tree.hydra.job.id = tree.hydra.job.num = number
            HydraConfig.instance().set_config(tree)
            recipes.append(check(tree))
            subfolders.append(str(tree.hydra.sweep.subdir))
            launchers.append(OmegaConf.to_container(tree.hydra.launcher, resolve=True))
        except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
            raise ConfigError(f"trial {number}: {explain(error, typed)} (nothing was trained)") from error
        except ConfigError as error:
            raise ConfigError(f"trial {number}: {error} (nothing was trained)") from error
    if any(launcher != launchers[0] for launcher in launchers):
        raise ConfigError(
            "sweep: trials bring different launchers along; expected one for all of them: launcher=local, or sweep one "
            "experiment at a time"
        )
    with open_dict(master):
        master.hydra.launcher = launchers[0]
    folder = Path(str(master.hydra.sweep.dir))
    return Sweep(
        folder=folder,
        combinations=combinations,
        recipes=recipes,
        subfolders=subfolders,
        keys=keys,
        master=master,
    )
