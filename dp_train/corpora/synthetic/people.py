"""Who is in a population: people with habits of speech, in companies, in blocks of 200.

Person `i` belongs to block `i // 200` and is a function of (seed, population, i), save that a last block of
fewer people may cut a company short. So a population of any size is read block by block in the memory of one.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from dp_train.corpora.synthetic.dice import Dice, cumulative_weights
from dp_train.corpora.synthetic.lexicon import Matter, Register, Style, general_register, house_register, names

BLOCK = 200
COMPANY_SIZES = (62, 44, 32, 24, 18, 12, 8)
"""People per company of a full block."""
_FIRM_SIZES, _HOUSE_LIKE_SIZES = (32, 24), (12,)
"""Public companies of these sizes meet about what the house meets about; of the second, talk like it as well.

So a public starting point has seen the house's words, if rarely, and never with its minutes as a rule:
fine-tuning has habits to shift, which many people's data can do together, and not a language to learn.
"""


class Population(Enum):
    """Three populations without a person in common.

    PUBLIC is the wide world: mostly clubs and shops, some firms that meet about what the house meets
    about, and a few that talk like it; it agreed to publication and training, and starting point and
    vocabulary come from it. PRIVATE and EVALUATION are companies of one house; PRIVATE has a consent history of
    every kind, EVALUATION agreed to publication alone.
    """

    PUBLIC = "public"
    PRIVATE = "private"
    EVALUATION = "evaluation"

    @property
    def prefix(self) -> str:
        """Beginning of every id in the population."""
        return {"public": "pub", "private": "prv", "evaluation": "evl"}[self.value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Company:
    """An organisation: how its people talk, and the matters, products and places they talk about."""

    org_id: str
    name: str
    domain: str
    register: Register
    matters: tuple[Matter, ...]
    slots: Mapping[str, tuple[str, ...]]
    size: int
    """People it has in a full block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A person with an account, or a guest without one, and how that person talks."""

    index: int
    person_id: str
    name: str
    given: str
    company: Company
    activity: float
    openers: tuple[str, ...]
    filler: str
    tags: tuple[str, ...]
    assents: tuple[str, ...]
    signoff: str
    pets: tuple[str, ...]
    smiley: str | None
    proper: bool
    """Writes chat with capitals and full stops."""
    minutes: Style
    """How the person writes minutes."""

    @property
    def email(self) -> str:
        plain = unicodedata.normalize("NFKD", self.name.replace("ø", "o")).encode("ascii", "ignore").decode()
        return ".".join(part.replace("'", "") for part in plain.lower().split()) + "@" + self.company.domain


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """The people of one company in a block; those who talk more have more weight."""

    company: Company
    members: tuple[Person, ...]
    weights: tuple[float, ...]

    def gather(self, dice: Dice, host: Person, count: int) -> list[Person]:
        """`host` and others, `count` people in all, or the whole team where it is smaller."""
        gathered = {host.index: host}
        while len(gathered) < min(count, len(self.members)):
            other = self.members[dice.weighted(self.weights)]
            gathered[other.index] = other
        return list(gathered.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Up to 200 people in their teams, and the order in which they call meetings."""

    number: int
    people: tuple[Person, ...]
    teams: tuple[Team, ...]
    team_of: Mapping[int, Team]
    hosts: tuple[Person, ...]


def build_block(seed: int, population: Population, number: int, size: int = BLOCK) -> Block:
    """Block `number` of a population, its first `size` people."""
    dice = Dice(seed, population.value, "block", number)
    sizes = dice.order(COMPANY_SIZES)
    first = number * BLOCK
    groups: list[tuple[Company, list[Person]]] = []
    start = 0
    for position, places in enumerate(sizes):
        count = min(places, size - start)
        if count <= 0:
            break
        if count == 1 and groups:
            # Nobody works alone: a company cut off after one person joins the one before it.
            company, members = groups[-1]
        else:
            company, members = _company(seed, population, number, position, places), []
            groups.append((company, members))
        members.extend(build_person(seed, population, first + start + offset, company) for offset in range(count))
        start += count
    teams = tuple(
        Team(
            company=company,
            members=tuple(members),
            weights=cumulative_weights([person.activity for person in members]),
        )
        for company, members in groups
    )
    people = tuple(person for team in teams for person in team.members)
    return Block(
        number=number,
        people=people,
        teams=teams,
        team_of={person.index: team for team in teams for person in team.members},
        hosts=tuple(dice.order([person for team in teams if len(team.members) > 1 for person in team.members])),
    )


def build_person(seed: int, population: Population, index: int, company: Company, *, guest: bool = False) -> Person:
    """Person `index` of a population; guests are counted apart."""
    dice = Dice(seed, population.value, "guest" if guest else "person", index)
    register, styles = company.register, _world(population).styles
    habits = register.habits
    given, family = dice.pick(names().first), dice.pick(names().family)
    return Person(
        index=-1 - index if guest else index,
        person_id=f"{population.prefix}-{'guest' if guest else 'person'}-{index:07d}",
        name=f"{given} {family}",
        given=given,
        company=company,
        activity=math.exp(0.9 * dice.normal()),
        openers=dice.some(habits.openers, 2),
        filler=dice.pick(habits.fillers),
        tags=dice.some(habits.tags, 2),
        assents=dice.some(habits.assents, 2),
        signoff=dice.pick(habits.signoffs),
        pets=dice.some(habits.pets, 2),
        smiley=dice.pick(register.smileys) if dice.chance(0.4) else None,
        proper=dice.chance(0.35),
        minutes=styles[dice.weighted(cumulative_weights([style.share for style in styles]))],
    )


def _world(population: Population) -> Register:
    """The register that most of a population has; slots and styles of minutes are always its own."""
    return general_register() if population is Population.PUBLIC else house_register()


def _company(seed: int, population: Population, block: int, position: int, size: int) -> Company:
    dice = Dice(seed, population.value, "company", block, position)
    world = _world(population)
    register, matters = world, world.matters
    if population is Population.PUBLIC and size in _FIRM_SIZES:
        matters = house_register().matters
    if population is Population.PUBLIC and size in _HOUSE_LIKE_SIZES:
        register = house_register()
        matters = register.matters
    name = f"{dice.pick(names().companies)} {dice.pick(names().branches)}"
    return Company(
        org_id=f"{population.prefix}-org-{block:05d}-{position}",
        name=name,
        domain=name.lower().replace(" ", "-") + ".example",
        register=register,
        matters=dice.some(matters, 6),
        slots={slot: dice.some(values, 4) for slot, values in world.slots.items()},
        size=size,
    )
