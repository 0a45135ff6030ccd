"""What the machine said at one moment. Frozen values: the ground that everything else stands on.

Base units: bytes, seconds, watts, joules, hertz, degrees Celsius, ratios of 0 to 1. What a card, a
driver or a kernel does not tell is None, or missing from its mapping; it is never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from msgspec import Struct

# Where a GPU is too hot for comfort, and for its work, in degrees Celsius.
WARNING_CELSIUS: Final = 80
CRITICAL_CELSIUS: Final = 85


class Memory(Struct, frozen=True):
    """reserved: what the driver keeps for itself; None where it counts that as used."""

    total: int
    used: int
    free: int
    reserved: int | None = None


class PcieLink(Struct, frozen=True):
    generation: int | None = None
    width: int | None = None
    generation_max: int | None = None
    width_max: int | None = None


class ProcessMemory(Struct, frozen=True):
    """bytes: None where the driver does not tell, as in a container that is not the process's."""

    pid: int
    bytes: int | None


class GpuReading(Struct, frozen=True, kw_only=True):
    """One GPU. Where it is lost, `up` is false and only what was known of it before is here.

    index: as it was listed when it was first seen, so that the loss of another renames nothing.
    Keys: energy by source (nvml, or integrated from power); throttle and throttle_seconds by reason; power_limits by kind; thresholds, utilization,
    clocks as in `exporters.nvml_gpu`; pcie_bytes_per_second by direction; ecc_errors by (type, scope);
    retired_pages and remapped_rows by cause; xid_events by code, since this process began; recent_xids
    are the codes of the last hour.
    """

    index: int
    uuid: str
    up: bool = True
    name: str | None = None
    bus_id: str | None = None
    compute_capability: str | None = None
    temperature: float | None = None
    memory_temperature: float | None = None
    thresholds: Mapping[str, float] = {}
    power: float | None = None
    power_limits: Mapping[str, float] = {}
    energy: Mapping[str, float] = {}
    fans: tuple[float, ...] = ()
    utilization: Mapping[str, float] = {}
    memory: Memory | None = None
    processes: tuple[ProcessMemory, ...] | None = None
    clocks: Mapping[str, float] = {}
    clocks_max: Mapping[str, float] = {}
    memory_bus_bits: int | None = None
    pstate: int | None = None
    throttle: Mapping[str, bool] = {}
    throttle_seconds: Mapping[str, float] = {}
    pcie: PcieLink = PcieLink()
    pcie_bytes_per_second: Mapping[str, float] = {}
    pcie_replays: int | None = None
    ecc_errors: Mapping[tuple[str, str], int] = {}
    retired_pages: Mapping[str, int] = {}
    retirement_pending: bool | None = None
    remapped_rows: Mapping[str, int] = {}
    row_remap_pending: bool | None = None
    row_remap_failed: bool | None = None
    mig_mode: bool | None = None
    xid_events: Mapping[int, int] | None = None
    recent_xids: tuple[int, ...] = ()


class GpusReading(Struct, frozen=True):
    """All GPUs that were ever seen, by index. cuda: the newest that the driver can run."""

    gpus: tuple[GpuReading, ...]
    driver: str | None = None
    cuda: str | None = None


class HostReading(Struct, frozen=True, kw_only=True):
    """Keys: cpu_seconds and cpu_usage by mode (the latter between this reading and the one before),
    cpus and cpu_hertz by kind, oom_kills by scope, pressure by (resource, kind), temperatures by
    sensor, network_bytes by direction. memory_limit is that of the control group. Totals count from
    the machine's start, those of a control group from its making."""

    cpu_model: str | None = None
    cpu_seconds: Mapping[str, float] = {}
    cpu_usage: Mapping[str, float] = {}
    cpus: Mapping[str, float] = {}
    cpu_hertz: Mapping[str, float] = {}
    load: tuple[float, float, float] | None = None
    memory_total: int | None = None
    memory_available: int | None = None
    memory_limit: int | None = None
    memory_limit_used: int | None = None
    swap_total: int | None = None
    swap_used: int | None = None
    swap_in: int | None = None
    swap_out: int | None = None
    major_faults: int | None = None
    oom_kills: Mapping[str, float] = {}
    pressure: Mapping[tuple[str, str], float] = {}
    pressure_seconds: Mapping[tuple[str, str], float] = {}
    temperatures: Mapping[str, float] = {}
    network_bytes: Mapping[str, int] = {}


class StoreReading(Struct, frozen=True):
    """The file system that a directory of models is on, in bytes; free: to an ordinary user."""

    path: str
    size: int
    free: int


class Latest(Protocol):
    """What was read last, by whoever reads it. None: nothing is known at this moment."""

    @property
    def gpus(self) -> GpusReading | None: ...
    @property
    def gpu_failure(self) -> str | None:
        """Why there is none, in words."""

    @property
    def machine(self) -> HostReading | None: ...
