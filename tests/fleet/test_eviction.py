"""Who goes so that a model gets its place in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from service.catalog.card import ModelCard
from service.engine.wire import EngineParams
from service.errors import ModelLoadFailed
from service.facts import ModelFacts
from service.fleet.host import EngineHost
from service.fleet.placer import Attempt
from service.fleet.residency import Residency
from service.fleet.residents import turn_ends
from service.fleet.vetting import Unloadable
from service.settings import Settings
from tests.fleet.fakes import (
    FAKE,
    QUICK,
    Seen,
    card,
    enter,
    outcome,
    read,
    running_host,
    submitted,
    until,
    write_script,
)
from tests.fleet.residencies import answer


@dataclass
class Memory:
    """Room for so many models: what has no place there would have one alone. `whole`: a model
    without room is refused, and does not only have less of it where it is fast. Where the model
    `held` goes is not said before `said` is set."""

    room: int
    whole: bool = True
    held: str = ""
    said: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[str] = field(default_factory=list)
    hosts: Callable[[], list[EngineHost]] = list

    async def __call__(self, wanted: ModelCard, params: EngineParams) -> Attempt:
        self.asked.append(wanted.name)
        if wanted.name == self.held:
            await self.said.wait()
        loaded = sum(host.supervisor.facts is not None for host in self.hosts())
        if loaded < self.room:
            return Attempt(params)
        return Attempt(Unloadable("out_of_memory", "no room") if self.whole else params, True)

    def learn(self, card: ModelCard, params: EngineParams, facts: ModelFacts) -> None:
        pass


@asynccontextmanager
async def with_memory(
    room: int, *, whole: bool = True, held: str = ""
) -> AsyncIterator[tuple[Residency, Memory]]:
    memory = Memory(room, whole, held)
    models = Residency(Settings(), Seen(), command=FAKE, limits=QUICK, placer=memory)
    memory.hosts = lambda: models.hosts
    try:
        yield models, memory
    finally:
        await models.close()


async def test_who_has_no_room_in_memory_gets_that_of_the_idle_one_used_longest_ago(
    tmp_path: Path,
) -> None:
    first, second, third = (card(write_script(tmp_path, name, tokens=1)) for name in "abc")
    async with with_memory(2) as (models, memory):
        for wanted in (first, second, third):
            assert (await answer(models.host(wanted)))[0] == "t0 "

        assert models.find(first) is None
        assert models.find(second) is not None
        assert memory.asked == ["a:latest", "b:latest", "c:latest", "c:latest"]


async def test_a_busy_one_leaves_its_memory_when_it_has_finished(tmp_path: Path) -> None:
    busy = card(write_script(tmp_path, "busy", delay=0.05, tokens=30))
    other = card(write_script(tmp_path, "other", tokens=1))
    async with with_memory(1) as (models, _):
        running = await submitted(models.host(busy))
        waiting = asyncio.create_task(answer(models.host(other)))

        assert (await read(running))[0].count("t") == 30
        assert (await waiting)[0] == "t0 "


async def test_only_the_idle_go_for_a_model_that_has_a_place_but_a_slow_one(tmp_path: Path) -> None:
    idle = card(write_script(tmp_path, "idle", tokens=1))
    busy = card(write_script(tmp_path, "busy", delay=0.01, tokens=100_000))
    other = card(write_script(tmp_path, "other", tokens=1))
    async with with_memory(1, whole=False) as (models, _):
        await answer(models.host(idle))
        await submitted(models.host(busy))
        assert (await answer(models.host(other)))[0] == "t0 "

        assert models.find(idle) is None
        assert models.find(busy) is not None


async def test_who_leaves_while_there_is_no_room_does_not_wait_for_ever(tmp_path: Path) -> None:
    busy = card(write_script(tmp_path, "busy", delay=0.01, tokens=100_000))
    other = card(write_script(tmp_path, "other", tokens=1))
    async with with_memory(1) as (models, _):
        occupant = models.host(busy)
        running = await submitted(occupant)
        host = models.host(other)
        stream = enter(host)
        await until(lambda: host.supervisor.state == "loading")
        host.cancel(stream)
        await until(lambda: models.find(other) is None)

        # Nothing has failed by that: who comes when there is room is served.
        occupant.cancel(running)
        assert (await answer(models.host(other)))[0] == "t0 "


async def test_who_is_sent_away_while_it_loads_waits_for_those_alone_whom_it_sends_away(
    tmp_path: Path,
) -> None:
    idle, wanted = (card(write_script(tmp_path, name, tokens=1)) for name in ("idle", "wanted"))
    async with with_memory(1, held=wanted.name) as (models, memory):
        await answer(models.host(idle))
        host = models.host(wanted)
        asked = asyncio.create_task(answer(host))
        await until(lambda: host.supervisor.state == "loading")
        unloading = asyncio.create_task(models.unload(wanted))
        await asyncio.sleep(0)
        memory.said.set()

        assert (await asyncio.wait_for(asked, 10))[0] == "t0 "
        await asyncio.wait_for(unloading, 10)
        assert models.find(idle) is None


async def test_who_is_sent_away_while_it_loads_does_not_wait_for_one_that_waits_for_it(
    tmp_path: Path,
) -> None:
    first, second = (card(write_script(tmp_path, name, tokens=1)) for name in ("a", "b"))
    async with with_memory(0, held=first.name) as (models, memory):
        host = models.host(first)
        asked = asyncio.create_task(outcome(answer(host)))
        await until(lambda: host.supervisor.state == "loading")
        unloading = asyncio.create_task(models.unload(first))
        await asyncio.sleep(0)
        others = [
            asyncio.create_task(outcome(answer(models.host(each)))) for each in (second, first)
        ]
        await until(lambda: models.host(second).supervisor.state == "loading")
        memory.said.set()

        assert isinstance(await asyncio.wait_for(asked, 10), ModelLoadFailed)
        await asyncio.wait_for(unloading, 10)
        for other in others:
            await asyncio.wait_for(other, 10)


async def test_who_has_to_be_started_again_for_a_request_is_not_sent_away_before_that(
    tmp_path: Path,
) -> None:
    path = write_script(tmp_path, lives=[{}, {"load": "hang"}])
    async with running_host(path) as host:
        stream = enter(host)
        await host.loaded(stream)
        assert turn_ends(host) is not None
        host.supervisor.kill("the test wants it")
        await until(lambda: host.supervisor.state == "restarting")

        assert turn_ends(host) is None
        host.cancel(stream)
        assert turn_ends(host) is not None
