"""The facts of one imagined run, which the tests of the card change one at a time."""

from dp_train.privacy.monitor import EpsilonClaim
from dp_train.privacy.plan import PrivacyPlan
from dp_train.tracking.card import CardFacts

PLAN = PrivacyPlan(sample_rate=0.02, expected_units=64, steps=300, delta=1e-6, noise_multiplier=1.25)


def claim(spent: float | None = 3.0, *, withheld: tuple[str, ...] = (), private: bool = True) -> EpsilonClaim:
    return EpsilonClaim(private=private, withheld=withheld, spent=spent, delta=1e-6, unit=PLAN.unit, steps=300)


FACTS = CardFacts(
    run="summary-eps3",
    task="meeting_summary",
    model="decoder, 4 layers, width 128",
    engine="hooks",
    status="FINISHED",
    plan=PLAN,
    claim=claim(),
    cross_check={"pld": 3.0, "prv": 3.01, "rdp": 3.4},
    curve=((2.0, 1e-4), (2.5, 1e-5), (3.0, 1e-6)),
    seed_is_fixed=False,
    consent_root="ab" * 32,
    consent_as_of="2025-01-31T00:00:00+00:00",
    purpose="train_meeting_summary",
    consent_counts={"conversations seen": 900, "conversations kept": 410, "denied: guest": 3, "denied: expired": 0},
    anonymized="names and patterns",
    starting_point="cd" * 32,
    scores={"rougeL": 0.25, "perplexity": float("inf")},
    versions={"torch": "2.13.0"},
    commit="ef" * 20,
)
