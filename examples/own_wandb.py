"""A run in Weights & Biases, by a callback: python examples/own_wandb.py

pip install wandb; WANDB_MODE=offline keeps it on this machine. What a callback hears without asking is public: it may
go to any board. A `PrivateStep` is not, and comes only to a callback that has `on_private_step`.
"""

from dataclasses import asdict

from quickstart import prepare

import dp_train as dp


class WeightsAndBiases(dp.Callback):
    """Plan, learning rate, ε and claim of a run."""

    def __init__(self, project: str) -> None:
        self._project = project

    def on_start(self, run: dp.RunStart) -> None:
        import wandb  # imported here: the example can be read without it

        # One id for a run that is interrupted and resumes: its public name.
        known = {"project": self._project, "id": run.identity or None, "resume": "allow"}
        self._run = wandb.init(**known, config=run.plan.describe())

    def on_step(self, step: dp.StepEnd) -> None:
        values = {name: value for name, value in asdict(step).items() if value is not None}
        self._run.log(values, step=step.step)

    def on_end(self, result: dp.Result) -> None:
        self._run.summary.update({"claim": result.epsilon.describe(), "status": result.status.value})
        self._run.finish()


def main() -> str:
    model, task, plan, units = prepare()
    execution = dp.Execution(callbacks=[WeightsAndBiases("dp-train")])
    result = dp.Trainer(model, task, plan, optimizer=dp.adamw(lr=3e-3), execution=execution).fit(units)
    return result.epsilon.describe()


if __name__ == "__main__":
    print(main())
