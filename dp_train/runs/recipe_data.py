"""The parts of a configuration that say who agreed to what, and what is replaced before anything is learnt."""

from __future__ import annotations

from dataclasses import dataclass, field

from dp_train.consent.events import Purpose
from dp_train.conversations import ContentKind
from dp_train.corpora.spec import is_time
from dp_train.errors import ConfigError
from dp_train.expect import expect
from dp_train.settled import settled


@settled
@dataclass(kw_only=True)
class DenyConfig:
    """What a rule denies: those kinds of content for those purposes; where one of the two is left out, all of it."""

    purposes: list[Purpose] = field(default_factory=list)
    """Purposes that are denied; empty with `kinds` means every purpose."""
    kinds: list[ContentKind] = field(default_factory=list)
    """Kinds of content that are denied; empty with `purposes` means every kind."""

    @property
    def nothing(self) -> bool:
        return not self.purposes and not self.kinds


@settled
@dataclass(kw_only=True)
class JurisdictionConfig:
    """What holds for consent that was collected under a jurisdiction."""

    deny: DenyConfig = field(default_factory=DenyConfig)
    """What is denied there, whatever people agreed to."""
    valid_for_days: int | None = None
    """A grant that is older counts as expired; null never expires."""

    def __post_init__(self) -> None:
        days = self.valid_for_days
        expect(self, "consent.jurisdictions.….valid_for_days", days is None or days >= 1, "at least 1 day, or null")


@settled
@dataclass(kw_only=True)
class ConsentConfig:
    """Who agreed to what."""

    events: str | None = None
    """The file of consent events; the embedded corpus brings its own."""
    key: str = "runs/principal.key"
    """The file of the secret that makes pseudonyms; created where it is missing for the embedded corpus alone."""
    directory: str | None = None
    """A file of the organisation's people, `person_id` and `name` (CSV or JSON lines): the no of each of them counts
    wherever their full name stands, on the roster or not."""
    as_of: str | None = None
    """The time that consent is asked about, ISO 8601 with an offset; null means now."""
    known_at: str | None = None
    """Leaves out what was recorded later, ISO 8601 with an offset; null leaves nothing out."""
    max_removed_share: float = 0.5
    """A conversation of which the gate would remove more is left out whole, unless rows hold their author's words alone
    (chat compose with task.context=own); so is what one person said of it, if more of that names or repeats others."""
    material_versions: dict[str, int] = field(default_factory=dict)
    """Notice → version of its last material change: who agreed to an older one has to agree anew."""
    store: bool = False
    """Whether the consent store (`store.url`) is asked instead of a file, for the embedded corpus too; see
    `dp-train consent import`."""
    jurisdictions: dict[str, JurisdictionConfig] = field(default_factory=dict)
    """Rules by the jurisdiction of the event that grants; they can only deny."""
    organisations: dict[str, DenyConfig] = field(default_factory=dict)
    """Rules by the organisation in which a conversation took place; they can only deny."""

    def __post_init__(self) -> None:
        share = self.max_removed_share
        for notice, version in self.material_versions.items():
            if version < 1:
                raise ConfigError(f"config: consent.material_versions.{notice}={version}; expected at least 1")
        for org_id, deny in self.organisations.items():
            if deny.nothing:
                raise ConfigError(
                    f"config: consent.organisations.{org_id} denies nothing; expected purposes, kinds or both"
                )
        for place, rule in self.jurisdictions.items():
            if rule.deny.nothing and rule.valid_for_days is None:
                raise ConfigError(
                    f"config: consent.jurisdictions.{place} asks for nothing; expected deny, valid_for_days or both"
                )
        expect(
            self,
            "consent.events",
            self.events is None or not self.store,
            "null with consent.store=true; dp-train consent import brings the file into the store",
        )
        expect(self, "consent.max_removed_share", 0 <= share <= 1, "a share in [0, 1]")
        for name in ("as_of", "known_at"):
            expect(
                self,
                f"consent.{name}",
                is_time(getattr(self, name)),
                "a time with an offset, such as 2025-01-31T00:00:00+00:00",
            )


@settled
@dataclass(kw_only=True)
class AnonymizeConfig:
    """What is replaced by surrogates before anything is learnt."""

    names: bool = True
    """Whether names of people on the roster are replaced."""
    patterns: bool = True
    """Whether what looks like an address, a number or another identifier is replaced."""
    people: str | None = None
    """The package of an installed spaCy model, such as `en_core_web_sm`, that finds people who are not on the roster;
    needs `pip install 'dp_train[presidio]'`, too."""
    presidio: bool = False
    """Whether what Presidio finds is replaced as well; needs `pip install 'dp_train[presidio]'`."""
