"""What the control groups that this process is in allow it. Both versions of the kernel's interface.

A group's limit holds for all below it, so the least of the way up counts. In a container the path
in /proc/self/cgroup may not exist under the mount, whose root is then the group itself.
See the kernel's admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

# Version 1 says "no limit" with the largest number of whole pages.
NO_LIMIT: Final = 1 << 60


class Cgroup:
    def __init__(self, proc: Path, mount: Path) -> None:
        self._groups = dict(groups(proc / "self/cgroup"))
        self._mount = mount

    def memory_limit(self) -> int | None:
        """Bytes; None without a limit."""
        limits = [
            *self._numbers("", "memory.max"),
            *self._numbers("memory", "memory.limit_in_bytes"),
        ]
        return min((limit for limit in limits if limit < NO_LIMIT), default=None)

    def memory_used(self) -> int | None:
        """Bytes, pages of files included."""
        for controller, name in (("", "memory.current"), ("memory", "memory.usage_in_bytes")):
            for number in self._numbers(controller, name):
                return number
        return None

    def cpu_quota(self) -> float | None:
        """Processors' worth of time; None without a limit."""
        quotas = [quota for text in self._texts("", "cpu.max") if (quota := share(text))]
        periods = list(self._numbers("cpu", "cpu.cfs_period_us"))
        runtimes = list(self._numbers("cpu", "cpu.cfs_quota_us"))
        if len(periods) == len(runtimes):
            pairs = zip(runtimes, periods, strict=True)
            quotas += [runtime / period for runtime, period in pairs if runtime > 0 < period]
        return min(quotas, default=None)

    def oom_kills(self) -> int | None:
        for text in (
            *self._texts("", "memory.events"),
            *self._texts("memory", "memory.oom_control"),
        ):
            found = dict(line.split(None, 1) for line in text.splitlines() if " " in line)
            if found.get("oom_kill", "").isdecimal():
                return int(found["oom_kill"])
        return None

    def _numbers(self, controller: str, name: str) -> Iterator[int]:
        for text in self._texts(controller, name):
            if text.strip().lstrip("-").isdecimal():
                yield int(text)

    def _texts(self, controller: str, name: str) -> Iterator[str]:
        """The file of this group, then of those above it."""
        if controller not in self._groups:
            return
        path = PurePosixPath(self._groups[controller])
        root = self._mount / controller
        for group in (path, *path.parents):
            try:
                yield (root / str(group).lstrip("/") / name).read_text()
            except OSError:
                continue


def groups(path: Path) -> Iterator[tuple[str, str]]:
    """(controller, group); the controller of version 2 is the empty string."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, colon, rest = line.partition(":")
        controllers, second, group = rest.partition(":")
        if colon and second:
            yield from ((controller, group) for controller in controllers.split(","))


def share(text: str) -> float | None:
    """`200000 100000` are two processors; `max 100000` is no limit."""
    quota, _, period = text.strip().partition(" ")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None
