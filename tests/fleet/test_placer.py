"""Models are placed before each load, by what is free then."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from service.catalog import demo
from service.context import output_rows
from service.engine.wire import EngineParams
from service.errors import ModelLoadFailed
from service.facts import Buffer, ModelFacts
from service.fleet.calibration import Learnt
from service.fleet.devices import gpus
from service.fleet.host import EngineHost
from service.fleet.model_layers import read_memory
from service.fleet.placed import Gpu
from service.fleet.placer import Attempt, Placer, constraints_of, taken_by
from service.fleet.residency import Residency
from service.fleet.vetting import Unloadable
from service.host_memory import HostMemory
from service.settings import Settings
from service.visible_gpus import visible
from tests.dialects.fakes import FACTS
from tests.fleet.fakes import FAKE, QUICK, Seen, card, enter, lives, write_script
from tests.fleet.model_headers import SHAPES, write

GIB = 1 << 30


def cards(*gibibytes: float) -> tuple[Gpu, ...]:
    sizes = [int(size * GIB) for size in gibibytes]
    return tuple(Gpu(i, f"GPU-{i}aa", "card", s, s, 0) for i, s in enumerate(sizes))


def a_7b(tmp_path: Path) -> Path:
    return write(tmp_path / "model.gguf", SHAPES["7B"])


async def test_a_model_goes_where_there_is_room_at_the_moment(tmp_path: Path) -> None:
    path = a_7b(tmp_path)
    free = [cards(3, 24), cards(24, 3)]
    place = Placer(lambda: free.pop(0))
    params = EngineParams(str(path))

    first, second = [(await place(card(path), params)).answer for _ in range(2)]
    assert isinstance(first, EngineParams)
    assert isinstance(second, EngineParams)
    assert (first.main_gpu, second.main_gpu) == (1, 0)
    assert first.gpu_layers == 33
    assert first.n_ctx is not None


async def test_a_model_is_split_over_what_is_free(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", SHAPES["70B"])
    placer = Placer(lambda: cards(24, 24))
    params = (await placer(card(path), EngineParams(str(path)))).answer

    assert isinstance(params, EngineParams)
    assert (params.split_mode, params.gpu_layers) == ("layer", 81)
    assert sum(params.tensor_split) == 81


async def test_without_gpus_the_engine_chooses(tmp_path: Path) -> None:
    path = a_7b(tmp_path)
    asked = EngineParams(str(path), cache_type_k="q8_0")

    sized = replace(asked, cell_bytes=32 * (8 * 128 * 34 // 32 + 8 * 128 * 2))
    assert await Placer(tuple)(card(path), asked) == Attempt(sized)


async def test_what_cannot_be_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    path = a_7b(tmp_path)
    params = EngineParams(str(path), tensor_split=(1.0, 0.0))
    refused = await Placer(lambda: cards(2, 24))(card(path), params)

    assert isinstance(refused.answer, Unloadable)
    assert "GPU 0 would need" in refused.answer.message
    # It would not fit if it were alone, either.
    assert not refused.cramped


async def test_what_others_take_room_from_is_told_apart_from_what_never_fits(
    tmp_path: Path,
) -> None:
    path = a_7b(tmp_path)
    busy = (Gpu(0, "GPU-0", "card", 24 * GIB, 3 * GIB, 0),)
    whole = EngineParams(str(path), gpu_layers=33)

    refused = await Placer(lambda: busy)(card(path), whole)
    assert isinstance(refused.answer, Unloadable)
    assert refused.cramped
    partly = await Placer(lambda: busy)(card(path), EngineParams(str(path)))
    assert isinstance(partly.answer, EngineParams)
    assert partly.cramped
    assert not (await Placer(lambda: cards(24))(card(path), whole)).cramped


async def test_a_model_has_the_memory_of_the_control_group_and_not_the_machines(
    tmp_path: Path,
) -> None:
    path = a_7b(tmp_path)
    # A GiB of cells.
    params = EngineParams(str(path), n_ctx=8192)
    taken = Placer(tuple, memory=lambda: HostMemory(total=16 * GIB, available=GIB // 2))
    small = Placer(tuple, memory=lambda: HostMemory(total=GIB, available=GIB // 2))

    for placer, cramped in ((taken, True), (small, False)):
        attempt = await placer(card(path), params)
        assert isinstance(attempt.answer, Unloadable)
        assert attempt.answer.kind == "out_of_memory"
        assert attempt.cramped is cramped


async def test_a_header_that_says_too_little_is_left_to_llama_cpp(tmp_path: Path) -> None:
    path = write_script(tmp_path)
    params = EngineParams(str(path))

    assert await Placer(lambda: cards(8))(card(path), params) == Attempt(params)


async def test_no_engine_is_started_for_a_model_without_a_place(tmp_path: Path) -> None:
    path = a_7b(tmp_path)
    settings = Settings(tensor_split=(1.0, 1.0))
    models = Residency(
        settings, Seen(), command=FAKE, limits=QUICK, placer=Placer(lambda: cards(1, 1))
    )
    try:
        host = models.host(card(path))
        with pytest.raises(ModelLoadFailed, match="not enough memory"):
            await host.loaded(enter(host))
        assert lives(path) == 0
        assert "GPU 0 would need" in (host.supervisor.reason or "")
    finally:
        await models.close()


async def test_a_driver_that_hangs_fails_the_load_and_holds_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.fleet.placer.DRIVER_SECONDS", 0.05)
    path, answers = a_7b(tmp_path), threading.Event()

    def hangs() -> tuple[Gpu, ...]:
        answers.wait(10)
        return ()

    attempt = await Placer(hangs)(card(path), EngineParams(str(path)))
    answers.set()

    assert isinstance(attempt.answer, Unloadable)
    assert attempt.answer.kind == "timeout"


def test_rows_of_logits_are_counted_as_the_engine_asks_for_them() -> None:
    params = EngineParams(str(demo.PATH), n_seq=5)

    assert constraints_of(params).n_outputs == output_rows(5)


# -- which GPUs there are


@pytest.mark.parametrize(
    ("said", "indices"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("2,0", [2, 0]),
        ("GPU-1", [1]),
        ("1,-1,2", [1]),
        ("9", []),
        (" 1 , 2 ", [1, 2]),
    ],
)
def test_gpus_are_counted_as_cuda_is_told_to(said: str | None, indices: list[int]) -> None:
    assert [gpu.index for gpu in visible(cards(1, 2, 3), said)] == indices


def test_a_gpu_that_llama_cpp_was_not_built_for_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.fleet.devices.built_for_gpus", lambda: False)

    assert gpus() == ()


@pytest.mark.parametrize("turns", range(6))
async def test_who_stops_waiting_for_a_place_is_stopped_whenever_it_is(
    tmp_path: Path, turns: int
) -> None:
    """Also when the answer has come, and is not read yet: the engine would start, and nobody
    would be there to end it."""
    path = a_7b(tmp_path)
    asked, answered = threading.Event(), threading.Event()

    def devices() -> tuple[Gpu, ...]:
        asked.set()
        answered.wait(10)
        return ()

    placing = asyncio.ensure_future(Placer(devices)(card(path), EngineParams(str(path))))
    await asyncio.to_thread(asked.wait, 10)
    answered.set()
    # The loop stands still, so that the answer comes with its next turn.
    time.sleep(0.1)  # noqa: ASYNC251
    for _ in range(turns):
        await asyncio.sleep(0)
    cancelled = placing.cancel()
    await asyncio.wait({placing})

    assert placing.cancelled() == cancelled


def taken(params: EngineParams, path: Path, times: float) -> ModelFacts:
    """Of a load on a GPU that took so many times what was predicted."""
    predicted = taken_by(read_memory([path]), params)
    buffers = (
        Buffer("CUDA0", "weights", int(predicted * times)),
        Buffer("CUDA_Host", "compute", predicted),
        Buffer("CPU_Mapped", "weights", predicted),
    )
    return replace(FACTS, gpu_layers=params.gpu_layers or 0, buffers=buffers)


async def test_what_a_load_took_is_expected_of_the_next_one(tmp_path: Path) -> None:
    path, kept = a_7b(tmp_path), tmp_path / "calibration.json"
    asked = EngineParams(str(path), n_ctx=4096)
    placer = Placer(lambda: cards(8), Learnt(kept))
    first = (await placer(card(path), asked)).answer
    assert isinstance(first, EngineParams)
    assert first.gpu_layers == 33

    placer.learn(card(path), first, taken(first, path, 1.9))
    again = (await Placer(lambda: cards(8), Learnt(kept))(card(path), asked)).answer

    assert isinstance(again, EngineParams)
    assert again.gpu_layers is not None
    assert 0 < again.gpu_layers < 33


async def test_a_load_that_took_what_was_predicted_changes_nothing(tmp_path: Path) -> None:
    path, learnt = a_7b(tmp_path), Learnt()
    asked = EngineParams(str(path), n_ctx=4096)
    placer = Placer(lambda: cards(8), learnt)
    first = (await placer(card(path), asked)).answer
    assert isinstance(first, EngineParams)

    placer.learn(card(path), first, taken(first, path, 1.0))
    assert (await placer(card(path), asked)).answer == first


def test_a_load_on_the_cpu_teaches_nothing(tmp_path: Path) -> None:
    path, kept = a_7b(tmp_path), tmp_path / "calibration.json"
    facts = replace(FACTS, buffers=(Buffer("CPU", "cells", 5),))

    Placer(tuple, Learnt(kept)).learn(card(path), EngineParams(str(path)), facts)
    assert not kept.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"ratios":{"a":"b"}}'])
def test_what_was_learnt_and_cannot_be_read_is_forgotten(tmp_path: Path, content: bytes) -> None:
    kept = tmp_path / "calibration.json"
    kept.write_bytes(content)

    learnt = Learnt(kept)
    assert learnt.ratio("a") == 1.0
    learnt.observe("a", 100, 120)
    assert Learnt(kept).ratio("a") == 1.2


async def test_an_engine_tells_what_its_load_took(tmp_path: Path) -> None:
    learnt: list[tuple[EngineParams, ModelFacts]] = []
    script = write_script(tmp_path, tokens=1)
    host = EngineHost(
        "m",
        EngineParams(str(script)),
        QUICK,
        Seen(),
        command=FAKE,
        learn=lambda params, facts: learnt.append((params, facts)),
    )
    await host.loaded(enter(host))
    await host.close()

    ((params, facts),) = learnt
    assert params.path == str(script)
    assert facts.n_ctx > 0
