"""Evidence to start from: a machine on which nothing is wrong, and how to change it."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from service.control.estimate import Estimate
from service.control.evidence import Evidence, GpuEvidence, ModelEvidence
from service.settings import Settings

GIB = 1 << 30


def gpu(index: int = 0, **changes: Any) -> GpuEvidence:
    base = GpuEvidence(
        index=index,
        name="Tesla M10",
        uuid=f"GPU-{index}",
        temperature=60.0,
        throttled=0.0,
        power_capped=0.0,
        power=30.0,
        power_limit=53.0,
        power_default=53.0,
        power_least=30.0,
        total=8 * GIB,
        free=6 * GIB,
        others=0,
        pcie_width=16,
        pcie_width_max=16,
    )
    return replace(base, **changes)


def model(**changes: Any) -> ModelEvidence:
    base = ModelEvidence(
        name="chat:latest",
        layers=33,
        gpu_layers=33,
        threads=16,
        context=32768,
        context_per_slot=8192,
        context_trained=32768,
        slots=4,
        size_bytes=8 * GIB,
        cache_bytes=2 * GIB,
        flash_attention=True,
        needed=6000,
        peak=4,
    )
    return replace(base, **changes)


def settings(**values: Any) -> Settings:
    return Settings(**{"expected_gpus": 4, **values})


def estimate(**changes: Any) -> Estimate:
    base = Estimate(
        gpu_layers=33,
        layers=33,
        shares=(0.25,) * 4,
        needed=(2 * GIB,) * 4,
        free_after=(6 * GIB,) * 4,
        host_free=100 * GIB,
        context=32768,
    )
    return replace(base, **changes)


def evidence(*gpus: GpuEvidence, **changes: Any) -> Evidence:
    """Four cards and 16 cores, where no cards are given."""
    base = Evidence(
        settings=settings(),
        measured_at=1e9,
        window_seconds=900.0,
        cores=16,
        threads=16,
        cpu_layer_share=0.0,
        stalled=0.01,
        load_per_core=0.3,
        loop_lag=0.005,
        memory_total=128 * GIB,
        memory_available=100 * GIB,
        swap_in=0.0,
        major_faults=0.0,
        out_of_memory=0.0,
        gpu_out_of_memory=0.0,
        expected_gpus=4,
        gpus=gpus or tuple(gpu(index) for index in range(4)),
        gpu_engine=True,
        offloadable=0.0,
        requests=200,
        queue_share=0.02,
        idle_slots=0.0,
        reusable=0.1,
        missed=0.2,
        prefill_share=0.2,
        evictions=0.0,
        reloads=0.0,
        models=(model(shares=(0.25,) * 4),),
        automatic=estimate(),
    )
    return replace(base, **changes)


def on_cpu(**changes: Any) -> Evidence:
    """Two cores, no GPU."""
    base = replace(
        evidence(),
        settings=Settings(),
        cores=2,
        threads=2,
        cpu_layer_share=1.0,
        expected_gpus=0,
        gpus=(),
        gpu_engine=False,
        gpu_out_of_memory=None,
        offloadable=None,
        automatic=None,
        models=(model(gpu_layers=0, threads=2),),
    )
    return replace(base, **changes)
