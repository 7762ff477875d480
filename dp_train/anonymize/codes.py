"""What opens a meeting or a lock: meeting ids and passcodes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dp_train.anonymize.labels import Place

_MEETING_WORD = (
    r"(?:meet|meeting|join|webinar|zoom|conference|teams|webex|besprechung|konferenz|réunion|reunión|reunião|riunione"
    r"|会議|ミーティング)"
)
_MEETING_NAMED = re.compile(
    rf"(?:{_MEETING_WORD}(?:s?[ \-]*(?:id|number|nummer|code|no\.?|#))?|(?:id|code) (?:of|for) the (?:meeting|call))"
    r"(?:\s+(?:is|with|ist|lautet|est|es|é))?(?:\s+code)?\s*[:=#は]?\s*"
    r"(\d{3}[ \-]?\d{3,4}[ \-]?\d{3,5}|[a-z]{3}-[a-z]{4}-[a-z]{3})(?![A-Za-z0-9_\-])",
    re.IGNORECASE,
)
_MEETING_SHAPE = re.compile(r"(?<![\d+\-(])(?<!\d )[1-9]\d{2} \d{4} \d{4}(?![\d\-])(?! \d)")

_CODE_WORD = (
    r"(?:\b(?:pass ?code|pass ?word|passwd|pwd|pass ?phrase|pin(?: code| number)?|kennwort|passwort|otp"
    r"|one[ \-]time code"
    r"|(?:access|door|alarm|entry|security|conference|locker|gate|building|safe|lock) code"
    r"|(?:kenn|zugangs|zugriffs)code"
    r"|mot de passe|code (?:secret|d'accès)|contraseña|clave|código (?:de acceso|secreto)|senha)\b"
    r"|パスワード|パスコード|暗証番号)"
)
_CODE = re.compile(_CODE_WORD, re.IGNORECASE)
_IS = r"(?:\s+(?:is|was|to|ist|lautet|est|es|é)(?:\s+(?:now|still|jetzt|ahora))?|\s*は)"
_PASSCODE_GIVEN = re.compile(_CODE_WORD + r"[\w ]{0,32}[:=]\s*[\"'`“]?([^\s\"'`”,;\[]{3,64})", re.IGNORECASE)
# Without a colon the value has to look like one: a digit, two hyphens, or a capital inside.
_PASSCODE_SAID = re.compile(
    rf"(?i:{_CODE_WORD}(?:\s+(?:for|of|to)(?:\s+[^\W\d]+){{1,4}}?)?{_IS}?)\s*(?<!\w(?=[a-zA-Z]))"
    r"[\"'`“]?((?=[^\s\"'`”,;\[]*(?:\d|\w-\w+-\w|[a-z][A-Z]))[^\s\"'`”,;:\[]{3,64})"
)
# What opens a lock may be words and a number, to be remembered.
_JAPANESE_AFTER = re.compile(r"(?<=[A-Za-z0-9])[\u3040-\u9fff].*")
_COMBINATION = re.compile(
    r"\b(?:code|lock|combination)(?:\s+(?:is|was|opens with|opens at))(?:\s+(?:now|still))?\s+"
    r"([a-z]{2,12} (?:[a-z]{2,12} )?\d{2,6})\b"
)


def named_meetings(text: str) -> Iterator[Place]:
    """Find numbers and codes after a word for a meeting."""
    return (match.span(1) for match in _MEETING_NAMED.finditer(text))


def meetings(text: str) -> Iterator[Place]:
    """Find numbers of the shape that meetings have."""
    return (match.span() for match in _MEETING_SHAPE.finditer(text))


def passcodes(text: str) -> Iterator[Place]:
    """Find what is given after a word for a passcode."""
    first = _CODE.search(text)
    for pattern in (_PASSCODE_GIVEN, _PASSCODE_SAID) if first else ():
        for match in pattern.finditer(text, first.start() if first else 0):
            value = _JAPANESE_AFTER.sub("", match[1].rstrip(".!?)"))
            if len(value) >= 3:
                yield match.start(1), match.start(1) + len(value)


def combinations(text: str) -> Iterator[Place]:
    """Find words and a number that open a lock."""
    return (match.span(1) for match in _COMBINATION.finditer(text))
