"""One engine and the requests on it, with an engine that does as it is told."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from service.errors import (
    Cancelled,
    ContextOverflow,
    InvalidRequest,
    OutOfTime,
    Overloaded,
)
from service.events import FinishReason
from service.generation import SamplingParams, Text
from tests.fleet.fakes import (
    QUICK,
    enter,
    outcome,
    read,
    running_host,
    submitted,
    until,
    until_tokens,
    write_script,
)


async def test_a_request_waits_for_the_load_and_is_answered(tmp_path: Path) -> None:
    async with running_host(write_script(tmp_path, load_seconds=0.1)) as host:
        assert host.supervisor.state == "loading"
        text, (end,) = await read(await submitted(host, tokens=3))

    assert text == "t0 t1 t2 "
    assert end.reason is FinishReason.STOP
    assert end.usage.generation_tokens == 3


async def test_requests_run_side_by_side(tmp_path: Path) -> None:
    async with running_host(write_script(tmp_path, delay=0.002)) as host:
        streams = [await submitted(host, tokens=5 + number) for number in range(8)]
        answers = [await read(stream) for stream in streams]

        assert [end.usage.generation_tokens for _, (end,) in answers] == list(range(5, 13))
        assert host.idle
        assert host.places.taken == 0


async def test_each_of_several_answers_has_a_place(tmp_path: Path) -> None:
    async with running_host(write_script(tmp_path, delay=0.05)) as host:
        stream = await submitted(host, n=3, tokens=2)
        assert host.places.taken == 3
        _, ends = await read(stream)

    assert sorted(end.index for end in ends) == [0, 1, 2]


async def test_more_answers_than_there_are_places_are_an_invalid_request(tmp_path: Path) -> None:
    async with running_host(write_script(tmp_path), slots=4) as host:
        with pytest.raises(InvalidRequest, match="20 at a time"):
            enter(host, n=21)


async def test_a_full_queue_refuses_and_says_when_to_come_back(tmp_path: Path) -> None:
    limits = replace(QUICK, queue=2)
    async with running_host(write_script(tmp_path, load_seconds=0.2), limits, slots=1) as host:
        streams = [enter(host) for _ in range(3)]
        with pytest.raises(Overloaded) as refused:
            enter(host)
        assert refused.value.retry_after is not None

        host.cancel(streams[0])
        enter(host)


async def test_the_engine_has_the_last_word_on_the_number_of_slots(tmp_path: Path) -> None:
    async with running_host(write_script(tmp_path, slots=1), slots=4) as host:
        await read(await submitted(host, tokens=1))

        assert host.places.capacity == 1 + QUICK.queue


async def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers(tmp_path: Path) -> None:
    async with running_host(write_script(tmp_path, n_ctx_seq=5)) as host:
        stream = enter(host)
        await host.loaded(stream)
        with pytest.raises(ContextOverflow) as refused:
            await host.submit(stream, Text("one two three four five six"), SamplingParams())

        assert (refused.value.prompt_tokens, refused.value.context_length) == (6, 5)
        assert host.idle


async def test_a_prompt_larger_than_a_frame_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.engine.wire.MAX_FRAME_BYTES", 1000)
    async with running_host(write_script(tmp_path)) as host:
        stream = enter(host)
        with pytest.raises(InvalidRequest, match="too large"):
            await host.submit(stream, Text("x" * 1000), SamplingParams())


@pytest.mark.parametrize("stage", ["loading", "queued", "prefill", "decode"])
async def test_a_cancelled_request_gives_its_place_back_at_any_stage(
    tmp_path: Path, stage: str
) -> None:
    path = write_script(tmp_path, delay=0.01, tokens=1000, load_seconds=0.1)
    async with running_host(path, slots=1) as host:
        if stage == "queued":
            await submitted(host)
        if stage == "loading":
            stream = enter(host)
        else:
            stream = await submitted(host, prefill_steps=1000 if stage == "prefill" else 1)
        if stage == "prefill":
            await until(lambda: stream.prefilled_tokens)
        if stage == "decode":
            await until_tokens(stream)
        others = host.running + host.waiting - 1
        host.cancel(stream)

        # One step, which is 10 ms here, and what a busy machine adds.
        assert await until(lambda: stream.settled) < 0.25
        assert host.places.taken == others
        assert await stream.take() == []


async def test_a_request_that_takes_too_long_is_ended_and_keeps_what_it_has(
    tmp_path: Path,
) -> None:
    async with running_host(write_script(tmp_path, delay=0.01, tokens=10_000)) as host:
        # The load is not what takes too long here.
        await read(await submitted(host, tokens=1))
        text, (end,) = await read(await submitted(host, within=0.4))
        await until(lambda: host.idle)

    assert text.startswith("t0 t1 ")
    assert (end.reason, end.code) == (FinishReason.TIMEOUT, "timeout")


async def test_a_request_that_takes_too_long_to_load_is_an_error(tmp_path: Path) -> None:
    async with running_host(write_script(tmp_path, load="hang")) as host:
        stream = enter(host, within=0.3)
        with pytest.raises(OutOfTime, match=r"longer than 0\.3 seconds"):
            await host.loaded(stream)


async def test_a_request_that_does_not_get_its_turn_is_ended(tmp_path: Path) -> None:
    path = write_script(tmp_path, delay=0.01, tokens=10_000)
    async with running_host(path, replace(QUICK, queue_timeout=0.3), slots=1) as host:
        first = await submitted(host)
        _, (end,) = await read(await submitted(host))

        assert (end.reason, end.code) == (FinishReason.TIMEOUT, "queue_timeout")
        assert not first.closed


async def test_a_load_does_not_count_as_waiting_for_a_turn(tmp_path: Path) -> None:
    path = write_script(tmp_path, load_seconds=0.5)
    async with running_host(path, replace(QUICK, queue_timeout=0.3)) as host:
        _, (end,) = await read(await submitted(host, tokens=1))

        assert end.reason is FinishReason.STOP


async def test_a_reader_that_stops_is_cancelled_and_the_others_are_not(tmp_path: Path) -> None:
    path = write_script(tmp_path, delay=0.005, tokens=300)
    async with running_host(path, replace(QUICK, reader_timeout=0.3)) as host:
        stalled = await submitted(host, tokens=10_000)
        text, (end,) = await read(await submitted(host))
        await until(lambda: stalled.settled)
        _, (stalled_end,) = await read(stalled)

    assert end.reason is FinishReason.STOP
    assert text.endswith("t299 ")
    assert (stalled_end.reason, stalled_end.code) == (FinishReason.ERROR, "slow_reader")
    assert 10 < stalled_end.usage.generation_tokens < 300


async def test_a_reader_far_behind_is_cancelled_before_it_costs_memory(tmp_path: Path) -> None:
    async with running_host(write_script(tmp_path)) as host:
        stream = await submitted(host, tokens=1_000_000)
        await until(lambda: stream.settled)
        text, (end,) = await read(stream)

    assert end.code == "slow_reader"
    assert text.count(" ") == 1024


async def test_closing_ends_what_runs_and_leaves_no_process(tmp_path: Path) -> None:
    async with running_host(write_script(tmp_path, delay=0.01, tokens=10_000)) as host:
        running = await submitted(host)
        waiting = await submitted(host, prefill_steps=10_000)
        await until_tokens(running)
        pid = host.supervisor.pid
        await host.close()

        for stream in (running, waiting):
            _, (end,) = await read(stream)
            assert (end.reason, end.code) == (FinishReason.ERROR, "unloaded")
        assert pid is not None
        assert not psutil.pid_exists(pid)
        assert host.supervisor.state == "unloaded"
        assert host.places.taken == 0


async def test_every_frame_the_engine_got_is_one_a_client_asked_for(tmp_path: Path) -> None:
    """A request that was cancelled while the model loaded never reaches the engine."""
    async with running_host(write_script(tmp_path, load_seconds=0.2)) as host:
        stream = enter(host)
        submit = asyncio.create_task(
            outcome(host.submit(stream, Text(json.dumps({"crash_at": 0})), SamplingParams()))
        )
        await asyncio.sleep(0.05)
        host.cancel(stream)
        assert isinstance(await submit, Cancelled)
        await host.loaded(enter(host))

        assert host.supervisor.deaths == 0
