"""National identity numbers told by their shape and check digits (`python-stdnum`), with no word beside them.

Only shapes that ordinary numbers rarely have: letters or separators in their places, or a date of birth in front.
A bare number with one check digit (one of ten passes) needs a word; see `labelled.documents`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any

from dp_train.anonymize.labels import Place

SHAPES: dict[str, str] = {
    "es.dni": r"\d{8}[ -]?[A-Z]",
    "es.nie": r"[XYZ][ -]?\d{7}[ -]?[A-Z]",
    "it.codicefiscale": r"[A-Z]{6}\d{2}[A-Z]\d{2}[A-Z]\d{3}[A-Z]",
    "fr.nir": r"[12] ?\d{2} ?\d{2} ?\d[\dAB] ?\d{3} ?\d{3} ?\d{2}",
    "be.nn": r"\d{2}[. ]?\d{2}[. ]?\d{2}[- ]?\d{3}[. ]?\d{2}",
    "ch.ssn": r"756[. ]?\d{4}[. ]?\d{4}[. ]?\d{2}",
    "se.personnummer": r"(?:19|20)?\d{6}[-+]\d{4}",
    "no.fodselsnummer": r"\d{6} ?\d{5}",
    "dk.cpr": r"\d{6}-\d{4}",
    "fi.hetu": r"\d{6}[-+A-FU-Y]\d{3}[0-9A-Y]",
    "is_.kennitala": r"\d{6}-\d{4}",
    "ee.ik": r"[1-6]\d{10}",
    "lt.asmens": r"[3-6]\d{10}",
    "pl.pesel": r"\d{11}",
    "cz.rc": r"\d{6}/\d{3,4}",
    "ro.cnp": r"[1-8]\d{12}",
    "bg.egn": r"\d{10}",
    "si.emso": r"\d{13}",
    "gr.amka": r"\d{11}",
    "tr.tckimlik": r"[1-9]\d{10}",
    "ru.inn": r"\d{12}",
    "in_.aadhaar": r"[2-9]\d{3} \d{4} \d{4}",
    "in_.pan": r"[A-Z]{3}[ABCFGHJLPT][A-Z]\d{4}[A-Z]",
    "cn.ric": r"\d{17}[\dXx]",
    "kr.rrn": r"\d{6}-\d{7}",
    "th.pin": r"\d-\d{4}-\d{5}-\d{2}-\d",
    "my.nric": r"\d{6}-\d{2}-\d{4}",
    "pk.cnic": r"\d{5}-\d{7}-\d",
    "br.cpf": r"\d{3}\.?\d{3}\.?\d{3}-?\d{2}",
    "ar.cuit": r"(?:20|23|24|27)-\d{8}-\d",
    "cl.rut": r"\d{1,2}\.?\d{3}\.?\d{3}-[\dKk]",
    "mx.curp": r"[A-Z]{4}\d{6}[HM][A-Z]{5}[\dA-Z]\d",
    "za.idnr": r"\d{6} ?\d{4} ?\d{3}",
    "ie.pps": r"\d{7}[A-W][A-IW]?",
    "ca.sin": r"\d{3}[ -]\d{3}[ -]\d{3}",
}
"""Module of stdnum → how the number is written."""

_CANDIDATE = re.compile(r"(?<![\w.,/+\-])[A-Z]{0,6}\d(?:[ .\-/+]?[\dA-Z]){6,22}(?![\w/]|[\-.,]\d)")
# Bare digits beside such a word are a telephone number.
_CALLED = re.compile(
    r"\b(?:call|phone|tel|mobile|cell|fax|whatsapp|dial|anrufen|appelle|llama|llámame)\b", re.IGNORECASE
)
_PART, _MOST_PARTS = re.compile(r"\S+"), 6
# The United Kingdom's has no check digit; few other things look like it.
_NINO = re.compile(r"(?<!\w)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D](?!\w)")


@cache
def _shapes() -> tuple[tuple[re.Pattern[str], Any], ...]:
    """Loaded when the first candidate comes."""
    return tuple((re.compile(shape), import_module(f"stdnum.{name}")) for name, shape in SHAPES.items())


def national_ids(text: str) -> Iterator[Place]:
    """Numbers of the shapes whose check digits and dates hold."""
    yield from (match.span() for match in _NINO.finditer(text))
    for match in _CANDIDATE.finditer(text):
        if match.group().isdigit() and _CALLED.search(text):
            continue
        if _is_valid(match.group()):
            yield match.span()
        elif " " in match.group():  # other numbers may stand before and after
            yield from _within(text, match)


def _within(text: str, match: re.Match[str]) -> Iterator[Place]:
    parts = [part.span() for part in _PART.finditer(text, *match.span())]
    reached = 0
    for index, (start, _) in enumerate(parts):
        for _, end in reversed(parts[index : index + _MOST_PARTS]):
            if start >= reached and end - start >= 8 and _is_valid(text[start:end]):
                reached = end
                yield start, end
                break


def _is_valid(written: str) -> bool:
    return any(shape.fullmatch(written) and module.is_valid(written) for shape, module in _shapes())
