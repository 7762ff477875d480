"""Published starting points: small models that learnt from published text alone, kept with what they are.

A folder holds the weights in float16, the tokenizer, and `facts.json`: from which text, by how many steps, and how it
scores. The package carries one for each task of the quickstarts; `dp-train pretrain` makes others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dp_train.atomic import whole_folder
from dp_train.errors import CheckpointError, ModelError
from dp_train.models.spec import Architecture, ModelConfig

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerFast

    from dp_train.tasks.spec import TaskConfig

CARRIED = Path(__file__).parent / "carried"
"""What the package brings along, a folder a task."""

_WEIGHTS, _FACTS = "model.safetensors", "facts.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A published starting point on disk.

    Attributes:
      facts: what it was made from and how it scores, as `dp-train pretrain` wrote it; public.
    """

    path: Path
    facts: Mapping[str, Any]

    @property
    def weights(self) -> str:
        """Digest of the weights."""
        return str(self.facts["weights"])

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Return the tokenizer that it was trained with."""
        from dp_train.models.tokenizer import load_tokenizer

        return load_tokenizer(self.path)

    def differs(self, task: TaskConfig, model: ModelConfig) -> str | None:
        """Return in words what a recipe asks for that this is not; None where it is what is asked for."""
        made = self.facts["model"]
        if task.name != self.facts["task"]:
            return f"is for {self.facts['task']}; expected one for task {task.name}; give start.name"
        if made["architecture"] != model.architecture.value:
            return f"is of architecture {made['architecture']}; set model.architecture={made['architecture']}"
        for name in ("layers", "width", "heads", "tied", "vocab_size"):
            asked, value = getattr(model, name), made[name]
            if asked != value:
                return f"has {name}={value}; expected model.{name}={asked} as configured; set model.{name}={value}"
        # A decoder's positions are rotary; an encoder–decoder's are a table.
        if model.architecture is Architecture.ENCODER_DECODER and task.max_length != made["positions"]:
            return f"has {made['positions']} positions; set task.max_length={made['positions']}"
        return None

    def check(self, task: TaskConfig, model: ModelConfig) -> None:
        """Hold that a recipe asks for this task and this model.

        Raises:
          ModelError: it is another; which number, and what to set.
        """
        difference = self.differs(task, model)
        if difference is not None:
            raise ModelError(f"starting point {self.path.name}: {difference}, or start=public, which trains one here")

    def load_into(self, model: nn.Module) -> None:
        """Give `model` the published weights, in float32, in place, and declare their origin.

        Raises:
          ModelError: the file cannot be read, or holds other weights than `facts.json` names.
        """
        from safetensors.torch import load_model

        from dp_train.models.weights import declare_origin

        try:
            load_model(model, self.path / _WEIGHTS)
        except Exception as error:  # a damaged file surfaces as one of many types
            raise ModelError(
                f"starting point {self.path.name}: its weights cannot be read ({type(error).__name__}); install the "
                "package anew, or make it again by dp-train pretrain"
            ) from error
        if _digest(model) != self.weights:
            raise ModelError(
                f"starting point {self.path.name}: its weights are not those that its facts.json names; make it again "
                "by dp-train pretrain"
            )
        declare_origin(model)


def carried(task: TaskConfig, model: ModelConfig) -> bool:
    """Return whether the package carries a starting point for this very task and model."""
    there = (CARRIED / task.name / _FACTS).is_file()
    return there and find_published(task.name).differs(task, model) is None


def find_published(name: str) -> Published:
    """Return a starting point that the package carries, by its name, or the one in a folder.

    Raises:
      ModelError: there is none.
    """
    carried = sorted(folder.name for folder in CARRIED.glob("*") if (folder / _FACTS).is_file())
    path = CARRIED / name if name in carried else Path(name)
    try:
        facts = json.loads((path / _FACTS).read_text())
    except (OSError, ValueError) as error:
        raise ModelError(
            f"start.name={name}: no such starting point; expected {' or '.join(carried)}, or the folder that dp-train "
            "pretrain --to wrote; start=public trains one here"
        ) from error
    missing = {"task", "model", "weights"} - set(facts)
    if missing:
        raise ModelError(f"start.name={name}: facts.json lacks {min(missing)}; make it again by dp-train pretrain")
    return Published(path=path, facts=facts)


def round_weights(model: nn.Module) -> None:
    """Round every weight to float16, in place, as it will be stored."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half())


def publish(folder: Path, model: nn.Module, tokenizer: PreTrainedTokenizerFast, facts: Mapping[str, Any]) -> Published:
    """Write a starting point of rounded weights to a new folder.

    Raises:
      CheckpointError: the folder cannot be written, or is there already.
    """
    from safetensors.torch import save_model

    if folder.exists():
        raise CheckpointError(f"{folder}: exists already; expected a new folder; remove it, or name another")
    written = {**facts, "weights": _digest(model)}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(folder) as part:
            save_model(deepcopy(model).half(), str(part / _WEIGHTS))
            (part / _WEIGHTS).chmod(0o644)  # published, so not as private as safetensors makes it
            tokenizer.save_pretrained(part)
            (part / _FACTS).write_text(json.dumps(written, indent=2, default=str) + "\n")
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written ({error.strerror}); free space or name another") from error
    return Published(path=folder, facts=written)


def _digest(model: nn.Module) -> str:
    """Digest of the parameters: buffers are computed, and no file holds them."""
    from dp_train.models.weights import mark_tensors, weights_digest

    marks = mark_tensors(model)
    return weights_digest({name: marks[name] for name, _ in model.named_parameters()})
