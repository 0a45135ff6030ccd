"""One card's answers, with what stands in for those that older drivers and cards do not give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import pynvml  # type: ignore[import-untyped]

from exporters.readings import GpuReading, Memory, PcieLink, ProcessMemory

THRESHOLDS: Final = {
    "shutdown": pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN,
    "slowdown": pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN,
    "mem_max": pynvml.NVML_TEMPERATURE_THRESHOLD_MEM_MAX,
    "gpu_max": pynvml.NVML_TEMPERATURE_THRESHOLD_GPU_MAX,
}
CLOCKS: Final = {
    "graphics": pynvml.NVML_CLOCK_GRAPHICS,
    "sm": pynvml.NVML_CLOCK_SM,
    "memory": pynvml.NVML_CLOCK_MEM,
    "video": pynvml.NVML_CLOCK_VIDEO,
}
REASONS: Final = {
    "gpu_idle": pynvml.nvmlClocksEventReasonGpuIdle,
    "apps_clocks": pynvml.nvmlClocksEventReasonApplicationsClocksSetting,
    "sw_power_cap": pynvml.nvmlClocksEventReasonSwPowerCap,
    "hw_slowdown": pynvml.nvmlClocksEventReasonHwSlowdown,
    "sync_boost": pynvml.nvmlClocksEventReasonSyncBoost,
    "sw_thermal": pynvml.nvmlClocksEventReasonSwThermalSlowdown,
    "hw_thermal": pynvml.nvmlClocksEventReasonHwThermalSlowdown,
    "hw_power_brake": pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown,
    "display": pynvml.nvmlClocksEventReasonDisplayClockSetting,
}
# The reasons whose nanoseconds the driver counts under a number that all its releases share; those
# of thermal slowdowns have had several.
VIOLATIONS: Final = {
    "sw_power_cap": pynvml.NVML_PERF_POLICY_POWER,
    "sync_boost": pynvml.NVML_PERF_POLICY_SYNC_BOOST,
}
ECC_TYPES: Final = {
    "corrected": pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED,
    "uncorrected": pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
}
ECC_SCOPES: Final = {
    "volatile": pynvml.NVML_VOLATILE_ECC,
    "aggregate": pynvml.NVML_AGGREGATE_ECC,
}
RETIREMENTS: Final = {
    "single_bit": pynvml.NVML_PAGE_RETIREMENT_CAUSE_MULTIPLE_SINGLE_BIT_ECC_ERRORS,
    "double_bit": pynvml.NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR,
}
DIRECTIONS: Final = {
    "sent": pynvml.NVML_PCIE_UTIL_TX_BYTES,
    "received": pynvml.NVML_PCIE_UTIL_RX_BYTES,
}

Ask = Callable[..., Any]


def gpu_reading(ask: Ask, uuid: str, index: int, pcie_throughput: bool) -> GpuReading:
    """`ask(function, *arguments)` puts a question about this card; None where there is no answer."""

    def each(function: Callable[..., Any], keys: Mapping[str, int]) -> dict[str, Any]:
        answers = {name: ask(function, key) for name, key in keys.items()}
        return {name: value for name, value in answers.items() if value is not None}

    pci = ask(pynvml.nvmlDeviceGetPciInfo)
    capability = ask(pynvml.nvmlDeviceGetCudaComputeCapability)
    temperature = ask(pynvml.nvmlDeviceGetTemperatureV, pynvml.NVML_TEMPERATURE_GPU)
    if temperature is None:
        temperature = ask(pynvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU)
    joules = scaled(ask(pynvml.nvmlDeviceGetTotalEnergyConsumption), 1e-3)
    remapped = ask(pynvml.nvmlDeviceGetRemappedRows)
    mig = ask(pynvml.nvmlDeviceGetMigMode)
    retired = each(pynvml.nvmlDeviceGetRetiredPages, RETIREMENTS)
    throughput = pcie_throughput and each(pynvml.nvmlDeviceGetPcieThroughput, DIRECTIONS)
    return GpuReading(
        index=index,
        uuid=uuid,
        name=ask(pynvml.nvmlDeviceGetName),
        bus_id=None if pci is None else text(pci.busId),
        compute_capability=None if capability is None else "{}.{}".format(*capability),
        temperature=temperature,
        memory_temperature=memory_temperature(ask),
        thresholds=each(pynvml.nvmlDeviceGetTemperatureThreshold, THRESHOLDS),
        power=scaled(ask(pynvml.nvmlDeviceGetPowerUsage), 1e-3),
        power_limits=power_limits(ask),
        energy={} if joules is None else {"nvml": joules},
        fans=fans(ask),
        utilization=utilization(ask),
        memory=memory(ask),
        processes=processes(ask),
        clocks=hertz(each(pynvml.nvmlDeviceGetClockInfo, CLOCKS)),
        clocks_max=hertz(each(pynvml.nvmlDeviceGetMaxClockInfo, CLOCKS)),
        memory_bus_bits=ask(pynvml.nvmlDeviceGetMemoryBusWidth),
        pstate=known_pstate(ask(pynvml.nvmlDeviceGetPerformanceState)),
        throttle=throttle(ask),
        throttle_seconds={
            reason: violation.violationTime / 1e9
            for reason, violation in each(pynvml.nvmlDeviceGetViolationStatus, VIOLATIONS).items()
        },
        pcie=PcieLink(
            ask(pynvml.nvmlDeviceGetCurrPcieLinkGeneration),
            ask(pynvml.nvmlDeviceGetCurrPcieLinkWidth),
            ask(pynvml.nvmlDeviceGetMaxPcieLinkGeneration),
            ask(pynvml.nvmlDeviceGetMaxPcieLinkWidth),
        ),
        pcie_bytes_per_second={k: v * 1024 for k, v in (throughput or {}).items()},
        pcie_replays=ask(pynvml.nvmlDeviceGetPcieReplayCounter),
        ecc_errors={
            (kind, scope): count
            for scope, counter in ECC_SCOPES.items()
            for kind, number in ECC_TYPES.items()
            if (count := ask(pynvml.nvmlDeviceGetTotalEccErrors, number, counter)) is not None
        },
        retired_pages={cause: len(pages) for cause, pages in retired.items()},
        retirement_pending=flag(ask(pynvml.nvmlDeviceGetRetiredPagesPendingStatus)),
        remapped_rows={}
        if remapped is None
        else {"corrected": remapped[0], "uncorrected": remapped[1]},
        row_remap_pending=None if remapped is None else bool(remapped[2]),
        row_remap_failed=None if remapped is None else bool(remapped[3]),
        mig_mode=None if mig is None else bool(mig[0]),
    )


def text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def scaled(value: int | None, factor: float) -> float | None:
    return None if value is None else value * factor


def hertz(megahertz: Mapping[str, int]) -> dict[str, float]:
    return {clock: value * 1e6 for clock, value in megahertz.items()}


def flag(value: int | None) -> bool | None:
    return None if value is None else bool(value)


def known_pstate(value: int | None) -> int | None:
    return None if value == pynvml.NVML_PSTATE_UNKNOWN else value


def memory_temperature(ask: Ask) -> float | None:
    """Of cards with stacked memory."""
    values = ask(pynvml.nvmlDeviceGetFieldValues, [pynvml.NVML_FI_DEV_MEMORY_TEMP])
    if values is None or values[0].nvmlReturn != pynvml.NVML_SUCCESS:
        return None
    return float(values[0].value.uiVal)


def power_limits(ask: Ask) -> dict[str, float]:
    bounds = ask(pynvml.nvmlDeviceGetPowerManagementLimitConstraints)
    found = {
        "enforced": ask(pynvml.nvmlDeviceGetEnforcedPowerLimit),
        "default": ask(pynvml.nvmlDeviceGetPowerManagementDefaultLimit),
        "min": None if bounds is None else bounds[0],
        "max": None if bounds is None else bounds[1],
    }
    return {kind: value / 1e3 for kind, value in found.items() if value is not None}


def fans(ask: Ask) -> tuple[float, ...]:
    """Older drivers know of one fan at most; passive cards have none."""
    count = ask(pynvml.nvmlDeviceGetNumFans)
    if count is None:
        speeds = [ask(pynvml.nvmlDeviceGetFanSpeed)]
    else:
        speeds = [ask(pynvml.nvmlDeviceGetFanSpeed_v2, fan) for fan in range(count)]
    return tuple(speed / 100 for speed in speeds if speed is not None)


def utilization(ask: Ask) -> dict[str, float]:
    rates = ask(pynvml.nvmlDeviceGetUtilizationRates)
    encoder = ask(pynvml.nvmlDeviceGetEncoderUtilization)
    decoder = ask(pynvml.nvmlDeviceGetDecoderUtilization)
    found = {
        "gpu": None if rates is None else rates.gpu,
        "memory": None if rates is None else rates.memory,
        "encoder": None if encoder is None else encoder[0],
        "decoder": None if decoder is None else decoder[0],
    }
    return {engine: percent / 100 for engine, percent in found.items() if percent is not None}


def memory(ask: Ask) -> Memory | None:
    if (found := ask(pynvml.nvmlDeviceGetMemoryInfo, pynvml.nvmlMemory_v2)) is not None:
        return Memory(found.total, found.used, found.free, found.reserved)
    if (found := ask(pynvml.nvmlDeviceGetMemoryInfo)) is not None:
        return Memory(found.total, found.used, found.free)
    return None


def processes(ask: Ask) -> tuple[ProcessMemory, ...] | None:
    """By name and version: the function without one raises no NVMLError where a driver lacks it."""
    found = ask(pynvml.nvmlDeviceGetComputeRunningProcesses_v3)
    if found is None:
        found = ask(pynvml.nvmlDeviceGetComputeRunningProcesses_v2)
    if found is None:
        return None
    return tuple(ProcessMemory(process.pid, process.usedGpuMemory) for process in found)


def throttle(ask: Ask) -> dict[str, bool]:
    """Of the reasons that the card can have; NVIDIA renamed both functions with R535."""
    active = ask(pynvml.nvmlDeviceGetCurrentClocksEventReasons)
    possible = ask(pynvml.nvmlDeviceGetSupportedClocksEventReasons)
    if active is None:
        active = ask(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons)
        possible = ask(pynvml.nvmlDeviceGetSupportedClocksThrottleReasons)
    if active is None:
        return {}
    return {
        reason: bool(active & bit)
        for reason, bit in REASONS.items()
        if possible is None or possible & bit
    }
