"""Which models have an engine."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import psutil
from msgspec.structs import replace

from service.errors import ModelLoadFailed
from service.events import FinishReason
from service.fleet.residency import Residency
from service.generation import LoadWishes
from service.settings import Settings
from service.stats import ModelLoadFailed as ModelLoadFailedEvent
from service.stats import ModelUnloaded
from tests.fleet.fakes import (
    FAKE,
    QUICK,
    Seen,
    card,
    lives,
    outcome,
    read,
    submitted,
    until,
    write_script,
)
from tests.fleet.residencies import answer, load, residency


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
    models = Residency(Settings(), seen, command=FAKE, limits=QUICK)
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


async def test_closing_leaves_no_process(tmp_path: Path) -> None:
    async with residency() as models:
        hosts = [models.host(card(write_script(tmp_path, name))) for name in ("a", "b")]
        await asyncio.gather(*map(load, hosts))
        pids = [host.supervisor.pid for host in hosts]

    assert not any(psutil.pid_exists(pid) for pid in pids if pid is not None)
    assert None not in pids


async def test_what_a_request_said_of_how_long_it_stays_holds_for_the_engine_after_it(
    tmp_path: Path,
) -> None:
    path = write_script(tmp_path, n_ctx_train=16384)
    async with residency() as models:
        await load(models.host(card(path)))
        models.keep(card(path), -1.0)
        longer = models.host(card(path), LoadWishes(n_ctx=8192))
        assert models.keep_alive(card(path)) == -1.0
        await load(longer)
        await load(models.adapt(card(path), ()))
        assert models.keep_alive(card(path)) == -1.0
        key = models.key(card(path), Settings())
        await load(models.swap(key, card(path), longer.params))
        assert models.keep_alive(card(path)) == -1.0

        await models.unload(card(path))
        assert models.keep_alive(card(path)) == Settings().keep_alive


async def test_one_that_is_swapped_while_it_waits_for_room_loses_nobody_who_waits_for_it(
    tmp_path: Path,
) -> None:
    busy = card(write_script(tmp_path, "busy", delay=0.01, tokens=20))
    path = write_script(tmp_path, tokens=1, n_ctx_train=16384)
    async with residency(max_loaded=1) as models:
        running = await submitted(models.host(busy))
        host = models.host(card(path))
        asked = asyncio.create_task(answer(host))
        await until(lambda: not host.idle)
        key = models.key(card(path), Settings())
        swapped = models.swap(key, card(path), replace(host.params, n_ctx=8192 * host.params.n_seq))

        assert (await read(running))[1][0].reason is FinishReason.STOP
        assert (await asyncio.wait_for(asked, 20))[0] == "t0 "
        assert swapped.supervisor.facts is not None
        assert swapped.supervisor.facts.n_ctx_seq == 8192


async def test_a_file_that_changes_while_its_model_waits_for_room_loses_nobody_who_waits_for_it(
    tmp_path: Path,
) -> None:
    at_once = dataclasses.replace(QUICK, rest_after_bad_load=0.0)
    path = write_script(tmp_path, lives=[{"load": "refuse"}, {"tokens": 1}])
    async with residency(max_loaded=1, limits=at_once) as models:
        host = models.host(card(path))
        assert isinstance(await outcome(load(host)), ModelLoadFailed)
        busy = card(write_script(tmp_path, "busy", delay=0.01, tokens=20))
        running = await submitted(models.host(busy))
        asked = asyncio.create_task(answer(models.host(card(path))))
        await until(lambda: not host.idle)
        again = asyncio.create_task(answer(models.host(replace(card(path), size_bytes=2))))

        assert (await read(running))[1][0].reason is FinishReason.STOP
        for each in (asked, again):
            assert (await asyncio.wait_for(each, 20))[0] == "t0 "
