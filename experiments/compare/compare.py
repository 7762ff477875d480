"""A hand-written Opacus loop beside `dp_train`: the same people, starting point, steps and ε.

python experiments/compare/compare.py [--experiment compose/gitter] [--epsilon 8] [key=value …] > compare.md

Three trainings from one public starting point: `opacus_script.py` with each learning rate of `--rates`, dp_train per
person, dp_train per example (the script's own promise). The script's ε holds for one message. What it is for a person
is computed for the median and the heaviest writers of the training data: each of their messages is drawn by itself.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import subprocess
import sys
import tempfile
import time
import tokenize
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import transformers

from dp_train.cli.load_config import compose
from dp_train.cli.plan import make_plan
from dp_train.privacy.plan import PrivacyPlan, Unit
from dp_train.runs.prepare import make_scaling, make_seeds, make_trainer, material, prepare_machine
from dp_train.runs.recipe import Recipe
from dp_train.runs.starting import make_model
from dp_train.tasks.metrics import Scores

SCRIPT = Path(__file__).with_name("opacus_script.py")
QUANTILES = {"median": 0.5, "90th percentile": 0.9, "99th percentile": 0.99, "most": 1.0}


def configured(options: argparse.Namespace, *overrides: str) -> Recipe:
    """The experiment with nothing tracked and nothing in a ledger: what is trained is compared and thrown away."""
    own = [f"experiments={options.experiment}", "tracking=off", "ledger=false", f"privacy.epsilon={options.epsilon}"]
    own += ["corpus.tables=null"]  # they keep tokens, and who wrote them is asked here
    return compose([*own, *options.overrides, *overrides])[0]


def lines_of_code(path: Path) -> int:
    """Lines that hold a token of a program, docstrings left out."""
    ignored = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    held: set[int] = set()
    fresh = True
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type in ignored:
            fresh = fresh or token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
            continue
        if not (token.type == tokenize.STRING and fresh and token.string.startswith('"""')):
            held.update(range(token.start[0], token.end[0] + 1))
        fresh = False
    return len(held)


def lines_of_config(path: Path) -> int:
    """Lines of a YAML file that say something."""
    return sum(bool(line.strip()) and not line.lstrip().startswith("#") for line in path.read_text().splitlines())


def of_a_person(told: dict[str, float], options: argparse.Namespace, messages: int) -> float:
    """ε of somebody with that many messages, each drawn by itself at the script's rate under the script's noise."""
    plan = PrivacyPlan(
        sample_rate=told["sample_rate"],
        expected_units=1,  # a divisor, which costs nothing
        steps=options.steps,
        delta=1e-5,
        noise_multiplier=told["sigma"],
        unit=Unit.USER,
        max_contributions=messages,
    )
    return plan.epsilon()


def main() -> None:
    """Train three ways, score, print a table in Markdown."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--experiment", default="compose/gitter")
    parser.add_argument("--epsilon", type=float, default=8.0)
    parser.add_argument("--batch", type=int, default=768, help="messages that the script expects in a step")
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 2e-3, 4e-3], help="of learning, of the script")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    config = configured(options)
    options.steps = config.trainer.steps
    prepare_machine(config)
    # Per example every message of a person is kept, as the script keeps them.
    per_message = ["privacy.unit=EXAMPLE", "privacy.rows_per_unit=1", f"trainer.expected_units={options.batch}"]
    everything = material(configured(options, *per_message))
    rows = [everything.task.encode(example) for unit in everything.units for example in unit]
    owners = Counter(owner for unit in everything.units for example in unit for owner in example.owners)
    by_message = configured(options, *per_message, f"trainer.population={len(rows)}")
    table = []

    def score(model: object) -> float:
        found = everything.task.evaluate(model, everything.evaluation, scores=Scores.PRIMARY)  # type: ignore[arg-type]
        return found[everything.task.metric]

    with tempfile.TemporaryDirectory() as folder:
        start, data = Path(folder, "start"), Path(folder, "rows.jsonl")
        model, _ = make_model(config, everything)
        model.save_pretrained(start)
        begun = score(model)
        data.write_text("".join(json.dumps(dataclasses.asdict(row)) + "\n" for row in rows))
        told: dict[str, float] = {}
        for rate in options.rates:
            out = Path(folder, f"out-{rate:g}")
            command = [sys.executable, str(SCRIPT), str(data), str(start), str(out), "--epsilon", str(options.epsilon)]
            command += ["--steps", str(options.steps), "--batch", str(options.batch), "--learning-rate", str(rate)]
            ran = subprocess.run(command, capture_output=True, text=True, check=True)
            told = json.loads(ran.stdout.splitlines()[-1])
            trained = transformers.AutoModelForCausalLM.from_pretrained(out)
            table.append((f"the script, learning rate {rate:g}", told["seconds"], score(trained), "message"))
            print(table[-1], file=sys.stderr)
    for label, chosen, unit in (
        ("`dp_train`, per person", config, "person"),
        ("`dp_train privacy.unit=EXAMPLE`", by_message, "message"),
    ):
        made = material(chosen) if unit == "person" else everything
        model, _ = make_model(chosen, made)
        trainer = make_trainer(chosen, model, made.task, make_plan(chosen), scaling=make_scaling(chosen, model, made))
        clock = time.perf_counter()
        trainer.fit(made.units, seeds=make_seeds(chosen))
        table.append((label, time.perf_counter() - clock, score(model), unit))
        print(table[-1], file=sys.stderr)

    print("    python experiments/compare/compare.py " + " ".join(sys.argv[1:]) + "\n")
    told_of = f"{len(rows)} messages of {len(owners)} people; {options.steps} steps"
    print(f"{told_of}; {everything.task.metric} at the start {begun:.1f}.\n")
    print(f"| | training, s | {everything.task.metric} | ε={options.epsilon:g} at δ=1e-5 is of a |\n|---|---|---|---|")
    for label, seconds, found, unit in table:
        print(f"| {label} | {seconds:.0f} | {found:.1f} | {unit} |")
    print("\n| ε of the script for a person | messages | ε at δ=1e-5 |\n|---|---|---|")
    for name, quantile in QUANTILES.items():
        count = int(np.quantile(list(owners.values()), quantile, method="higher"))
        print(f"| {name} | {count} | {of_a_person(told, options, count):.1f} |")
    settings = Path(__file__).parents[1] / f"{options.experiment}.yaml"
    print(f"\nLines: {lines_of_code(SCRIPT)} of Python in the script, {lines_of_config(settings)} in {settings.name}.")


if __name__ == "__main__":
    main()
