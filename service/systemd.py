"""What a service manager is told, and the sockets that it hands over: systemd's protocols, which
containers' and other managers speak too. Pure standard library; without a manager nothing happens.

    READY=1                            the API answers
    WATCHDOG=1                         the event loop turns: twice in each WATCHDOG_USEC
    RELOADING=1, MONOTONIC_USEC=…      ... and READY=1 again when the settings are in force
    STOPPING=1, EXTEND_TIMEOUT_USEC=…  on every way out

Formats: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

FIRST_DESCRIPTOR: Final = 3


class NoSocket(Exception):
    """What was handed over cannot be listened on."""


def notify(*assignments: str) -> None:
    """Never fails: a manager that is gone must not take the service with it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    # A leading @ stands for the zero byte of an abstract address.
    path = address.replace("@", "\0", 1) if address[0] == "@" else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto("\n".join(assignments).encode(), path)


def ready() -> None:
    notify("READY=1")


@contextmanager
def reloading() -> Iterator[None]:
    """Around a change of settings that a signal asked for, done or refused."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
    try:
        yield
    finally:
        ready()


def stopping(seconds: float | None = None) -> None:
    """`seconds`: how long the rest may take, where that is known."""
    extension = [] if seconds is None else [f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}"]
    notify("STOPPING=1", *extension)


def watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """The longest silence after which the manager ends this process; None: it does not watch."""
    period, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not period.isdecimal() or int(period) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(period) / 1e6


async def tell_alive(period: float) -> None:
    """Runs on the event loop, so that a blocked one is silent."""
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(period / 2)


def inherited(environment: Mapping[str, str], descriptor: int | None = None) -> list[socket.socket]:
    """The listening sockets that this process was started with: `descriptor`, or the manager's.

    Raises NoSocket where one is not a listening TCP socket.
    """
    if descriptor is not None:
        descriptors = range(descriptor, descriptor + 1)
    elif environment.get("LISTEN_PID") == str(os.getpid()):
        count = environment.get("LISTEN_FDS", "")
        descriptors = range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count or 0))
    else:
        # Meant for a parent of this process.
        return []
    return [listening(number) for number in descriptors]


def listening(descriptor: int) -> socket.socket:
    try:
        found = socket.socket(fileno=descriptor)
    except OSError as error:
        raise NoSocket(f"descriptor {descriptor} is no socket: {error.strerror}") from None
    tcp = found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM
    if not tcp or not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        found.detach()
        raise NoSocket(f"descriptor {descriptor} is not a listening TCP socket")
    # Neither engines nor anything else that is started here may hold it open.
    found.set_inheritable(False)
    return found
