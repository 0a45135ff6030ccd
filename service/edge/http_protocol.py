"""uvicorn's HTTP/1.1 protocol, with the deadlines and limits that it leaves out.

Measured with uvicorn 0.54: a connection that never sends a request, or a byte of its headers a
minute, stays open for ever, and so does one whose reader has stopped. Each holds a descriptor,
and the last one also the answer's generation.

    connected ── 30 s ──> the first byte ── 10 s ──> all headers ──> the body: dialects/body.py
    answered while still sending its body ── 30 s, 64 MiB ──> all of it, dropped ──> the next request
    written more than the peer reads ── 30 s without progress ──> aborted

The second line is for who sends more than is wanted: closing the connection under it would reset
it, and it would never read why.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import sys
import termios
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

IDLE_SECONDS: Final = 30.0
HEADER_SECONDS: Final = 10.0
STALL_SECONDS: Final = 30.0
DROP_SECONDS: Final = 30.0
MAX_DROPPED_BYTES: Final = 64 * 1024 * 1024
MAX_HEADER_BYTES: Final = 32 * 1024
MAX_URL_BYTES: Final = 8 * 1024


class TooLarge(Exception):
    """Raised in a parser's callback, where it ends the connection with a 400."""


class HttpProtocol(HttpToolsProtocol):
    # Class attributes, so that tests need not wait as long.
    idle_seconds = IDLE_SECONDS
    header_seconds = HEADER_SECONDS
    stall_seconds = STALL_SECONDS
    drop_seconds = DROP_SECONDS
    max_dropped_bytes = MAX_DROPPED_BYTES

    _deadline: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None
    _in_headers = False
    _header_bytes = 0
    _in_body = False
    _dropped_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm(self.idle_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._end_stall()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # uvicorn's annotation leaves out that there is no cycle before the first request.
        cycle: RequestResponseCycle | None = self.cycle
        between = cycle is None or cycle.response_complete
        if between and self._in_body:
            self._drop(len(data))
        elif between and not self._in_headers:
            # Whatever it is, headers have to follow in time: a lone line break is data too.
            self._in_headers = True
            self._header_bytes = 0
            self._arm(self.header_seconds)
        super().data_received(data)
        if self._in_headers and not self.transport.is_closing():
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES:
                self.send_400_response("Request header fields too large")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES:
            raise TooLarge

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES:
            raise TooLarge
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._in_body = True
        self._dropped_bytes = 0
        self._disarm()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        self._disarm()
        super().on_message_complete()

    def _drop(self, count: int) -> None:
        """uvicorn ignores what belongs to a request that has its answer; here it is bounded."""
        if not self._dropped_bytes:
            self._arm(self.drop_seconds)
        self._dropped_bytes += count
        if self._dropped_bytes > self.max_dropped_bytes:
            self._expire()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_stall()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._end_stall()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        if self.transport.get_write_buffer_size():
            # Closing waits for what is still to be sent, which nobody may ever read.
            self._watch_stall()

    def _watch_stall(self) -> None:
        self._end_stall()
        self._stall = self.loop.call_later(self.stall_seconds, self._check_stall, self._unread())

    def _unread(self) -> int:
        """Bytes that the peer has not taken: ours, and those in the kernel, which alone can hold
        what a slow but honest reader takes minutes for."""
        waiting = self.transport.get_write_buffer_size()
        connection = self.transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            queued = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
            waiting += int.from_bytes(queued, sys.byteorder)
        return waiting

    def _check_stall(self, left: int) -> None:
        if self._unread() < left:
            self._watch_stall()
        else:
            # The request's task sees a client that went away, and cancels its generation.
            self.transport.abort()

    def _end_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, self._expire)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
