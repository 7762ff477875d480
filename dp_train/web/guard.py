"""What every request passes before the application sees it, and every answer on its way out.

1. the host it names is one of ours, so that no page of another site reaches a service on loopback by its own name;
2. not more requests a second than agreed, of one address and of all;
3. a body no longer than agreed, and whole within some seconds;
4. headers by which a browser keeps the answer to itself.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from dataclasses import dataclass
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_ADDRESSES = 10_000
"""So many addresses are remembered; the one that was seen longest ago gives way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one client and all together may ask for."""

    body_bytes: int = 2**20
    body_seconds: float = 10.0
    rate: float = 20.0
    burst: int = 40
    total_rate: float = 200.0
    total_burst: int = 400


class Rate:
    """Requests a second: so many at once, then so many a second, of one address and of all."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._all = (float(limits.total_burst), clock())
        self._each: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admits(self, address: str) -> bool:
        """Whether one more request of an address may pass now."""
        now = self._clock()
        left = _refilled(
            self._each.get(address, (float(self._limits.burst), now)), now, self._limits.rate, self._limits.burst
        )
        total = _refilled(self._all, now, self._limits.total_rate, self._limits.total_burst)
        passes = left >= 1 and total >= 1
        self._each[address] = (left - passes, now)
        self._each.move_to_end(address)
        if len(self._each) > _ADDRESSES:
            self._each.popitem(last=False)
        self._all = (total - passes, now)
        return passes


def _refilled(bucket: tuple[float, float], now: float, rate: float, burst: int) -> float:
    left, since = bucket
    return min(float(burst), left + (now - since) * rate)


class _TooLong(Exception):
    pass


class Guard:
    """The application behind the four checks of this file.

    Args:
      hosts: names that a request may give as its host, without the port.
      style: hash of the pages' one style, as a content security policy writes it.
    """

    def __init__(
        self, app: App, *, hosts: Collection[str], limits: Limits, style: str, rate: Rate | None = None
    ) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._limits = limits
        self._rate = rate or Rate(limits)
        policy = f"default-src 'none'; style-src {style}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        self._headers = [
            (b"content-security-policy", policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"x-frame-options", b"DENY"),
            (b"referrer-policy", b"no-referrer"),
            (b"cache-control", b"no-store"),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"cross-origin-resource-policy", b"same-origin"),
            (b"permissions-policy", b"interest-cohort=()"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})
            return
        status = 0

        async def answered(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", []), *self._headers]}
            await send(message)

        problem = self._problem(scope)
        if problem is None:
            try:
                body = await asyncio.wait_for(self._body(receive), self._limits.body_seconds)
            except _TooLong:
                problem = (413, f"the body is longer than {self._limits.body_bytes:,} bytes")
            except TimeoutError:
                problem = (408, "the body did not come in time")
        if problem is not None:
            await _refuse(answered, *problem)
        else:
            await self._app(scope, _replay(body, receive), answered)
        # The path that was declared, never the one that was asked for: that may name a person.
        route = getattr(scope.get("route"), "path", "-")
        method = scope["method"] if scope["method"].isalpha() and len(scope["method"]) < 8 else "-"
        print(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {method} {route} {status}", file=sys.stderr)

    def _problem(self, scope: Scope) -> tuple[int, str] | None:
        headers = scope["headers"]
        hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
        if len(hosts) != 1 or _without_port(hosts[0]) not in self._hosts:
            return 421, "this host is not served here"
        client = scope.get("client")
        if not self._rate.admits(client[0] if client else "-"):
            return 429, "too many requests; wait a second"
        lengths = [value for name, value in headers if name == b"content-length"]
        if any(not value.isdigit() or int(value[:20]) > self._limits.body_bytes for value in lengths):
            return 413, f"the body is longer than {self._limits.body_bytes:,} bytes"
        return None

    async def _body(self, receive: Receive) -> bytes:
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return b""
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._limits.body_bytes:
                raise _TooLong
            if not message.get("more_body"):
                return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A body that was read already, then whatever comes: that the client left."""
    given = False

    async def again() -> MutableMapping[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(send: Send, status: int, why: str) -> None:
    body = f'{{"error":"{why}"}}'.encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 429:
        headers.append((b"retry-after", b"1"))
    if status in (408, 413):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()
