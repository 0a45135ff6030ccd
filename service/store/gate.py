"""The only place from which a request leaves this machine.

Each goes to a host that the operator named, at an address that was looked at: the connection is
made to that very address, so that no second answer of a name server can lead it elsewhere.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import httpx

from service.errors import Forbidden, RegistryFailed
from service.registries import Registries
from service.store.threads import in_thread

MAX_REDIRECTS: Final = 5
# The first only of what is asked for, the second of what is sent as well.
REDIRECTS: Final = frozenset({301, 302, 303})
SAME_METHOD: Final = frozenset({307, 308})
TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0)

# The addresses of a host's port.
Resolve = Callable[[str, int], Awaitable[list[str]]]


async def resolved(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def trust() -> ssl.SSLContext:
    """Mozilla's authorities, and those of the machine's administrator: `SSL_CERT_FILE` among them."""
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    return context


class Gate:
    """To be held in `async with`."""

    def __init__(
        self,
        registries: Registries,
        resolve: Resolve = resolved,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._registries = registries
        self._resolve = resolve
        self._transport = transport

    async def __aenter__(self) -> Gate:
        # Reading all authorities takes a tenth of a second.
        context = await in_thread(trust)
        self._client = httpx.AsyncClient(
            transport=self._transport,
            verify=context,
            timeout=TIMEOUT,
            # Neither a proxy nor a .netrc that somebody left in the environment.
            trust_env=False,
            # A connection is known by its address, which hosts may share: none serves two.
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    @asynccontextmanager
    async def send(
        self,
        method: str,
        url: httpx.URL,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """The answer, its body still to be read; `extensions["asked"]` is where it came from after
        all redirects. Raises Forbidden, RegistryFailed and httpx's TransportError."""
        given = dict(headers or {})
        for _ in range(1 + MAX_REDIRECTS):
            response = await self._once(method, url, given, content)
            target = response.headers.get("location")
            if target is None or not redirects(method, response.status_code):
                try:
                    yield response
                finally:
                    await response.aclose()
                return
            await response.aclose()
            following = joined(url, target)
            if (following.host, following.port) != (url.host, url.port):
                # What is meant for one host is not shown to another.
                given.pop("Authorization", None)
            url = following
        raise RegistryFailed("the registry redirects in circles")

    async def _once(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], content: bytes | None
    ) -> httpx.Response:
        address = await self._address(url)
        request = self._client.build_request(
            method,
            url.copy_with(host=address),
            # Bytes as they are: a digest is of those, and so is a range.
            headers={**headers, "Host": url.netloc.decode("ascii"), "Accept-Encoding": "identity"},
            content=content,
            extensions={"sni_hostname": url.host},
        )
        response = await self._client.send(request, stream=True)
        response.extensions["asked"] = url
        return response

    async def _address(self, url: httpx.URL) -> str:
        port = url.port or {"http": 80, "https": 443}.get(url.scheme, 0)
        if not self._registries.allow(url.scheme, url.host, port) or url.userinfo:
            shown = f"{url.scheme}://{url.host}:{port}"
            raise Forbidden(f"{shown} is not among the registries that `pull_from` allows")
        try:
            addresses = await self._resolve(url.host, port)
        except OSError:
            raise RegistryFailed(f"the name {url.host} cannot be resolved") from None
        for address in addresses:
            if self._registries.allow_address(url.host, address):
                return address
        raise Forbidden(
            f"{url.host} is at an address that is not public, and `pull_from` does not name it"
        )


def redirects(method: str, status: int) -> bool:
    return status in SAME_METHOD or (status in REDIRECTS and method in ("GET", "HEAD"))


def joined(url: httpx.URL, target: str) -> httpx.URL:
    """Raises RegistryFailed."""
    try:
        return url.join(target)
    except (httpx.InvalidURL, ValueError):
        raise RegistryFailed("the registry redirects to what is no address") from None
