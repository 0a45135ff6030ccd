"""The host, read into frozen values: psutil where it knows, the kernel's files where it does not."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import psutil

from exporters.cgroup import CGROUPS, PROC, Cgroup, contents
from exporters.readings import HostReading

PRESSURES: Final = ("cpu", "memory", "io")
# What psutil raises where a file is missing, cut short, or not for us.
UNTOLD: Final = (
    OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError, AssertionError,
)  # fmt: skip
PRESSURE: Final = re.compile(r"^(some|full) avg10=([\d.]+) .*total=(\d+)$", re.MULTILINE)

T = TypeVar("T")


class Machine:
    """`proc` is where /proc is mounted; psutil reads the one of its own `PROCFS_PATH`."""

    def __init__(self, proc: Path = PROC, cgroups: Path = CGROUPS) -> None:
        self._proc = proc
        self._cgroup = Cgroup(proc, cgroups)
        self._before: Mapping[str, float] = {}
        self._cpu_model = cpu_model(proc / "cpuinfo")

    def read(self) -> HostReading:
        memory = fields(self._proc / "meminfo")
        counters = fields(self._proc / "vmstat")
        seconds = cpu_seconds()
        usage = shares(self._before, seconds)
        self._before = seconds
        frequency = told(psutil.cpu_freq)
        pressure = dict(self._pressures())
        return HostReading(
            cpu_model=self._cpu_model,
            cpu_seconds=seconds,
            cpu_usage=usage,
            cpus=known(
                logical=told(psutil.cpu_count),
                physical=told(lambda: psutil.cpu_count(logical=False)),
                quota=self._cgroup.cpu_quota(),
            ),
            cpu_hertz=known(
                # 0 is psutil's word for not known.
                current=frequency.current * 1e6 or None if frequency else None,
                max=frequency.max * 1e6 or None if frequency else None,
            ),
            load=told(os.getloadavg),
            memory_total=kibibytes(memory, "MemTotal"),
            memory_available=kibibytes(memory, "MemAvailable"),
            memory_limit=self._cgroup.memory_limit(),
            memory_limit_used=self._cgroup.memory_used(),
            swap_total=kibibytes(memory, "SwapTotal"),
            swap_used=difference(memory, "SwapTotal", "SwapFree"),
            swap_in=pages(counters, "pswpin"),
            swap_out=pages(counters, "pswpout"),
            major_faults=counters.get("pgmajfault"),
            oom_kills=known(host=counters.get("oom_kill"), cgroup=self._cgroup.oom_kills()),
            pressure={key: ratio for key, (ratio, _) in pressure.items()},
            pressure_seconds={key: seconds for key, (_, seconds) in pressure.items()},
            temperatures=dict(temperatures()),
            network_bytes=network_bytes(),
        )

    def _pressures(self) -> Iterator[tuple[tuple[str, str], tuple[float, float]]]:
        """((resource, kind), (part of the last 10 s that tasks waited, seconds in all)).
        The format: `some avg10=0.12 avg60=0.05 avg300=0.01 total=123456`, in per cent and µs."""
        for resource in PRESSURES:
            text = contents(self._proc / "pressure" / resource)
            for kind, average, total in PRESSURE.findall(text):
                yield (resource, kind), (float(average) / 100, int(total) / 1e6)


def told(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except UNTOLD:
        return None


def known(**values: float | None) -> dict[str, float]:
    return {key: value for key, value in values.items() if value is not None}


def fields(path: Path) -> dict[str, int]:
    """Of `name: 12 kB` and `name 12` lines, the numbers as they stand."""
    words = [line.replace(":", " ").split() for line in contents(path).splitlines()]
    return {word[0]: int(word[1]) for word in words if len(word) > 1 and word[1].isdecimal()}


def cpu_model(path: Path) -> str | None:
    """Of the first processor; ARM's have no name here."""
    lines = contents(path).splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, None)


def kibibytes(memory: Mapping[str, int], name: str) -> int | None:
    return memory[name] * 1024 if name in memory else None


def difference(memory: Mapping[str, int], whole: str, part: str) -> int | None:
    return (memory[whole] - memory[part]) * 1024 if {whole, part} <= memory.keys() else None


def pages(counters: Mapping[str, int], name: str) -> int | None:
    return counters[name] * os.sysconf("SC_PAGE_SIZE") if name in counters else None


def cpu_seconds() -> dict[str, float]:
    """Guests' time is in user and nice already, as the kernel counts it."""
    times: Any = told(psutil.cpu_times)
    if times is None:
        return {}
    return {mode: t for mode, t in times._asdict().items() if not mode.startswith("guest")}


def shares(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """Of the time between two readings; empty where there was none."""
    # A virtual machine's clock of stolen or idle time has been seen to run backwards.
    spent = {mode: max(0.0, now[mode] - before[mode]) for mode in before.keys() & now.keys()}
    total = sum(spent.values())
    return {mode: seconds / total for mode, seconds in spent.items()} if total else {}


def temperatures() -> Iterator[tuple[str, float]]:
    sensors: Any = told(lambda: psutil.sensors_temperatures())
    for chip, entries in (sensors or {}).items():
        for number, entry in enumerate(entries):
            if entry.current is not None:
                yield f"{chip}/{entry.label or number}", entry.current


def network_bytes() -> dict[str, int]:
    """Of all interfaces but loopback. A counter that wraps is one that began anew to Prometheus."""
    counters: Any = told(lambda: psutil.net_io_counters(pernic=True, nowrap=False))
    outside = [counter for name, counter in (counters or {}).items() if name != "lo"]
    if not outside:
        return {}
    return {
        "received": sum(counter.bytes_recv for counter in outside),
        "sent": sum(counter.bytes_sent for counter in outside),
    }
