"""What law, notices and a controller's policy ask for beside the events: values that only ever deny.

`decisions` applies them to one person's facts. Purposes and kinds are numbered here, as bit masks of rules and of
facts have them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import reduce
from operator import or_
from typing import NamedTuple

from dp_train.consent.events import Processing, Purpose
from dp_train.conversations import ContentKind
from dp_train.errors import ConfigError

PURPOSES = tuple(Purpose)
KINDS = tuple(ContentKind)
ALL_PURPOSES = (1 << len(PURPOSES)) - 1
ALL_KINDS = (1 << len(KINDS)) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a policy denies whatever people agreed to: kinds of content for purposes.

    Attributes:
      purposes, kinds: where both are named, those kinds for those purposes; where one is, all of the other.
        Where neither is, nothing.
    """

    purposes: frozenset[Purpose] = frozenset()
    kinds: frozenset[ContentKind] = frozenset()

    @property
    def masks(self) -> tuple[int, ...]:
        """Denied kinds as a bit mask, by purpose index."""
        if not self.purposes and not self.kinds:
            return (0,) * len(PURPOSES)
        kinds = sum(1 << KINDS.index(kind) for kind in self.kinds) or ALL_KINDS
        return tuple(kinds if not self.purposes or purpose in self.purposes else 0 for purpose in PURPOSES)


@dataclass(frozen=True, slots=True, kw_only=True)
class JurisdictionRule:
    """What holds for consent that was collected under a jurisdiction.

    Attributes:
      deny: what is denied there.
      valid_for: a grant that is older counts as expired; None for no such limit.
    """

    deny: Limits = field(default_factory=Limits)
    valid_for: timedelta | None = None

    def __post_init__(self) -> None:
        if self.valid_for is not None and self.valid_for <= timedelta(0):
            raise ConfigError(f"consent rules: valid_for={self.valid_for}; expected a time > 0, or none")


class PlaceLimits(NamedTuple):
    """A jurisdiction's rule as the judge reads it: denied kinds by purpose index, µs that a grant is valid."""

    masks: tuple[int, ...]
    valid_for: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentRules:
    """What the law and the controller's notices and policy ask for, beyond the events themselves.

    Nothing here can allow what an event does not grant.

    Attributes:
      material_versions: notice id → version of its latest material change. A grant under an older
        version denies with OLD_NOTICE. Somebody who had granted under an older version is allowed
        again only by a *renewed* consent under that version or a later one; a first consent under
        the changed notice counts, for nothing changed after it.
      age_matters: purposes that are denied while the age of the person is unknown.
      jurisdictions: rules by the `jurisdiction` of the events that grant; "US" holds in "US-CA" too, and
        "unknown" where an event names none.
      organisations: what is denied to whole organisations, by their id.
      research_only: records of public benchmarks (`LawfulBasis.RESEARCH`) count as grants too. Their people consented
        to nothing: what is trained so is for comparison, and for no product.
    """

    material_versions: Mapping[str, int] = field(default_factory=dict)
    age_matters: frozenset[Purpose] = frozenset(
        {Purpose.TRAIN_MEETING_SUMMARY, Purpose.TRAIN_CHAT_COMPOSE, Purpose.PUBLISH}
    )
    jurisdictions: Mapping[str, JurisdictionRule] = field(default_factory=dict)
    organisations: Mapping[str, Limits] = field(default_factory=dict)
    research_only: bool = False

    def limits(self, jurisdiction: str) -> PlaceLimits | None:
        """The rules of a jurisdiction and of all that it lies in, the stricter of each; None where there is none."""
        parts = (jurisdiction or "unknown").split("-")
        names = ["-".join(parts[:count]) for count in range(1, len(parts) + 1)]
        rules = [self.jurisdictions[name] for name in names if name in self.jurisdictions]
        if not rules:
            return None
        masks = tuple(reduce(or_, column) for column in zip(*(rule.deny.masks for rule in rules), strict=True))
        lengths = [rule.valid_for // timedelta(microseconds=1) for rule in rules if rule.valid_for is not None]
        return PlaceLimits(masks, min(lengths, default=None))


REQUIRED_PROCESSING: Mapping[Purpose, frozenset[Processing]] = {
    Purpose.TRAIN_MEETING_SUMMARY: frozenset({Processing.TRAIN}),
    Purpose.TRAIN_CHAT_COMPOSE: frozenset({Processing.TRAIN}),
    Purpose.PROVIDE_FEATURE: frozenset(),
    Purpose.PUBLISH: frozenset({Processing.DISCLOSE}),
}
"""Operations that a grant which names operations has to name for each purpose."""
