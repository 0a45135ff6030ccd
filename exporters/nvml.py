"""NVIDIA's management library, read into frozen values. The only importer of `pynvml`.

A card answers some of the questions and refuses others, and which ones differs by model, driver,
container and permissions. So each answer stands alone:

    refused (NOT_SUPPORTED, no such function, no permission, no data, …)   no value
    the card is gone (GPU_IS_LOST, RESET_REQUIRED, UNKNOWN, …)             `up` is false
    the library or the driver is gone                                      NvmlUnavailable

Cards are known by UUID: indexes are counted anew when one falls off the bus.
Not to be used by two threads at the same time; a call can hang for as long as the driver does.
"""

from __future__ import annotations

import ctypes
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec
import pynvml  # type: ignore[import-untyped]

from exporters.readings import GpuReading, GpusReading, Memory, PcieLink, ProcessMemory

logger = logging.getLogger(__name__)

GONE: Final = frozenset(
    {
        pynvml.NVML_ERROR_GPU_IS_LOST,
        pynvml.NVML_ERROR_RESET_REQUIRED,
        pynvml.NVML_ERROR_IRQ_ISSUE,
        pynvml.NVML_ERROR_GPU_NOT_FOUND,
        pynvml.NVML_ERROR_UNKNOWN,
    }
)
NO_LIBRARY: Final = frozenset(
    {
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    }
)
# What a card or a driver does not have is no error to count.
EXPECTED: Final = frozenset(
    {
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    }
)

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
# A set holds at most so many events that nobody has fetched; more in one reading is a broken card.
MOST_EVENTS: Final = 1000


class NvmlUnavailable(Exception):
    """Neither the library nor the driver answers; `installed` is false where there is no library."""

    def __init__(self, error: pynvml.NVMLError) -> None:
        super().__init__(str(error))
        self.installed = error.value != pynvml.NVML_ERROR_LIBRARY_NOT_FOUND


class _Gone(Exception):
    """The card does not answer any more."""


class Nvml:
    """`pcie_throughput` asks for it at each reading, which blocks for 40 ms a card."""

    def __init__(self, pcie_throughput: bool = False) -> None:
        self.errors: Counter[tuple[str, str]] = Counter()
        self._pcie_throughput = pcie_throughput
        self._open = False
        self._known: dict[str, GpuReading] = {}
        self._logged: set[tuple[str, str]] = set()
        self._events: Any = None
        self._registered: dict[int, str] = {}
        self._xids: dict[str, Counter[int]] = {}

    def read(self) -> GpusReading:
        """Raises NvmlUnavailable."""
        try:
            if not self._open:
                pynvml.nvmlInit()
                self._open = True
            seen = dict(self._devices())
            self._drain_events()
            driver = self._ask("", pynvml.nvmlSystemGetDriverVersion)
            cuda = self._ask("", pynvml.nvmlSystemGetCudaDriverVersion)
        except pynvml.NVMLError as error:
            self.close()
            raise NvmlUnavailable(error) from None
        for uuid, reading in seen.items():
            self._known[uuid] = reading
        gpus = [seen.get(uuid) or lost(reading) for uuid, reading in self._known.items()]
        return GpusReading(
            tuple(
                msgspec.structs.replace(gpu, xid_events=self._xids_of(gpu.uuid))
                for gpu in sorted(gpus, key=lambda gpu: (gpu.index, gpu.uuid))
            ),
            driver,
            None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
        )

    def close(self) -> None:
        """Events are registered anew after the next opening; what was counted stays."""
        self._events, self._registered = None, {}
        if self._open:
            self._open = False
            try:
                pynvml.nvmlShutdown()
            except pynvml.NVMLError as error:
                logger.debug("NVML could not be shut down: %s", error)

    def _devices(self) -> Iterator[tuple[str, GpuReading]]:
        for index in range(pynvml.nvmlDeviceGetCount()):
            try:
                # Not by _ask: a card that refuses its handle or its UUID is nobody we know.
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                uuid = pynvml.nvmlDeviceGetUUID(handle)
            except pynvml.NVMLError as error:
                if error.value in NO_LIBRARY:
                    raise
                self._count("nvmlDeviceGetHandleByIndex", error)
                continue
            known = self._known.get(uuid)
            self._register(handle, uuid)
            try:
                yield uuid, self._gpu(handle, uuid, known.index if known else index)
            except _Gone:
                yield uuid, lost(known or GpuReading(index=index, uuid=uuid))

    def _gpu(self, handle: Any, uuid: str, index: int) -> GpuReading:
        def ask(function: Callable[..., Any], *arguments: Any) -> Any:
            return self._ask(uuid, function, handle, *arguments)

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
        throughput = self._pcie_throughput and each(pynvml.nvmlDeviceGetPcieThroughput, DIRECTIONS)
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
            pstate=known_pstate(ask(pynvml.nvmlDeviceGetPerformanceState)),
            throttle=throttle(ask),
            throttle_seconds={
                reason: violation.violationTime / 1e9
                for reason, violation in each(
                    pynvml.nvmlDeviceGetViolationStatus, VIOLATIONS
                ).items()
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

    def _ask(self, uuid: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """None where there is no answer. Raises _Gone, and NVMLError where there is no driver."""
        try:
            return function(*arguments)
        except pynvml.NVMLError as error:
            if error.value in NO_LIBRARY:
                raise
            if error.value not in EXPECTED:
                self._count(function.__name__, error)
            if error.value in GONE and uuid:
                raise _Gone from None
            if (uuid, function.__name__) not in self._logged:
                self._logged.add((uuid, function.__name__))
                logger.debug("%s of %s: %s", function.__name__, uuid or "the driver", error)
            return None

    def _count(self, function: str, error: pynvml.NVMLError) -> None:
        self.errors[function, code(error)] += 1

    # Xid events are kept by the driver until they are fetched, so that no thread needs to wait.

    def _register(self, handle: Any, uuid: str) -> None:
        if uuid in self._registered.values():
            return
        try:
            if self._events is None:
                self._events = pynvml.nvmlEventSetCreate()
            kinds = pynvml.nvmlDeviceGetSupportedEventTypes(handle)
            if not kinds & pynvml.nvmlEventTypeXidCriticalError:
                return
            pynvml.nvmlDeviceRegisterEvents(
                handle, pynvml.nvmlEventTypeXidCriticalError, self._events
            )
        except pynvml.NVMLError as error:
            if error.value in NO_LIBRARY:
                raise
            if error.value not in EXPECTED:
                self._count("nvmlDeviceRegisterEvents", error)
            return
        self._registered[address(handle)] = uuid
        self._xids.setdefault(uuid, Counter())

    def _drain_events(self) -> None:
        for _ in range(MOST_EVENTS if self._registered else 0):
            try:
                event = pynvml.nvmlEventSetWait(self._events, 0)
            except pynvml.NVMLError as error:
                if error.value in NO_LIBRARY:
                    raise
                if error.value != pynvml.NVML_ERROR_TIMEOUT:
                    self._count("nvmlEventSetWait", error)
                return
            uuid = self._registered.get(address(event.device))
            if uuid is not None and event.eventType == pynvml.nvmlEventTypeXidCriticalError:
                self._xids[uuid][event.eventData] += 1

    def _xids_of(self, uuid: str) -> Mapping[int, int] | None:
        counts = self._xids.get(uuid)
        return None if counts is None else dict(counts)


def lost(known: GpuReading) -> GpuReading:
    return GpuReading(
        index=known.index,
        uuid=known.uuid,
        up=False,
        name=known.name,
        bus_id=known.bus_id,
        compute_capability=known.compute_capability,
    )


def code(error: pynvml.NVMLError) -> str:
    return type(error).__name__.removeprefix("NVMLError_")


def address(handle: Any) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0


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


Ask = Callable[..., Any]


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
