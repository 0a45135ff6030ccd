"""Which models have an engine."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from msgspec.structs import replace

from bench.turns import loads_of_lru
from service.catalog.card import ModelCard
from service.engine.wire import EngineParams
from service.errors import ModelLoadFailed, ModelUnavailable
from service.events import Finished, FinishReason
from service.facts import ModelFacts
from service.fleet.host import EngineHost
from service.fleet.parameters import engine_params, limits_from
from service.fleet.placing import Attempt
from service.fleet.residency import Residency
from service.fleet.vetting import Unloadable
from service.generation import LoadWishes
from service.settings import Settings
from service.stats import ModelLoadFailed as ModelLoadFailedEvent
from service.stats import ModelUnloaded
from tests.fleet.fakes import (
    FAKE,
    QUICK,
    Seen,
    card,
    enter,
    lives,
    outcome,
    read,
    submitted,
    until,
    write_script,
)


def settings(**values: Any) -> Settings:
    return Settings(**values)


@asynccontextmanager
async def residency(max_loaded: int = 3) -> AsyncIterator[Residency]:
    chosen = settings(max_loaded_models=max_loaded)
    made = Residency(chosen, Seen(), command=FAKE, limits=QUICK)
    try:
        yield made
    finally:
        await made.close()


async def answer(host: EngineHost) -> tuple[str, list[Finished]]:
    return await read(await submitted(host))


async def load(host: EngineHost) -> None:
    stream = enter(host)
    await host.loaded(stream)
    host.cancel(stream)


async def test_all_who_ask_while_a_model_loads_share_the_load(tmp_path: Path) -> None:
    path = write_script(tmp_path, load_seconds=0.2, tokens=1)
    async with residency() as models:
        streams = [submitted(models.host(card(path))) for _ in range(5)]
        answers = [await read(stream) for stream in await asyncio.gather(*streams)]

    assert [text for text, _ in answers] == ["t0 "] * 5
    assert lives(path) == 1


async def test_two_names_of_one_file_share_an_engine(tmp_path: Path) -> None:
    path = write_script(tmp_path)
    link = tmp_path / "link.json"
    link.symlink_to(path)
    async with residency() as models:
        assert models.host(card(path)) is models.host(card(link))


async def test_the_idle_model_used_longest_ago_makes_room(tmp_path: Path) -> None:
    first, second, third = (card(write_script(tmp_path, name)) for name in ("a", "b", "c"))
    async with residency(max_loaded=2) as models:
        for wanted in (first, second, first):
            await load(models.host(wanted))
        left = models.host(second).supervisor.pid
        await load(models.host(third))

        assert models.find(second) is None
        assert models.find(first) is not None
        assert left is not None
        assert not psutil.pid_exists(left)


async def test_a_busy_model_finishes_what_it_has_before_another_takes_its_room(
    tmp_path: Path,
) -> None:
    busy = card(write_script(tmp_path, "busy", delay=0.05, tokens=40))
    other = card(write_script(tmp_path, "other", tokens=1))
    async with residency(max_loaded=1) as models:
        running = await submitted(models.host(busy))
        waiting = asyncio.create_task(answer(models.host(other)))
        text, [end] = await read(running)

        assert (text.count("t"), end.reason) == (40, FinishReason.STOP)
        assert (await waiting)[0] == "t0 "
        assert models.find(busy) is None


async def test_who_waits_for_room_in_vain_leaves_nothing_behind(tmp_path: Path) -> None:
    busy = card(write_script(tmp_path, "busy", delay=0.01, tokens=100_000))
    other = card(write_script(tmp_path, "other"))
    async with residency(max_loaded=1) as models:
        await submitted(models.host(busy))
        host = models.host(other)
        host.cancel(enter(host))

        assert models.find(other) is None
        assert lives(Path(other.path)) == 0


async def test_beside_pinned_models_that_fill_the_room_nothing_else_comes(tmp_path: Path) -> None:
    pinned, other = (card(write_script(tmp_path, name)) for name in ("a", "b"))
    async with residency(max_loaded=1) as models:
        models.pin([pinned])
        models.keep(pinned, 0.0)
        await load(models.host(pinned))

        with pytest.raises(ModelUnavailable, match="no room for the model `b:latest`"):
            await load(models.host(other))
        assert models.keep_alive(pinned) < 0
        assert models.find(other) is None
        assert models.find(pinned) is not None


async def test_what_is_asked_of_a_model_on_its_way_out_waits_for_its_next_turn(
    tmp_path: Path,
) -> None:
    path = write_script(tmp_path, delay=0.01, tokens=20)
    async with residency() as models:
        first = await submitted(models.host(card(path)))
        unloading = asyncio.create_task(models.unload(card(path)))
        await asyncio.sleep(0)
        second = await submitted(models.host(card(path)))

        assert (await read(first))[1][0].reason is FinishReason.STOP
        assert (await read(second))[1][0].reason is FinishReason.STOP
        await unloading
    assert lives(path) == 2


async def test_clients_of_four_models_with_room_for_two_all_get_their_answers(
    tmp_path: Path,
) -> None:
    """And the models are loaded less often than the same requests, one after the other, would
    load them where the one used longest ago goes."""
    cards = [card(write_script(tmp_path, name, tokens=3, delay=0.002)) for name in "abcd"]
    drawn = random.Random(7)
    trace = [drawn.choice(cards) for _ in range(300)]
    requests = iter(trace)
    ends: list[FinishReason] = []

    async def client() -> None:
        for wanted in requests:
            _, [end] = await answer(models.host(wanted))
            ends.append(end.reason)

    async with residency(max_loaded=2) as models:
        await asyncio.gather(*(client() for _ in range(16)))

    assert ends == [FinishReason.STOP] * 300
    assert sum(lives(Path(card.path)) for card in cards) <= loads_of_lru(
        [wanted.name for wanted in trace], 2
    )


async def test_a_failed_model_takes_no_room_and_comes_back_with_a_better_file(
    tmp_path: Path,
) -> None:
    path = write_script(tmp_path, lives=[{"load": "refuse"}, {}])
    async with residency(max_loaded=1) as models:
        host = models.host(card(path))
        assert isinstance(await outcome(load(host)), ModelLoadFailed)
        await load(models.host(card(write_script(tmp_path, "other"))))
        assert models.host(card(path)) is host

        await load(models.host(replace(card(path), size_bytes=2)))
        assert models.host(replace(card(path), size_bytes=2)) is not host


async def test_a_longer_context_is_loaded_for_when_what_runs_has_finished(tmp_path: Path) -> None:
    path = write_script(tmp_path, delay=0.01, tokens=20, n_ctx_train=16384)
    async with residency() as models:
        first = models.host(card(path))
        running = await submitted(first)
        second = models.host(card(path), LoadWishes(n_ctx=5000))
        asked = await asyncio.gather(*(submitted(second) for _ in range(2)))

        assert second is not first
        assert models.host(card(path), LoadWishes(n_ctx=8192)) is second
        assert (await read(running))[1][0].reason is FinishReason.STOP
        facts = second.supervisor.facts
        assert facts is not None
        assert facts.n_ctx_seq == 8192
        for stream in asked:
            assert (await read(stream))[1][0].reason is FinishReason.STOP
    assert lives(path) == 2


async def test_a_context_that_there_is_no_memory_for_leaves_the_model_as_it_was(
    tmp_path: Path,
) -> None:
    path = write_script(tmp_path, tokens=1, n_ctx_train=16384, no_memory_for=20000)
    seen = Seen()
    models = Residency(settings(), seen, command=FAKE, limits=QUICK)
    try:
        await load(models.host(card(path)))
        wanting = models.host(card(path), LoadWishes(n_ctx=8192))
        assert (await answer(wanting))[0] == "t0 "
        assert wanting.supervisor.fell_back
        assert wanting.supervisor.facts is not None
        assert wanting.supervisor.facts.n_ctx_seq == 4096
        # Nor is it tried with each request anew.
        assert models.host(card(path), LoadWishes(n_ctx=8192)) is wanting
        assert models.host(card(path), LoadWishes(n_ctx=12000)) is wanting
    finally:
        await models.close()
    assert ModelLoadFailedEvent("fake:latest", "out_of_memory") in seen.models
    assert ModelUnloaded("fake:latest", "reload") in seen.models


class Memory:
    """Room for so many models: what has no place there would have one alone."""

    def __init__(self, room: int, models: Callable[[], Residency], *, whole: bool = True) -> None:
        self.room = room
        self.models = models
        # Whether a model without room is refused, or only has less of it where it is fast.
        self.whole = whole
        self.asked: list[str] = []

    async def __call__(self, wanted: ModelCard, params: EngineParams) -> Attempt:
        self.asked.append(wanted.name)
        loaded = sum(host.supervisor.facts is not None for host in self.models().hosts)
        if loaded < self.room:
            return Attempt(params)
        return Attempt(Unloadable("out_of_memory", "no room") if self.whole else params, True)

    def learn(self, card: ModelCard, params: EngineParams, facts: ModelFacts) -> None:
        pass


@asynccontextmanager
async def with_memory(room: int, *, whole: bool = True) -> AsyncIterator[tuple[Residency, Memory]]:
    memory = Memory(room, lambda: models, whole=whole)
    models = Residency(settings(), Seen(), command=FAKE, limits=QUICK, placer=memory)
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


async def test_closing_leaves_no_process(tmp_path: Path) -> None:
    async with residency() as models:
        hosts = [models.host(card(write_script(tmp_path, name))) for name in ("a", "b")]
        await asyncio.gather(*map(load, hosts))
        pids = [host.supervisor.pid for host in hosts]

    assert not any(psutil.pid_exists(pid) for pid in pids if pid is not None)
    assert None not in pids


def test_settings_become_an_engines_parameters(tmp_path: Path) -> None:
    chosen = settings(
        default_context_size=8192,
        parallel_slots=2,
        batch_size=512,
        threads=3,
        gpu_layers=5,
        tensor_split=(1.0, 2.0),
        kv_cache="unified",
        prefill_chunk=128,
        queue_size=7,
        queue_timeout=11,
        step_timeout=13,
    )
    params = engine_params(card(write_script(tmp_path)), chosen)
    limits = limits_from(chosen)

    assert params.path == str(tmp_path / "fake.json")
    assert (params.n_ctx, params.n_seq, params.n_batch, params.threads) == (8192, 2, 512, 3)
    assert (params.gpu_layers, params.tensor_split) == (5, (1.0, 2.0))
    assert (params.kv_layout, params.prefill_chunk) == ("unified", 128)
    assert (limits.queue, limits.queue_timeout, limits.step_timeout) == (7, 11.0, 13.0)
