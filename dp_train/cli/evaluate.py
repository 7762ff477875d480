"""`dp-train evaluate`: scores of a finished run on the evaluation population, which spends nothing."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import replace

from dp_train.cli.show import console, samples, scores_table
from dp_train.errors import ConfigError
from dp_train.runs.folder import RunFolder


def run(options: Namespace) -> int:
    """Print scores and samples, or the scores as JSON.

    Raises:
      ConfigError: the run has no evaluation population, or may not be scored on the corpus that is named.
    """
    folder = RunFolder.find(options.run)
    from dp_train.runs.evaluation import evaluation_examples
    from dp_train.runs.load import load
    from dp_train.runs.populations import look, populations

    trained = load(folder)
    config = trained.config
    if options.on is not None:
        config = replace(config, corpus=replace(config.corpus, evaluation_source=options.on))
    examples = evaluation_examples(config, trained.task, populations(config, look(config)).evaluation).reported
    if not examples:
        raise ConfigError(
            f"run {folder.path}: corpus.evaluation is null; expected a file of people who agreed to publication"
        )
    scores = trained.task.evaluate(trained.model, examples)
    if options.json:
        print(json.dumps(scores, indent=2))
        return 0
    out = console()
    out.print(scores_table(scores))
    samples(out, trained.task.samples(trained.model, examples, trained.config.evaluation.samples))
    return 0
