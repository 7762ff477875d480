"""The shape of a text: what class of sign stands where, and which signs of other alphabets.

By it recognisers of numbers are passed over: a look at bytes is cheaper than any search. All that is said here errs on
one side: a shape that is not in `shape(text)` is not in the text, unless the text is strange.
"""

from __future__ import annotations

from functools import lru_cache

_LIKE_ASCII = "ſKİı"
"""What a pattern that ignores case takes for a letter of ASCII."""


@lru_cache(maxsize=4)
def signs(text: str) -> frozenset[str]:
    """Signs of a text that are not ASCII."""
    return frozenset() if text.isascii() else frozenset(sign for sign in set(text) if not sign.isascii())


@lru_cache(maxsize=4)
def is_strange(text: str) -> bool:
    """Whether signs outside of ASCII count as digits, as letters of ASCII, or as parts of words, being none."""
    return not text.isascii() and any(
        sign in _LIKE_ASCII or (sign.isalnum() and not sign.isalpha()) for sign in signs(text)
    )


def skeleton(text: str) -> bytes:
    """The text's ASCII, in place; "?" for all else."""
    return text.encode("ascii", "replace")


_SPACES = b" \t\n\r\f\v\x1c\x1d\x1e\x1f"
_SHAPE = bytes(
    ord("0") if chr(code).isdigit() and code < 128
    else ord("a") if 97 <= code <= 122
    else ord("A") if 65 <= code <= 90
    else ord(" ") if code in _SPACES
    else code
    for code in range(256)
)  # fmt: skip
_SOLID = bytes(ord(" ") if code in _SPACES else ord("x") for code in range(256))


@lru_cache(maxsize=4)
def shape(text: str) -> bytes:
    """Digits as "0", letters as "A" and "a", spaces as " ", signs as they are, what is not ASCII as "?"."""
    return skeleton(text).translate(_SHAPE)


def looks(text: str, *shapes: bytes, without: bytes = b"") -> bool:
    """Whether one of these shapes may stand in a text, when some signs are left out."""
    seen = shape(text).translate(None, without) if without else shape(text)
    return any(map(seen.__contains__, shapes)) or is_strange(text)


def count_digits(text: str) -> int:
    """How many digits are in ASCII text."""
    return len(text) - len(text.encode().translate(None, b"0123456789"))


def has_run(text: str, length: int) -> bool:
    """Whether so many signs that are no spaces stand in a row, in ASCII text."""
    return len(text) >= length and b"x" * length in text.encode().translate(_SOLID)


_CAPITAL_AS_DIGIT = bytes.maketrans(b"A", b"0")
_LETTER_AS_DIGIT = bytes.maketrans(b"aA", b"00")


def has_code(text: str) -> bool:
    """Whether seven capitals and digits may stand in a row, with at most a sign between each two."""
    return b"0" * 7 in shape(text).translate(_CAPITAL_AS_DIGIT, b" .-/+") or is_strange(text)


def has_hexadecimal(text: str) -> bool:
    """Whether twelve letters and digits may stand in a row."""
    return b"0" * 12 in shape(text).translate(_LETTER_AS_DIGIT) or is_strange(text)


_PAIRED = bytes.maketrans(b"aA:", b"00-")


def has_pairs(text: str, count: int) -> bool:
    """Whether so many pairs of letters and digits may stand in a row, with colons or hyphens between them."""
    return b"-".join([b"00"] * count) in shape(text).translate(_PAIRED) or is_strange(text)
