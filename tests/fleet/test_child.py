from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from service.engine import wire
from service.fleet.child import Child, environment
from tests.fleet.fakes import FAKE, until, write_script

IGNORES_EVERYTHING = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(99)"
)

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
KERNEL_WAITS = HUGE_PAGES.is_file() and "[madvise]" in HUGE_PAGES.read_text()
# The kernel marks what it was asked for with "hg": proc_pid_smaps(5).
SAYS_WHETHER_IT_ASKED = """
import ctypes, re, sys
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
at = libc.malloc(ctypes.c_size_t(64 << 20))
areas = re.split(r"^(?=[0-9a-f]+-)", open("/proc/self/smaps").read(), flags=re.M)[1:]
bounds = [[int(part, 16) for part in area.split()[0].split("-")] for area in areas]
flags = next(area for area, (low, high) in zip(areas, bounds) if low <= at < high)
print(" hg" in flags.partition("VmFlags:")[2], file=sys.stderr)
"""


async def started(*command: str) -> Child:
    child = Child("m", lambda report: None)
    await child.start(command)
    return child


def script(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_an_engine_gets_what_it_needs_of_the_environment_and_no_more() -> None:
    given = environment(
        {
            "PATH": "/bin",
            "HOME": "/root",
            "CUDA_VISIBLE_DEVICES": "1",
            "CUDA_DEVICE_ORDER": "FASTEST_FIRST",
            "OMP_NUM_THREADS": "3",
            "GOMP_SPINCOUNT": "7",
            "LLM_API_KEY": "secret",
            "HTTPS_PROXY": "http://proxy",
            "LD_PRELOAD": "x.so",
            "PYTHONSTARTUP": "x.py",
        }
    )

    assert given.pop("PYTHONPATH") == str(Path(__file__).parents[2])
    assert given == {
        "PATH": "/bin",
        "HOME": "/root",
        "CUDA_VISIBLE_DEVICES": "1",
        "OMP_NUM_THREADS": "3",
        "GOMP_SPINCOUNT": "7",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "GGML_NO_BACKTRACE": "1",
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        "PYTHONFAULTHANDLER": "1",
        "PYTHONUNBUFFERED": "1",
    }


async def test_an_engine_asks_for_huge_pages_where_the_kernel_waits_to_be_asked() -> None:
    child = await started(*script(SAYS_WHETHER_IT_ASKED))
    await child.lost
    await child.end(grace=2.0)

    assert str(child.last_words) == str(KERNEL_WAITS)


async def test_an_engine_that_exits_by_itself_says_how() -> None:
    child = await started(*script("import sys; sys.stderr.write('why\\n'); sys.exit(3)"))
    await child.lost

    assert await child.end(grace=2.0) == "exit code 3"
    assert str(child.last_words) == "why"


async def test_an_engine_that_aborts_says_its_signal() -> None:
    child = await started(*script("import os; os.abort()"))
    await child.lost

    assert await child.end(grace=2.0) == "SIGABRT"
    assert "Fatal Python error: Aborted" in str(child.last_words)


async def test_an_engine_that_does_not_stop_is_killed_and_leaves_no_zombie() -> None:
    child = await started(*script(IGNORES_EVERYTHING))
    pid = child.pid

    assert await child.end(grace=0.1) == "did not stop when asked to"
    assert pid is not None
    assert not psutil.pid_exists(pid)


async def test_an_engine_ends_with_its_socket(tmp_path: Path) -> None:
    reports: list[wire.Report] = []
    child = Child("m", reports.append)
    await child.start(FAKE)
    child.send(wire.encode(wire.Load(wire.EngineParams(str(write_script(tmp_path))))))
    await until(lambda: any(isinstance(report, wire.Ready) for report in reports))

    assert await child.end(grace=5.0) == "exit code 0"


async def test_an_engine_that_speaks_no_protocol_is_killed() -> None:
    code = "import socket, sys, time; socket.socket(fileno=int(sys.argv[2])).send(b'x' * 99); time.sleep(99)"
    child = await started(*script(code))
    await asyncio.wait_for(child.lost, 5)

    assert await child.end(grace=2.0) == "broke the protocol"


async def test_a_program_that_is_not_there_is_an_os_error() -> None:
    child = Child("m", lambda report: None)
    with pytest.raises(OSError):
        await child.start(("/nowhere/engine",))

    assert await child.end() == "was not started"


async def test_an_engine_has_a_session_of_its_own() -> None:
    child = await started(*script(IGNORES_EVERYTHING))
    assert child.pid is not None
    try:
        with open(f"/proc/{child.pid}/stat") as stat:  # noqa: ASYNC230  /proc does not block
            session = int(stat.read().rsplit(")", 1)[1].split()[3])
        assert session == child.pid
    finally:
        await child.end()


class Stuck(subprocess.Popen[bytes]):
    """As one that waits for a driver: no signal reaches it."""

    def kill(self) -> None:
        pass


async def test_a_process_that_survives_sigkill_holds_up_nobody_and_is_waited_for_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(subprocess, "Popen", Stuck)
    monkeypatch.setattr("service.fleet.child.DEATH_SECONDS", 0.05)
    child = await started(*script(IGNORES_EVERYTHING))
    assert child.pid is not None
    process = psutil.Process(child.pid)

    assert await asyncio.wait_for(child.end(), 10) == "did not stop when asked to"
    assert "survives SIGKILL" in caplog.text
    assert process.is_running()
    process.kill()
    await until(lambda: not process.is_running())
