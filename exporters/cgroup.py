"""What the control groups that this process is in allow it. Both versions of the kernel's interface.

A group's limit holds for all below it, so the least of the way up counts. In a container the path
in /proc/self/cgroup may not exist under the mount, whose root is then the group itself.
See the kernel's admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

PROC: Final = Path("/proc")
CGROUPS: Final = Path("/sys/fs/cgroup")
# Version 1 says "no limit" with the largest number of whole pages.
NO_LIMIT: Final = 1 << 60
# The controller, its files of a group's limit and use, and how it marks what in memory.stat counts
# the groups below too.
MEMORY: Final = (
    ("", "memory.max", "memory.current", ""),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
)


@dataclass(frozen=True, slots=True)
class GroupMemory:
    """Bytes of a group that has a limit. files: the part of `used` that is pages of files."""

    limit: int
    used: int
    files: int

    @property
    def available(self) -> int:
        return max(0, self.limit - max(0, self.used - self.files))


class Cgroup:
    def __init__(self, proc: Path, mount: Path) -> None:
        self._groups = dict(groups(proc / "self/cgroup"))
        self._mount = mount

    def memories(self) -> list[GroupMemory]:
        """Of this group, then of those above it, where they have a limit."""
        return [
            GroupMemory(most, number(folder / used) or 0, files(folder / "memory.stat", prefix))
            for controller, limit, used, prefix in MEMORY
            for folder in self._folders(controller)
            if (most := number(folder / limit)) is not None and most < NO_LIMIT
        ]

    def memory_limit(self) -> int | None:
        """Bytes; None without a limit."""
        return min((group.limit for group in self.memories()), default=None)

    def memory_used(self) -> int | None:
        """Bytes, pages of files included."""
        for controller, _, used, _ in MEMORY:
            for bytes_used in self._numbers(controller, used):
                return bytes_used
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
        for folder in self._folders(controller):
            if (found := number(folder / name)) is not None:
                yield found

    def _texts(self, controller: str, name: str) -> Iterator[str]:
        return (contents(folder / name) for folder in self._folders(controller))

    def _folders(self, controller: str) -> Iterator[Path]:
        """That of this group, then of those above it; perhaps they are not there."""
        if controller not in self._groups:
            return
        path = PurePosixPath(self._groups[controller])
        for group in (path, *path.parents):
            yield self._mount / controller / str(group).lstrip("/")


def contents(path: Path) -> str:
    """Empty where there is no such file, or it is not for us."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def number(path: Path) -> int | None:
    text = contents(path).strip()
    return int(text) if text.lstrip("-").isdecimal() else None


def files(path: Path, prefix: str) -> int:
    """Bytes in pages of files, of a memory.stat; shared memory is not among them."""
    counted = {f"{prefix}active_file", f"{prefix}inactive_file"}
    lines = (line.partition(" ") for line in contents(path).splitlines())
    return sum(int(value) for name, _, value in lines if name in counted and value.isdecimal())


def groups(path: Path) -> Iterator[tuple[str, str]]:
    """(controller, group); the controller of version 2 is the empty string."""
    for line in contents(path).splitlines():
        _, colon, rest = line.partition(":")
        controllers, second, group = rest.partition(":")
        if colon and second:
            yield from ((controller, group) for controller in controllers.split(","))


def share(text: str) -> float | None:
    """`200000 100000` are two processors; `max 100000` is no limit."""
    quota, _, period = text.strip().partition(" ")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None
