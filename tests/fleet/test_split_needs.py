"""What a split takes is known also where it does not fit."""

from __future__ import annotations

import pytest

from service.fleet.constraints import Constraints, PlacementError
from service.fleet.memory import ModelMemory
from service.fleet.model_layers import read_memory
from service.fleet.placed import Gpu
from service.fleet.placement import place
from service.fleet.split_needs import needs_of
from tests.fleet.model_headers import SHAPES, write

GIB = 1 << 30


def cards(*gibibytes: float) -> tuple[Gpu, ...]:
    return tuple(
        Gpu(i, f"GPU-{i}", "card", 99 * GIB, int(g * GIB)) for i, g in enumerate(gibibytes)
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelMemory:
    return read_memory([write(tmp_path_factory.mktemp("model") / "7b.gguf", SHAPES["7B"])])


def test_where_it_fits_it_is_what_the_placement_says(model: ModelMemory) -> None:
    constraints, gpus = Constraints(context=4096, tensor_split=(0.75, 0.25)), cards(24, 24)
    expected = [share.total for share in place(model, gpus, None, constraints).shares]

    assert list(needs_of(model, gpus, constraints)) == expected
    assert expected[0] > 2 * expected[1]


def test_where_it_does_not_fit_it_is_the_same(model: ModelMemory) -> None:
    constraints = Constraints(context=4096, tensor_split=(0.75, 0.25))
    with pytest.raises(PlacementError, match="GPU 0 would need"):
        place(model, cards(1, 24), None, constraints)

    assert needs_of(model, cards(1, 24), constraints) == needs_of(model, cards(24, 24), constraints)


def test_a_context_that_nobody_chose_is_the_least_before_it_is_too_much(model: ModelMemory) -> None:
    assert needs_of(model, cards(1, 1), Constraints(tensor_split=(1, 1))) < needs_of(
        model, cards(80, 80), Constraints(tensor_split=(1, 1))
    )


def test_what_no_memory_makes_right_is_refused(model: ModelMemory) -> None:
    with pytest.raises(PlacementError, match="3 shares for 2 GPUs"):
        needs_of(model, cards(24, 24), Constraints(tensor_split=(1, 1, 1)))


@pytest.mark.parametrize("room", [1, 24])
def test_what_loads_took_is_in_what_it_would_take(model: ModelMemory, room: float) -> None:
    constraints = Constraints(context=4096, tensor_split=(1.0, 1.0))
    plain = needs_of(model, cards(room, room), constraints)
    careful = needs_of(model, cards(room, room), constraints, ratio=1.25)

    assert careful == pytest.approx([1.25 * need for need in plain])
