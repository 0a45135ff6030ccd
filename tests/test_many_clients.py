"""The whole service among many clients at once, who come all together and leave when they like."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from tests.dialects.serving import wait_until
from tests.full_size import FULL_SIZE
from tests.service_process import Service, service

SLOTS, QUEUE = 4, 64
CLIENTS, REQUESTS = (64, 50) if FULL_SIZE else (32, 6)
STREAMS = 1000 if FULL_SIZE else 60
# Two, three and four bytes each; joined, more code points than one letter, too.
LETTERS = "é ß Ж ی ह 漢 字 あ 한 ﷽ 🦙 🚀 👩‍🚀 🇫🇷 e\u0301 𝔘".split(" ")

# Tokens that are no text, of which a hot model says some.
SPECIAL = re.compile(r"<\|\w+\|>")
# Nor are thoughts at the beginning, which the template has closed and a hot model may go on with.
THOUGHTS = re.compile(r"\s*(<think>.*?(</think>|$)|</think>)?\s*", re.DOTALL)
PLAIN: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    limits = {"LLM_PARALLEL_SLOTS": str(SLOTS), "LLM_QUEUE_SIZE": str(QUEUE)}
    with service(tmp_path_factory.mktemp("models"), **limits) as running:
        yield running


def client_of(running: Service) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncClient(base_url=running.url, timeout=300, limits=limits)


def chat(question: str, **body: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}], **body}


@pytest.mark.timeout(600 if FULL_SIZE else 120)
async def test_clients_that_leave_at_any_moment_leave_no_slot_no_cell_and_no_descriptor(
    running: Service,
) -> None:
    """A fifth of them: while they wait, in the prompt or among the tokens."""
    async with client_of(running) as client:
        assert (await client.post("/v1/chat/completions", json=chat("Hello"))).is_success
    process = psutil.Process(running.process.pid)
    wait_until(running.at_rest, 60)
    descriptors = process.num_fds()
    outcomes: Counter[str] = Counter()

    async def one_client(client: httpx.AsyncClient, draw: random.Random) -> None:
        for number in range(REQUESTS):
            question = f"{draw.random()} " * draw.randint(1, 40) + f"What is {number} + 7?"
            body = chat(question, stream=draw.random() < 0.5, max_tokens=20)
            patience = draw.uniform(0, 0.3) if draw.random() < 0.2 else None
            try:
                async with asyncio.timeout(patience):
                    answer = await client.post("/v1/chat/completions", json=body)
            except TimeoutError:
                outcomes["left"] += 1
            else:
                outcomes[str(answer.status_code)] += 1
                assert "error" not in answer.text or answer.status_code == 429

    async with client_of(running) as client:
        await asyncio.gather(*(one_client(client, random.Random(n)) for n in range(CLIENTS)))

    assert sum(outcomes.values()) == CLIENTS * REQUESTS
    assert outcomes["left"] > 0.05 * CLIENTS * REQUESTS
    assert set(outcomes) <= {"left", "200", "429"}
    wait_until(running.at_rest, 30)
    wait_until(lambda: running.metric("llm_engine_slots_busy") == 0, 30)
    assert running.metric("llm_requests_running") == running.metric("llm_requests_waiting") == 0
    assert running.metric("llm_engine_restarts_total") == 0
    wait_until(lambda: process.num_fds() <= descriptors, 30)


async def test_of_500_at_once_as_many_are_taken_as_there_is_room_for(running: Service) -> None:
    wait_until(running.at_rest, 60)
    body = chat("Count from 1 to 60", stream=True, max_tokens=3000, ignore_eos=True)
    codes: Counter[int] = Counter()
    told = asyncio.Event()

    async def one(client: httpx.AsyncClient) -> None:
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            codes[answer.status_code] += 1
            if answer.status_code == 429:
                assert int(answer.headers["Retry-After"]) > 0
                assert json.loads(await answer.aread())["error"]["type"] == "rate_limit_error"
            if codes.total() == 500:
                told.set()
            # Nobody makes room before all have been told.
            await told.wait()

    async with client_of(running) as client:
        await asyncio.gather(*(one(client) for _ in range(500)))

    assert codes == {200: SLOTS + QUEUE, 429: 500 - SLOTS - QUEUE}
    wait_until(running.at_rest, 60)


async def test_streams_of_letters_in_pieces_are_whole(running: Service) -> None:
    """What came in frames is what the tokens' bytes are, and U+FFFD only where they are no UTF-8."""
    draw = random.Random(18)
    window = asyncio.Semaphore(16)
    split = 0

    async def one(client: httpx.AsyncClient, seed: int) -> None:
        nonlocal split
        word = "".join(draw.choices(LETTERS, k=draw.randint(1, 6)))
        # A hot model says bytes at random: no UTF-8, most of it.
        heat = draw.choice([0, 1, 2])
        body = chat(f"Repeat: {word}", temperature=heat, seed=seed, max_tokens=48, logprobs=True)
        text, pieces = "", []
        async with (
            window,
            client.stream(
                "POST", "/v1/chat/completions", json={**body, "stream": True, **PLAIN}
            ) as answer,
        ):
            assert answer.status_code == 200
            async for line in answer.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                for choice in json.loads(line[6:])["choices"]:
                    text += choice["delta"].get("content") or ""
                    entries = (choice.get("logprobs") or {}).get("content") or ()
                    words = (e for e in entries if not SPECIAL.fullmatch(e["token"]))
                    pieces += [bytes(entry["bytes"]) for entry in words]
        split += any(not is_utf8(piece) for piece in pieces)
        spoken = b"".join(pieces).decode(errors="replace")
        assert text == THOUGHTS.sub("", spoken, count=1)

    async with client_of(running) as client:
        await asyncio.gather(*(one(client, seed) for seed in range(STREAMS)))
    assert split > STREAMS / 2


def is_utf8(piece: bytes) -> bool:
    try:
        piece.decode()
    except UnicodeDecodeError:
        return False
    return True
