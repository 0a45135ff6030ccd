"""The load generator: carries a workload to one server, and says what came back in numbers.

Times are in milliseconds from here on, rates in tokens a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from time import perf_counter

from bench.client import Answer, Milestone, Target, ask
from bench.summary import percentile, rate_together
from bench.workloads import (
    Closed,
    Distinct,
    LongPrompt,
    Message,
    MultiTurn,
    Request,
    SharedPrefix,
)

Figures = dict[str, float]


async def run(target: Target, seed: object, workload: Distinct | SharedPrefix) -> Figures:
    requests = workload.plan(seed)
    if isinstance(workload.arrivals, Closed):
        answers = await closed_loop(target, requests, workload.arrivals.clients)
    else:
        answers = await open_loop(target, requests, workload.arrivals.times(len(requests), seed))
    return figures(answers)


async def closed_loop(target: Target, requests: list[Request], clients: int) -> list[Answer]:
    waiting, answers = list(reversed(requests)), []

    async def client() -> None:
        while waiting:
            answers.append(await ask(target, waiting.pop()))

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return answers


async def open_loop(target: Target, requests: list[Request], times: list[float]) -> list[Answer]:
    async def arrive(request: Request, after: float) -> Answer:
        await asyncio.sleep(after)
        return await ask(target, request)

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(arrive(request, after))
            for request, after in zip(requests, times, strict=True)
        ]
    return [task.result() for task in tasks]


def figures(answers: Sequence[Answer]) -> Figures:
    wall = max(answer.ended for answer in answers) - min(answer.sent for answer in answers)
    tokens = sum(answer.completion_tokens for answer in answers)
    found: Figures = {"requests": len(answers), "tokens/s": tokens / wall}
    found |= spread("TTFT", [answer.ttft for answer in answers])
    found |= spread("inter-token", [gap for answer in answers for gap in answer.gaps])
    found |= spread("end-to-end", [answer.ended - answer.sent for answer in answers])
    found["prompt tokens"] = sum(answer.prompt_tokens for answer in answers)
    found["cached tokens"] = sum(answer.cached_tokens for answer in answers)
    if (together := rate_together(answers)) is not None:
        found["decode tokens/s"] = together
    return found


def spread(name: str, seconds: Sequence[float]) -> Figures:
    return {f"{name} p{q} ms": 1000 * percentile(seconds, q) for q in (50, 95, 99)}


async def long_prompt(target: Target, seed: object, workload: LongPrompt) -> Figures:
    requests, late = workload.plan(seed)
    milestones = [Milestone(workload.after_frames) for _ in requests]
    async with asyncio.TaskGroup() as group:
        streams = [
            group.create_task(ask(target, request, milestone))
            for request, milestone in zip(requests, milestones, strict=True)
        ]
        for milestone in milestones:
            await milestone.reached.wait()
        answer = await ask(target, late)
    return disturbance([stream.result() for stream in streams], answer)


def disturbance(streams: Sequence[Answer], late: Answer) -> Figures:
    """The gaps that overlap the time from the prompt's arrival to its first token."""
    begin, end = late.sent, late.sent + late.ttft
    gaps = [
        later - earlier
        for stream in streams
        for earlier, later in pairwise(stream.frames)
        if later > begin and earlier < end
    ]
    return spread("others' gap", gaps) | {
        "prompt tokens": late.prompt_tokens,
        "long prompt's TTFT ms": 1000 * late.ttft,
        "streams that outlived it": sum(stream.ended > end for stream in streams),
    }


async def multi_turn(target: Target, seed: object, workload: MultiTurn) -> Figures:
    begin = perf_counter()
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(conversation(target, system, said, workload.max_tokens))
            for system, said in workload.plan(seed)
        ]
    conversations = [task.result() for task in tasks]
    wall = perf_counter() - begin
    return reuse(conversations) | {
        "tokens/s": sum(turn.completion_tokens for turns in conversations for turn in turns) / wall
    }


async def conversation(
    target: Target, system: Message, said: Sequence[Message], max_tokens: int
) -> list[Answer]:
    history, answers = [system], []
    for number, message in enumerate(said):
        history.append(message)
        answer = await ask(target, Request(tuple(history), max_tokens, number))
        history.append({"role": "assistant", "content": answer.text})
        answers.append(answer)
    return answers


def reuse(conversations: Sequence[Sequence[Answer]]) -> Figures:
    """Of later turns: a first one has nothing to reuse.

    Repeatable is what a server has computed in the turn before: its prompt, and its reply but
    for the last token, which is sampled and never decoded.
    """
    pairs = [pair for turns in conversations for pair in pairwise(turns)]
    repeatable = sum(last.prompt_tokens + last.completion_tokens - 1 for last, _ in pairs)
    cached = sum(turn.cached_tokens for _, turn in pairs)
    return spread("TTFT", [turn.ttft for _, turn in pairs]) | {
        "cached share of repeatable": cached / repeatable
    }
