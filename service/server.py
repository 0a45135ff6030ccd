"""uvicorn's server, and how it comes to its end.

    the first SIGTERM or SIGINT   ready turns 503 at once; after `drain_delay` new requests are
                                  refused while running ones finish; after `drain_timeout` the rest
                                  end with an error in their own dialect; then the engines are
                                  closed: exit code 0
    the second                    now
    SIGUSR1                       log at DEBUG; again: at `log_level`
    SIGHUP                        the file of settings and the file of keys are read anew

A listening socket that is handed over (systemd's, or `--fd`) is held open by who made it: from the
first signal on nothing more is accepted here, connections end with their next answer, and whoever
comes meanwhile waits for the next process. That way a restart refuses nobody.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from copy import copy
from functools import partial
from types import FrameType
from typing import Any, Final

import uvicorn

from service import systemd
from service.access.key_file import KeyFile
from service.app import VERSION
from service.dialects.routing import ListenerDialect
from service.edge.http_protocol import HttpProtocol
from service.serving.runtime import Runtime
from service.settings import Listener, Settings
from service.telemetry import logs
from service.tuning.reconfiguration import Reconfiguration

logger = logging.getLogger("service")

# After the drain nothing is left but bytes on their way, and readers that take none.
FLUSH_SECONDS: Final = 3
NOT_STARTED: Final = 3
BACKLOG: Final = 1024
# Closing the engines, after everything else.
CLOSE_SECONDS: Final = 15
# Requests follow one another on a connection in use; one that is idle for longer is closed.
HANDOVER_SECONDS: Final = 2.0


class Server(uvicorn.Server):
    """uvicorn would close its listener first and then wait for every reader, for ever. Here the
    listener stays open while requests finish, so that probes and clients are told. One that was
    `handed_over` stays open without us."""

    def __init__(
        self,
        config: uvicorn.Config,
        runtime: Runtime,
        reconfiguration: Reconfiguration,
        keys: KeyFile | None,
        *,
        handed_over: bool,
    ) -> None:
        super().__init__(config)
        self.runtime = runtime
        self.reconfiguration = reconfiguration
        self.keys = keys
        self.handed_over = handed_over
        self._reloads: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._draining: asyncio.Task[None] | None = None
        self._alive: asyncio.Task[None] | None = None

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, lambda: logs.toggle_debug(self.settings.log_level))
        loop.add_signal_handler(signal.SIGHUP, self.read_files_anew)
        try:
            further = [await self.listen(listener) for listener in self.settings.listeners]
        except OSError as error:
            logger.error("Cannot listen: %s", error)
            await self.lifespan.shutdown()
            sys.exit(NOT_STARTED)
        fields = {"pid": os.getpid(), "version": VERSION}
        for listener, opened in zip(self.settings.listeners, further, strict=True):
            for where in addresses(opened):
                logger.info("Speaking %s on %s", listener.dialect, where, extra={"fields": fields})
        for server in self.servers:
            for where in addresses(server):
                logger.info("Listening on %s", where, extra={"fields": fields})
        self.servers += further
        period = systemd.watchdog_seconds(os.environ)
        if period is not None:
            self._alive = asyncio.create_task(systemd.tell_alive(period))
        systemd.ready()

    @property
    def settings(self) -> Settings:
        return self.reconfiguration.settings

    def read_files_anew(self) -> None:
        task = asyncio.create_task(self.reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def reload(self) -> None:
        logger.info("SIGHUP: settings and keys are read anew")
        with systemd.reloading():
            if self.keys is not None:
                self.keys.reload()
            await self.reconfiguration.reload()

    async def listen(self, listener: Listener) -> asyncio.Server:
        """The same app, as one dialect has it."""
        config = copy(self.config)
        config.loaded_app = ListenerDialect(self.config.loaded_app, listener.dialect)
        return await asyncio.get_running_loop().create_server(
            partial(
                HttpProtocol,
                config=config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
            ),
            host=listener.host or self.settings.host,
            port=listener.port,
            backlog=BACKLOG,
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal handler: it only sets flags, which `on_tick` reads ten times a second."""
        if self._stopping:
            self.should_exit = self.force_exit = True
        self._stopping = True
        self.runtime.leaving = True
        if not (self.settings.drain_delay or self.handed_over):
            self.runtime.draining = True

    async def on_tick(self, counter: int) -> bool:
        if self._stopping and self._draining is None:
            delay, timeout = self.settings.drain_delay, self.settings.drain_timeout
            logger.info("Stopping: waiting up to %g s for running requests", timeout)
            systemd.stopping(delay + HANDOVER_SECONDS + timeout + FLUSH_SECONDS + CLOSE_SECONDS)
            self._draining = asyncio.create_task(self.drain())
        if self._draining is not None and self._draining.done():
            self.should_exit = True
        return await super().on_tick(counter)

    async def drain(self) -> None:
        if self.handed_over:
            await self.hand_over(max(self.settings.drain_delay, HANDOVER_SECONDS))
        else:
            await asyncio.sleep(self.settings.drain_delay)
        await self.runtime.drain(self.settings.drain_timeout)

    async def hand_over(self, seconds: float) -> None:
        """Leaves new connections to the next process. On those that are here, requests are served
        until each has ended with its answer, or has been idle."""
        for server in self.servers:
            server.close()
        until = time.monotonic() + seconds
        # Once in a process's life, so it may poll.
        while self.server_state.connections and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def addresses(server: asyncio.base_events.Server) -> Iterator[str]:
    for opened in server.sockets:
        host, port, *_ = opened.getsockname()
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
