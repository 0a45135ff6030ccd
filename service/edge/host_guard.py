"""Refuses requests whose Host header names somebody else.

A page of a foreign site can make a browser resolve the site's own name to 127.0.0.1 and then talk
to this service as if it were that site (DNS rebinding, CVE-2024-28224 in Ollama). The Host header
still has the foreign name, so it is compared, exactly, with the names that mean this service.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.settings import Settings

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
WILDCARDS: Final = frozenset({"0.0.0.0", "::", ""})

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?", re.IGNORECASE)


class HostGuard:
    """`refuse` makes the response for a request that is not let in."""

    def __init__(
        self, app: ASGIApp, settings: Callable[[], Settings], refuse: Callable[[Scope], Response]
    ) -> None:
        self.app = app
        self.settings = settings
        self.refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self.admits(scope):
            await self.refuse(scope)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def admits(self, scope: Scope) -> bool:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1:
            return False
        match = _HOST.fullmatch(hosts[0].decode("latin-1"))
        if match is None:
            return False
        name = match["name"].lower()
        settings = self.settings()
        names, any_address = known(settings.hosts, settings.allowed_hosts)
        # An address cannot be rebound: it is what the browser connected to.
        return name in names or (any_address and is_address(name))


@lru_cache(maxsize=1)
def known(hosts: tuple[str, ...], allowed: tuple[str, ...]) -> tuple[frozenset[str], bool]:
    """The names that mean this service, and whether every address does."""
    own = {host.lower() for host in hosts}
    addresses = {f"[{host}]" if ":" in host else host for host in own - WILDCARDS}
    names = LOOPBACK | {name.lower() for name in allowed} | addresses
    return names, not own.isdisjoint(WILDCARDS)


def is_address(name: str) -> bool:
    try:
        return str(ipaddress.ip_address(name.strip("[]"))) == name.strip("[]")
    except ValueError:
        return False
