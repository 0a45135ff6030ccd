from __future__ import annotations

import asyncio

from service.dialects.turnstile import Turnstile


async def turns_of(turnstile: Turnstile, requests: int) -> list[int]:
    """In which turn of the loop each of them came through."""
    turn = 0
    through: list[int] = []

    async def one() -> None:
        await turnstile.turn()
        through.append(turn)

    tasks = [asyncio.create_task(one()) for _ in range(requests)]
    while not all(task.done() for task in tasks):
        turn += 1
        await asyncio.sleep(0)
    return through


async def test_no_turn_of_the_loop_begins_more_than_its_share() -> None:
    through = await turns_of(Turnstile(per_turn=4), 50)

    assert len(through) == 50
    assert max(through.count(turn) for turn in set(through)) <= 4


async def test_a_request_alone_does_not_wait() -> None:
    assert await turns_of(Turnstile(), 1) == [1]


async def test_one_that_hung_up_while_it_waited_keeps_nobody_from_passing() -> None:
    turnstile = Turnstile(per_turn=1)
    tasks = [asyncio.create_task(turnstile.turn()) for _ in range(5)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 1)

    assert tasks[2].cancelled()
    assert all(task.done() for task in tasks)


async def test_after_a_rush_it_is_as_new() -> None:
    turnstile = Turnstile(per_turn=2)
    await turns_of(turnstile, 20)
    for _ in range(5):
        await asyncio.sleep(0)

    assert await turns_of(turnstile, 2) == [1, 1]
