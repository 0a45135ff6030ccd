"""NVIDIA's management library, read into frozen values. With nvml_gpu.py, the only importer of `pynvml`.

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
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec
import pynvml  # type: ignore[import-untyped]

from exporters.nvml_gpu import gpu_reading
from exporters.readings import GpuReading, GpusReading

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

# A set holds at most so many events that nobody has fetched; more in one reading is a broken card.
MOST_EVENTS: Final = 1000
# A card that reported an Xid may have been reset since: what is older says nothing of it.
RECENT_SECONDS: Final = 3600.0
# Cards that come and go faster than they can be counted are not waited for.
COUNTINGS: Final = 3


class NvmlUnavailable(Exception):
    """Neither the library nor the driver answers; `installed` is false where there is no library."""

    def __init__(self, error: pynvml.NVMLError) -> None:
        super().__init__(str(error))
        self.installed = error.value != pynvml.NVML_ERROR_LIBRARY_NOT_FOUND


class _Gone(Exception):
    """The card does not answer any more."""


class Nvml:
    """`pcie_throughput` asks for it at each reading, which blocks for 40 ms a card."""

    def __init__(
        self, pcie_throughput: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.errors: Counter[tuple[str, str]] = Counter()
        self._pcie_throughput = pcie_throughput
        self._clock = clock
        self._open = False
        self._known: dict[str, GpuReading] = {}
        self._logged: set[tuple[str, str]] = set()
        self._events: Any = None
        self._registered: dict[int, str] = {}
        self._xids: dict[str, Counter[int]] = {}
        # When each code was reported last.
        self._reported: dict[str, dict[int, float]] = {}

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
                msgspec.structs.replace(
                    gpu,
                    xid_events=self._xids_of(gpu.uuid),
                    recent_xids=self._recent_xids(gpu.uuid),
                )
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
        for index, uuid, handle in self._handles():
            known = self._known.get(uuid)
            self._register(handle, uuid)
            try:
                yield uuid, self._gpu(handle, uuid, known.index if known else index)
            except _Gone:
                yield uuid, lost(known or GpuReading(index=index, uuid=uuid))

    def _handles(self) -> list[tuple[int, str, Any]]:
        """(index, UUID, handle). Indexes can shift while they are counted through: then one card
        would be seen twice, or not at all."""
        found: list[tuple[int, str, Any]] = []
        for _ in range(COUNTINGS):
            count = pynvml.nvmlDeviceGetCount()
            found = [known for index in range(count) if (known := self._handle(index)) is not None]
            if pynvml.nvmlDeviceGetCount() == count:
                break
        return found

    def _handle(self, index: int) -> tuple[int, str, Any] | None:
        """None where the card refuses its handle, or its UUID: it is nobody we know."""
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            return index, pynvml.nvmlDeviceGetUUID(handle), handle
        except pynvml.NVMLError as error:
            if error.value in NO_LIBRARY:
                raise
            self._count("nvmlDeviceGetHandleByIndex", error)
            return None

    def _gpu(self, handle: Any, uuid: str, index: int) -> GpuReading:
        def ask(function: Callable[..., Any], *arguments: Any) -> Any:
            return self._ask(uuid, function, handle, *arguments)

        return gpu_reading(ask, uuid, index, self._pcie_throughput)

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
                self._reported.setdefault(uuid, {})[event.eventData] = self._clock()

    def _xids_of(self, uuid: str) -> Mapping[int, int] | None:
        counts = self._xids.get(uuid)
        return None if counts is None else dict(counts)

    def _recent_xids(self, uuid: str) -> tuple[int, ...]:
        since = self._clock() - RECENT_SECONDS
        return tuple(code for code, at in self._reported.get(uuid, {}).items() if at > since)


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
