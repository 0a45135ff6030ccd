"""The app on a real socket, in a thread: what clients and hang-ups need."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from service.app import create_app
from service.edge.http_protocol import HttpProtocol
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime


@contextmanager
def serving(
    runtime: FakeRuntime, protocol: type[HttpProtocol] = HttpProtocol, **settings: Any
) -> Iterator[str]:
    """Yields the address."""
    app = create_app(Settings(**settings), runtime.make)
    config = uvicorn.Config(
        app,
        port=0,
        loop="uvloop",
        http=protocol,
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started or not thread.is_alive())
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
    assert not thread.is_alive()


def wait_until(claim: Any, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
