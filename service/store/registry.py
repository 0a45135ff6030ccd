"""A model's repository at a registry: OCI's distribution API, as Ollama's registry speaks it.

GET|PUT      /v2/<namespace>/<model>/manifests/<tag>
HEAD|GET     /v2/<namespace>/<model>/blobs/<digest>          with Range, to go on
POST, PATCH, PUT  /v2/<namespace>/<model>/blobs/uploads/…    in pieces, then the digest
401 + WWW-Authenticate: Bearer realm,service,scope           a token, without an account
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import msgspec

from service.catalog.names import Name
from service.errors import Forbidden, ModelNotFound, RegistryFailed, ServiceError
from service.registries import Registries
from service.store.gate import Gate, joined
from service.store.threads import in_thread

logger = logging.getLogger(__name__)

MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
ACCEPTED: Final = f"{MANIFEST}, application/vnd.oci.image.manifest.v1+json"
MAX_MANIFEST: Final = 4 * 1024 * 1024
MAX_TEXT: Final = 64 * 1024
# Attempts without a byte of progress between them, and the pause before the second.
ATTEMPTS: Final = 5
PAUSE_SECONDS: Final = 0.5
PIECE: Final = 32 * 1024 * 1024
PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})

_PARAMETER: Final = re.compile(r'(\w+)="([^"]*)"')
_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")

T = TypeVar("T")
Pause = Callable[[float], Awaitable[None]]


class Passing(RegistryFailed):
    """What may go better the next time."""


class Missing(ModelNotFound):
    def __init__(self, model: str, sentence: str) -> None:
        super().__init__(model)
        self.message = sentence


class Repository:
    """`name` is whole. Its host decides on HTTP or HTTPS by how the operator named it."""

    def __init__(
        self, gate: Gate, registries: Registries, name: Name, pause: Pause = asyncio.sleep
    ) -> None:
        self._gate = gate
        self._name = name
        self._pause = pause
        self._token: str | None = None
        self._base = httpx.URL(
            f"{allowed(registries, name)}://{name.host}/v2/{name.namespace}/{name.model}/"
        )

    @property
    def host(self) -> str:
        return self._name.host

    async def manifest(self) -> bytes:
        async def attempt() -> bytes:
            url = self._base.join(f"manifests/{self._name.tag}")
            async with self._asked("GET", url, {"Accept": ACCEPTED}) as response:
                if response.status_code == 404:
                    raise Missing(str(self._name), "pull model manifest: file does not exist")
                await checked(response, 200)
                return await bounded(response, MAX_MANIFEST, "manifest")

        return await self._patiently(attempt)

    @asynccontextmanager
    async def blob(self, digest: str, start: int, size: int) -> AsyncIterator[Download]:
        """The bytes from `start` on, or from an earlier one where the registry has no ranges."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        url = self._base.join(f"blobs/{digest}")
        async with self._asked("GET", url, headers) as response:
            if response.status_code == 404:
                raise RegistryFailed(f"the registry does not have {digest[:19]}")
            await checked(response, 200, 206)
            if response.status_code == 206:
                match = _RANGE.fullmatch(response.headers.get("content-range", ""))
                if match is None or int(match[1]) != start or match[2] not in ("*", str(size)):
                    raise RegistryFailed("the registry sends another range than was asked for")
            yield Download(response, start if response.status_code == 206 else 0, size)

    async def has(self, digest: str) -> bool:
        async def attempt() -> bool:
            async with self._asked("HEAD", self._base.join(f"blobs/{digest}")) as response:
                if response.status_code != 404:
                    await checked(response, 200)
                return response.status_code == 200

        return await self._patiently(attempt)

    async def upload(self, digest: str, size: int, path: Path, told: Callable[[int], None]) -> None:
        """In pieces; `told` hears how many of its bytes have arrived."""

        async def attempt() -> None:
            async with self._asked("POST", self._base.join("blobs/uploads/")) as response:
                await checked(response, 202)
                place = location(response)
            for start in range(0, size, PIECE):
                piece = await in_thread(read_at, path, start, PIECE)
                headers = {
                    "Content-Type": "application/octet-stream",
                    "Content-Range": f"{start}-{start + len(piece) - 1}",
                }
                async with self._asked("PATCH", place, headers, piece) as response:
                    await checked(response, 202)
                    place = location(response)
                told(start + len(piece))
            place = place.copy_merge_params({"digest": digest})
            async with self._asked("PUT", place, content=b"") as response:
                await checked(response, 201)

        await self._patiently(attempt)

    async def put_manifest(self, data: bytes) -> None:
        async def attempt() -> None:
            url = self._base.join(f"manifests/{self._name.tag}")
            async with self._asked("PUT", url, {"Content-Type": MANIFEST}, data) as response:
                await checked(response, 200, 201)

        await self._patiently(attempt)

    async def wait(self, attempt: int) -> None:
        """Longer each time, and not all at once."""
        await self._pause(PAUSE_SECONDS * 2**attempt * (0.5 + random.random()))

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        for number in range(ATTEMPTS - 1):
            try:
                return await attempt()
            except (Passing, httpx.TransportError) as error:
                logger.info("the registry %s: %s; trying again", self._name.host, said(error))
            await self.wait(number)
        try:
            return await attempt()
        except httpx.TransportError as error:
            raise unreachable(self._name.host, error) from None

    @asynccontextmanager
    async def _asked(
        self,
        method: str,
        url: httpx.URL,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """With a token, if the registry wants one."""
        given = dict(headers or {})
        challenge = ""
        if self._token is not None and url.netloc == self._base.netloc:
            given["Authorization"] = f"Bearer {self._token}"
        async with self._gate.send(method, url, given, content) as response:
            if response.status_code != 401:
                yield response
                return
            challenge = response.headers.get("www-authenticate", "")
        self._token = await self._fetch_token(challenge)
        given["Authorization"] = f"Bearer {self._token}"
        async with self._gate.send(method, url, given, content) as response:
            yield response

    async def _fetch_token(self, challenge: str) -> str:
        scheme, _, rest = challenge.partition(" ")
        asked = dict(_PARAMETER.findall(rest))
        realm = asked.pop("realm", "")
        if scheme.lower() != "bearer" or not realm:
            raise Forbidden("the registry wants an account, and this server has none there")
        wanted = {key: asked[key] for key in ("service", "scope") if key in asked}
        url = joined(self._base, realm).copy_merge_params(wanted)
        async with self._gate.send("GET", url) as response:
            await checked(response, 200)
            data = await bounded(response, MAX_TEXT, "token")
        try:
            answer = msgspec.json.decode(data, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            answer = {}
        token = answer.get("token") or answer.get("access_token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise RegistryFailed("the registry gives no token")
        return token


class Download:
    """`start`: where its bytes begin. Together with those before there are `size`, and no more."""

    def __init__(self, response: httpx.Response, start: int, size: int) -> None:
        self.start = start
        self._response = response
        self._size = size

    async def pieces(self, length: int) -> AsyncIterator[bytes]:
        """Of at least so many bytes but for the last. Raises RegistryFailed where there are more
        bytes than the manifest says, and TransportError."""
        arrived, gathered = self.start, bytearray()
        try:
            async for piece in self._response.aiter_bytes():
                arrived += len(piece)
                if arrived > self._size:
                    raise RegistryFailed("the registry sends more bytes than the manifest says")
                gathered += piece
                if len(gathered) >= length:
                    yield bytes(gathered)
                    gathered.clear()
        except httpx.TransportError:
            # What came before the connection broke need not come again.
            yield bytes(gathered)
            raise
        yield bytes(gathered)


def allowed(registries: Registries, name: Name) -> str:
    """The scheme that its host is spoken to in. Raises Forbidden."""
    scheme = registries.scheme_of(name.host)
    if scheme is None or name.scheme not in ("", scheme):
        shown = f"{name.scheme}://{name.host}" if name.scheme else name.host
        raise Forbidden(
            f"registry {shown} is not allowed: this server speaks to those only that its setting "
            "`pull_from` names"
        )
    return scheme


async def checked(response: httpx.Response, *expected: int) -> None:
    """Raises what any other status means."""
    status = response.status_code
    if status in expected:
        return
    reason = "" if response.request.method == "HEAD" else await reason_in(response)
    if status in (401, 403):
        raise Forbidden(f"the registry refuses it{reason}")
    error = Passing if status in PASSING else RegistryFailed
    raise error(f"the registry answers {status}{reason}")


def read_at(path: Path, start: int, most: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(start)
        return file.read(most)


async def reason_in(response: httpx.Response) -> str:
    """Its own words, as far as they are fit to be passed on."""
    try:
        body = msgspec.json.decode(await bounded(response, MAX_TEXT, "error"))
        message = str(body["errors"][0]["message"])
    except (ServiceError, httpx.HTTPError, msgspec.DecodeError, ValueError, LookupError, TypeError):
        return ""
    return f": {message[:200]}" if message.isprintable() else ""


async def bounded(response: httpx.Response, most: int, what: str) -> bytes:
    data = bytearray()
    async for piece in response.aiter_bytes():
        data += piece
        if len(data) > most:
            raise RegistryFailed(f"the registry's {what} is longer than {most} bytes")
    return bytes(data)


def location(response: httpx.Response) -> httpx.URL:
    target = response.headers.get("location")
    if target is None:
        raise RegistryFailed("the registry does not say where to")
    return joined(response.extensions["asked"], target)


def said(error: Exception) -> str:
    return str(error) or type(error).__name__


def unreachable(host: str, error: Exception) -> RegistryFailed:
    return RegistryFailed(f"the registry {host} cannot be reached: {said(error)}")
