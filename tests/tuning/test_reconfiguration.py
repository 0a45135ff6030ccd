"""Settings that change while requests run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from service.catalog.card import ModelCard
from service.catalog.catalog import Catalog
from service.control.config import Applied
from service.control.versions import Versions, started
from service.engine.wire import EngineParams
from service.errors import (
    ChangeRefused,
    InvalidSettings,
    StaleVersion,
    StateNotWritten,
    VersionNotFound,
)
from service.events import Event, Finished, FinishReason
from service.facts import ModelFacts
from service.fleet.placer import Attempt
from service.serving.runtime import Runtime
from service.settings import Settings
from service.settings_sources import read
from service.tuning.reconfiguration import Reconfiguration
from tests.fleet.fakes import (
    FAKE,
    QUICK,
    Seen,
    Shelf,
    answer,
    card,
    chat,
    lives,
    outcome,
    texts,
    until,
    write_script,
)

STREAMS = 8


@asynccontextmanager
async def running(
    folder: Path, *paths: Path, **said: Any
) -> AsyncIterator[tuple[Runtime, Reconfiguration]]:
    start = started(read({"state_dir": folder, "queue_size": 64, **said}), now=1.0)
    runtime = Runtime(
        Catalog((), demo=Shelf([card(path) for path in paths])),
        start.settings,
        Seen(),
        command=FAKE,
        limits=QUICK,
    )
    changing = Reconfiguration(start, runtime)
    await runtime.start()
    try:
        yield runtime, changing
    finally:
        await runtime.close()


def facts(runtime: Runtime, name: str = "fake:latest") -> ModelFacts:
    (status,) = (each for each in runtime.models() if each.card.name == name)
    assert status.facts is not None
    return status.facts


def ready(runtime: Runtime) -> bool:
    return all(status.state == "ready" for status in runtime.models())


async def begun(runtime: Runtime, count: int) -> list[asyncio.Task[tuple[str, list[Finished]]]]:
    """Streams that have brought something."""
    first = [asyncio.Event() for _ in range(count)]

    async def stream(number: int) -> tuple[str, list[Finished]]:
        generation = await runtime.admit(chat("fake"))
        events: list[Event] = []
        async with aclosing(generation):
            async for event in generation:
                events.append(event)
                first[number].set()
        return texts(events)

    tasks = [asyncio.create_task(stream(number)) for number in range(count)]
    for event in first[: min(count, 4)]:
        await asyncio.wait_for(event.wait(), 20)
    return tasks


async def test_what_needs_nothing_is_in_force_at_once(tmp_path: Path) -> None:
    path = write_script(tmp_path)
    async with running(tmp_path, path) as (runtime, changing):
        await until(lambda: ready(runtime))
        applied = await changing.apply({"queue_size": 0, "keep_alive": -1}, by="local", why="x")
        (status,) = runtime.models()

        assert applied.changed == {"queue_size": (64, 0), "keep_alive": (300.0, -1.0)}
        assert (applied.reloads, applied.restart) == ((), ())
        assert status.queue_capacity == 4
        assert status.keep_alive == -1
        assert changing.settings.queue_size == 0
        assert lives(path) == 1


async def test_threads_change_within_a_step(tmp_path: Path) -> None:
    path = write_script(tmp_path, delay=0.01, tokens=60)
    async with running(tmp_path, path) as (runtime, changing):
        streams = await begun(runtime, 4)
        pid = runtime.models()[0].pid
        await changing.apply({"threads": 3}, by="local", why="x")
        await until(lambda: facts(runtime).threads == 3)

        assert {(await stream)[0].count("t") for stream in streams} == {60}
        assert runtime.models()[0].pid == pid
        assert lives(path) == 1


async def test_a_context_changes_under_streams_and_no_request_notices(tmp_path: Path) -> None:
    path = write_script(tmp_path, delay=0.005, tokens=60, n_ctx_train=100_000)
    async with running(tmp_path, path) as (runtime, changing):
        streams = await begun(runtime, STREAMS)
        before = facts(runtime).n_ctx
        applied = await changing.apply({"default_context_size": 8192}, by="local", why="x")
        after = facts(runtime).n_ctx
        late = [asyncio.create_task(answer(runtime, chat("fake"))) for _ in range(STREAMS)]
        ends = [await task for task in (*streams, *late)]

        assert (before, after) == (16384, 8192)
        assert applied.reloads == ("fake:latest",)
        assert {end.reason for _, ends_ in ends for end in ends_} == {FinishReason.STOP}
        assert {text.count("t") for text, _ in ends} == {60}
        assert lives(path) == 2
        await until(lambda: len(runtime._residency.hosts) == 1)


async def test_without_room_for_two_requests_wait_and_none_fails(tmp_path: Path) -> None:
    path = write_script(tmp_path, delay=0.005, tokens=60, load_seconds=0.2)
    async with running(tmp_path, path) as (runtime, changing):
        streams = await begun(runtime, STREAMS)
        runtime._residency._engines.placer = AlwaysCramped()
        change = asyncio.create_task(
            changing.apply({"default_context_size": 8192}, by="local", why="x")
        )
        await asyncio.sleep(0)
        late = [asyncio.create_task(answer(runtime, chat("fake"))) for _ in range(STREAMS)]
        ends = [await task for task in (*streams, *late)]

        assert (await change).reloads == ("fake:latest",)
        assert facts(runtime).n_ctx == 8192
        assert {text.count("t") for text, _ in ends} == {60}
        assert lives(path) == 2


@pytest.mark.parametrize("room", [True, False])
async def test_settings_that_no_engine_can_be_loaded_with_are_refused_and_the_old_one_serves_on(
    tmp_path: Path, room: bool
) -> None:
    path = write_script(tmp_path, delay=0.005, tokens=60, no_memory_for=50_000)
    async with running(tmp_path, path) as (runtime, changing):
        streams = await begun(runtime, STREAMS)
        if not room:
            runtime._residency._engines.placer = AlwaysCramped()
        change = changing.apply({"default_context_size": 65536}, by="local", why="x")
        with pytest.raises(ChangeRefused, match="as told"):
            await change
        late = [asyncio.create_task(answer(runtime, chat("fake"))) for _ in range(STREAMS)]
        ends = [await task for task in (*streams, *late)]

        assert {text.count("t") for text, _ in ends} == {60}
        assert facts(runtime).n_ctx == 16384
        assert (changing.version.number, changing.settings.default_context_size) == (1, None)
        assert Versions(tmp_path / "config").read()[0] in ([], [changing.version])
        assert changing.outcomes["api", "refused"] == 1


class AlwaysCramped:
    """More of it would be on GPUs if the one that serves were gone."""

    async def __call__(self, card: ModelCard, params: EngineParams) -> Attempt:
        return Attempt(params, cramped=True)

    def learn(self, card: ModelCard, params: EngineParams, facts: ModelFacts) -> None:
        pass


async def test_an_engine_that_dies_of_its_settings_refuses_them(tmp_path: Path) -> None:
    path = write_script(tmp_path, lives=[{"tokens": 2}, *[{"load": "crash"}] * 9])
    async with running(tmp_path, path) as (runtime, changing):
        await until(lambda: ready(runtime))
        with pytest.raises(ChangeRefused, match="cannot be loaded so"):
            await changing.apply({"default_context_size": 8192}, by="local", why="x")

        assert (await answer(runtime, chat("fake")))[0] == "t0 t1 "


async def test_where_one_of_two_models_refuses_neither_changes(tmp_path: Path) -> None:
    good = write_script(tmp_path, "good")
    bad = write_script(tmp_path, "bad", no_memory_for=50_000)
    async with running(tmp_path, good, bad) as (runtime, changing):
        for name in ("good", "bad"):
            await runtime.load(name)
        with pytest.raises(ChangeRefused, match="bad:latest"):
            await changing.apply({"default_context_size": 65536}, by="local", why="x")

        assert {facts(runtime, f"{name}:latest").n_ctx for name in ("good", "bad")} == {16384}


async def test_a_models_own_settings_load_that_model_alone_anew(tmp_path: Path) -> None:
    one, other = write_script(tmp_path, "one"), write_script(tmp_path, "other")
    async with running(tmp_path, one, other) as (runtime, changing):
        for name in ("one", "other"):
            await runtime.load(name)
        own = {"models": {"one": {"context_size": 8192}}}
        would = await changing.apply(own, by="local", why="x", dry_run=True)
        applied = await changing.apply(own, by="local", why="x")

        assert would.reloads == applied.reloads == ("one:latest",)
        assert facts(runtime, "one:latest").n_ctx == 8192
        assert (lives(one), lives(other)) == (2, 1)


async def test_a_model_that_is_not_loaded_is_loaded_in_the_new_way_when_it_is_asked_for(
    tmp_path: Path,
) -> None:
    paths = [write_script(tmp_path, name) for name in ("a", "b")]
    async with running(tmp_path, *paths, max_loaded_models=1) as (runtime, changing):
        await runtime.load("a")
        applied = await changing.apply({"default_context_size": 8192}, by="local", why="x")
        await runtime.load("b")

        assert applied.reloads == ("a:latest",)
        assert facts(runtime, "b:latest").n_ctx == 8192


async def test_trying_out_changes_nothing(tmp_path: Path) -> None:
    path = write_script(tmp_path)
    async with running(tmp_path, path) as (runtime, changing):
        await until(lambda: ready(runtime))
        patch = {"default_context_size": 8192, "port": 1}
        would = await changing.apply(patch, by="local", why="x", dry_run=True)

        assert (would.reloads, would.restart, would.dry_run) == (("fake:latest",), ("port",), True)
        assert changing.version.number == 1
        assert lives(path) == 1
        assert not (tmp_path / "config").exists()


async def test_of_two_writers_one_wins(tmp_path: Path) -> None:
    path = write_script(tmp_path, load_seconds=0.1)
    async with running(tmp_path, path) as (runtime, changing):
        await until(lambda: ready(runtime))
        both = [
            changing.apply({"default_context_size": size}, by="local", why="x")
            for size in (8192, 12288)
        ]
        one, other = await asyncio.gather(*map(outcome, both))

        assert isinstance(one, Applied)
        assert isinstance(other, StaleVersion)
        assert facts(runtime).n_ctx == 8192


async def test_who_has_not_seen_the_last_change_is_told(tmp_path: Path) -> None:
    async with running(tmp_path, write_script(tmp_path)) as (_, changing):
        seen = changing.version
        for expected in (str(seen.number), seen.hash):
            await changing.apply({}, by="local", why="x", expected=expected)
        await changing.apply({"queue_size": 1}, by="local", why="x", expected=seen.hash)
        for expected in (str(seen.number), seen.hash):
            with pytest.raises(StaleVersion, match="version 2"):
                await changing.apply({}, by="local", why="x", expected=expected)


async def test_a_change_outlives_the_process_and_can_be_taken_back(tmp_path: Path) -> None:
    path = write_script(tmp_path)
    async with running(tmp_path, path) as (_, changing):
        await changing.apply({"queue_size": 1}, by="ann", why="preset:small")
        await changing.apply({"queue_size": 2}, by="bob", why="configure")
    async with running(tmp_path, path) as (_, changing):
        assert (changing.settings.queue_size, changing.version.number) == (2, 3)
        assert [each.number for each in changing.versions()] == [3, 2, 1]
        applied = await changing.rollback(2, by="ann")

        assert applied.version.why == "rollback:2"
        assert (changing.settings.queue_size, changing.version.number) == (1, 4)
        await changing.rollback(1, by="ann")
        assert changing.settings.queue_size == 64
        with pytest.raises(VersionNotFound):
            await changing.rollback(99, by="ann")


async def test_a_change_that_the_disk_does_not_take_is_not_in_force(tmp_path: Path) -> None:
    path = write_script(tmp_path)
    async with running(tmp_path, path) as (runtime, changing):
        await until(lambda: ready(runtime))
        (tmp_path / "config").write_text("in the way")
        with pytest.raises(StateNotWritten):
            await changing.apply({"default_context_size": 8192}, by="local", why="x")

        assert changing.version.number == 1
        assert changing.outcomes["api", "not_written"] == 1
        assert facts(runtime).n_ctx == 16384
        assert lives(path) == 1


async def test_listeners_are_told_of_what_is_in_force_and_of_nothing_else(tmp_path: Path) -> None:
    told: list[Applied] = []
    async with running(tmp_path, write_script(tmp_path)) as (_, changing):
        changing.listen(told.append)
        await changing.apply({"queue_size": 1}, by="local", why="x", dry_run=True)
        with pytest.raises(InvalidSettings):
            await changing.apply({"queue_size": -1}, by="local", why="x")
        applied = await changing.apply({"queue_size": 1}, by="local", why="x")

    assert told == [applied]


async def test_aliases_mean_models_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, write_script(tmp_path)) as (runtime, changing):
        await changing.apply({"aliases": {"gpt": "fake"}}, by="local", why="x")

        assert runtime.resolve("gpt").name == "fake:latest"


async def test_a_changed_file_is_in_force_and_a_bad_one_is_not(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("queue_timeout: 5\n")
    async with running(tmp_path, write_script(tmp_path), config=file) as (_, changing):
        assert not changing.file_differs()
        file.write_text("queue_timeout: 6\nport: 5\n")
        assert changing.file_differs()
        applied = await changing.reload()

        assert applied is not None
        assert (applied.version.why, applied.restart) == ("file", ("port",))
        assert changing.settings.queue_timeout == 6
        for bad in ("queue_timeout: -1\n", "queue_timeout: [", "colour: 1\n"):
            file.write_text(bad)
            assert await changing.reload() is None
            assert changing.settings.queue_timeout == 6
            assert not changing.successful
            assert changing.problems
        file.unlink()
        assert await changing.reload() is None
        file.write_text("queue_timeout: 7\n")
        await changing.reload()
        assert (changing.successful, changing.problems) == (True, ())
        assert changing.settings.queue_timeout == 7
        assert changing.outcomes["file", "applied"] == 2


async def test_the_file_is_looked_at_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.tuning.reconfiguration.LOOK_SECONDS", 0.01)
    file = tmp_path / "config.yaml"
    file.write_text("queue_timeout: 5\n")
    async with running(tmp_path, write_script(tmp_path), config=file) as (_, changing):
        following = asyncio.create_task(changing.follow_file())
        await asyncio.sleep(0.05)
        file.write_text("queue_timeout: 16\n")
        await until(lambda: changing.settings.queue_timeout == 16)
        following.cancel()


def test_settings_of_a_test_do_not_come_from_this_machine(tmp_path: Path) -> None:
    assert started(read({"state_dir": tmp_path}), 1.0).settings == Settings(state_dir=tmp_path)
