"""How much memory this process and its engines may use: the machine's, and no more than the control
groups that they are in allow.

Pages of files are memory that can be had: the kernel lets go of them before it kills. That is how
it counts MemAvailable for the machine (Documentation/filesystems/proc.rst), and how a group's use
is counted here. Else weights that are mapped, and files that were only read to be checked, would
look like memory that is gone for good.
"""

from __future__ import annotations

from pathlib import Path

import psutil
from msgspec import Struct

from exporters.cgroup import CGROUPS, PROC, Cgroup


class HostMemory(Struct, frozen=True):
    """In bytes: all that there is to be used, and what can be had of it now."""

    total: int
    available: int


def host_memory(proc: Path = PROC, cgroups: Path = CGROUPS) -> HostMemory:
    """Read anew each time."""
    machine = psutil.virtual_memory()
    groups = Cgroup(proc, cgroups).memories()
    return HostMemory(
        total=min([machine.total, *(group.limit for group in groups)]),
        available=min([machine.available, *(group.available for group in groups)]),
    )
