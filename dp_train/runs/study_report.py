"""What a trade-off of one task gave, for its table, its picture and its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from dp_train.runs.baselines import Baseline, baseline_of
from dp_train.runs.comparison import Chosen, chosen_baselines, share_of_gain
from dp_train.runs.names import StartMode
from dp_train.runs.recipe import Recipe
from dp_train.runs.result import RunResult
from dp_train.tracking.figures import FrontierPoint, frontier_rows


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """What a study gave: scores are of the primary metric, on the evaluation population."""

    config: Recipe
    metric: str
    higher_is_better: bool
    start_score: float | None
    baselines: Mapping[str, float]
    outcomes: Sequence[RunResult]

    @property
    def public_start(self) -> bool:
        """Whether the start was trained on published text; else it is a pretrained model as it came."""
        return self.config.start.mode in (StartMode.PUBLIC, StartMode.PUBLISHED)

    @cached_property
    def without_privacy(self) -> dict[Baseline, Chosen]:
        """Both baselines without privacy, each at the rate that the tuning people chose."""
        return chosen_baselines(self.config, self.outcomes, metric=self.metric, higher_is_better=self.higher_is_better)

    @property
    def compared(self) -> list[RunResult]:
        """The private runs, and the baselines at their chosen rates."""
        chosen = [outcome for found in self.without_privacy.values() for outcome in found.outcomes]
        return [*(outcome for outcome in self.outcomes if baseline_of(outcome.config) is None), *chosen]

    @property
    def points(self) -> list[FrontierPoint]:
        """Runs that have a score, and an ε to show or none by design; the ε is the one that was asked for."""
        found: list[FrontierPoint] = []
        for outcome in self.compared:
            if self.metric not in outcome.scores or outcome.result.epsilon.withheld:
                continue
            epsilon, best = outcome.config.privacy.epsilon, baseline_of(outcome.config) is Baseline.BEST
            found.append(
                FrontierPoint(
                    task=self.config.task.name,
                    metric=self.metric,
                    epsilon=epsilon,
                    score=outcome.scores[self.metric],
                    trial=sum((point.epsilon, point.best) == (epsilon, best) for point in found),
                    best=best,
                    low=outcome.scores.get(f"{self.metric}_low"),
                    high=outcome.scores.get(f"{self.metric}_high"),
                )
            )
        return found

    @property
    def people(self) -> int | None:
        """How many people are scored."""
        found = {int(outcome.scores["people"]) for outcome in self.outcomes if "people" in outcome.scores}
        return max(found, default=None)

    def compared_with(self) -> dict[str, str]:
        """What start and baselines gave, with their doubts: for the cards of all runs."""
        found = {}
        if self.start_score is not None:
            found["public starting point" if self.public_start else "untuned model"] = (
                f"{self.metric} {self.start_score:.4g}"
            )
        for baseline, chosen in self.without_privacy.items():
            scores = [outcome.scores[self.metric] for outcome in chosen.outcomes]
            said = "".join(f"; may be weaker than it need be: {doubt}" for doubt in chosen.doubts)
            found[baseline.title] = f"{self.metric} {median(scores):.4g}{said}"
        return found

    def share(self, score: float) -> float | None:
        """What part of the gain of `best` a score keeps."""
        best = [row.median for row in frontier_rows(self.points) if row.best]
        return share_of_gain(
            score, start=self.start_score, best=best[0] if best else None, higher_is_better=self.higher_is_better
        )


__all__ = ["StudyReport"]
