"""One streamed answer, timed frame by frame, over a bare HTTP/1.1 connection.

A load generator must not be what it measures, and it shares the cores with what it measures: so
neither a client library nor an event model, only what a stream of completions needs. A connection
serves one request, as curl's does.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

from bench.workloads import Request

# For one answer. A queue of prompts on a slow machine takes minutes; a dead server takes forever.
PATIENCE_SECONDS = 600.0


@dataclass(frozen=True)
class Target:
    """Any server that speaks OpenAI's API: `url` is its base, with or without `/v1`."""

    name: str
    url: str
    model: str = ""


@dataclass(frozen=True)
class Answer:
    """Times are of `perf_counter`; a frame is an event that brought text, of one or more tokens."""

    sent: float
    frames: tuple[float, ...]
    ended: float
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    text: str

    @property
    def ttft(self) -> float:
        return (self.frames[0] if self.frames else self.ended) - self.sent

    @property
    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in pairwise(self.frames)]


@dataclass
class Milestone:
    """Tells others that a stream has brought so many frames, or has ended."""

    frames: int
    reached: asyncio.Event = field(default_factory=asyncio.Event)


class RequestFailed(Exception):
    """The server answered with an error, or with a stream that does not end as one must."""


class Chunks:
    """Transfer-Encoding: chunked, undone as the bytes arrive."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._left = 0  # of the chunk that is being read, with the two bytes that close it
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        self._buffer += data
        body = bytearray()
        while self._buffer:
            if self._left == 0:
                size, found, rest = self._buffer.partition(b"\r\n")
                if not found:
                    break
                self._left, self._buffer = int(size.split(b";")[0], 16) + 2, rest
                self.ended = self._left == 2
            taken = self._buffer[: self._left]
            body += taken[: max(0, self._left - 2)]
            self._left -= len(taken)
            del self._buffer[: len(taken)]
        return bytes(body)


@dataclass
class Events:
    """Server-sent events: what stands after `data:`, once its line is complete."""

    rest: bytes = b""

    def feed(self, data: bytes) -> list[bytes]:
        *lines, self.rest = (self.rest + data).split(b"\n")
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]


@dataclass
class Tally:
    """What the events of one answer add up to."""

    frames: list[float] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)
    cached: int = 0
    done: bool = False

    def add(self, event: bytes, now: float) -> None:
        if event == b"[DONE]":
            self.done = True
            return
        message = json.loads(event)
        if "error" in message:
            raise RequestFailed(str(message["error"]))
        self.usage = message.get("usage") or self.usage
        for choice in message.get("choices") or ():
            said = choice.get("delta", choice)
            text = said.get("content") or said.get("reasoning_content") or said.get("text")
            if text:
                self.frames.append(now)
                self.text.append(text)

    def answer(self, sent: float, ended: float) -> Answer:
        if not self.done or not self.usage:
            raise RequestFailed("the stream ended without usage or [DONE]")
        details = self.usage.get("prompt_tokens_details") or {}
        return Answer(
            sent=sent,
            frames=tuple(self.frames),
            ended=ended,
            prompt_tokens=self.usage["prompt_tokens"],
            completion_tokens=self.usage["completion_tokens"],
            cached_tokens=details.get("cached_tokens") or 0,
            text="".join(self.text),
        )


async def ask(target: Target, request: Request, milestone: Milestone | None = None) -> Answer:
    tally, events = Tally(), Events()
    sent = ended = perf_counter()
    async with exchange(target.url, "POST", request.route, request.body(target.model)) as pieces:
        async for piece in pieces:
            ended = perf_counter()
            for event in events.feed(piece):
                tally.add(event, ended)
            if milestone and (tally.done or len(tally.frames) >= milestone.frames):
                milestone.reached.set()
    return tally.answer(sent, ended)


async def get(url: str, route: str) -> bytes:
    async with exchange(url, "GET", route) as pieces:
        return b"".join([piece async for piece in pieces])


@asynccontextmanager
async def exchange(
    url: str, method: str, route: str, body: dict[str, Any] | None = None
) -> AsyncIterator[AsyncIterator[bytes]]:
    """The pieces of the answer's body as they arrive; RequestFailed unless its status is 200."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    path = parts.path.rstrip("/").removesuffix("/v1") + route
    content = b"" if body is None else json.dumps(body).encode()
    async with asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection(
            parts.hostname, port, ssl=True if parts.scheme == "https" else None
        )
        try:
            writer.write(head(method, path, parts.netloc, len(content)) + content)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            async with aclosing(read_body(reader, answer)) as pieces:
                status = int(answer.split(None, 2)[1])
                if status != 200:
                    reason = b"".join([piece async for piece in pieces]).decode(errors="replace")
                    raise RequestFailed(f"{method} {path}: {status} {reason}")
                yield pieces
        finally:
            writer.close()


def head(method: str, path: str, host: str, length: int) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {host}",
        "Content-Type: application/json",
        f"Content-Length: {length}",
        "Connection: close",
    ]
    if key := os.environ.get("OPENAI_API_KEY"):
        lines.append(f"Authorization: Bearer {key}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def read_body(reader: asyncio.StreamReader, head: bytes) -> AsyncGenerator[bytes, None]:
    """To its last byte, so that no server takes us for a client that went away."""
    if b"\r\ntransfer-encoding: chunked" in head:
        chunks = Chunks()
        while not chunks.ended and (data := await reader.read(65536)):
            yield chunks.feed(data)
    elif length := re.search(rb"\r\ncontent-length: *(\d+)", head):
        yield await reader.readexactly(int(length[1]))
    else:
        while data := await reader.read(65536):
            yield data
