"""Sends the bytes of a request over a connection of its own, and reads what comes back.

Nothing between here and the socket mends a request. The answer is read by h11, which takes no
answer that is not well-formed HTTP.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final, Literal

import h11

from tests.fuzz.requests import Request

# Far beyond what the longest answer takes: a request that is not over by then never will be.
PATIENCE: Final = 120.0

Ending = Literal["complete", "left", "hung", "broken", "refused"]


@dataclass
class Answer:
    """`ending`: complete; left by the client on purpose; hung; broken off by the server, or no
    HTTP; refused, if there was no connection at all. `seconds` from the last byte sent."""

    ending: Ending
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip()


async def exchange(host: str, port: int, request: Request) -> Answer:
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError:
        return Answer("refused")
    started = time.monotonic()
    answer = Answer("hung")
    try:
        async with asyncio.timeout(PATIENCE):
            await send(writer, request)
            started = time.monotonic()
            await receive(reader, request, answer)
    except TimeoutError:
        answer.ending = "hung"
    except (OSError, h11.RemoteProtocolError):
        answer.ending = "broken"
    finally:
        writer.transport.abort()
    answer.seconds = time.monotonic() - started
    return answer


async def send(writer: asyncio.StreamWriter, request: Request) -> None:
    raw = request.raw()
    if request.hang_up is not None and request.hang_up[0] == "body":
        raw = raw[: request.hang_up[1]]
    writer.write(raw)
    try:
        await writer.drain()
    except ConnectionError:
        # The server has answered and closed before it had all of it, as it may.
        return


async def receive(reader: asyncio.StreamReader, request: Request, answer: Answer) -> None:
    when, count = request.hang_up or ("", 0)
    if when in ("body", "sent"):
        answer.ending = "left"
        return
    parser = h11.Connection(h11.CLIENT)
    method = request.method if request.method in ("HEAD", "GET") else "POST"
    parser.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    parser.send(h11.EndOfMessage())
    parts: list[bytes] = []
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(1 << 16)
            if when == "answer" and data:
                answer.ending = "left"
                return
            parser.receive_data(data)
        elif isinstance(event, h11.Response):
            answer.status = event.status_code
            answer.headers = {
                name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers
            }
        elif isinstance(event, h11.Data):
            parts.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            answer.body = b"".join(parts)
            answer.ending = "complete"
            return
        elif isinstance(event, h11.ConnectionClosed):
            answer.ending = "broken"
            return
