"""Watches what leaves a private run: it has to be what was noised, and nothing beside it.

1. before each optimizer step: ``p.grad``, where the optimizer reads it, is the release, as many steps as releases;
2. around it: weights move in that step alone, by what the planned optimizer makes of the release at the planned rate;
3. buffers, frozen tensors and whatever else a layer holds, which no noise reaches, stay as they were.

The elements are those of `engines.noise_probe`, drawn anew for every release. Findings withhold the claim
(`RunMonitor.depart`); the run goes on. Reasons name public facts alone.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dp_train.engines.base import StepRecord
from dp_train.engines.noise import NoiseSource
from dp_train.engines.noise_probe import ReleasedSample
from dp_train.engines.parts import BLOCK, Part, shares
from dp_train.engines.ranks import ALONE, Ranks

Notice = Callable[[str], None]
"""Takes the reason why an ε is withheld."""

_ELEMENTWISE = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
"""What these do to an element depends on its own gradient and state alone, so it can be done again for a few."""

_CAREFUL_STEPS = 8
_ONE_IN = 16
"""The dearer looks are taken at the first steps and then at random ones, which planted code cannot know."""

_OFTEN_BYTES = 1 << 26
"""Tensors without noise are read whole at each checkpoint up to this size, and at the end whatever their size."""

_ROUNDING, _TINY = 16.0, 1e-12


def look_closely(steps_so_far: int) -> bool:
    """Whether this step gets the dearer looks."""
    return steps_so_far < _CAREFUL_STEPS or secrets.randbelow(_ONE_IN) == 0


class CountedNoise:
    """A noise source that keeps count of what was asked of it."""

    def __init__(self, noise: NoiseSource) -> None:
        self.bands: int = getattr(noise, "bands", 1)
        self._calls: list[tuple[int, Part]] = []
        self._noise = noise

    def add(self, tensor: Tensor, std: float, *, step: int, index: int, block: int = 0) -> None:
        """As of `NoiseSource`; called from several threads at a time."""
        start = block * BLOCK
        self._calls.append((step, Part(index, start, start + tensor.numel())))
        self._noise.add(tensor, std, step=step, index=index, block=block)

    def taken(self) -> list[tuple[int, Part]]:
        """Return (step, part) of everything that was asked for since the last call, parts that follow joined."""
        calls, self._calls = sorted(call for call in self._calls if call[1].elements), []
        found: list[tuple[int, Part]] = []
        for step, part in calls:
            last = found[-1] if found else None
            if last is not None and (step, part.index, part.start) == (last[0], last[1].index, last[1].stop):
                found[-1] = step, Part(part.index, last[1].start, part.stop)
            else:
                found.append((step, part))
        return found

    def __repr__(self) -> str:
        return f"CountedNoise({self._noise!r})"


class LeavingWatch:
    """Looks at gradients, weights, learning rates and optimizer steps from outside the engine.

    Guarantee: where it finds nothing, then at the elements that it read each optimizer step took the gradient that
    the engine noised and no other, at the rate that was planned before the run read anything private, and weights
    did not change between steps. For SGD, Adam and AdamW the step itself is done again at some steps.

    Args:
      optimizer: the user's own, before its first step here. It gets two hooks until `detach`.
      rates: the planned factor on the learning rate of each step, evaluated before anything private is read.
      releases_curve: whether the plan releases a noisy loss, which draws noise of its own, in the first process.
      notice: takes each finding.
      ranks: the processes that share the noise; each watches its own of it, and all of the rest.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        rates: Sequence[float],
        releases_curve: bool,
        notice: Notice,
        ranks: Ranks = ALONE,
    ) -> None:
        self._optimizer = optimizer
        self._planned = tuple(rates)
        self._extra = int(releases_curve and ranks.first)
        self._ranks = ranks
        self._notice = notice
        self._groups = [
            {key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups
        ]
        self._base_rates = [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]
        self._noise: CountedNoise | None = None
        self._record: StepRecord | None = None
        self._weights: tuple[ReleasedSample, list[Tensor]] | None = None  # what they were after the last step
        self._twin: list[tuple[Tensor, Tensor]] | None = None  # what they were and what they have to become
        self._steps = self._stepped = 0
        self._hooks = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]

    def counted(self, noise: NoiseSource) -> NoiseSource:
        """The noise source to give to the engine."""
        self._noise = CountedNoise(noise)
        return self._noise

    def released(self, record: StepRecord) -> None:
        """Note what the engine says it released; the optimizer has to step on it once, next."""
        sample = record.released
        if sample is None:
            self._notice("what a step released was not watched")
        if self._noise is not None:
            taken = self._noise.taken()
            if sample is not None and taken != [(record.step, part) for part in self._planned_parts(sample)]:
                self._notice("noise was drawn for a release that is not in the plan")
        self._record, self._stepped = record, 0

    def stepped(self) -> None:
        """The loop took the step: was it one?"""
        if self._stepped != 1:
            self._notice("the optimizer did not step exactly once a release")
        self._record = None

    def look(self) -> None:
        """Compare weights with what the last step left; called at checkpoints and at the end."""
        if self._weights is None:
            return
        sample, values = self._weights
        if not all(torch.equal(found, value) for found, value in zip(_weights(sample), values, strict=True)):
            self._notice("weights changed outside the optimizer's step")

    def detach(self) -> None:
        """Take the hooks off the optimizer."""
        for hook in self._hooks:
            hook.remove()

    def _planned_parts(self, sample: ReleasedSample) -> list[Part]:
        """What this process draws noise for in a step: its share, and the sum of losses where it is released."""
        sizes = [parameter.numel() for parameter in sample.parameters]
        share = shares(sizes, self._ranks.size)[self._ranks.rank]
        return [*share, *(Part(len(sizes), 0, 1) for _ in range(self._extra))]

    def _before_step(self, *_: object) -> None:
        self._stepped += 1
        if self._record is None or self._stepped > 1 or self._record.released is None:
            return  # `stepped` counts; an extra step moves weights outside the one that is watched
        sample = self._record.released
        self.look()
        for parameter, elements, planned in zip(sample.parameters, sample.elements, sample.gradients, strict=True):
            if not _is(parameter.grad, elements, planned):
                self._notice("the optimizer was not given the gradient that was noised")
                break
        factor = self._planned[self._record.step] if self._record.step < len(self._planned) else None
        for group, base in zip(self._optimizer.param_groups, self._base_rates, strict=True):
            if factor is None or abs(float(group["lr"]) - base * factor) > 1e-9 * abs(base * factor):
                self._notice("the learning rate was not the planned one")
        self._twin = self._again(sample, factor) if factor is not None and look_closely(self._steps) else None

    def _after_step(self, *_: object) -> None:
        if self._record is None or self._record.released is None or self._stepped > 1:
            return
        sample = self._record.released
        found = _weights(sample)
        if self._twin is not None and not all(
            _moved_to(one, *twin) for one, twin in zip(found, self._twin, strict=True)
        ):
            self._notice("weights moved by something else than the optimizer's step on the noised gradient")
        self._weights, self._twin = (sample, found), None
        self._steps += 1

    def _again(self, sample: ReleasedSample, factor: float) -> list[tuple[Tensor, Tensor]] | None:
        """What a step of the planned optimizer on the release makes of the weights at the elements."""
        kind = type(self._optimizer)
        if kind not in _ELEMENTWISE:
            return None
        place = {parameter: index for index, parameter in enumerate(sample.parameters)}
        before = _weights(sample)
        twins = [nn.Parameter(weights.clone()) for weights in before]
        for twin, gradient in zip(twins, sample.gradients, strict=True):
            twin.grad = gradient.clone()
        groups = []
        for group, planned, base in zip(self._optimizer.param_groups, self._groups, self._base_rates, strict=True):
            own = [twins[place[parameter]] for parameter in group["params"] if parameter in place]
            groups.append({**planned, "lr": base * factor, "params": own})
        again: torch.optim.Optimizer = kind(groups)
        for parameter, index in place.items():
            if state := self._optimizer.state.get(parameter):
                again.state[twins[index]] = {
                    key: _at(value, parameter, sample.elements[index]) for key, value in state.items()
                }
        again.step()
        return list(zip(before, (twin.detach() for twin in twins), strict=True))


class StillTensors:
    """Buffers and frozen tensors of a model, which leave with it, and tensors that its layers hold as plain attributes.

    No noise reaches them. What a plain attribute learns does not leave, but enters what others' rows give.

    Guarantee: where `look(whole=True)` finds nothing, all of them hold the very bits that they held at the start.
    """

    def __init__(self, model: nn.Module, notice: Notice) -> None:
        self._model = model
        self._notice = notice
        still = {**dict(_still(model)), **dict(plain_tensors(model))}
        self._plain = [name for name, _ in plain_tensors(model)]
        self._digests = {name: tensor_digest(tensor) for name, tensor in still.items()}
        self._seen = {name: _mark(tensor) for name, tensor in still.items()}
        self._bytes = sum(tensor.numel() * tensor.element_size() for tensor in still.values())

    @property
    def digest(self) -> str:
        """Of all of them as they were at the start, for a run that resumes."""
        return hashlib.sha256(repr(sorted(self._digests.items())).encode()).hexdigest()

    def look(self, *, whole: bool = False) -> None:
        """Read those that were written to since the last look; all of them where there are few, or with `whole`."""
        whole = whole or self._bytes <= _OFTEN_BYTES
        found = {**dict(_still(self._model)), **dict(plain_tensors(self._model))}
        self._compare(found, lambda name, tensor: whole or _mark(tensor) != self._seen.get(name))

    def glance(self) -> None:
        """Read those alone that torch says were written to."""
        found = dict(_still(self._model))
        for name in self._plain:  # those that there were: to look for more of them takes long
            path, _, attribute = name.rpartition(".")
            tensor = getattr(self._model.get_submodule(path), attribute, None)
            if isinstance(tensor, Tensor):
                found[name] = tensor
        self._compare(found, lambda name, tensor: _mark(tensor) != self._seen.get(name))

    def _compare(self, found: Mapping[str, Tensor], chosen: Callable[[str, Tensor], bool]) -> None:
        if found.keys() != self._digests.keys():
            self._notice("the model got or lost buffers or frozen tensors during the run")
        for name, tensor in found.items():
            if name in self._digests and chosen(name, tensor):
                self._seen[name] = _mark(tensor)
                if tensor_digest(tensor) != self._digests[name]:
                    self._notice(f"{name} changed, which no noise reaches")


class StillSettings:
    """Numbers, flags and words that the layers of a model hold, such as a rate of dropout.

    The identity of a run was taken over them when it began. Changed on the way, by a callback or a forward pass, they
    would be others again when the run is resumed: the same noise over another gradient, which shows both.

    Guarantee: where `look` finds nothing, all of them are what they were at the start. The mode is not among them.
    """

    def __init__(self, model: nn.Module, notice: Notice) -> None:
        self._notice = notice
        self._held = [
            (f"{path}.{name}".lstrip("."), vars(module), name, value)
            for path, module in model.named_modules()
            for name, value in vars(module).items()
            if isinstance(value, bool | int | float | str) and name != "training"
        ]

    def look(self) -> None:
        """Compare all of them."""
        for path, there, name, value in self._held:
            if there.get(name) != value:
                self._notice(f"{path} changed during the run, which a resumed run would not know")


class HeldWeights:
    """Trainable tensors that something looks at, and which have to stay what they are meanwhile.

    Args:
      whole: compare every bit; else where each tensor lies and how often torch wrote to it.
    """

    def __init__(self, model: nn.Module, *, whole: bool) -> None:
        self._model, self._whole = model, whole
        self._before = self._now()

    @property
    def changed(self) -> bool:
        """Whether any of them is another than when this was made."""
        return self._now() != self._before

    def _now(self) -> list[tuple[str, object]]:
        look: Callable[[Tensor], object] = tensor_digest if self._whole else _mark
        return [
            (name, look(parameter)) for name, parameter in self._model.named_parameters() if parameter.requires_grad
        ]


def tensor_digest(tensor: Tensor) -> bytes:
    """Of the very bits, and not a copy of them: what is frozen is most of a large model."""
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8).cpu()
    return hashlib.sha256(flat.numpy().data).digest()


def _still(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from ((name, parameter) for name, parameter in model.named_parameters() if not parameter.requires_grad)
    yield from model.named_buffers()


def plain_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Tensors that layers hold beside parameters and buffers, but for other names of parameters."""
    of_parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and value.untyped_storage().data_ptr() not in of_parameters:
                yield f"{path}.{name}".lstrip("."), value


def _mark(tensor: Tensor) -> tuple[int, int]:
    """Differs once torch has written to the tensor, or put another in its place; `.data` goes past it."""
    return tensor.data_ptr(), tensor._version


def _weights(sample: ReleasedSample) -> list[Tensor]:
    return [
        parameter.detach().reshape(-1)[elements]
        for parameter, elements in zip(sample.parameters, sample.elements, strict=True)
    ]


def _is(gradient: Tensor | None, elements: Tensor, planned: Tensor) -> bool:
    return gradient is not None and torch.equal(gradient.detach().reshape(-1)[elements], planned)


def _at(value: Any, parameter: nn.Parameter, elements: Tensor) -> Any:
    """An optimizer's state at the elements; a count of steps is copied."""
    if not isinstance(value, Tensor):
        return value
    return value.reshape(-1)[elements] if value.shape == parameter.shape and value.dim() else value.clone()


def _moved_to(found: Tensor, before: Tensor, expected: Tensor) -> bool:
    apart, size = (found.double() - expected.double()).abs(), before.double().abs() + expected.double().abs()
    return bool((apart <= _ROUNDING * torch.finfo(found.dtype).eps * size + _TINY).all())
