"""The open registers of a recipe, by the group of the configuration that chooses from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dp_train.corpora.spec import CORPORA, CorpusConfig
from dp_train.engines.spec import ENGINES, EngineConfig
from dp_train.errors import ConfigError
from dp_train.models.spec import MODELS, ModelConfig
from dp_train.register import Register, defaults
from dp_train.tasks.spec import TASKS, TaskConfig
from dp_train.training.optimizer_spec import OPTIMIZERS, OptimizerConfig


@dataclass(frozen=True, slots=True)
class Group:
    """A group of parts: its register, the part of the recipe that it fills, and the key that holds the name."""

    register: Register[Any]
    part: type
    key: str

    def node(self, name: str) -> dict[str, Any]:
        """What choosing `name` puts into the configuration: the name, and the defaults that its class brings."""
        found = {self.key: name, **defaults(self.register.find(name), self.part)}
        if self.part is EngineConfig:
            found.pop("options")  # an engine is a function, which has none
        return found


GROUPS: Mapping[str, Group] = {
    "task": Group(TASKS, TaskConfig, "name"),
    "corpus": Group(CORPORA, CorpusConfig, "source"),
    "optimizer": Group(OPTIMIZERS, OptimizerConfig, "name"),
    "model": Group(MODELS, ModelConfig, "source"),
    "engine": Group(ENGINES, EngineConfig, "name"),
}


def admit(words: Iterable[str]) -> None:
    """Load the code that words such as task=own_task:Shout name; call it with words of the command line alone.

    Raises:
      ConfigError: a word is no such choice, or its code cannot be loaded.
    """
    for word in words:
        key, _, name = word.partition("=")
        if key not in GROUPS or ":" not in name:
            raise ConfigError(f"--code {word}: expected {'|'.join(GROUPS)}=module:Name, such as task=own_task:OwnTask")
        GROUPS[key].register.admit(name)
