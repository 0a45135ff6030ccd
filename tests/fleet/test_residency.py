"""Which models have an engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from msgspec.structs import replace

from service.errors import ModelLoadFailed, ModelUnavailable
from service.fleet.host import EngineHost
from service.fleet.residency import Residency, engine_params, limits_from
from service.settings import Settings
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
    made = Residency(settings(), Seen(), command=FAKE, max_loaded=max_loaded, limits=QUICK)
    try:
        yield made
    finally:
        await made.close()


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


async def test_a_busy_model_is_not_sent_away(tmp_path: Path) -> None:
    busy = card(write_script(tmp_path, "busy", delay=0.01, tokens=100_000))
    other = card(write_script(tmp_path, "other"))
    async with residency(max_loaded=1) as models:
        stream = await submitted(models.host(busy))
        with pytest.raises(ModelUnavailable, match="all of them are busy"):
            models.host(other)

        models.host(busy).cancel(stream)
        await until(lambda: models.idle)
        await load(models.host(other))


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
