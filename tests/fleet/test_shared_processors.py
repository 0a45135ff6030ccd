"""Engines that compute at the same time know how many they are."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from service.engine import wire
from service.fleet.host import EngineHost
from service.fleet.shared_processors import SharedProcessors
from tests.fleet.fakes import card, read, submitted, until, until_tokens, write_script
from tests.fleet.residencies import load, residency


class Engine:
    def __init__(self) -> None:
        self.engines = 1

    def share(self, engines: int) -> None:
        self.engines = engines


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3))))
def test_each_knows_how_many_compute_and_one_that_does_not_has_all_to_itself(
    happenings: list[tuple[bool, int]],
) -> None:
    shared, engines, busy = SharedProcessors(), [Engine() for _ in range(4)], set()
    for joins, number in happenings:
        if joins:
            shared.join(engines[number])
            busy.add(number)
        else:
            shared.leave(engines[number])
            busy.discard(number)
        for at, engine in enumerate(engines):
            assert engine.engines == (len(busy) if at in busy else 1)


def told(host: EngineHost) -> list[int]:
    """What its engine hears, from now on, of how many compute."""
    heard: list[int] = []
    decoder: wire.FrameDecoder[wire.Command] = wire.FrameDecoder(wire.Command)
    send = host.supervisor.send

    def sending(frame: bytes) -> None:
        commands = decoder.feed(frame)
        heard.extend(each.engines for each in commands if isinstance(each, wire.SetThreads))
        send(frame)

    host.supervisor.send = sending  # type: ignore[method-assign]
    return heard


async def test_an_engine_takes_its_part_while_another_computes(tmp_path: Path) -> None:
    async with residency() as models:
        one, other = (models.host(card(write_script(tmp_path, name, delay=0.005))) for name in "ab")
        await load(one)
        await load(other)
        await until(lambda: one.idle and other.idle)
        to_one, to_other = told(one), told(other)
        long = await submitted(one, tokens=1000)
        await until_tokens(long)
        assert (to_one, to_other) == ([], [])

        await read(await submitted(other, tokens=3))
        assert (to_one, to_other) == ([2, 1], [2, 1])
        one.cancel(long)


async def test_an_engine_that_died_computes_nothing_until_it_is_back(tmp_path: Path) -> None:
    async with residency() as models:
        one, other = (models.host(card(write_script(tmp_path, name, delay=0.005))) for name in "ab")
        await submitted(one, tokens=1000)
        second = await submitted(other, tokens=1000)
        to_other = told(other)
        one.supervisor.kill("for a test")
        await until(lambda: to_other == [1])
        third = await submitted(one, tokens=1000)
        assert to_other == [1, 2]
        for host, stream in ((other, second), (one, third)):
            host.cancel(stream)
