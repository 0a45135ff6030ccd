"""The host, as it is told by a /proc and control groups that the tests write."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from exporters.cgroup import Cgroup
from exporters.collector import Guards
from exporters.disk import DiskCollector
from exporters.host import HostCollector
from exporters.machine import Machine, shares
from exporters.readings import HostReading

FILES = {
    "meminfo": "MemTotal:  1000 kB\nMemAvailable:  400 kB\nSwapTotal:  200 kB\nSwapFree:  150 kB\n",
    "vmstat": "pgmajfault 12\npswpin 3\npswpout 4\noom_kill 2\n",
    "cpuinfo": "processor\t: 0\nmodel name\t: Xeon 5 @ 2.4GHz\nprocessor\t: 1\nmodel name\t: other\n",
    "pressure/cpu": "some avg10=12.50 avg60=1.00 avg300=0.00 total=2500000\n",
    "pressure/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    "full avg10=1.00 avg60=0.00 avg300=0.00 total=10\n",
    "self/cgroup": "0::/pod/service\n",
    # For psutil.
    "stat": "cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 100 0 50 800 50 0 0 0 0 0\n",
    "net/dev": "head\nhead\n  lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n"
    "eth0: 70 1 0 0 0 0 0 0 80 1 0 0 0 0 0 0\n",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = write(tmp_path / "proc", FILES)
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(folder))
    return folder


def read(proc: Path, groups: Path | None = None) -> HostReading:
    return Machine(proc, groups or proc / "nowhere").read()


def test_memory_swap_and_faults_are_the_kernels(proc: Path) -> None:
    host = read(proc)
    page = os.sysconf("SC_PAGE_SIZE")

    assert (host.memory_total, host.memory_available) == (1000 * 1024, 400 * 1024)
    assert (host.swap_total, host.swap_used) == (200 * 1024, 50 * 1024)
    assert (host.swap_in, host.swap_out) == (3 * page, 4 * page)
    assert (host.major_faults, host.oom_kills) == (12, {"host": 2})
    assert host.cpu_model == "Xeon 5 @ 2.4GHz"


def test_pressure_is_a_ratio_and_seconds(proc: Path) -> None:
    host = read(proc)

    assert host.pressure == {
        ("cpu", "some"): 0.125, ("memory", "some"): 0, ("memory", "full"): 0.01,
    }  # fmt: skip
    assert host.pressure_seconds["cpu", "some"] == 2.5


def test_network_is_all_but_loopback(proc: Path) -> None:
    assert read(proc).network_bytes == {"received": 70, "sent": 80}


def test_usage_is_of_the_time_between_two_readings() -> None:
    before = {"user": 10.0, "idle": 100.0, "iowait": 5.0}

    assert shares({}, before) == {}
    assert shares(before, before) == {}
    assert shares(before, {"user": 13.0, "idle": 101.0, "iowait": 5.0}) == {
        "user": 0.75, "idle": 0.25, "iowait": 0,
    }  # fmt: skip
    # Clocks of virtual machines go backwards at times.
    assert shares(before, {"user": 11.0, "idle": 99.0, "iowait": 5.0})["idle"] == 0


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_missing_file_takes_its_own_figures_away_and_no_other(proc: Path, name: str) -> None:
    whole = read(proc)
    (proc / name).unlink()
    rest = read(proc)

    known = {field for field in whole.__struct_fields__ if getattr(whole, field)}
    still = {field for field in rest.__struct_fields__ if getattr(rest, field)}
    assert still <= known
    # One file of a dozen: most is still there.
    assert len(known - still) <= 6
    if name != "self/cgroup":
        assert rest != whole


@pytest.mark.parametrize("text", ["", "garbage", "cpu", "MemTotal:", "some avg10", "\x00\xff"])
def test_no_content_of_a_file_breaks_the_reading(proc: Path, text: str) -> None:
    for name in FILES:
        (proc / name).write_text(text)

    assert read(proc).memory_total is None


def test_without_any_of_its_files_the_host_is_not_known_and_that_is_all(proc: Path) -> None:
    shutil.rmtree(proc)
    host = read(proc)

    assert (host.memory_total, host.swap_in, host.cpu_seconds) == (None, None, {})
    assert (host.pressure, host.network_bytes, host.oom_kills) == ({}, {}, {})


# ---- control groups


def test_the_least_limit_on_the_way_up_counts(proc: Path, tmp_path: Path) -> None:
    groups = write(
        tmp_path / "groups",
        {
            "pod/service/memory.max": "max\n",
            "pod/service/memory.current": "500\n",
            "pod/service/memory.events": "low 0\noom 2\noom_kill 1\n",
            "pod/service/cpu.max": "200000 100000\n",
            "pod/memory.max": "1048576\n",
            "pod/cpu.max": "150000 100000\n",
            "memory.max": "4194304\n",
            "cpu.max": "max 100000\n",
        },
    )
    host = read(proc, groups)

    assert (host.memory_limit, host.memory_limit_used) == (1048576, 500)
    assert host.cpus["quota"] == 1.5
    assert host.oom_kills == {"host": 2, "cgroup": 1}


def test_a_container_finds_its_group_at_the_root_of_the_mount(proc: Path, tmp_path: Path) -> None:
    groups = write(tmp_path / "groups", {"memory.max": "99\n", "cpu.max": "50000 100000"})

    assert (read(proc, groups).memory_limit, read(proc, groups).cpus["quota"]) == (99, 0.5)


def test_the_first_version_of_control_groups_is_read_too(proc: Path, tmp_path: Path) -> None:
    write(proc, {"self/cgroup": "4:memory:/pod\n3:cpu,cpuacct:/pod\n1:name=systemd:/pod\n"})
    groups = write(
        tmp_path / "groups",
        {
            "memory/pod/memory.limit_in_bytes": "2097152\n",
            "memory/pod/memory.usage_in_bytes": "4096\n",
            "memory/pod/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
            "memory/memory.limit_in_bytes": "9223372036854771712\n",
            "cpu/pod/cpu.cfs_quota_us": "-1\n",
            "cpu/pod/cpu.cfs_period_us": "100000\n",
        },
    )
    group = Cgroup(proc, groups)

    assert (group.memory_limit(), group.memory_used(), group.oom_kills()) == (2097152, 4096, 3)
    assert group.cpu_quota() is None
    write(groups, {"cpu/pod/cpu.cfs_quota_us": "300000\n"})
    assert group.cpu_quota() == 3


def test_without_limits_there_are_none(proc: Path, tmp_path: Path) -> None:
    group = Cgroup(proc, write(tmp_path / "groups", {"memory.max": "max\n", "cpu.max": "max 1"}))

    assert (group.memory_limit(), group.cpu_quota(), group.oom_kills()) == (None, None, None)


# ---- as samples


def test_what_is_not_known_has_no_series(proc: Path) -> None:
    (proc / "vmstat").unlink()
    collector = HostCollector(Machine(proc, proc / "nowhere"))
    collector.sampler.start()
    registry = CollectorRegistry()
    registry.register(Guards({"host": collector}))
    text = generate_latest(registry).decode()
    collector.sampler.stop()

    assert "llm_host_memory_total_bytes 1.024e+06" in text
    assert 'llm_host_pressure_ratio{kind="some",resource="cpu"} 0.125' in text
    assert 'llm_exporter_collector_success{collector="host"} 1.0' in text
    for name in ("swap_in_bytes", "oom_kills", "cgroup_memory_limit"):
        assert name not in text


def test_disks_are_those_of_the_directories_that_were_named(tmp_path: Path) -> None:
    collector = DiskCollector([tmp_path, tmp_path / "missing", tmp_path])
    collector.sampler.start()
    registry = CollectorRegistry()
    registry.register(collector)
    text = generate_latest(registry).decode()
    collector.sampler.stop()

    size = next(x for x in text.splitlines() if x.startswith("llm_model_store_size_bytes{"))
    assert f'path="{tmp_path}"' in size
    assert float(size.rpartition(" ")[2]) == shutil.disk_usage(tmp_path).total
    assert text.count("\nllm_model_store_free_bytes{") == 1
    assert "missing" not in text
