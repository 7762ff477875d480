"""A run in TensorBoard, by a callback: python examples/own_tensorboard.py, then tensorboard --logdir runs/board

pip install tensorboard. What a callback hears without asking is public: it may go to any board. A `PrivateStep` is not,
and comes only to a callback that has `on_private_step`.
"""

from pathlib import Path

from quickstart import prepare

import dp_train as dp


class TensorBoard(dp.Callback):
    """Learning rate and ε of each step, norms of the weights at the end, and the claim as text."""

    def __init__(self, folder: Path | str) -> None:
        from torch.utils.tensorboard import SummaryWriter  # imported here: the example can be read without it

        self._writer = SummaryWriter(str(folder))

    def on_start(self, run: dp.RunStart) -> None:
        self._writer.add_text("plan", str(run.plan.describe()))

    def on_step(self, step: dp.StepEnd) -> None:
        self._writer.add_scalar("learning_rate", step.learning_rate, step.step)
        if step.epsilon is not None:
            self._writer.add_scalar("epsilon", step.epsilon, step.step)

    def on_end(self, result: dp.Result, model) -> None:  # a method that names `model` is handed it
        for name, parameter in model.named_parameters():
            self._writer.add_scalar(f"norm/{name}", parameter.norm().item(), result.steps)
        self._writer.add_text("claim", result.epsilon.describe())
        self._writer.close()


def main() -> str:
    model, task, plan, units = prepare()
    execution = dp.Execution(callbacks=[TensorBoard("runs/board")])
    result = dp.Trainer(model, task, plan, optimizer=dp.adamw(lr=3e-3), execution=execution).fit(units)
    return result.epsilon.describe()


if __name__ == "__main__":
    print(main())
