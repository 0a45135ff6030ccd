"""llm-inference: arguments → Settings → a server, until a signal says to stop (server.py).

Exit codes: 0 stopped as asked, 1 failed while running, 2 the settings cannot be honoured,
3 could not start (uvicorn's).
"""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import uvicorn
from pydantic import ValidationError

from service import systemd
from service.app import VERSION, MakeRuntime, create_app, default_runtime
from service.commands import audit, config, keys, models, plan
from service.control.versions import Start, started
from service.edge.http_protocol import HttpProtocol
from service.processor import yield_to_engines
from service.server import BACKLOG, FLUSH_SECONDS, Server
from service.settings import Settings, SettingsError, is_loopback
from service.settings_errors import complaint
from service.settings_sources import read
from service.telemetry import logs

logger = logging.getLogger("service")

KEEP_ALIVE_SECONDS: Final = 75
# Beside `serve`, which is what is meant where nothing is said.
COMMANDS: Final[Mapping[str, Callable[[Sequence[str]], int]]] = {
    "models": models.main,
    "config": config.main,
    "plan": plan.main,
    "keys": keys.main,
    "audit": audit.main,
}


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and (command := COMMANDS.get(arguments[0])) is not None:
        return command(arguments[1:])
    given = vars(parser().parse_args(arguments))
    given.pop("command")
    if given.pop("debug", False):
        given["log_level"] = "DEBUG"
    return start(given)


def start(given: dict[str, Any], make_runtime: MakeRuntime = default_runtime) -> int:
    """`given`: what `parser()` found, beside `command` and `debug`."""
    descriptor = given.pop("fd", None)
    try:
        sockets = systemd.inherited(os.environ, descriptor)
        begin = begun({**given, **address_of(sockets)})
    except (SettingsError, systemd.NoSocket) as error:
        print(f"llm-inference: {error}", file=sys.stderr)
        systemd.stopping()
        return 2
    return serve(begin, make_runtime, sockets)


def begun(given: Mapping[str, Any]) -> Start:
    """With what was changed while the service ran. Raises SettingsError."""
    try:
        return started(read(given), time.time())
    except ValidationError as error:
        raise SettingsError(complaint(error)) from None


def address_of(sockets: Sequence[socket.socket]) -> dict[str, Any]:
    """What stands in the place of `host` and `port`: of several sockets the one that can be reached
    from furthest, so that whatever is demanded of an address is demanded of that one."""
    names = sorted((s.getsockname() for s in sockets), key=lambda name: is_loopback(name[0]))
    return {"host": names[0][0], "port": names[0][1]} if names else {}


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
        help="serve, or one of models, plan, keys and audit: see `keys --help`",
    )
    parser.add_argument("--version", action="version", version=VERSION)
    parser.add_argument("--debug", action="store_true", help="The same as --log-level DEBUG.")
    parser.add_argument(
        "--fd",
        type=int,
        metavar="N",
        help="Listen on the socket that is open as descriptor N, not on `host` and `port`; "
        "sockets that systemd hands over are found without this.",
    )
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


def serve(
    begin: Start,
    make_runtime: MakeRuntime = default_runtime,
    sockets: Sequence[socket.socket] = (),
) -> int:
    try:
        return run(begin, make_runtime, sockets)
    finally:
        # Also where something failed that nobody thought of.
        systemd.stopping()


def run(begin: Start, make_runtime: MakeRuntime, sockets: Sequence[socket.socket]) -> int:
    settings = begin.settings
    logs.configure(settings.log_level, settings.log_format)
    for remark in begin.given.remarks:
        logger.warning("Settings: %s", remark)
    for name in unknown_variables(os.environ):
        logger.warning("%s in the environment is no setting", name)
    try:
        app = create_app(begin, make_runtime)
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
    state = app.state
    server = Server(
        config, state.runtime, state.reconfiguration, state.keys, handed_over=bool(sockets)
    )
    yield_to_engines()
    server.run(list(sockets) or None)
    # The lifespan's own errors are logged by uvicorn and not raised.
    failed = app.state.failed or server.lifespan.should_exit
    return 0 if server.started and not failed else 1


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Not refused, as an unknown key in the file is: others may use the prefix too."""
    known = {f"LLM_{key.upper()}" for key in Settings.model_fields} | {models.KEY}
    return sorted(n for n in environment if n.startswith("LLM_") and n.upper() not in known)
