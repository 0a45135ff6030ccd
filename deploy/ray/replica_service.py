"""The service of one replica: a process of its own on a free port, which lives no longer than we do."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

# The kernel ends it (SIGKILL) with the *thread* that started it, which is why that one waits for it.
_BOUND_TO_US: Final = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
os.getppid() == int(sys.argv[1]) or os._exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""


class ReplicaService:
    """`on_end` is called, in a thread of ours, with the exit code of a process that has ended."""

    def __init__(self, host: str, command: Sequence[str], on_end: Callable[[int], None]) -> None:
        self._listener = socket.create_server((host, 0), backlog=1024)
        self._listener.set_inheritable(True)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://{host}:{self.port}"
        self.pid = 0
        self._started = threading.Event()
        self._command = (*command, "--fd", str(self._listener.fileno()))
        self._on_end = on_end
        threading.Thread(target=self._run, daemon=True).start()
        self._started.wait()

    def _run(self) -> None:
        # Nobody waits at a socket that no process accepts from any more.
        with self._listener:
            process = subprocess.Popen(
                [sys.executable, "-c", _BOUND_TO_US, str(os.getpid()), *self._command],
                pass_fds=[self._listener.fileno()],
                stdin=subprocess.DEVNULL,
            )
            self.pid = process.pid
            self._started.set()
            code = process.wait()
        self._on_end(code)


def announce(folder: Path, address: str, pid: int, pool: str) -> None:
    """A file for Prometheus' service discovery, and none any more for processes that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    node = socket.gethostname()
    for path in folder.glob(f"services-ray-{node}-*.yml"):
        if not Path("/proc", path.stem.rpartition("-")[2]).exists():
            path.unlink(missing_ok=True)
    text = json.dumps([{"targets": [address], "labels": {"pool": pool}}])
    draft = folder / f".{pid}.tmp"
    draft.write_text(text)
    draft.replace(folder / f"services-ray-{node}-{pid}.yml")
