"""What computers are reached by: links and hosts, e-mail addresses, addresses of networks and of devices."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from dp_train.anonymize.labels import Place

_URL = re.compile(r"(?<![\w@])(?:[a-z][a-z0-9+.\-]{1,20}://|www\.)[^\s<>\"|]+", re.IGNORECASE)
_SCHEME, _LONGEST_SCHEME = re.compile(r"(?<![\w@])[a-z][a-z0-9+.\-]{1,20}\Z", re.IGNORECASE), 21
_ENDS = (
    "(?:com|org|net|io|dev|app|ai|gov|edu|eu|uk|de|fr|es|jp|pt|br|nl|pl|dk|fi|ch|ru|ua|cz|mx|kr|cn|tw|ca|au|nz|ie|info"
    r"|biz|cloud)\b"
)
_HOST_END = re.compile(rf"\.{_ENDS}", re.IGNORECASE)
_DOMAIN = re.compile(rf"(?<![\w.@\-])(?:[a-z0-9\-]{{1,63}}\.){{1,6}}{_ENDS}(?:[/?#][^\s<>\"|]*)?", re.IGNORECASE)
_TRAILING = ".,;:!?)]}'”’*_"

_EMAIL = re.compile(r"(?<![\w.%+\-])[\w.%+\-]++@(?:[\w\-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w])")

AT_A_HOST = re.compile(r"@[\w\-]{1,63}\.")
"""What every e-mail address has in it."""

_IPV4 = re.compile(r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?!\d|\.\d)")
_IPV6 = re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){2,8}(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4})(?![\w:])")

_MAC = re.compile(r"(?<![\w:\-])(?:[0-9A-Fa-f]{2}(?:[:\-](?=[0-9A-Fa-f]{2})|(?![\w:\-]))){6}(?![\w:\-])")


def urls(text: str) -> Iterator[Place]:
    """Find links, and hosts under a domain that is known."""
    links: list[Place] = []
    if "www." in text.lower():
        links += map(_trimmed, _URL.finditer(text))
    elif "://" in text:
        links += map(_trimmed, _with_scheme(text))
    yield from links
    # A host within a link is the link's.
    if sum(text.count(".", *link) for link in links) < text.count(".") and _HOST_END.search(text):
        yield from map(_trimmed, _DOMAIN.finditer(text))


def _with_scheme(text: str) -> Iterator[re.Match[str]]:
    """What `_URL.finditer` gives where no host begins with "www.", looked for only before "://"."""
    reached, place = 0, text.find("://")
    while place >= 0:
        scheme = _SCHEME.search(text, max(reached, place - _LONGEST_SCHEME), place) if place >= reached else None
        match = _URL.match(text, scheme.start()) if scheme else None
        if match:
            yield match
            reached = match.end()
        place = text.find("://", place + 1)


def _trimmed(match: re.Match[str]) -> Place:
    return match.start(), match.start() + len(match.group().rstrip(_TRAILING))


def emails(text: str) -> Iterator[Place]:
    """Find e-mail addresses."""
    return (match.span() for match in _EMAIL.finditer(text))


def ipv4(text: str) -> Iterator[Place]:
    """Find four numbers with dots."""
    return (match.span() for match in _IPV4.finditer(text))


def mac(text: str) -> Iterator[Place]:
    """Find six pairs with colons or hyphens."""
    return (match.span() for match in _MAC.finditer(text))


def ipv6(text: str) -> Iterator[Place]:
    """Find what Python's `ipaddress` takes for one, with a digit in it."""
    for match in _IPV6.finditer(text):
        try:
            ipaddress.IPv6Address(match.group())
        except ValueError:
            continue
        if any(char.isdigit() for char in match.group()):
            yield match.span()
