"""A registry of a few lines behind httpx's transport: for what a real one does not do on demand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import httpx

from service.registries import Registries
from service.store.gate import Gate

HOST = "r.example"
PUBLIC = "93.184.216.34"
KIND = "application/vnd.ollama.image.model"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


async def public(host: str, port: int) -> list[str]:
    return [PUBLIC]


@dataclass
class FakeRegistry:
    """`turns` answer the next requests instead, one each; None lets one through."""

    blobs: list[bytes]
    turns: list[Callable[[httpx.Request], httpx.Response] | None] = field(default_factory=list)
    asked: list[httpx.Request] = field(default_factory=list)
    # Asked for as OAuth's anonymous clients do, if there is one.
    token: str | None = None

    def manifest(self) -> bytes:
        layers = [
            {"mediaType": KIND, "digest": digest_of(blob), "size": len(blob)} for blob in self.blobs
        ]
        return json.dumps({"schemaVersion": 2, "layers": layers}).encode()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        turn = self.turns.pop(0) if self.turns else None
        if turn is not None:
            return turn(request)
        path = request.url.path
        if path == "/token":
            return httpx.Response(200, json={"token": self.token})
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            realm = f'Bearer realm="https://{HOST}/token",service="s",scope="repository:x:pull"'
            return httpx.Response(401, headers={"WWW-Authenticate": realm})
        if "/manifests/" in path:
            return httpx.Response(200, content=self.manifest())
        for blob in self.blobs:
            if path.endswith(digest_of(blob)):
                return ranged(request, blob)
        return httpx.Response(404)

    def gate(self, *further: str, resolve: Callable[..., object] = public) -> Gate:
        registries = Registries.parse([HOST, *further])
        return Gate(registries, resolve, httpx.MockTransport(self))  # type: ignore[arg-type]


def ranged(request: httpx.Request, data: bytes) -> httpx.Response:
    wanted = request.headers.get("range")
    if wanted is None:
        return httpx.Response(200, content=data)
    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
    headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
    return httpx.Response(206, content=data[start:], headers=headers)


def cut(data: bytes, after: int) -> Callable[[httpx.Request], httpx.Response]:
    """The connection breaks in the middle of the body."""

    async def body() -> AsyncIterator[bytes]:
        yield data[:after]
        raise httpx.ReadError("the connection broke")

    return lambda request: httpx.Response(200, content=body())


def status(code: int, **headers: str) -> Callable[[httpx.Request], httpx.Response]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request: httpx.Response(code, headers=named)
