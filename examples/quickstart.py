"""A private run from Python, with no Hydra and no MLflow: python examples/quickstart.py"""

from datetime import UTC, datetime

import dp_train as dp


def prepare():
    """Model, task, plan and units, from a corpus that brings its people's decisions along."""
    # 1. Who agreed to what.
    key = dp.PrincipalKey(b"in real life: a file of its own.")
    people = dp.SyntheticCorpus(200, dp.Population.PRIVATE)
    consent = dp.ConsentRegistry(people.consent_events(key), key=key).snapshot(as_of=datetime.now(UTC))

    # 2. Only that passes the gate, and names are replaced.
    policy = dp.ConsentPolicy(purpose=dp.Purpose.TRAIN_CHAT_COMPOSE)
    consented = dp.gate(people, consent, policy).redact(dp.Anonymizer())

    # 3. A task makes examples of it; all of one person's are a unit.
    tokenizer = dp.train_tokenizer(["text that is public anyway, of an encyclopaedia say"], vocab_size=400)
    task = dp.ChatCompose(tokenizer, dp.Architecture.DECODER, max_length=32)
    units = dp.build_units(task.examples(consented), unit=dp.Unit.USER, rows_per_unit=2)

    # 4. Public numbers, from which sampler, clipping, noise and ε follow.
    plan = dp.PrivacyPlan(sample_rate=0.1, expected_units=20, steps=5, delta=1e-5, rows_per_unit=2)
    plan = plan.calibrate(epsilon=8.0)

    model = dp.build_model(dp.TINY.replace(layers=1, width=16, heads=1), tokenizer, seed=0)
    return model, task, plan, units


def main() -> str:
    # 5. One loop, private or not.
    model, task, plan, units = prepare()
    return dp.Trainer(model, task, plan, optimizer=dp.adamw(lr=3e-3)).fit(units).epsilon.describe()


if __name__ == "__main__":
    print(main())
