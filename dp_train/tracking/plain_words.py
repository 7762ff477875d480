"""Three sentences at the top of a card, for people who do not know what an ε is: promised, asked, left open."""

from __future__ import annotations

import math

from dp_train.consent.events import Purpose
from dp_train.privacy.monitor import EpsilonClaim
from dp_train.privacy.plan import Unit

_AGREED = {
    Purpose.TRAIN_MEETING_SUMMARY.value: "that models learn to summarise meetings from their words",
    Purpose.TRAIN_CHAT_COMPOSE.value: "that models learn to complete messages from their words",
    Purpose.PUBLISH.value: "that their words are published",
    Purpose.PROVIDE_FEATURE.value: "that their words are used to provide a feature",
}


def in_plain_words(
    claim: EpsilonClaim, *, purpose: str, as_of: str, anonymized: str | None, research_only: str | None
) -> list[str]:
    """Return three sentences, each true by itself: what is promised, who was asked, what is not promised."""
    return [_promised(claim), _asked(purpose, as_of, anonymized, research_only), _left_open(claim)]


def _promised(claim: EpsilonClaim) -> str:
    if claim.withheld:
        return "Nothing is promised about this model: the run departed from its plan, or could not be checked."
    if not claim.private:
        return "Nothing is promised about this model: it was trained without privacy, and may repeat what people said."
    whom = (
        "about one person (were their words in the training, and what did they say?)"
        if claim.unit is Unit.USER
        else "about one example (a person may own several, and is promised less)"
    )
    return (
        f"For whoever has this model, the odds of any guess {whom} change by at most a factor of "
        f"{_factor(claim.unwrap())} (e^ε), but for a chance of {claim.delta:g} (δ)."
    )


def _factor(epsilon: float) -> str:
    """e^ε with two digits, never below its value."""
    if epsilon > 100:
        return "more than 10^43"
    value = math.exp(epsilon)
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.ceil(value / step * (1 - 1e-12)) * step:,.{max(0, 1 - math.floor(math.log10(value)))}f}"


def _asked(purpose: str, as_of: str, anonymized: str | None, research_only: str | None) -> str:
    if research_only is not None:
        return "The people whose words it learnt from were never asked: the model is for research alone."
    agreed = _AGREED.get(purpose, f"to {purpose}")
    replaced = (
        f"{anonymized.partition(';')[0]} were replaced first" if anonymized else "nothing was replaced in them first"
    )
    return f"Everyone whose words it learnt from had agreed, as of {as_of[:10]}, {agreed}; {replaced}."


def _left_open(claim: EpsilonClaim) -> str:
    if claim.withheld or not claim.private:
        return "Treat the model as if it held the words that it learnt from."
    return (
        "Not covered: who met whom, who agreed, and what other models of the same people add to it; the lists below "
        "say all of it."
    )


__all__ = ["in_plain_words"]
