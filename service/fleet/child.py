"""One engine process: started, spoken to over a socket pair, and surely gone at the end.

The process is ours alone to end: it has a session of its own, so that Ctrl-C in a terminal
reaches the service only, which then lets running answers finish. It dies with us all the same, by
the end of the socket and by PDEATHSIG. The kernel sends that one when the *thread* that started
the process ends, so `Child.start` belongs on the main thread, where the event loop runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from service.engine import wire
from service.fleet.last_words import LastWords, exit_words

logger = logging.getLogger(__name__)

ENGINE: Final = (sys.executable, "-P", "-m", "service.engine")

# Even SIGKILL waits for a process that is stuck in a driver. After this we go on without it.
DEATH_SECONDS: Final = 30.0

# All that an engine gets of our environment: what finds libraries and GPUs. Never a proxy,
# never a secret, and nothing that a later Python might take for an instruction.
_PASSED: Final = frozenset(
    {
        *("PATH", "LD_LIBRARY_PATH", "GLIBC_TUNABLES", "HOME", "TMPDIR"),
        *("LANG", "LC_ALL", "LC_CTYPE", "TZ"),
    }
)
_PASSED_PREFIXES: Final = ("CUDA_", "NVIDIA_", "GGML_", "LLAMA_", "OMP_", "GOMP_", "KMP_", "HIP_")
_SET: Final = {
    **wire.ENVIRONMENT,
    # Asks for huge pages, which many kernels give only to who asks: a step reads all weights and
    # cells, and each 4 KiB of them has to be found through the page tables otherwise. Read when a
    # process starts, by glibc 2.35 and later.
    # https://www.gnu.org/software/libc/manual/html_node/Memory-Allocation-Tunables.html
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    # The Python stack of a SIGSEGV or SIGABRT, on stderr.
    "PYTHONFAULTHANDLER": "1",
    "PYTHONUNBUFFERED": "1",
}
# As NVML counts the GPUs, by whose numbers models are placed: in another order, a share would go to
# another card than the one that it was worked out for.
_ORDER: Final = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
_CODE: Final = Path(__file__).resolve().parents[2]


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    passed = {
        name: value
        for name, value in ours.items()
        if name in _PASSED or name.startswith(_PASSED_PREFIXES)
    }
    # The engine runs the code that the service runs, wherever either was started.
    return {**_SET, **passed, **_ORDER, "PYTHONPATH": str(_CODE)}


class Child(asyncio.Protocol):
    """`on_report` gets each message; `lost` becomes true, once, with the end of the socket."""

    def __init__(self, model: str, on_report: Callable[[wire.Report], None]) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.last_words = LastWords(model)
        # What we know better than its exit code: the reason why we killed it.
        self.verdict: str | None = None
        self._on_report = on_report
        self._decoder: wire.FrameDecoder[wire.Report] = wire.FrameDecoder(wire.Report)
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: asyncio.WriteTransport | None = None
        self._stderr: _Stderr | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def exit_code(self) -> int | None:
        """Of a process that has ended; the signal that it died of, as a negative number."""
        return self._process.returncode if self._process is not None else None

    async def start(self, command: tuple[str, ...]) -> None:
        """Raises OSError where no process can be started."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        try:
            self._process = _spawn(command, theirs)
            self._socket, _ = await loop.create_unix_connection(lambda: self, sock=ours)
        except BaseException:
            # Nobody has taken it over: no such program, or we are stopped already.
            ours.close()
            raise
        finally:
            theirs.close()
        assert self._process.stderr is not None
        stderr = self._stderr = _Stderr(self.last_words)
        await loop.connect_read_pipe(lambda: stderr, self._process.stderr)

    def send(self, frame: bytes) -> None:
        if self._socket is not None and not self._socket.is_closing():
            self._socket.write(frame)

    def kill(self, verdict: str) -> None:
        """SIGKILL by pid, which is surely its own until it has been waited for."""
        self.verdict = self.verdict or verdict
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    async def end(self, grace: float = 0.0) -> str:
        """Closes the socket, by which an engine exits; kills it after `grace` seconds; waits for
        it, so that no zombie stays. Says how it ended, or that it did not."""
        if self._socket is not None:
            self._socket.close() if grace else self._socket.abort()
        if self._process is None:
            return "was not started"
        try:
            if not await _exited(self._process, grace):
                self.kill("did not stop when asked to")
                if not await _exited(self._process, DEATH_SECONDS):
                    logger.error("engine process %d survives SIGKILL", self._process.pid)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                # Nobody stands still for it; a daemon, for the service must be able to end.
                threading.Thread(target=self._process.wait, daemon=True).start()
            if self._stderr is not None:
                await self._stderr.close()
            if self._process.stderr is not None:
                self._process.stderr.close()
        return self.verdict or exit_words(self._process.returncode)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        pass

    def data_received(self, data: bytes) -> None:
        try:
            reports = self._decoder.feed(data)
        except wire.ProtocolError as error:
            logger.error("engine process %s spoke no protocol: %s", self.pid, error)
            self.kill("broke the protocol")
            return
        for report in reports:
            self._on_report(report)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)


class _Stderr(asyncio.Protocol):
    def __init__(self, last_words: LastWords) -> None:
        self._last_words = last_words
        self._ended = asyncio.Event()
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._last_words.feed(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._ended.set()

    async def close(self) -> None:
        """What the dead process wrote last is still in the pipe: a moment to read it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await self._ended.wait()
        if self._transport is not None:
            self._transport.close()


def _spawn(command: tuple[str, ...], theirs: socket.socket) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*command, "--fd", str(theirs.fileno()), "--parent", str(os.getpid())],
        pass_fds=[theirs.fileno()],
        env=environment(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


async def _exited(process: subprocess.Popen[bytes], within: float) -> bool:
    loop = asyncio.get_running_loop()
    until = loop.time() + within
    pause = 0.001
    while process.poll() is None:
        if loop.time() >= until:
            return False
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.05)
    return True
