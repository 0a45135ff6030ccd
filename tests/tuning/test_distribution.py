"""What a distribution is, from settings to the layers on each card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from service.control.weights import Card
from service.fleet.calibration import Learnt
from service.fleet.parameters import engine_params
from service.fleet.placer import calibrated, constraints_of
from service.settings import Settings
from service.tuning.distribution import estimate, layers_of
from tests.dialects.fakes import FACTS
from tests.fleet.fakes import lives, until, write_script
from tests.fleet.model_headers import SHAPES, write
from tests.tuning.test_estimation import GIB, status
from tests.tuning.test_reconfiguration import ready, running


async def test_shares_reach_the_engine_that_is_started_for_them(tmp_path: Path) -> None:
    path = write_script(tmp_path)
    async with running(tmp_path, path) as (runtime, changing):
        await until(lambda: ready(runtime))
        patch = {"tensor_split": [0.6, 0.4], "gpu_layers": 20}
        applied = await changing.apply(patch, by="ann", why="weights")
        await until(lambda: len(runtime._residency.hosts) == 1 and ready(runtime))
        (host,) = runtime._residency.hosts

        assert (host.params.tensor_split, host.params.gpu_layers) == ((0.6, 0.4), 20)
        assert applied.reloads == ("fake:latest",)
        assert (applied.version.number, applied.version.why) == (2, "weights")
        assert lives(path) == 2


async def test_one_models_shares_are_no_others(tmp_path: Path) -> None:
    path, other = write_script(tmp_path, "fake"), write_script(tmp_path, "other")
    said: dict[str, Any] = {"pinned_models": ["fake", "other"]}
    async with running(tmp_path, path, other, **said) as (runtime, changing):
        await until(lambda: ready(runtime))
        patch = {"models": {"other": {"tensor_split": [0.9, 0.1]}}}
        await changing.apply(patch, by="ann", why="weights")
        await until(lambda: len(runtime._residency.hosts) == 2 and ready(runtime))
        split = {host.model: host.params.tensor_split for host in runtime._residency.hosts}

        assert split == {"fake:latest": (), "other:latest": (0.9, 0.1)}
        assert (lives(path), lives(other)) == (1, 2)


@pytest.mark.parametrize(
    ("facts", "cards", "layers"),
    [
        ({"gpu_layers": 0}, 2, (0, 0)),
        ({"gpu_layers": 33, "split_mode": "none", "main_gpu": 1}, 2, (0, 33)),
        ({"gpu_layers": 33, "split_mode": "none", "main_gpu": 5}, 2, None),
        ({"gpu_layers": 33}, 1, (33,)),
        ({"gpu_layers": 32, "tensor_split": (3.0, 1.0)}, 3, (24, 8, 0)),
        ({"gpu_layers": 32, "tensor_split": (1.0, 1.0, 1.0)}, 2, None),
        ({"gpu_layers": 32}, 2, None),
    ],
)
def test_layers_are_where_the_engine_says(
    facts: dict[str, Any], cards: int, layers: tuple[int, ...] | None
) -> None:
    assert layers_of(replace(FACTS, **facts), cards) == layers


@given(st.lists(st.integers(0, 99), min_size=2, max_size=8).filter(any), st.integers(1, 200))
def test_no_layer_is_lost_between_the_cards(split: list[int], layers: int) -> None:
    facts = replace(FACTS, gpu_layers=layers, tensor_split=tuple(map(float, split)))
    found = layers_of(facts, len(split))

    assert found is not None
    assert sum(found) == layers
    assert all(count == 0 for count, share in zip(found, split, strict=True) if share == 0)


async def test_what_loads_took_is_in_what_a_distribution_would_take(tmp_path: Path) -> None:
    write(tmp_path / "7B.gguf", SHAPES["7B"])
    used = status(tmp_path, "7B", 4)
    asked, learnt = Settings(default_context_size=4096, tensor_split=(1.0, 1.0)), Learnt()
    cards = [Card(n, f"GPU-{n}", None, 24 * GIB, 24 * GIB, 24 * GIB) for n in range(2)]
    before = await estimate(asked, [used], cards, learnt)
    learnt.observe(calibrated(used.card, constraints_of(engine_params(used.card, asked))), 100, 120)

    after = await estimate(asked, [used], cards, learnt)
    assert after.needs == pytest.approx([1.2 * need for need in before.needs])
