"""One identity for a run: a digest over everything that moves a gradient.

It keys the coins and the noise, so that runs which differ in anything share neither, and a run that resumes compares
it first: the same noise under another schedule, clipping, engine or precision would show the draw bare.

| part | what it is a digest of |
|---|---|
| format | version of this list, and of the streams below it |
| recipe, trial | what the caller gave (`Method`) |
| task | its name, class and attributes that are values, and what it makes of public text |
| plan | `PrivacyPlan.digest` |
| consented units | which examples of whom; private, so the digest of the whole is never shown without the nonce |
| model | its modules with their settings and attributes that are values, and which parameters are trained |
| start weights | all parameters and buffers |
| engine, clipping, packing, precision, noise kind, average | the method's |
| schedule | its values over all steps of the plan |
| dropout | where there is any: microbatch sizes, kind of device and number of processes, which lay out its masks |
| optimizer | its class and plain attributes, and the hyper-parameters of each group |
| scaling | its class and settings; start of scaling: its moments |
| phases before | what trained the model earlier |
| code of task, of model, of engine, of optimizer | what moves a gradient (`training.code`) |

Checkpoints, callbacks and threads, and without dropout microbatch sizes, the device and the number of processes, are
not in it: they round a sum, no more, which is among the floating-point limits that every claim names.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from dp_train.engines.base import Engine
from dp_train.engines.spec import OwnEngine
from dp_train.errors import CheckpointError, ConfigError
from dp_train.privacy.tables import encoding_digest
from dp_train.privacy.units import Units
from dp_train.training.code import code_digest, code_of_model, code_of_optimizer
from dp_train.training.method import Setup
from dp_train.training.phases import Phase

FORMAT = 4

_CODE = "code of "

_REPLACED = ("start weights", "start of scaling", "phases before")
"""Parts of where a run began: a checkpoint brings them along, so that what the caller holds does not matter."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Digests of the parts, by name. Private: one of them is of the units."""

    parts: Mapping[str, str]

    @property
    def digest(self) -> str:
        """One digest of all parts."""
        return _digest(json.dumps(dict(self.parts), sort_keys=True))

    def expect(self, resumed: Identity, path: object) -> None:
        """Compare with the identity that a checkpoint holds.

        Raises:
          CheckpointError: they differ; says in which parts.
        """
        other = self.differs(resumed)
        if other:
            raise CheckpointError(
                f"checkpoint: {path} is of a run with another {', another '.join(other)}; the same noise under both "
                "would show what it hides; use another folder, or the settings that began the run"
            )

    def differs(self, other: Identity) -> list[str]:
        """Return the names of the parts in which two runs differ, whatever they began from."""
        names = sorted({*self.parts, *other.parts}.difference(_REPLACED))
        found = [name for name in names if self.parts.get(name) != other.parts.get(name)]
        return [name for name in found if name.removeprefix(_CODE) == name or name.removeprefix(_CODE) not in found]


def identify(
    setup: Setup,
    units: Units,
    optimizer: torch.optim.Optimizer,
    *,
    start_weights: str,
    before: Sequence[Phase],
    processes: int = 1,
) -> Identity:
    """Name the run that `setup` is about to begin on `units`.

    Args:
      optimizer: as the factory made it.
      start_weights: `weights_digest` of the model.
      before: phases of the model.
      processes: how many share its steps.

    Raises:
      ConfigError: the schedule gives something else than a number.
    """
    method, task, model = setup.method, setup.task, setup.model
    kept = model.state_dict().keys()  # a buffer that no checkpoint holds is the model's own
    parts: dict[str, Any] = {
        "format": FORMAT,
        "recipe": method.recipe,
        "trial": method.trial,
        "task": [task.name, _class(task), _settings(task), encoding_digest(task.encode)],
        "plan": setup.plan.digest,
        "consented units": [units.cohort, units.population, units.purpose.value],
        "model": [
            _class(model),
            re.sub(r"0x[0-9a-f]+", "", repr(model)),
            [[name, list(one.shape), str(one.dtype), one.requires_grad] for name, one in model.named_parameters()],
            {name: _plain(one) for name, one in model.named_buffers() if name not in kept},
            {name: found for name, module in model.named_modules() if (found := _module_settings(module))},
        ],
        "start weights": start_weights,
        "engine": setup.engine.value,
        "clipping": method.clipping.value,
        "packing": method.packing.value,
        **({"by token": True} if method.by_token else {}),
        "precision": str(method.autocast),
        "noise kind": method.noise.value,
        "average": method.average,
        "schedule": _schedule(setup),
        "dropout": _masks(setup, processes),
        "optimizer": [_class(optimizer), _settings(optimizer), [_plain(group) for group in optimizer.param_groups]],
        "scaling": None
        if setup.scaling is None
        else [_class(setup.scaling), code_digest(type(setup.scaling)), setup.scaling.settings()],
        "start of scaling": None if setup.scaling is None else _plain(setup.scaling.state_dict()),
        "phases before": [phase.values() for phase in before],
        "code of task": code_digest(task),
        "code of model": code_of_model(model),
        "code of engine": code_digest(setup.engine.build if isinstance(setup.engine, OwnEngine) else Engine),
        "code of optimizer": code_of_optimizer(optimizer),
    }
    return Identity({name: _digest(json.dumps(value, sort_keys=True)) for name, value in parts.items()})


def _schedule(setup: Setup) -> list[str]:
    steps = setup.plan.steps
    try:
        return [float(setup.method.schedule(step, steps)).hex() for step in range(steps)]
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"trainer: schedule cannot be called as schedule(step, steps) → number ({type(error).__name__}); "
            "give constant, linear(…) or a function like them"
        ) from error


def _plain(value: Any) -> Any:
    """JSON values of hyper-parameters; a tensor is named by its contents, parameters by their shapes alone."""
    if isinstance(value, torch.nn.Parameter):
        return list(value.shape)
    if isinstance(value, Tensor):
        return hashlib.blake2b(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data).hexdigest()
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Enum):
        return value.name
    return value if isinstance(value, str | int | float | bool | None) else _class(value)


def _settings(value: object) -> dict[str, Any]:
    """Attributes that are values: what an optimizer or a task of one's own may keep beside what is known.

    Hooks are numbered in their order: torch counts them over the whole process, so that its numbers differ when an
    equal run is made again.
    """
    found = getattr(value, "__dict__", {})
    return {
        name: _plain(dict(enumerate(one.values())) if name.endswith("_hooks") and isinstance(one, Mapping) else one)
        for name, one in found.items()
        if _is_value(one)
    }


_NO_SETTINGS = frozenset({"training", "name_or_path", "gradient_checkpointing"})
"""Attributes of modules that move no gradient of a run: its mode is set, and the others tell where and how."""


def _module_settings(module: torch.nn.Module) -> dict[str, Any]:
    """Attributes that `repr` need not show: a scale, an attention's dropout, an adapter's factor."""
    found = _settings(module)
    return {name: one for name, one in found.items() if not name.startswith("_") and name not in _NO_SETTINGS}


def _masks(setup: Setup, processes: int) -> list[str | int] | None:
    """What lays out the masks of dropout, where a module says that it has any; None without.

    Other masks under the same noise are another gradient, and show it bare.
    """
    rates = (
        rate
        for module in setup.model.modules()
        for name, rate in vars(module).items()
        if "drop" in name.lower() or (name == "p" and isinstance(module, torch.nn.modules.dropout._DropoutNd))
    )
    if not any(isinstance(rate, int | float) and rate for rate in rates):
        return None
    execution = setup.execution
    several = [processes] if processes > 1 else []  # alone it is what it was before there could be several
    return [execution.microbatch_rows, execution.microbatch_tokens, setup.device.type, *several]


def _is_value(value: Any) -> bool:
    return isinstance(value, str | int | float | bool | Enum | Tensor | Mapping | list | tuple | None)


def _class(value: object) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()
