from __future__ import annotations

import asyncio

import pytest

from bench import load
from bench.client import Answer, Target
from bench.load import closed_loop, conversation, disturbance, figures, open_loop, reuse
from bench.workloads import Closed, Distinct, Request

TARGET = Target("fake", "http://127.0.0.1:1")


def answer(
    *frames: float, sent: float = 0.0, prompt: int = 10, tokens: int | None = None, cached: int = 0
) -> Answer:
    return Answer(
        sent=sent,
        frames=frames,
        ended=frames[-1],
        prompt_tokens=prompt,
        completion_tokens=len(frames) if tokens is None else tokens,
        cached_tokens=cached,
        text=" word",
    )


class Asked:
    """Stands in for the network: counts who is in flight, and answers after a moment."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.most = self._now = 0

    async def __call__(self, target: Target, request: Request) -> Answer:
        self.requests.append(request)
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0.001)
        self._now -= 1
        return answer(1.0, 2.0)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    asked = Asked()
    monkeypatch.setattr(load, "ask", asked)
    return asked


async def test_a_closed_loop_keeps_its_clients_busy_and_no_more(asked: Asked) -> None:
    requests = Distinct(Closed(3), requests=10).plan(0)

    answers = await closed_loop(TARGET, requests, 3)

    assert len(answers) == 10
    assert asked.most == 3
    assert asked.requests == requests


async def test_an_open_loop_waits_for_no_answer(asked: Asked) -> None:
    requests = Distinct(Closed(1), requests=10).plan(0)

    answers = await open_loop(TARGET, requests, [0.0] * 10)

    assert len(answers) == 10
    assert asked.most == 10


async def test_a_turn_sends_all_that_was_said_before(asked: Asked) -> None:
    system, hello, more = (
        {"role": role, "content": text}
        for role, text in (("system", "s"), ("user", "hello"), ("user", "more"))
    )

    await conversation(TARGET, system, [hello, more], max_tokens=5)

    first, second = asked.requests
    assert first.prompt == (system, hello)
    assert second.prompt == (system, hello, {"role": "assistant", "content": " word"}, more)


def test_tokens_are_counted_by_usage_and_not_by_frames() -> None:
    found = figures([answer(1.0, 2.0, tokens=8), answer(1.0, 4.0, tokens=8)])

    assert found["tokens/s"] == 4.0
    assert found["TTFT p50 ms"] == 1000.0
    assert found["end-to-end p95 ms"] == 4000.0
    assert found["inter-token p50 ms"] == 1000.0


def test_only_gaps_that_overlap_the_prompts_arrival_and_first_token_count() -> None:
    stream = answer(1.0, 2.0, 3.0, 9.0, 10.0, 11.0)
    late = answer(9.5, 9.6, sent=2.5)

    found = disturbance([stream], late)

    # 2–3 is running when the prompt comes, 3–9 stands still for it, 9–10 has its first token.
    assert found["others' gap p50 ms"] == 1000.0
    assert found["others' gap p95 ms"] == 6000.0
    assert found["long prompt's TTFT ms"] == 7000.0
    assert found["streams that outlived it"] == 1


def test_repeatable_is_the_last_turn_but_for_the_token_that_was_never_decoded() -> None:
    first = answer(1.0, prompt=100, tokens=20)
    second = answer(1.0, prompt=150, tokens=20, cached=119)
    third = answer(1.0, prompt=200, tokens=20, cached=0)

    assert reuse([[first, second]])["cached share of repeatable"] == 1.0
    assert reuse([[first, second, third]])["cached share of repeatable"] == 119 / (119 + 169)
