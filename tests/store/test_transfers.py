from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from service.errors import StoreFailed
from service.store.transfers import Step, Tell, Transfers


async def collect(transfers: Transfers, work: object, key: str = "x") -> list[Step]:
    return [step async for steps in transfers.follow(key, work) for step in steps]  # type: ignore[arg-type]


async def test_the_last_of_each_kind_of_step_counts() -> None:
    async def work(tell: Tell) -> None:
        tell(Step("one"))
        for count in range(100):
            tell(Step("two", "d", 100, count))
        tell(Step("three"))

    assert await collect(Transfers(), work) == [
        Step("one"),
        Step("two", "d", 100, 99),
        Step("three"),
    ]


async def test_who_comes_later_follows_the_same_work_from_its_beginning() -> None:
    transfers, go, begun = Transfers(), asyncio.Event(), []

    async def work(tell: Tell) -> None:
        begun.append(1)
        tell(Step("one"))
        await go.wait()
        tell(Step("two"))

    first = asyncio.create_task(collect(transfers, work))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(collect(transfers, work))
    await asyncio.sleep(0.01)
    go.set()

    assert await first == await second == [Step("one"), Step("two")]
    assert len(begun) == 1


async def test_work_goes_on_until_the_last_has_left() -> None:
    transfers, ended = Transfers(), asyncio.Event()

    async def work(tell: Tell) -> None:
        tell(Step("one"))
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async with aclosing(transfers.follow("x", work)) as second:
        async with aclosing(transfers.follow("x", work)) as first:
            assert await anext(first) == await anext(second)
        assert not ended.is_set()
    assert ended.is_set()


async def test_a_failure_reaches_all_and_the_next_begins_anew() -> None:
    transfers = Transfers()
    fails = True

    async def work(tell: Tell) -> None:
        await asyncio.sleep(0.01)
        if fails:
            raise StoreFailed("full")

    both = await asyncio.gather(
        collect(transfers, work), collect(transfers, work), return_exceptions=True
    )
    assert [type(error) for error in both] == [StoreFailed, StoreFailed]
    fails = False
    assert await collect(transfers, work) == []


async def test_closing_ends_what_runs() -> None:
    transfers = Transfers()

    async def work(tell: Tell) -> None:
        await asyncio.sleep(60)

    following = asyncio.create_task(collect(transfers, work))
    await asyncio.sleep(0.01)
    await transfers.close()
    with pytest.raises(asyncio.CancelledError):
        await following
