"""Numbers that a word before them tells: passports, licences, national ids, bank accounts, number plates.

A label is a word of some language for such a number (`labels`); what follows it within a few words, and has enough
digits, is the number. So a number with a typing error, or of a country without check digits, is found as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from dp_train.anonymize.labels import BANK, DOCUMENTS, PLATES, WEAK_BANK, Labels, Place

_UPPER = "A-ZÀ-ÖØ-ÞĀ-ſΑ-ΩА-ЯЁІЇЄҐ"
_CHUNK = rf"(?:[{_UPPER}a-z]{{0,6}}\d[\d{_UPPER}a-z]*|[{_UPPER}]{{1,5}}(?![{_UPPER}a-zà-ÿа-я]))"
# Up to a few words, none with a digit, and no end of a sentence but after an abbreviation.
_BETWEEN = (
    r"[^\W\d_]*(?P<between>(?:[^\d\n!?;。।.]|(?<=\w\w)\.(?=[ :])|(?<=[nr№])\.){0,30}?)(?<![A-Za-zÀ-ɏА-яЁёІіЇїЄєΑ-ω\d])"
)
_AFTER = rf"(?![{_UPPER}a-z\d])"
_NUMBER = re.compile(rf"{_BETWEEN}(?P<value>{_CHUNK}(?:[ \-./·]{{1,2}}{_CHUNK}){{0,6}}){_AFTER}")
_DIRECTLY = r"[^\W\d_]{0,3}[\s:：#=\-–(]*(?:(?:is|n|no|nr|nº|n°|num|number|nummer|número|numéro|numero|№|ist|est|es|é|è|er)\b[\s:.#°º]*){0,2}"
_NUMBER_DIRECTLY = re.compile(rf"(?P<between>{_DIRECTLY})(?P<value>{_CHUNK}(?:[ \-./]{{1,2}}{_CHUNK}){{0,6}}){_AFTER}")
_DATE = re.compile(
    r"(?:\d{4}[\-./]\d{1,2}[\-./]\d{1,2}|\d{1,2}[\-./]\d{1,2}[\-./](?:19|20)\d\d|(?:19|20)\d\d)(?!\d)[ .,]?\Z"
)
_UNITS = re.compile(r"\d+ ?(?:[KMGT]B|[KM]?HZ|K?W|PS|KG|[CKM]?M|V|A|L|X|G)", re.IGNORECASE)
_MONEY = re.compile(r"\s?(?:%|€|\$|£|euro|eur\b|usd\b|km\b|kg\b|mm\b)", re.IGNORECASE)
_PLATE = re.compile(
    rf"{_BETWEEN}(?P<value>(?:(?:[{_UPPER}]{{1,4}}|[\u0e01-\u0e2e]{{1,3}}|[\u0600-\u06ff](?: [\u0600-\u06ff]){{0,2}}"
    rf"|[\u4e00-\u9fff]{{1,4}}|[\u3040-\u30ff]|[가-힣])?[ \-·.]?){{0,2}}"
    rf"\d[\d{_UPPER}]*(?:[ \-·.]?(?:[{_UPPER}\d]{{1,6}}|[\u0e01-\u0e2e]{{1,3}}(?=[ ]?\d)|[가-힣](?=[ ]?\d)"
    rf"|[\u3040-\u30ff](?=[ ]?\d)|[\u0600-\u06ff](?![\u0600-\u06ff]))){{0,4}}){_AFTER}"
)
# Shapes that are plates without a word: Chinese, Korean, Japanese, French, German, Russian.
_PLATE_SHAPES = re.compile(
    r"[京沪津渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-Z][·• ]?[A-Z0-9]{5,6}(?![A-Z0-9])"
    r"|(?<!\d)\d{2,3}[가나다라마거너더러머버서어저고노도로모보소오조구누두루무부수우주바사아자배하허호] ?\d{4}(?!\d)"
    r"|[\u4e00-\u9fff]{2,4} ?\d{2,3} ?[\u3041-\u3093] ?\d{1,2}-\d{2}(?!\d)"
    r"|(?<![\w-])[A-HJ-NP-TV-Z]{2}-\d{3}-[A-HJ-NP-TV-Z]{2}(?![\w-])"
    r"|(?<![\w-])[A-ZÄÖÜ]{1,3}-[A-Z]{1,2} \d{1,4}[EH]?(?![\w-])"
    r"|(?<!\w)[АВЕКМНОРСТУХ]\d{3}[АВЕКМНОРСТУХ]{2} ?\d{2,3}(?!\w)"
)


def documents(text: str) -> Iterator[Place]:
    """Passports, licences, national ids and the like, after a word for them."""
    yield from _after(DOCUMENTS, _NUMBER, text)


def accounts(text: str) -> Iterator[Place]:
    """Bank accounts and banks' own numbers, after a word for them."""
    yield from _after(BANK, _NUMBER, text)
    for end in WEAK_BANK.ends(text):
        match = _NUMBER_DIRECTLY.match(text, end)
        if match and _is_account(match["value"], match["between"]) and not _MONEY.match(text, match.end("value")):
            yield match.span("value")


def plates(text: str) -> Iterator[Place]:
    """Number plates by a shape that is nothing else."""
    return (match.span() for match in _PLATE_SHAPES.finditer(text))


def labelled_plates(text: str) -> Iterator[Place]:
    """Number plates after a word for them."""
    for end in PLATES.ends(text):
        match = _PLATE.match(text, end)
        if match is None or len(match["between"]) > 20 or _DATE.match(match["value"] + " "):
            continue
        if _UNITS.fullmatch(match["value"]) or _MONEY.match(text, match.end("value")):
            continue
        value = match["value"]
        letters = sum(map(str.isalpha, value))
        digits = sum(map(str.isdigit, value))
        if digits >= 2 and 4 <= letters + digits <= 11 and (letters or "-" in value):
            start = match.start("value") + len(value) - len(value.lstrip(" -·."))
            yield start, match.end("value")


def _after(labels: Labels, number: re.Pattern[str], text: str) -> Iterator[Place]:
    for end in labels.ends(text):
        match = number.match(text, end)
        if match and _is_number(match["value"], match["between"]) and not _MONEY.match(text, match.end("value")):
            yield match.span("value")


def _is_number(value: str, between: str) -> bool:
    """Whether enough stands there: more of it the more words are between."""
    if _DATE.match(value + " ") or _DATE.fullmatch(value):
        return False
    digits, signs = sum(map(str.isdigit, value)), sum(map(str.isalnum, value))
    near = len(between.split()) <= 1 or ":" in between
    if near:
        return (digits >= 4 and signs >= 5) or (digits >= 2 and signs >= 8 and value == value.upper())
    return digits >= 6


def _is_account(value: str, between: str) -> bool:
    if _DATE.match(value + " "):
        return False
    digits = sum(map(str.isdigit, value))
    said = any(map(str.isalpha, between)) or ":" in between
    return digits >= 5 and (said or value[0] == "0" or "-" in value or digits >= 8)
