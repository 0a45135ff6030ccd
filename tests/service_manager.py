"""A service manager for tests: hears what systemd would hear, and hands over a listening socket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.dialects.serving import wait_until

ROOT = Path(__file__).parents[1]

# What the manager does between fork and exec: descriptor 3 onwards, and whose they are.
HAND_OVER = """
import os, sys
count, command = int(sys.argv[1]), sys.argv[2:]
for number in range(count):
    os.dup2(int(os.environ.pop(f"GIVEN_{number}")), 3 + number)
os.environ.update(LISTEN_FDS=str(count), LISTEN_PID=str(os.getpid()))
if "WATCHDOG_USEC" in os.environ:
    os.environ["WATCHDOG_PID"] = str(os.getpid())
os.execv(command[0], command)
"""


class ServiceManager:
    """`heard`: (seconds since its start, assignment), in the order of arrival."""

    def __init__(self, folder: Path) -> None:
        self.address = folder / "notify"
        self.heard: list[tuple[float, str]] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self._started = time.monotonic()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.address))
        self._log = (folder / "log").open("ab")
        self._ear = threading.Thread(target=self._hear, daemon=True)
        self._ear.start()

    def _hear(self) -> None:
        while datagram := self._socket.recv(4096):
            now = time.monotonic() - self._started
            self.heard += [(now, line) for line in datagram.decode().splitlines()]

    def assignments(self) -> list[str]:
        return [line for _, line in self.heard]

    def count(self, assignment: str) -> int:
        return self.assignments().count(assignment)

    def start(
        self, *command: str, listeners: tuple[socket.socket, ...] = (), **environment: str
    ) -> subprocess.Popen[bytes]:
        """Runs a Python module; comes back when it says that it is ready, or has ended."""
        before = self.count("READY=1")
        process = self.spawn(*command, listeners=listeners, **environment)
        wait_until(lambda: self.count("READY=1") > before or process.poll() is not None, 60)
        return process

    def spawn(
        self, *command: str, listeners: tuple[socket.socket, ...] = (), **environment: str
    ) -> subprocess.Popen[bytes]:
        # Higher than any that they are moved to.
        given = [os.dup(each.fileno()) for each in listeners]
        process = subprocess.Popen(
            [sys.executable, "-c", HAND_OVER, str(len(given)), sys.executable, "-m", *command],
            cwd=ROOT,
            pass_fds=given,
            stderr=self._log,
            env={
                **os.environ,
                "NOTIFY_SOCKET": str(self.address),
                **{f"GIVEN_{number}": str(fd) for number, fd in enumerate(given)},
                **environment,
            },
        )
        for descriptor in given:
            os.close(descriptor)
        self.processes.append(process)
        return process

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", str(self.address))
        self._ear.join()
        self._socket.close()
        self._log.close()


@contextmanager
def service_manager(folder: Path) -> Iterator[ServiceManager]:
    manager = ServiceManager(folder)
    try:
        yield manager
    finally:
        manager.close()
