"""Which registries may be spoken to: what an operator wrote in `pull_from`. Pure.

    registry.ollama.ai        that host, by HTTPS on port 443
    registry.example:5000     by HTTPS on that port
    *.example.com             every host below example.com, for registries that redirect to others
    http://10.0.0.5:5000      by plain HTTP; the port is named, and no other
    127.0.0.1:5000            an address: the only way to one that is not public

A registry sends its clients on to other hosts, for tokens and for blobs. Those have to be named as
well: nothing is fetched from a host just because another one said so.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

Scheme = Literal["http", "https"]

_ENTRY = re.compile(
    r"(?:(?P<scheme>https?)://)?"
    r"(?P<wild>\*\.)?(?P<host>[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?)"
    r"(?::(?P<port>[1-9]\d{0,4}))?/?"
)
# Not an address, and still no other machine than this one.
_LOCAL = "localhost"


@dataclass(frozen=True, slots=True)
class Registry:
    """An entry. `host` is in lower case."""

    scheme: Scheme
    host: str
    port: int
    wild: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError."""
        match = _ENTRY.fullmatch(text)
        if match is None or int(match["port"] or 1) > 65535:
            raise ValueError(f"{text!r} is no registry: write host, host:port or http://host:port")
        host, wild = match["host"].lower(), bool(match["wild"])
        if match["scheme"] == "http":
            if match["port"] is None or wild:
                raise ValueError(f"{text!r}: by plain HTTP only as http://host:port")
            return cls("http", host, int(match["port"]))
        return cls("https", host, int(match["port"] or 443), wild)

    def covers(self, scheme: str, host: str, port: int) -> bool:
        if (scheme, port) != (self.scheme, self.port):
            return False
        return host.endswith(f".{self.host}") if self.wild else host == self.host


@dataclass(frozen=True, slots=True)
class Registries:
    entries: tuple[Registry, ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Self:
        """Raises ValueError."""
        return cls(tuple(map(Registry.parse, texts)))

    def allow(self, scheme: str, host: str, port: int) -> bool:
        return any(entry.covers(scheme, host.lower(), port) for entry in self.entries)

    def scheme_of(self, host: str) -> Scheme | None:
        """How `host` or `host:port` of a model's name is spoken to; None: not at all."""
        name, colon, port = host.partition(":")
        if colon and not (port.isascii() and port.isdecimal() and len(port) <= 5):
            return None
        number = int(port or 443)
        schemes: tuple[Scheme, ...] = ("https", "http") if port else ("https",)
        return next((s for s in schemes if self.allow(s, name, number)), None)

    def allow_address(self, host: str, address: str) -> bool:
        """May the connection for a host that is allowed go to an address that it resolves to? One
        that is not public has to be named itself, so that no name server can point inwards."""
        ip = ipaddress.ip_address(address.partition("%")[0])
        ip = getattr(ip, "ipv4_mapped", None) or ip
        if ip.is_global and not ip.is_multicast:
            return True
        if ip.is_loopback and host.lower() == _LOCAL:
            return True
        return any(entry.host == str(ip) for entry in self.entries)
