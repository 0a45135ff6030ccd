from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.client import Chunks, Events, Milestone, RequestFailed, Target, ask, get
from bench.workloads import Request

CHAT = Request(({"role": "user", "content": "hello"},), max_tokens=3, seed=7)
USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 3,
    "prompt_tokens_details": {"cached_tokens": 8},
}


def delta(**said: str | None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": said, "finish_reason": None}]}


def events(*messages: dict[str, Any] | str) -> bytes:
    texts = (one if isinstance(one, str) else json.dumps(one) for one in messages)
    return b"".join(b"data: " + text.encode() + b"\r\n\r\n" for text in texts)


ANSWER = events(
    delta(role="assistant", content=""),
    delta(reasoning_content="hm"),
    delta(content=" a"),
    delta(content=" b"),
    {"choices": [], "usage": USAGE},
    "[DONE]",
)


def chunked(body: bytes, size: int = 7) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x;x=y\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])


def response(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).replace("_", "-").encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def serving(answer: bytes, seen: list[bytes] | None = None) -> AsyncIterator[str]:
    """Gives every connection the same answer, a few bytes at a time, as a slow network would."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        if seen is not None:
            seen.extend((head, await reader.readexactly(length)))
        for start in range(0, len(answer), 37):
            writer.write(answer[start : start + 37])
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


FRAMINGS: dict[str, Callable[[bytes], bytes]] = {
    "chunked": lambda body: response(chunked(body), Transfer_Encoding="chunked"),
    "length": lambda body: response(body, content_length=str(len(body))),
    "until close": response,
}


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
async def test_an_answer_is_its_frames_its_text_and_its_usage(
    framing: Callable[[bytes], bytes],
) -> None:
    async with serving(framing(ANSWER)) as url:
        answer = await ask(Target("fake", url), CHAT)

    assert answer.text == "hm a b"
    assert len(answer.frames) == 3
    assert answer.sent < answer.frames[0] <= answer.frames[-1] <= answer.ended
    assert answer.ttft == answer.frames[0] - answer.sent
    assert len(answer.gaps) == 2
    assert (answer.prompt_tokens, answer.completion_tokens, answer.cached_tokens) == (11, 3, 8)


@pytest.mark.parametrize("base", ["", "/v1", "/v1/"])
async def test_the_request_goes_under_the_base_url(base: str) -> None:
    seen: list[bytes] = []
    async with serving(FRAMINGS["chunked"](ANSWER), seen) as url:
        await ask(Target("fake", url + base, "some-model"), CHAT)

    head, body = seen
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert json.loads(body) | {"model": "some-model", "max_tokens": 3, "stream": True} == (
        json.loads(body)
    )


async def test_a_text_prompt_is_a_plain_completion() -> None:
    seen: list[bytes] = []
    said = events({"choices": [{"text": "x"}], "usage": USAGE}, "[DONE]")
    async with serving(response(said), seen) as url:
        answer = await ask(Target("fake", url), Request("once", 3, 7))

    assert seen[0].startswith(b"POST /v1/completions ")
    assert json.loads(seen[1])["prompt"] == "once"
    assert answer.text == "x"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (response(b"queue full", "503 Service Unavailable"), "503 queue full"),
        (response(events({"error": {"message": "no slot"}})), "no slot"),
        (response(events(delta(content="cut off"))), "without usage"),
        (response(events({"choices": [], "usage": USAGE})), "DONE"),
    ],
    ids=["status", "error event", "no usage", "no end"],
)
async def test_a_failed_answer_is_never_a_measured_one(answer: bytes, message: str) -> None:
    async with serving(answer) as url:
        with pytest.raises(RequestFailed, match=message):
            await ask(Target("fake", url), CHAT)


async def test_a_milestone_is_reached_by_frames_or_by_the_end() -> None:
    early, late = Milestone(2), Milestone(100)
    async with serving(response(ANSWER)) as url:
        await ask(Target("fake", url), CHAT, early)
        await ask(Target("fake", url), CHAT, late)

    assert early.reached.is_set()
    assert late.reached.is_set()


async def test_get_returns_the_whole_body() -> None:
    async with serving(response(b"{}", content_length="2")) as url:
        assert await get(url, "/v1/models") == b"{}"


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


@given(st.binary(max_size=200), st.integers(1, 50), st.lists(st.integers(1, 20)))
def test_chunks_are_undone_wherever_the_network_cuts(
    body: bytes, size: int, sizes: list[int]
) -> None:
    chunks = Chunks()

    got = [chunks.feed(piece) for piece in cut(chunked(body, size), sizes)]

    assert b"".join(got) == body
    assert chunks.ended


@given(st.lists(st.text("ab {}:", min_size=1), max_size=6), st.lists(st.integers(1, 20)))
def test_events_are_whole_wherever_the_network_cuts(texts: list[str], sizes: list[int]) -> None:
    stream = b": comment\n\n" + b"".join(b"data: " + text.encode() + b"\n\n" for text in texts)
    parser = Events()

    got = [event for piece in cut(stream, sizes) for event in parser.feed(piece)]

    assert got == [text.strip().encode() for text in texts]
