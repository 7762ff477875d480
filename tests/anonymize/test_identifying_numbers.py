"""Addresses, dates of birth, documents, accounts, plates and secrets: what is found, and what stays as it is."""

from __future__ import annotations

import time

import pytest
from stdnum import get_cc_module
from test_anonymizer import replaced

from dp_train.anonymize.labels import Labels
from dp_train.anonymize.national_ids import SHAPES, national_ids
from dp_train.anonymize.patterns import find_patterns

FOUND = [
    ("write to 12 Maple Street, Springfield, IL 62704", "write to [ADDRESS]"),
    ("Hauptstraße 5, 80331 München ist es", "[ADDRESS] ist es"),
    ("3 rue Pasteur, 75015 Paris", "[ADDRESS]"),
    ("ул. Садовая, д. 3, кв. 12", "[ADDRESS]"),
    ("上海市徐汇区漕溪路12号", "[ADDRESS]"),
    ("at SW1A 2AA", "at [ADDRESS]"),
    ("DOB: 02/03/1980", "DOB: [BIRTH_DATE]"),
    ("né le 2 mars 1980", "né le [BIRTH_DATE]"),
    ("1980年3月2日生まれ", "[BIRTH_DATE]生まれ"),
    ("passport no. 123456789", "passport no. [ID]"),
    ("Führerschein B123456X78", "Führerschein [ID]"),
    ("00339694F", "[ID]"),
    ("140388-322J", "[ID]"),
    ("sort code 12-34-56", "sort code [ACCOUNT]"),
    ("Kontonummer 1234567", "Kontonummer [ACCOUNT]"),
    ("license plate ABC 1234", "license plate [PLATE]"),
    ("粤B·12345", "[PLATE]"),
    ("0050.7966.6801", "[IP]"),
    ("DB_PASSWORD=tulip", "DB_PASSWORD=[PASSCODE]"),
    ("пароль: синица5", "пароль: [PASSCODE]"),
    ("passphrase: four grey cats sing", "passphrase: [PASSCODE]"),
    ("whsec_abcdefghijklmnopqrstu", "[SECRET]"),
]


@pytest.mark.parametrize(("text", "expected"), FOUND)
def test_what_identifies_is_replaced(text: str, expected: str) -> None:
    assert replaced(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "we walked 12 streets and 3 squares",
        "der Platz 3 ist noch frei",
        "released on 02/03/2024",
        "an idea born in 2012",
        "passports cost 86 euros",
        "the account has 1000000 users",
        "a plate of 450 g",
        "a passphrase is longer than a password",
        "invoice 2024-0417",
        "ship it.So we call os.system",
    ],
)
def test_what_identifies_nobody_stays(text: str) -> None:
    assert replaced(text) == text


def test_check_digits_of_twenty_countries_are_known_without_a_word() -> None:
    assert len({name.partition(".")[0] for name in SHAPES}) >= 20
    assert get_cc_module("pl", "pesel") is not None
    assert list(national_ids("88031404736")) == [(0, 11)]
    assert list(national_ids("88031404737")) == []


def test_a_label_stands_where_its_alphabet_lets_it() -> None:
    labels = Labels("zzdob| ~zzkonto zzid 番番")
    assert labels.ends("my ZZDOB, zzdobby") == [8]
    assert labels.ends("girozzkonto") == [11]
    assert labels.ends("azzid zzids") == [10]
    assert labels.ends("の番番は") == [3]


@pytest.mark.parametrize(
    "unit",
    ["Aa-", "Aa ", "Aa 1, ", "路", "1路", "가", "区", "मकान 1 ", "12 rue de ", "passport 1", "phrase is ", "pwd"],
)
def test_hostile_repetition_takes_no_more_than_linear_time(unit: str) -> None:
    find_patterns(unit)
    start = time.process_time()
    find_patterns((unit * 20_000)[:20_000])
    assert time.process_time() - start < 3.0
