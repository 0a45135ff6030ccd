"""The engine's end of the socket: what its reading thread is woken by."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest

from service.engine.channel import Channel
from service.engine.wire import Cancel, Command, ThreadsSet, encode

FRAMES = 50


def waits(thread: threading.Thread) -> int:
    """How often it has gone to sleep so far, for whatever reason."""
    status = Path(f"/proc/self/task/{thread.native_id}/status")
    lines = dict(line.split(":\t", 1) for line in status.read_text().splitlines())
    return int(lines["voluntary_ctxt_switches"])


def until(true: Callable[[], bool]) -> None:
    end = monotonic() + 5
    while not true():
        assert monotonic() < end
        sleep(0.001)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_what_the_service_takes_does_not_wake_the_reading_thread() -> None:
    service, engine = socket.socketpair()
    with service, engine:
        channel = Channel(engine)
        received: list[list[Command]] = []

        def read() -> None:
            while commands := channel.receive():
                received.append(commands)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        service.sendall(encode(Cancel(1)))
        until(lambda: len(received) == 1)
        sleep(0.05)  # It waits again.
        before = waits(reader)
        for _ in range(FRAMES):
            channel.send(ThreadsSet(1))
            assert service.recv(4096)
            sleep(0.001)
        assert waits(reader) - before < FRAMES // 10
        service.sendall(encode(Cancel(2)))
        until(lambda: len(received) == 2)
        service.close()
        reader.join(5)
        assert not reader.is_alive()
        assert received == [[Cancel(1)], [Cancel(2)]]
