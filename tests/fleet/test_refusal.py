"""Settings are tried on paper before they are in force."""

from __future__ import annotations

import pytest

from service.fleet.constraints import Constraints
from service.fleet.memory import ModelMemory
from service.fleet.model_layers import read_memory
from service.fleet.placed import Gpu
from service.fleet.refusal import refusal
from tests.fleet.model_headers import SHAPES, write

GIB = 1 << 30


def card(gibibytes: float) -> tuple[Gpu, ...]:
    return (Gpu(0, "GPU-0", "card", 99 * GIB, int(gibibytes * GIB)),)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelMemory:
    return read_memory([write(tmp_path_factory.mktemp("model") / "7b.gguf", SHAPES["7B"])])


def test_what_fits_is_not_refused(model: ModelMemory) -> None:
    assert refusal(model, card(80), None, Constraints(context=32768)) is None
    assert refusal(model, (), 80 * GIB, Constraints(context=32768)) is None
    assert refusal(model, card(1), None, Constraints()) is None


def test_what_no_memory_holds_is_refused_with_the_numbers(model: ModelMemory) -> None:
    host = refusal(model, (), GIB, Constraints(context=131072))
    gpu = refusal(model, card(1), None, Constraints(context=4096, gpu_layers=33))

    assert host is not None
    assert "131072 tokens take" in host
    assert gpu is not None
    assert "GPU 0 would need" in gpu


def test_a_context_that_pushes_layers_off_the_gpu_is_too_long(model: ModelMemory) -> None:
    refused = refusal(model, card(8), 99 * GIB, Constraints(context=131072))

    assert refused is not None
    assert "layers on GPUs, of 33 that there is room for without it" in refused


def test_all_layers_that_fit_are_no_more_than_that(model: ModelMemory) -> None:
    assert refusal(model, card(1), None, Constraints(context=4096, gpu_layers=99)) is None
    refused = refusal(model, card(8), 99 * GIB, Constraints(context=131072, gpu_layers=99))
    assert refused is not None
    assert "of 33 that there is room for without it" in refused


def test_what_loads_took_counts_on_paper_as_well(model: ModelMemory) -> None:
    asked = Constraints(context=4096, gpu_layers=33)

    assert refusal(model, card(5), None, asked) is None
    assert "GPU 0 would need" in str(refusal(model, card(5), None, asked, ratio=1.5))
