"""How much memory may be used, with control groups that the tests write."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from service.host_memory import HostMemory, host_memory

MIB = 1 << 20
GIB = 1 << 30


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 128 GiB, of which 100 can be had."""
    meminfo = {"MemTotal": 128, "MemFree": 90, "MemAvailable": 100, "Cached": 12}
    # psutil warns of these where they are missing.
    meminfo |= dict.fromkeys(("Buffers", "Shmem", "Active", "Inactive", "Slab"), 0)
    lines = [f"{name}: {size * GIB // 1024} kB" for name, size in meminfo.items()]
    write(tmp_path, {"proc/meminfo": "\n".join(lines)})
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path / "proc"))


def write(folder: Path, files: dict[str, object]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def memory(folder: Path, group: str, files: dict[str, object]) -> HostMemory:
    write(folder, {"proc/self/cgroup": group, **files})
    return host_memory(folder / "proc", folder / "groups")


def stat(prefix: str = "", **counted: int) -> str:
    counts = {"anon": 1, "shmem": 3 * GIB, "unevictable": 0, **counted}
    return "\n".join(f"{prefix}{name} {value}" for name, value in counts.items())


def test_without_groups_all_of_the_machine_may_be_used(tmp_path: Path) -> None:
    assert host_memory(tmp_path / "proc", tmp_path / "groups") == HostMemory(128 * GIB, 100 * GIB)


def test_without_a_limit_all_of_the_machine_may_be_used(tmp_path: Path) -> None:
    files: dict[str, object] = {"groups/memory.max": "max", "groups/memory.current": 9 * GIB}

    assert memory(tmp_path, "0::/", files) == HostMemory(128 * GIB, 100 * GIB)


def test_within_a_limit_what_is_used_is_gone_but_for_pages_of_files(tmp_path: Path) -> None:
    """A container: the group is at the root of the mount."""
    files: dict[str, object] = {
        "groups/memory.max": 16 * GIB,
        "groups/memory.current": 15 * GIB,
        "groups/memory.stat": stat(inactive_file=8 * GIB, active_file=2 * GIB),
    }

    assert memory(tmp_path, "0::/", files) == HostMemory(16 * GIB, 11 * GIB)


def test_no_more_is_available_than_the_machine_has_left(tmp_path: Path) -> None:
    files: dict[str, object] = {
        "groups/memory.max": 120 * GIB,
        "groups/memory.current": GIB,
        "groups/memory.stat": stat(),
    }

    assert memory(tmp_path, "0::/", files) == HostMemory(120 * GIB, 100 * GIB)


def test_the_least_of_the_groups_on_the_way_up_counts(tmp_path: Path) -> None:
    """For what there is, and for what is left of it: they may be different ones."""
    files: dict[str, object] = {
        "groups/pod/service/memory.max": 16 * GIB,
        "groups/pod/service/memory.current": 4 * GIB,
        "groups/pod/service/memory.stat": stat(inactive_file=GIB),
        "groups/pod/memory.max": 24 * GIB,
        "groups/pod/memory.current": 23 * GIB,
        "groups/pod/memory.stat": stat(inactive_file=2 * GIB),
    }

    assert memory(tmp_path, "0::/pod/service", files) == HostMemory(16 * GIB, 3 * GIB)


def test_a_group_over_its_limit_has_nothing_left(tmp_path: Path) -> None:
    files: dict[str, object] = {
        "groups/memory.max": GIB,
        "groups/memory.current": GIB + MIB,
        "groups/memory.stat": stat(),
    }

    assert memory(tmp_path, "0::/", files) == HostMemory(GIB, 0)


def test_of_the_first_version_the_groups_below_count_too(tmp_path: Path) -> None:
    files: dict[str, object] = {
        "groups/memory/pod/memory.limit_in_bytes": 8 * GIB,
        "groups/memory/pod/memory.usage_in_bytes": 7 * GIB,
        "groups/memory/pod/memory.stat": stat(inactive_file=1, active_file=1)
        + "\n"
        + stat("total_", inactive_file=2 * GIB, active_file=GIB),
        "groups/memory/memory.limit_in_bytes": 9223372036854771712,
        "groups/memory/memory.usage_in_bytes": 99 * GIB,
    }

    found = memory(tmp_path, "4:memory:/pod\n3:cpu,cpuacct:/pod", files)
    assert found == HostMemory(8 * GIB, 4 * GIB)


def test_nothing_else_of_the_service_asks_the_machine_for_its_memory() -> None:
    files = (Path(__file__).parents[1] / "service").rglob("*.py")
    asking = [file.name for file in files if "virtual_memory" in file.read_text()]

    assert asking == ["host_memory.py"]
