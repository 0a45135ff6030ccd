"""The families that the exporters are to have: name → (type, labels, whether not every machine tells).

Dashboards and alerts are built on these: a renamed family is a broken panel.
"""

from __future__ import annotations

from typing import Final

GPU: Final = ("gpu", "uuid")

CATALOGUE: Final[dict[str, tuple[str, tuple[str, ...], bool]]] = {
    # GPUs. Counters stand without their _total, as parsers have them.
    "llm_gpu_expected": ("gauge", (), False),
    "llm_gpu_info": (
        "gauge",
        (*GPU, "name", "driver", "cuda", "pci_bus", "compute_capability"),
        False,
    ),
    "llm_gpu_up": ("gauge", GPU, False),
    "llm_gpu_temperature_celsius": ("gauge", GPU, False),
    "llm_gpu_temperature_threshold_celsius": ("gauge", (*GPU, "threshold"), False),
    "llm_gpu_memory_temperature_celsius": ("gauge", GPU, False),
    "llm_gpu_power_watts": ("gauge", GPU, False),
    "llm_gpu_power_limit_watts": ("gauge", (*GPU, "kind"), False),
    "llm_gpu_energy_joules": ("counter", (*GPU, "source"), False),
    "llm_gpu_fan_speed_ratio": ("gauge", (*GPU, "fan"), False),
    "llm_gpu_utilization_ratio": ("gauge", (*GPU, "engine"), False),
    "llm_gpu_memory_total_bytes": ("gauge", GPU, False),
    "llm_gpu_memory_used_bytes": ("gauge", GPU, False),
    "llm_gpu_memory_free_bytes": ("gauge", GPU, False),
    "llm_gpu_memory_reserved_bytes": ("gauge", GPU, False),
    "llm_gpu_process_memory_bytes": ("gauge", (*GPU, "owner"), False),
    "llm_gpu_clock_hertz": ("gauge", (*GPU, "clock"), False),
    "llm_gpu_clock_max_hertz": ("gauge", (*GPU, "clock"), False),
    "llm_gpu_pstate": ("gauge", GPU, False),
    "llm_gpu_throttle_active": ("gauge", (*GPU, "reason"), False),
    "llm_gpu_throttle_seconds": ("counter", (*GPU, "reason"), False),
    "llm_gpu_pcie_link_generation": ("gauge", GPU, False),
    "llm_gpu_pcie_link_generation_max": ("gauge", GPU, False),
    "llm_gpu_pcie_link_width": ("gauge", GPU, False),
    "llm_gpu_pcie_link_width_max": ("gauge", GPU, False),
    "llm_gpu_pcie_throughput_bytes": ("gauge", (*GPU, "direction"), False),
    "llm_gpu_pcie_replays": ("counter", GPU, False),
    "llm_gpu_ecc_errors": ("counter", (*GPU, "type", "scope"), False),
    "llm_gpu_retired_pages": ("counter", (*GPU, "cause"), False),
    "llm_gpu_page_retirement_pending": ("gauge", GPU, False),
    "llm_gpu_remapped_rows": ("counter", (*GPU, "cause"), False),
    "llm_gpu_row_remap_pending": ("gauge", GPU, False),
    "llm_gpu_row_remap_failed": ("gauge", GPU, False),
    "llm_gpu_xid_errors": ("counter", (*GPU, "xid"), False),
    "llm_gpu_mig_mode": ("gauge", GPU, False),
    # Host
    "llm_host_cpu_seconds": ("counter", ("mode",), False),
    "llm_host_cpu_usage_ratio": ("gauge", ("mode",), False),
    "llm_host_load1": ("gauge", (), False),
    "llm_host_load5": ("gauge", (), False),
    "llm_host_load15": ("gauge", (), False),
    "llm_host_cpus": ("gauge", ("kind",), False),
    "llm_host_cpu_frequency_hertz": ("gauge", ("kind",), True),
    "llm_host_memory_total_bytes": ("gauge", (), False),
    "llm_host_memory_available_bytes": ("gauge", (), False),
    "llm_host_cgroup_memory_limit_bytes": ("gauge", (), True),
    "llm_host_cgroup_memory_used_bytes": ("gauge", (), True),
    "llm_host_swap_total_bytes": ("gauge", (), False),
    "llm_host_swap_used_bytes": ("gauge", (), False),
    "llm_host_swap_in_bytes": ("counter", (), True),
    "llm_host_swap_out_bytes": ("counter", (), True),
    "llm_host_major_page_faults": ("counter", (), True),
    "llm_host_oom_kills": ("counter", ("scope",), True),
    "llm_host_pressure_ratio": ("gauge", ("resource", "kind"), True),
    "llm_host_pressure_seconds": ("counter", ("resource", "kind"), True),
    "llm_host_temperature_celsius": ("gauge", ("sensor",), True),
    "llm_host_network_bytes": ("counter", ("direction",), True),
    # Disks
    "llm_model_store_size_bytes": ("gauge", ("path",), False),
    "llm_model_store_free_bytes": ("gauge", ("path",), False),
    # The exporters themselves
    "llm_exporter_collector_success": ("gauge", ("collector",), False),
    "llm_exporter_collector_duration_seconds": ("gauge", ("collector",), False),
    "llm_exporter_snapshot_age_seconds": ("gauge", ("collector",), False),
    "llm_exporter_nvml_errors": ("counter", ("function", "code"), False),
}

# Families about GPUs and memory that these collectors do not have, and why.
ELSEWHERE: Final = {
    "llm_model_memory_bytes": "the service's: only it knows which engine is which model's",
    "llm_kv_cache_bytes": "the service's: the driver does not tell what memory is used for",
    "llm_gpu_nvlink_bandwidth_bytes": "cards of one machine that share a model over NVLink are not "
    "what this service is for",
}
