"""Models that wait for room, and come in turn."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import psutil
import pytest

from bench.turns import loads_of_lru
from service.errors import ModelUnavailable
from service.events import FinishReason
from tests.fleet.fakes import (
    card,
    enter,
    lives,
    read,
    submitted,
    until,
    write_script,
)
from tests.fleet.residencies import answer, load, residency


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


async def test_a_pinned_model_is_loaded_in_its_turn_though_who_asked_for_it_has_gone(
    tmp_path: Path,
) -> None:
    first, pinned = (card(write_script(tmp_path, name, load_seconds=0.2)) for name in ("a", "b"))
    async with residency(max_loaded=2) as models:
        models.pin([first, pinned])
        waiting = models.host(pinned)
        waiting.cancel(enter(waiting))

        await until(lambda: waiting.supervisor.state == "ready")
        assert models.find(pinned) is waiting
