"""llm-inference serve: arguments → Settings → uvicorn, until a signal says to stop.

    the first SIGTERM or SIGINT   ready turns 503 at once; new requests are refused while running
                                  ones finish; after `drain_timeout` the rest end with an error in
                                  their own dialect; then the engines are closed: exit code 0
    the second                    now
    SIGUSR1                       log at DEBUG; again: at `log_level`

Exit codes: 0 stopped as asked, 1 failed while running, 2 the settings cannot be honoured,
3 could not start (uvicorn's).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from functools import partial
from types import FrameType
from typing import Any, Final

import uvicorn

from service import model_commands, plan
from service.app import VERSION, MakeRuntime, create_app, default_runtime
from service.dialects.routing import ListenerDialect
from service.http_protocol import HttpProtocol
from service.runtime import Runtime
from service.settings import Listener, Settings, SettingsError, load
from service.settings_needs import WITHOUT_EFFECT
from service.telemetry import logs

logger = logging.getLogger("service")

# After the drain nothing is left but bytes on their way, and readers that take none.
FLUSH_SECONDS: Final = 3
NOT_STARTED: Final = 3
BACKLOG: Final = 1024
KEEP_ALIVE_SECONDS: Final = 75


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["models"]:
        return model_commands.main(arguments[1:])
    if arguments[:1] == ["plan"]:
        return plan.main(arguments[1:])
    given = vars(parser().parse_args(arguments))
    given.pop("command")
    if given.pop("debug", False):
        given["log_level"] = "DEBUG"
    try:
        settings = load(given)
    except SettingsError as error:
        print(f"llm-inference: {error}", file=sys.stderr)
        return 2
    return serve(settings)


def parser() -> argparse.ArgumentParser:
    """One flag for each setting, beside those that older installations know by other names."""
    parser = argparse.ArgumentParser(
        prog="llm-inference",
        description="Serves GGUF models over HTTP.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=["serve"],
        default="serve",
        help="serve, or `plan MODEL`: see `plan --help`",
    )
    parser.add_argument("--version", action="version", version=VERSION)
    parser.add_argument("--debug", action="store_true", help="The same as --log-level DEBUG.")
    for key, field in Settings.model_fields.items():
        flags = ["--" + key.replace("_", "-")]
        if key == "tensor_split":
            flags.append("--default-tensor-split")
        options: dict[str, Any] = {"dest": key, "help": field.description}
        if field.annotation is bool:
            parser.add_argument(*flags, action=argparse.BooleanOptionalAction, **options)
        elif key == "model_dir":
            parser.add_argument(*flags, action="extend", nargs="+", metavar="DIR", **options)
        else:
            parser.add_argument(*flags, metavar=key.rpartition("_")[2].upper(), **options)
    return parser


def serve(settings: Settings, make_runtime: MakeRuntime = default_runtime) -> int:
    logs.configure(settings.log_level, settings.log_format)
    for name in unknown_variables(os.environ):
        logger.warning("%s in the environment is no setting", name)
    for key in sorted(settings.model_fields_set & WITHOUT_EFFECT):
        logger.warning("%s is set and has no effect yet", key)
    try:
        app = create_app(settings, make_runtime)
    except SettingsError as error:
        print(f"llm-inference: {error}", file=sys.stderr)
        return 2
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=HttpProtocol,
        ws="none",
        lifespan="on",
        # One line for each request comes from telemetry/http.py, which knows more.
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=FLUSH_SECONDS,
    )
    server = Server(config, app.state.runtime, settings)
    server.run()
    return 0 if server.started and not app.state.failed else 1


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Not refused, as an unknown key in the file is: others may use the prefix too."""
    known = {f"LLM_{key.upper()}" for key in Settings.model_fields}
    return sorted(n for n in environment if n.startswith("LLM_") and n.upper() not in known)


def addresses(server: asyncio.base_events.Server) -> Iterator[str]:
    for socket in server.sockets:
        host, port, *_ = socket.getsockname()
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn would close its listener first and then wait for every reader, for ever. Here the
    listener stays open while requests finish, so that probes and clients are told."""

    def __init__(self, config: uvicorn.Config, runtime: Runtime, settings: Settings) -> None:
        super().__init__(config)
        self.runtime = runtime
        self.drain_timeout = settings.drain_timeout
        self.settings = settings
        self._stopping = False
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGUSR1, logs.toggle_debug, self.settings.log_level
        )
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
        self.runtime.draining = True

    async def on_tick(self, counter: int) -> bool:
        if self._stopping and self._draining is None:
            logger.info("Stopping: waiting up to %g s for running requests", self.drain_timeout)
            self._draining = asyncio.create_task(self.runtime.drain(self.drain_timeout))
        if self._draining is not None and self._draining.done():
            self.should_exit = True
        return await super().on_tick(counter)
