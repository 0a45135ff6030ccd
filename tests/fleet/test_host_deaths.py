"""Loads that fail, engines that die, and what becomes of the requests on them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from service.errors import (
    InsufficientMemory,
    ModelLoadFailed,
    ModelUnavailable,
    ServiceError,
)
from service.events import FinishReason
from tests.fleet.fakes import (
    QUICK,
    Seen,
    enter,
    lives,
    outcome,
    read,
    running_host,
    submitted,
    until,
    write_script,
)


@pytest.mark.parametrize(
    ("kind", "words", "error"),
    [
        ("bad_file", "its file is damaged", ModelLoadFailed),
        ("out_of_memory", "there is not enough memory for it", InsufficientMemory),
        ("unsupported", "this version of llama.cpp does not support it", ModelLoadFailed),
    ],
)
async def test_an_engine_that_cannot_load_is_believed(
    tmp_path: Path, kind: str, words: str, error: type[ServiceError]
) -> None:
    path = write_script(tmp_path, load="refuse", refuse=kind)
    async with running_host(path) as host:
        waiting = [asyncio.create_task(host.loaded(enter(host))) for _ in range(3)]
        outcomes = await asyncio.gather(*map(outcome, waiting))

        assert [type(each) for each in outcomes] == [error] * 3
        assert words in str(outcomes[0])
        assert host.supervisor.state == "failed"
        with pytest.raises(error) as later:
            enter(host)
        assert later.value.retry_after is not None
        assert host.idle
        assert lives(path) == 1


async def test_after_its_rest_a_failed_model_is_tried_again(tmp_path: Path) -> None:
    path = write_script(tmp_path, lives=[{"load": "refuse"}, {}])
    async with running_host(path, replace(QUICK, rest_after_bad_load=0.1)) as host:
        assert isinstance(await outcome(host.loaded(enter(host))), ModelLoadFailed)
        await asyncio.sleep(0.2)
        text, _ = await read(await submitted(host, tokens=1))

    assert text == "t0 "


async def test_a_load_without_end_is_given_up(tmp_path: Path) -> None:
    path = write_script(tmp_path, load="hang")
    async with running_host(path, replace(QUICK, load_timeout=0.3, stop_grace=0.1)) as host:
        error = await outcome(host.loaded(enter(host)))

        assert isinstance(error, ModelLoadFailed)
        assert host.supervisor.reason == "loading takes too long (more than 0.3 s)"
        assert host.supervisor.pid is None


async def test_how_far_a_load_is_can_be_seen(tmp_path: Path) -> None:
    async with running_host(write_script(tmp_path, load_seconds=0.3)) as host:
        await until(lambda: host.supervisor.load_fraction == 0.5)
        await host.loaded(enter(host))

        assert host.supervisor.load_fraction is None


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"crash_at": 1}, "SIGABRT"),
        ({"exit_at": 1}, "exit code 3"),
        ({"garbage_at": 1}, "broke the protocol"),
        ({"fatal_at": 1}, "gave up"),
    ],
)
async def test_whatever_an_engine_dies_of_its_running_requests_end_with_an_error(
    tmp_path: Path, fault: dict[str, int], reason: str
) -> None:
    seen = Seen()
    async with running_host(write_script(tmp_path, delay=0.01), seen=seen) as host:
        stream = await submitted(host, **fault)
        text, (end,) = await read(stream)
        await until(lambda: host.supervisor.state == "ready")
        after, _ = await read(await submitted(host, tokens=1))

    assert text == "t0 "
    assert (end.reason, end.code) == (FinishReason.ERROR, "engine_crashed")
    assert end.error == "The engine stopped while it worked on this request."
    assert end.usage.generation_tokens == 1
    assert after == "t0 "
    assert host.supervisor.deaths == 1
    assert seen.steps[-1].running == 0


async def test_the_reason_of_a_death_names_its_kind(tmp_path: Path) -> None:
    path = write_script(tmp_path, crash_at=0, stderr="x.cpp:1: GGML_ASSERT(false) failed\n")
    async with running_host(path, replace(QUICK, restart_pause=60.0)) as host:
        await submitted(host)
        await until(lambda: host.supervisor.reason)

    assert host.supervisor.reason == "its engine died: SIGABRT, assertion failed"


async def test_a_request_without_a_byte_goes_to_the_next_engine_once(tmp_path: Path) -> None:
    path = write_script(tmp_path, lives=[{"crash_at": 0}, {"tokens": 2}])
    async with running_host(path) as host:
        text, (end,) = await read(await submitted(host))

    assert text == "t0 t1 "
    assert end.reason is FinishReason.STOP
    assert lives(path) == 2


async def test_a_request_that_two_engines_died_with_is_not_given_to_a_third(
    tmp_path: Path,
) -> None:
    path = write_script(tmp_path)
    async with running_host(path) as host:
        _, (end,) = await read(await submitted(host, crash_at=0))
        await until(lambda: host.supervisor.state == "ready")
        text, _ = await read(await submitted(host, tokens=1))

    assert (end.reason, end.code) == (FinishReason.ERROR, "engine_crashed")
    assert "stopped twice" in str(end.error)
    assert text == "t0 "
    assert lives(path) == 3


async def test_a_request_that_cannot_wait_for_the_restart_is_ended_at_once(
    tmp_path: Path,
) -> None:
    async with running_host(write_script(tmp_path), replace(QUICK, restart_pause=30.0)) as host:
        stream = await submitted(host, within=5.0, crash_at=0)
        _, (end,) = await asyncio.wait_for(read(stream), 4.0)

    assert (end.reason, end.code) == (FinishReason.TIMEOUT, "timeout")


async def test_requests_that_wait_through_two_deaths_in_load_are_told_so(tmp_path: Path) -> None:
    path = write_script(tmp_path, load="crash")
    async with running_host(path) as host:
        error = await outcome(host.loaded(enter(host)))

    assert isinstance(error, ModelUnavailable)
    assert error.retry_after is not None


async def test_a_cancelled_request_does_not_come_back_with_the_next_engine(
    tmp_path: Path,
) -> None:
    path = write_script(tmp_path, lives=[{"freeze_at": 0}, {}])
    async with running_host(path, replace(QUICK, step_timeout=0.3)) as host:
        stream = await submitted(host)
        engine = psutil.Process(host.supervisor.pid)
        await until(lambda: engine.status() == psutil.STATUS_STOPPED)
        host.cancel(stream)
        await until(lambda: host.supervisor.state == "ready" and lives(path) == 2)

        assert host.idle
        assert stream.settled


async def test_a_wedged_step_loop_is_killed_although_requests_are_admitted(
    tmp_path: Path,
) -> None:
    path = write_script(tmp_path, lives=[{"hang_at": 0}, {"tokens": 1}])
    async with running_host(path, replace(QUICK, step_timeout=0.5)) as host:
        first = await submitted(host)
        streams = [first]
        while lives(path) == 1:
            streams.append(await submitted(host))
            await asyncio.sleep(0.1)
            assert len(streams) < 15

        assert {end.reason for stream in streams for end in (await read(stream))[1]} == {
            FinishReason.STOP
        }


async def test_a_step_that_is_seen_to_get_on_may_take_longer_than_a_hung_one(
    tmp_path: Path,
) -> None:
    path = write_script(tmp_path, tokens=1)
    limits = replace(QUICK, step_timeout=1.0, queue_timeout=1.5)
    async with running_host(path, limits) as host:
        long = await submitted(host, signs=40, delay=0.05, tokens=1)
        text, (end,) = await read(long)

    assert (text, end.reason) == ("t0 ", FinishReason.STOP)
    assert lives(path) == 1


async def test_a_program_that_is_not_there_fails_the_model_and_nothing_else(
    tmp_path: Path,
) -> None:
    path = write_script(tmp_path)
    async with running_host(path, command=("/nowhere",)) as host:
        await until(lambda: host.supervisor.state == "failed")

        with pytest.raises(ModelUnavailable) as error:
            enter(host)
        assert error.value.retry_after is not None
        assert error.value.retry_after > 500
