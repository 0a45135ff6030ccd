"""What the operator's settings mean for an engine."""

from __future__ import annotations

from pathlib import Path

from service.fleet.parameters import engine_params, limits_from
from service.settings import Settings
from tests.fleet.fakes import (
    card,
    write_script,
)


def test_settings_become_an_engines_parameters(tmp_path: Path) -> None:
    chosen = Settings(
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
