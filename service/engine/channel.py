"""The engine's end of the socket."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from typing import Final, NoReturn

from service.engine.wire import Command, FrameDecoder, Report, encode

_RECEIVE_BYTES: Final = 1 << 18


def leave() -> NoReturn:
    """The service is gone: whatever is being computed, nobody is left to read it."""
    os._exit(0)


class Channel:
    """The child's end of the socket. Two threads send, so a frame is sent whole under a lock."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._readable = select.poll()
        self._readable.register(self._socket, select.POLLIN)
        self._decoder: FrameDecoder[Command] = FrameDecoder(Command)
        self._sending = threading.Lock()

    def send(self, report: Report) -> None:
        frame = encode(report)
        try:
            with self._sending:
                self._socket.sendall(frame)
        except (BrokenPipeError, ConnectionResetError):
            leave()

    def receive(self) -> list[Command]:
        """The next messages; empty when the service has closed its end."""
        # Reset rather than closed: it left without reading what was sent to it.
        with contextlib.suppress(ConnectionResetError):
            while data := self._recv():
                if commands := self._decoder.feed(data):
                    return commands
        return []

    def _recv(self) -> bytes:
        # A thread within recv() of a socket pair is woken whenever the other end takes something
        # out, as if there were room to write: once a step, beside threads that compute.
        self._readable.poll()
        return self._socket.recv(_RECEIVE_BYTES)
