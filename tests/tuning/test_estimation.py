"""What the analysis asks of the placement: models of 7B and 70B on cards of 24 GB."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as with_fields

from exporters.readings import GpuReading, Memory, ProcessMemory
from service.control.hardware import Hardware
from service.facts import Buffer
from service.fleet.calibration import Learnt
from service.fleet.devices import RESERVE
from service.fleet.parameters import engine_params
from service.fleet.placer import calibrated, constraints_of
from service.serving.model_status import ModelStatus
from service.settings import Settings
from service.tuning.estimation import Estimation
from tests.dialects.fakes import CARD, FACTS, FakeRuntime
from tests.fleet.model_headers import SHAPES, write

GIB = 1 << 30
PID = 4242


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("headers")
    for name in ("7B", "70B"):
        write(folder / f"{name}.gguf", SHAPES[name])
    return folder


def status(folder: Path, name: str, size: int, **facts: Any) -> ModelStatus:
    (base,) = FakeRuntime().models()
    path = folder / f"{name}.gguf"
    card = with_fields(CARD, name=f"{name}:latest", path=str(path), size_bytes=size * GIB)
    return replace(base, card=card, facts=with_fields(FACTS, **facts), pid=PID)


def machine(*free: float, ours: int = 0) -> Hardware:
    gpus = tuple(
        GpuReading(
            index=index, uuid=f"GPU-{index}", memory=Memory(24 * GIB, int(24 * GIB - f * GIB), int(f * GIB)),
            processes=(ProcessMemory(PID, ours),),
        )
        for index, f in enumerate(free)
    )  # fmt: skip
    return Hardware(16, 32, 256 * GIB, 200 * GIB, gpus)


def test_layers_that_would_fit_are_counted_as_if_the_model_were_not_there(folder: Path) -> None:
    used = status(folder, "70B", 40, n_layer=80, gpu_layers=40, n_ctx=8192)
    found = Estimation(Learnt(), gpu_engine=True)(
        Settings(), machine(12, 12, ours=12 * GIB), [used]
    )

    assert found.automatic is not None
    assert (found.automatic.gpu_layers, found.automatic.layers) == (81, 81)
    assert list(found.automatic.shares) == pytest.approx([41 / 81, 40 / 81])


def test_other_settings_are_placed_as_a_load_would(folder: Path) -> None:
    used = status(folder, "70B", 40, n_layer=80, gpu_layers=81, n_ctx=8192)
    estimator = Estimation(Learnt(), gpu_engine=True)(Settings(), machine(24, 24), [used]).estimator

    assert estimator is not None
    few = estimator(Settings(gpu_layers=10, default_context_size=8192))
    assert few is not None
    assert (few.gpu_layers, few.context, few.refused) == (10, 8192, None)
    one = estimator(Settings(tensor_split=(1.0, 0.0)))
    assert one is not None
    assert "GPU 0 would need" in str(one.refused)


def test_a_build_without_gpus_places_nothing_on_them(folder: Path) -> None:
    used = status(folder, "7B", 4, n_layer=32, n_ctx=8192)
    found = Estimation(Learnt(), gpu_engine=False)(Settings(), machine(24), [used])

    assert found.automatic is not None
    assert found.automatic.gpu_layers == 33
    assert found.estimator is not None
    here = found.estimator(Settings())
    assert here is not None
    assert here.gpu_layers == 0


def test_a_larger_model_that_is_installed_is_tried(folder: Path) -> None:
    used = status(folder, "7B", 4, n_layer=32, gpu_layers=33, n_ctx=8192)
    larger = replace(status(folder, "70B", 40), state="unloaded", facts=None, pid=None)
    found = Estimation(Learnt(), gpu_engine=True)(Settings(), machine(24, 24), [used, larger])

    (candidate,) = found.candidates
    assert (candidate.name, candidate.estimate.gpu_layers) == ("70B:latest", 81)
    assert sum(candidate.estimate.needed) < 48 * GIB - 2 * RESERVE


def test_where_the_driver_does_not_tell_the_engines_own_word_counts(folder: Path) -> None:
    buffers = (Buffer("CUDA0", "weights", 12 * GIB), Buffer("CUDA1", "weights", 12 * GIB))
    used = status(folder, "70B", 40, n_layer=80, gpu_layers=40, n_ctx=8192, buffers=buffers)
    used = replace(used, pid=None)
    found = Estimation(Learnt(), gpu_engine=True)(Settings(), machine(12, 12), [used])

    assert found.automatic is not None
    assert found.automatic.gpu_layers == 81


def test_what_loads_took_is_known_to_the_analysis_as_well(folder: Path) -> None:
    learnt = Learnt()
    used = status(folder, "70B", 40, n_layer=80, gpu_layers=60, n_ctx=8192)
    asked = Settings(default_context_size=8192)
    card, room = used.card, machine(19, 19)
    first = Estimation(learnt, gpu_engine=True)(asked, room, [used])
    key = calibrated(card, constraints_of(engine_params(card, asked)))
    learnt.observe(key, 100, 130)
    then = Estimation(learnt, gpu_engine=True)(asked, room, [used])

    assert first.automatic is not None
    assert then.automatic is not None
    assert then.automatic.gpu_layers < first.automatic.gpu_layers
    # What is advised is what a load would be given.
    assert then.estimator is not None
    fitting, more = (
        then.estimator(Settings(default_context_size=8192, gpu_layers=layers))
        for layers in (then.automatic.gpu_layers, first.automatic.gpu_layers)
    )
    assert fitting is not None
    assert fitting.refused is None
    assert more is not None
    assert more.refused is not None


def test_nothing_is_estimated_where_nothing_is_loaded_or_readable(folder: Path) -> None:
    estimation = Estimation(Learnt(), gpu_engine=True)
    unloaded = replace(status(folder, "7B", 4), state="unloaded", facts=None)
    missing = status(folder, "nowhere", 4)

    for models in ([], [unloaded], [missing]):
        assert estimation(Settings(), machine(24), models).estimator is None


def test_what_loaded_models_should_take_is_what_their_placements_need(folder: Path) -> None:
    estimation, room = Estimation(Learnt(), gpu_engine=True), machine(24, 24)
    large = {"n_layer": 80, "gpu_layers": 81, "n_ctx": 8192, "n_ubatch": 512}
    asked = Settings(default_context_size=8192, kv_cache="split")
    found = estimation(asked, room, [status(folder, "70B", 40, **large)])
    assert found.estimator is not None
    placed = found.estimator(asked)
    assert placed is not None
    assert placed.gpu_layers == 81

    loaded = status(folder, "70B", 40, **large, tensor_split=placed.shares)
    assert estimation(asked, room, [loaded]).predicted == dict(enumerate(placed.needed))
    # On the second card alone, and by the driver's numbers.
    small = status(
        folder, "7B", 4, n_layer=32, gpu_layers=33, n_ctx=8192, n_ubatch=512,
        split_mode="none", main_gpu=1, tensor_split=(0.0, 1.0),
    )  # fmt: skip
    third = with_fields(room.gpus[0], index=3), with_fields(room.gpus[1], index=2)
    both = estimation(asked, with_fields(room, gpus=third), [loaded, small]).predicted
    assert both[3] == placed.needed[0]
    assert both[2] > placed.needed[1]


def test_of_a_sum_every_part_has_to_be_known(folder: Path) -> None:
    estimation, room = Estimation(Learnt(), gpu_engine=True), machine(24, 24)
    known = status(
        folder, "7B", 4, n_layer=32, gpu_layers=33, n_ctx=8192, n_ubatch=512, tensor_split=(1, 1)
    )
    assert estimation(Settings(), room, [known]).predicted.keys() == {0, 1}
    on_cpu = status(folder, "70B", 40, n_layer=80, n_ctx=8192)
    assert estimation(Settings(), room, [known, on_cpu]).predicted.keys() == {0, 1}

    unreadable = replace(status(folder, "nowhere", 4, gpu_layers=33, tensor_split=(1, 1)))
    left_to_it = status(folder, "7B", 4, n_layer=32, gpu_layers=33, n_ctx=8192, n_ubatch=512)
    for unknown in (unreadable, left_to_it):
        assert estimation(Settings(), room, [known, unknown]).predicted == {}
    assert estimation(Settings(), machine(), [known]).predicted == {}
