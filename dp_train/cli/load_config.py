"""From files and overrides to a checked `Recipe`.

1. `conf/` is the reusable parts, of the wheel or of the repository;
2. the working folder follows on Hydra's search path, so that its `experiments/` is found, then the
   experiments that were shipped;
3. Hydra composes into the schema, which refuses unknown keys and wrong types;
4. the tree becomes dataclasses, which refuse impossible values.
"""

from __future__ import annotations

import logging
import os
import secrets
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dp_train.cli.config_errors import explain
from dp_train.cli.hydra_source import RegisterSource, code_words, source_path
from dp_train.errors import ConfigError, TrackingError
from dp_train.runs.config_paths import conf_folder, groups, search_folders
from dp_train.runs.folder import RunFolder, parse_config, read_config
from dp_train.runs.recipe import Recipe

ROOT = "config"
HYDRA_VERSION = "1.3"
_STORED = "stored"


class _SearchPath(SearchPathPlugin):
    """Hydra asks it wherever it composes: here, and in every trial of a sweep."""

    code: ClassVar[list[str]] = []
    """Choices of module:Name on the command line that is composed."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in search_folders():
            search_path.append("dp-train", f"file://{folder}")
        search_path.append("dp-train", source_path(self.code))


def prepare_hydra(stored: Mapping[str, Any] | None = None, words: Sequence[str] = ()) -> None:
    """Make schema, search path and resolvers known to Hydra; may be called again.

    Args:
      stored: configuration of an earlier run, which then stands on top of the parts as `+from_run=stored`.
      words: of the command line; the only ones that may choose module:Name.
    """
    Plugins.instance().register(_SearchPath)
    Plugins.instance().register(RegisterSource)
    _SearchPath.code = code_words(words)
    store = ConfigStore.instance()
    store.store(name="train_schema", node=Recipe)
    if stored is not None:
        store.store(group="from_run", name=_STORED, node=dict(stored), package="_global_")
    # Cached, so that a configuration names one folder however often it is read.
    OmegaConf.register_new_resolver("run_folder", _run_folder, use_cache=True, replace=True)


def overrides_for(overrides: Sequence[str], stored: Mapping[str, Any] | None) -> list[str]:
    """The overrides as Hydra is to see them.

    Raises:
      ConfigError: a part is chosen by name on top of a stored run, whose values would win over it unseen.
    """
    if stored is None:
        return list(overrides)
    parts = groups()
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~").partition("@")[0]
        if key in parts:
            raise ConfigError(
                f"config: {override}: picks a part, and with --from-run every value comes from the stored run; "
                f"change single values ({key}.…=…), or leave out --from-run"
            )
    return [f"+from_run={_STORED}", *overrides]


def compose(overrides: Sequence[str], *, stored: Mapping[str, Any] | None = None) -> tuple[Recipe, DictConfig]:
    """The checked configuration, and the tree it was made from, with Hydra's own node in it.

    Raises:
      ConfigError: in one line: which key or value, what was expected, what to do.
    """
    with _composing(overrides, stored) as (_, arguments):
        tree = hydra_compose(ROOT, overrides=arguments, return_hydra_config=True)
    return check(tree), tree


def show(
    overrides: Sequence[str], *, stored: Mapping[str, Any] | None, cfg: str | None, resolve: bool, info: str | None
) -> None:
    """Print the composed configuration, or where it comes from, as Hydra's own `--cfg` and `--info` do.

    Raises:
      ConfigError: it cannot be composed.
    """
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        with _composing(overrides, stored) as (hydra, arguments):
            if cfg is not None:
                hydra.show_cfg(config_name=ROOT, overrides=arguments, cfg_type=cfg, package=None, resolve=resolve)
            if info is not None:
                hydra.show_info(info, config_name=ROOT, overrides=arguments)
    finally:  # Hydra prints both by logging, and leaves it as it needed it
        root.handlers[:] = handlers
        root.setLevel(level)


def compose_from(options: Namespace) -> tuple[Recipe, DictConfig]:
    """`compose` for a verb that takes key=value words and `--from-run`."""
    return compose(options.overrides, stored=stored_by(options))


def stored_by(options: Namespace) -> dict[str, Any] | None:
    """The configuration that `--from-run` names: of a folder, or of a run in the tracking store."""
    name = getattr(options, "from_run", None)
    if name is None:
        return None
    try:
        return read_config(RunFolder.find(name).config)
    except ConfigError:
        text = _tracked_config(name)
        if text is None:
            raise
        return parse_config(text, name)


def _tracked_config(name: str) -> str | None:
    """What the store that is there holds of run `name`; no store is made to look into."""
    if "MLFLOW_TRACKING_URI" not in os.environ and not Path("mlflow.db").exists():
        return None
    from dp_train.tracking.run import CONFIG_FILE
    from dp_train.tracking.store import TrackingStore

    try:
        return TrackingStore.open().read_text(name, CONFIG_FILE)
    except TrackingError:
        return None


def check(tree: DictConfig) -> Recipe:
    """The tree as checked objects; resolves interpolations.

    Raises:
      ConfigError: a mandatory value is missing, or a value is impossible.
    """
    try:
        # Anew, since `+key=value` opens a composed tree to keys that the schema does not have.
        values = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Recipe), without_hydra(tree)))
    except OmegaConfBaseException as error:
        raise explain(error, ()) from error
    assert isinstance(values, Recipe)
    return values


def without_hydra(tree: DictConfig) -> DictConfig:
    """The user's part of a composed tree."""
    if "hydra" not in tree:
        return tree
    return OmegaConf.masked_copy(tree, [str(key) for key in tree if key != "hydra"])


def is_sweep(tree: DictConfig) -> bool:
    """Whether the configuration itself asks for a sweep, by `hydra.mode: MULTIRUN`."""
    mode = OmegaConf.select(tree, "hydra.mode")
    return mode is RunMode.MULTIRUN


def _run_folder(root: str) -> str:
    """Date, time to the microsecond and random digits: two runs of one moment do not meet."""
    now = datetime.now()
    return f"{root}/{now:%Y-%m-%d}/{now:%H-%M-%S-%f}-{secrets.token_hex(3)}"


@contextmanager
def _composing(overrides: Sequence[str], stored: Mapping[str, Any] | None) -> Iterator[tuple[Any, list[str]]]:
    """Hydra with our folders, and the overrides as it is to see them; its errors become one line.

    It keeps one global instance, which is left as it was, empty, also after an error.
    """
    prepare_hydra(stored, overrides)
    arguments = overrides_for(overrides, stored)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_folder()), job_name="dp-train", version_base=HYDRA_VERSION):
            yield GlobalHydra.instance().hydra, arguments
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise explain(error, overrides) from error
    finally:
        GlobalHydra.instance().clear()
