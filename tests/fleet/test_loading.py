"""How an engine is told to load a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from service.fleet.parameters import engine_params
from service.settings import Settings
from tests.fleet.fakes import card, write_script

OF_ALL: Any = {"cache_type_k": "q8_0", "flash_attention": "on", "mlock": True, "batch_size": 1024}
OWN: Any = {
    "context_size": 8192,
    "gpu_layers": 9,
    "main_gpu": 1,
    "split_mode": "row",
    "cache_type_v": "q4_0",
    "mmap": False,
    "threads": 3,
}


def test_what_a_model_has_to_itself_reaches_its_engine(tmp_path: Path) -> None:
    settings = Settings(models={"own": OWN}, **OF_ALL)
    params = engine_params(replace(card(write_script(tmp_path)), name="own:latest"), settings)

    assert (params.cache_type_k, params.flash_attention, params.use_mlock) == ("q8_0", "on", True)
    assert (params.n_ctx, params.gpu_layers, params.main_gpu) == (8192, 9, 1)
    assert (params.split_mode, params.cache_type_v, params.use_mmap) == ("row", "q4_0", False)
    assert params.threads == 3


def test_one_of_a_models_other_names_will_do(tmp_path: Path) -> None:
    own: Any = {"other:Q4": {"threads": 7}}
    settings = Settings(models=own)
    known = replace(card(write_script(tmp_path)), name="own:latest", aliases=("x:y", "other:Q4"))

    assert engine_params(known, settings).threads == 7


def test_a_step_takes_as_many_tokens_as_a_batch_has(tmp_path: Path) -> None:
    params = engine_params(card(write_script(tmp_path)), Settings(batch_size=1024))

    assert (params.n_batch, params.n_ubatch) == (1024, 1024)


def test_prefixes_are_kept_unless_the_operator_says_otherwise(tmp_path: Path) -> None:
    known = card(write_script(tmp_path))

    assert engine_params(known, Settings()).prefix_cache
    assert not engine_params(known, Settings(prefix_cache=False)).prefix_cache
