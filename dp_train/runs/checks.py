"""All that can fail is asked before ε is spent, cheapest first.

1. `check_recipe`, before a conversation is read: processes, device, paths, keys and their modes, model, tokenizer,
   export, tracking store, ledger;
2. `prepare.material` reads, gates and bounds (a row that cannot be read is an error there);
3. `check_parts`, on what there is then: examples of each role after each filter, rows, a probe row through the model,
   a rehearsed export, memory of scoring, disk, accountants.

`train`, sweeps, `tradeoff` and `validate` ask these lists, and σ and the reservation come after them. A check raises
the error that the run would have raised later, or returns a line to show. It writes nothing that stays.
"""

from __future__ import annotations

import gc
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch
from torch import nn

from dp_train.consent.gate import ConsentedCorpus
from dp_train.consent.principals import PrincipalKey
from dp_train.conversations import ConversationKind, Example
from dp_train.corpora.spec import TrainOn
from dp_train.errors import BudgetError, CheckpointError, ConfigError, DataError, ModelError, PlanError
from dp_train.models.export import Export, has_adapters
from dp_train.models.pretrained import Pretrained, load_pretrained_tokenizer
from dp_train.models.trainable import Trainable, count_parameters
from dp_train.privacy.plan import PrivacyPlan
from dp_train.privacy.units import Units
from dp_train.runs.load import PROBE, ship
from dp_train.runs.names import DeviceName, StartMode, TrackerName
from dp_train.runs.prepare import RunData, model_spec, published_start
from dp_train.runs.processes import refuse_several_processes
from dp_train.runs.recipe import Recipe
from dp_train.runs.reservation import left_after
from dp_train.runs.starting import choose_trainable, first_model
from dp_train.tasks.base import Row, Task
from dp_train.tasks.sequences import IGNORE, evaluating

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LONGEST = 64
"""So many of the longest texts of each role are tokenised."""

_COPIES = 3
"""Of one chunk's logits, while it is scored: as they come, in float32, and their logarithms."""

_CHUNK_BYTES = 256 * 2**20
"""What scoring gives to one chunk's logits, as `tasks.sequences` has it."""

Tell = Callable[[str], object]


def quiet(line: str) -> None:
    """Show nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What `check_parts` looks at: a recipe, its gated and bounded data, and every plan that it is to be trained by."""

    recipe: Recipe
    data: RunData
    plans: Sequence[PrivacyPlan]
    folder: Path


def check_recipe(recipe: Recipe, *, tell: Tell = quiet) -> None:
    """Ask all that a recipe alone can answer, in the order of `RECIPE_CHECKS`.

    Raises:
      DpTrainError: in one line, what a run of this recipe would fail by.
    """
    for name, check in RECIPE_CHECKS.items():
        _tell(tell, name, check(recipe))


def check_parts(
    recipe: Recipe, data: RunData, plans: Sequence[PrivacyPlan], *, folder: Path | None = None, tell: Tell = quiet
) -> None:
    """Ask all that data, model and plans can answer, in the order of `PARTS_CHECKS`.

    Args:
      plans: all that will be trained by, such as those of a trade-off.
      folder: where the run is to lie, to ask its disk; the working folder if not given.

    Raises:
      DpTrainError: in one line, what the run would fail by.
    """
    parts = Asked(recipe=recipe, data=data, plans=plans, folder=folder or Path.cwd())
    for name, check in PARTS_CHECKS.items():
        _tell(tell, name, check(parts))


def _tell(tell: Tell, name: str, line: str | None) -> None:
    if line is not None:
        tell(f"{name}: {line}")


def _one_process(recipe: Recipe) -> None:
    refuse_several_processes()


def _device(recipe: Recipe) -> None:
    if recipe.trainer.device is DeviceName.CUDA and not torch.cuda.is_available():
        raise ConfigError("config: trainer.device=cuda; expected cpu, since torch finds no CUDA device here")


def _paths(recipe: Recipe) -> None:
    corpus, consent = recipe.corpus, recipe.consent
    files = [
        *(("corpus.private" if name == corpus.private else "corpus.more", name) for name in corpus.learnt),
        ("corpus.public", corpus.public),
        ("corpus.evaluation", corpus.evaluation),
        ("consent.events", consent.events),
        ("consent.directory", consent.directory),
    ]
    for key, name in files:
        if name is not None and not os.access(name, os.R_OK):
            trouble = "Permission denied" if Path(name).exists() else "No such file or directory"
            raise DataError(f"{key}: {Path(name).name}: {trouble}; expected a file that can be read")


def _keys(recipe: Recipe) -> None:
    """A key that is there has to be one; where it may be made, it is made later."""
    path, consent = Path(recipe.consent.key), recipe.consent
    if path.exists() or consent.events is not None or consent.store:
        PrincipalKey.load(path)


def _model(recipe: Recipe) -> str:
    spec = model_spec(recipe)
    if recipe.start.mode is StartMode.PUBLISHED:
        published_start(recipe)
    if isinstance(spec, Pretrained):
        load_pretrained_tokenizer(spec.source)
    return f"{spec.architecture.value}, {spec.layers} layers of width {spec.width}"


def _export(recipe: Recipe) -> None:
    if recipe.model.export is not Export.ADAPTER or recipe.model.trainable is not Trainable.LORA:
        return
    if not recipe.model.builder().pretrained or recipe.start.mode is StartMode.PUBLIC:
        raise ConfigError(
            "config: model.export=adapter; expected merged, since the model under these adapters is made here and lies "
            "in no folder that others load"
        )


def _tracking(recipe: Recipe) -> None:
    if recipe.tracking.name is not TrackerName.OFF:
        from dp_train.tracking.store import TrackingStore

        TrackingStore.see(recipe.tracking.uri)


RECIPE_CHECKS: Mapping[str, Callable[[Recipe], str | None]] = {
    "processes": _one_process,
    "device": _device,
    "paths": _paths,
    "keys": _keys,
    "export": _export,
    "model": _model,
    "tracking": _tracking,
}
"""Cheapest first; each takes milliseconds but the last, which waits up to 15 s for a store that does not answer."""


def _examples(parts: Asked) -> None:
    """Hold that something is left of each population that the run needs, and else name the filter that left nothing."""
    recipe, data = parts.recipe, parts.data
    gated = data.populations
    learns_words = not recipe.model.builder().pretrained and recipe.start.mode is not StartMode.PUBLISHED
    public_needed = recipe.start.mode is StartMode.PUBLIC or recipe.engine.scaling > 0 or learns_words
    learnt = "corpus.private" if recipe.corpus.train_on is TrainOn.PRIVATE else "corpus.public, the half to train on"
    _left(recipe, learnt, gated.private, data.units)
    if public_needed:
        _left(recipe, "corpus.public", gated.public, data.public_units)
    if gated.evaluation is not None:
        _left(recipe, "corpus.evaluation", gated.evaluation, data.evaluation)


def _left(recipe: Recipe, role: str, gated: ConsentedCorpus, kept: Units | Sequence[Example]) -> None:
    if len(kept):
        return
    report = gated.report
    if not report.conversations_seen:
        raise DataError(f"{role}: holds no conversation; give a file that does")
    if not report.conversations_kept:
        most = max(report.denials.items(), key=lambda item: item[1])[0].value if report.denials else "nothing in them"
        raise DataError(
            f"{role}: no conversation passes the gate, most often for: {most}; give the consent events of the people "
            f"in it for {gated.purpose.value}, under the key that they were written with"
        )
    if not isinstance(kept, Units) or not kept.selection.examples_seen:
        task, kinds = recipe.task.name, recipe.task.spec().kinds
        needs = "meetings with a summary" if ConversationKind.MEETING in kinds else "messages in threads"
        raise DataError(f"{role}: what passes the gate holds no example of task={task}; expected {needs}")
    raise DataError(
        f"{role}: no example is left by the bound on contributions; raise privacy.max_contributions, or give examples "
        "of fewer owners"
    )


def _rows(parts: Asked) -> None:
    """Tokenise the longest texts of each role, and hold them against the model's positions."""
    data = parts.data
    spec = model_spec(parts.recipe)
    for role, examples in (("public", _texts(data.public_units)), ("evaluation", data.evaluation)):
        _fit(role, _encoded(data.task, _longest(examples)), spec.positions)
    if data.units.tabled:
        rows: Iterator[Row] = (
            Row(*map(tuple, tokens)) for unit in range(len(data.units)) for tokens in _tokens(data, unit)
        )
    else:
        rows = iter(_encoded(data.task, _longest(_texts(data.units))))
    _fit("private", rows, spec.positions)


def _fit(role: str, rows: Iterable[Row], positions: int | None) -> None:
    for row in rows:
        if not any(label != IGNORE for label in row.labels):
            raise ModelError(
                f"rows: a text of the {role} population gives no token to learn; expected a tokenizer that spells it"
            )
        length = max(len(row.input_ids), len(row.labels))
        if positions is not None and length > positions:
            raise ModelError(
                f"rows: one of the {role} population has {length} tokens and the model has {positions} positions; "
                "lower task.max_length"
            )


def _tokens(data: RunData, unit: int) -> Sequence[tuple[Sequence[int], Sequence[int]]]:
    return data.units.tokens(unit, data.task.encode)


def _texts(units: Units) -> list[Example]:
    return [example for unit in units for example in unit]


def _longest(examples: Iterable[Example]) -> list[Example]:
    return sorted(examples, key=lambda one: len(one.prompt) + len(one.target), reverse=True)[:_LONGEST]


def _encoded(task: Task, examples: Iterable[Example]) -> list[Row]:
    return [task.encode(example) for example in examples]


def _probed(parts: Asked) -> str:
    """Take public rows through a model as it will be, and export it as it will be once its numbers have moved."""
    recipe, data = parts.recipe, parts.data
    model = first_model(recipe, data.tokenizer)
    choose_trainable(recipe, model)
    nn.Module.to(model, recipe.trainer.device.value)
    examples = [*PROBE, *_longest(_texts(data.public_units))[:1]]
    _expect_finite(data.task, model, examples)
    count = count_parameters(model)
    _expect_room(parts, count.total, count.trainable)
    _move(model)
    with TemporaryDirectory() as folder:
        ship(recipe, model, data.task, data.tokenizer, Path(folder) / "model")
    del model
    gc.collect()
    return f"{count.trainable:,} of {count.total:,} parameters are trained"


def _expect_finite(task: Task, model: nn.Module, examples: Sequence[Example]) -> None:
    device = next(model.parameters()).device
    with evaluating(model):
        for example in examples:
            inputs = {name: tensor.to(device) for name, tensor in task.collate([task.encode(example)]).items()}
            loss = float(task.row_losses(model, inputs).sum())
            if not math.isfinite(loss):
                raise ModelError(
                    f"model: a row of text has a loss of {loss}; expected a number, so its weights or its tokenizer "
                    "are not whole"
                )


def _move(model: PreTrainedModel) -> None:
    """Move adapters off zero, so that an export that loses them is seen to."""
    if not has_adapters(model):
        return
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn(parameter.shape).to(parameter.device))


def _expect_room(parts: Asked, total: int, trainable: int) -> None:
    """Two checkpoints stand side by side while one is written, with two moments of each trained number."""
    state, weights = 4 * (total + 2 * trainable), 4 * total
    needed = 2 * state + len(parts.plans) * 2 * weights
    folder = next(path for path in (parts.folder, *parts.folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise CheckpointError(
            f"disk: {_size(free)} free where the run is to lie, and its checkpoints and models need about "
            f"{_size(needed)}; free space, or set hydra.run.dir"
        )


def _scoring_memory(parts: Asked) -> None:
    data = parts.data
    if not data.evaluation:
        return
    labels = max(len(row.labels) for row in _encoded(data.task, _longest(data.evaluation)))
    needed = _COPIES * max(
        min(_CHUNK_BYTES, 4 * labels * len(data.tokenizer) * len(data.evaluation)), 4 * labels * len(data.tokenizer)
    )
    free = _free_memory(parts.recipe)
    if free is not None and free < needed:
        raise ModelError(
            f"memory: scoring takes about {_size(needed)} beside the model and {_size(free)} are free; lower "
            "task.max_length, or close other programs"
        )


def _free_memory(recipe: Recipe) -> int | None:
    """Bytes that may be taken on the device that scores; None where the machine does not say."""
    if recipe.trainer.device is DeviceName.CUDA:
        return int(torch.cuda.mem_get_info()[0])
    found = []
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        found.append(1024 * int(lines["MemAvailable"].split()[0]))
        group = Path("/sys/fs/cgroup")  # of a container
        found.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError, KeyError):
        pass
    return min(found, default=None)


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _accountants(parts: Asked) -> str | None:
    """Ask for second opinions now: they are kept, and none is asked for after the last step."""
    from dp_train.engines.cross_check import disagreement, opinions, without_prv  # seconds to import

    lines = []
    for plan in parts.plans:
        doubt = disagreement(opinions(plan)) if plan.private else None
        if doubt is not None:
            raise PlanError(f"plan: {doubt}, so its ε would be withheld; change trainer.steps or trainer.sample_rate")
        reason = without_prv(plan)
        if reason is not None:
            lines.append(f"no second opinion by PRV at σ={plan.calibrated_noise_multiplier:.3g}: {reason}")
    return "; ".join(lines) or None


PARTS_CHECKS: Mapping[str, Callable[[Asked], str | None]] = {
    "examples": _examples,
    "rows": _rows,
    "memory": _scoring_memory,
    "probe": _probed,
    "accountants": _accountants,
}
"""Cheapest first."""


def check_budget(recipe: Recipe, plan: PrivacyPlan) -> None:
    """Ask the ledger whether a plan would be let through; a run asks by reserving.

    Raises:
      BudgetError: it would be refused.
    """
    if left_after(recipe, plan).get("fits") is False:
        raise BudgetError("ledger: the plan does not fit the budget of its people; see dp-train plan")


__all__ = ["PARTS_CHECKS", "RECIPE_CHECKS", "Asked", "check_budget", "check_parts", "check_recipe"]
