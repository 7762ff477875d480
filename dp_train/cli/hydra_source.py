"""Where Hydra finds a part that no file describes: the open registers, asked when a name is chosen.

`task=own_task` of an installed package, or `task=own_task:OwnTask` of the command line, is then a part like any in
`conf/`: it brings the defaults of its class, and `task.options.…` changes them.
"""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf

from dp_train.errors import ConfigError
from dp_train.runs.config_paths import conf_folder
from dp_train.runs.registers import GROUPS, Group, admit

SCHEME = "dp-train"


def code_words(overrides: Sequence[str]) -> list[str]:
    """What a command line chooses of module:Name, one choice a word: task=a:A,b:B gives task=a:A and task=b:B."""
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException:
        return []  # composing says what cannot be read
    found = []
    for override in parsed:
        if override.key_or_group in GROUPS:
            several = override.is_discrete_sweep()
            values = override.sweep_string_iterator() if several else [override.get_value_element_as_str()]
            names = [str(value).translate(_UNQUOTED) for value in values]
            found += [f"{override.key_or_group}={name}" for name in names if ":" in name]
    return found


_UNQUOTED = str.maketrans("", "", "'\"\\")
"""Hydra quotes and escapes values; a module's name has neither quotes nor backslashes."""


def source_path(code: list[str]) -> str:
    """The entry of Hydra's search path; it carries what the command line allows into workers of a sweep.

    Args:
      code: of `code_words`.
    """
    return f"{SCHEME}://{'+'.join(code)}"


class RegisterSource(ConfigSource):
    """Parts of the registers; what a file of `conf/` describes is left to it."""

    @staticmethod
    def scheme() -> str:
        return SCHEME

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return config_path.strip("/") in GROUPS

    def is_config(self, config_path: str) -> bool:
        group, name = _split(config_path)
        if group is None:
            return False
        if ":" in name:
            return True  # `load_config` says what is wrong with one that may not be chosen
        described = (conf_folder() / config_path.partition("/")[0] / f"{name}.yaml").is_file()
        return not described and group.register.has(name)

    def load_config(self, config_path: str) -> ConfigResult:
        group, name = _split(config_path)
        assert group is not None
        word = f"{config_path.partition('/')[0]}={name}"
        if word in self.path.split("+"):
            admit([word])  # in a worker of a sweep it was not, before
        try:
            node = OmegaConf.create(group.node(name))
        except ConfigError:
            raise
        except Exception as error:  # defaults that are no plain values
            raise ConfigError(
                f"config: {word}: its defaults are no plain values ({type(error).__name__}); expected numbers, text, "
                "lists and enums"
            ) from error
        return ConfigResult(
            provider=self.provider, path=f"{SCHEME}://", config=node, header={"package": None}, defaults_list=None
        )

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        path = config_path.strip("/")
        if results_filter is not ObjectType.CONFIG and not path:
            return sorted(GROUPS)
        if results_filter is ObjectType.GROUP or path not in GROUPS:
            return []
        return sorted(name for name, _ in GROUPS[path].register.origins())


def _split(config_path: str) -> tuple[Group | None, str]:
    group, _, name = config_path.strip("/").removesuffix(".yaml").partition("/")
    return GROUPS.get(group), name
