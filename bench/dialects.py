"""What the service itself costs, from a request's bytes to a frame's, without an engine."""

from __future__ import annotations

import statistics
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from bench.contest import Bar, Contest
from bench.conversation import CHATS, TEXTS, Body, called, long, question, said, short
from bench.load import Figures
from bench.recorded import Service, recorded
from bench.servers import Setup

REQUESTS = 40
BARS = (Bar("us per streamed token", at_most=40), Bar("ms per request", at_most=1.5))


@asynccontextmanager
async def dialects(setup: Setup) -> AsyncIterator[list[Contest]]:
    plain = {name: (path, chat(short(), False)) for name, (path, chat) in CHATS.items()}
    plain |= {name: (path, text(question(short()))) for name, (path, text) in TEXTS.items()}
    tools = {name: (path, chat(long(), True)) for name, (path, chat) in CHATS.items()}
    async with recorded() as service:
        yield [
            contest(service, "a question, 256 words of answer", plain, said()),
            contest(service, "20 messages and 3 tools; thoughts, text and a call", tools, called()),
        ]


def contest(
    service: Service, title: str, asked: dict[str, tuple[str, Body]], pieces: Sequence[str]
) -> Contest:
    contestants = {
        name: partial(cost, service, path, body, pieces) for name, (path, body) in asked.items()
    }
    return Contest(f"the service's own work: {title}", contestants, tuple(contestants), BARS)


async def cost(
    service: Service, path: str, body: Body, pieces: Sequence[str], round_number: int
) -> Figures:
    """Of processor time, so that what else runs on the machine is not in it."""
    # What is compiled and cached once is not a request's.
    await service.ask(path, body, pieces)
    costs = [await service.ask(path, body, pieces) for _ in range(REQUESTS)]
    rest = len(pieces) - 1
    return {
        "us per streamed token": 1e6 * statistics.median(cost.rest for cost in costs) / rest,
        "ms per request": 1e3 * statistics.median(cost.first for cost in costs),
        "tokens": len(pieces),
        "frames": costs[0].frames,
    }
