"""Laws of what people let slip: every kind appears, has its form, and is where the script says."""

from __future__ import annotations

import ipaddress
from functools import cache

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp_train.corpora.synthetic import Population, Script, SecretKind, SyntheticCorpus
from dp_train.corpora.synthetic.slips import iban_check, luhn_digit, personal_code


@cache
def scripts() -> list[Script]:
    return list(SyntheticCorpus(1000, Population.PRIVATE).scripts())


def values(kind: SecretKind) -> list[str]:
    found = [slip.value for script in scripts() for slip in script.slips if slip.kind is kind]
    assert len(found) > 10
    return found


@pytest.mark.parametrize("population", Population)
def test_every_kind_appears_from_200_people_on(population: Population) -> None:
    slips = [slip for script in SyntheticCorpus(200, population).scripts() for slip in script.slips]
    assert {slip.kind for slip in slips} == set(SecretKind)


def test_a_slip_is_said_where_and_by_whom_the_script_says() -> None:
    for script in scripts():
        for slip in script.slips:
            turn = script.conversation.turns[slip.turn]
            assert slip.value in turn.text
            assert slip.person_id == turn.person_id


def test_cards_pass_luhn() -> None:
    for card in values(SecretKind.CARD):
        digits = card.replace(" ", "").replace("-", "")
        assert len(digits) == 16
        doubled = [int(d) * (2 if place % 2 else 1) for place, d in enumerate(reversed(digits))]
        assert sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


def test_ibans_pass_mod_97() -> None:
    for iban in values(SecretKind.IBAN):
        compact = iban.replace(" ", "")
        assert len(compact) == {"DE": 22, "GB": 22, "FR": 27}[compact[:2]]
        assert int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


def test_check_digits_are_the_published_ones() -> None:
    assert luhn_digit("7992739871") == "3"
    assert iban_check("GB", "WEST12345698765432") == "82"
    assert iban_check("DE", "370400440532013000") == "89"


def test_phones_and_addresses_have_their_forms() -> None:
    for phone in values(SecretKind.PHONE):
        assert phonenumbers.is_possible_number(phonenumbers.parse(phone, "US"))
    for address in values(SecretKind.IP):
        ipaddress.ip_address(address)
    for number in values(SecretKind.SSN):
        area, group, serial = map(int, number.split("-"))
        assert 0 < area < 900
        assert area != 666
        assert group
        assert serial
    assert all(email.isascii() and email.endswith(".example") for email in values(SecretKind.EMAIL))
    assert all(".example/" in url for url in values(SecretKind.URL))


@given(st.integers(0, 1_519_999), st.integers(0, 1_519_999))
def test_a_personal_code_belongs_to_one_person(one: int, other: int) -> None:
    assert (personal_code(one) == personal_code(other)) == (one == other)


def test_personal_codes_of_a_small_population_are_all_different() -> None:
    assert len({personal_code(index) for index in range(50_000)}) == 50_000


def test_a_personal_fact_is_said_by_its_person_alone() -> None:
    facts = [slip for script in scripts() for slip in script.slips if slip.kind is SecretKind.PERSONAL_FACT]
    speakers: dict[str, set[str]] = {}
    for slip in facts:
        speakers.setdefault(slip.value, set()).add(slip.person_id)
    assert all(len(people) == 1 for people in speakers.values())
    texts = [turn for script in scripts() for turn in script.conversation.turns]
    for fact, people in list(speakers.items())[:20]:
        assert {turn.person_id for turn in texts if fact in turn.text.split("\n")[-1]} == people
