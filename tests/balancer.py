"""The real HAProxy with the configuration as it is delivered, as a process of a test."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx

from tests.dialects.serving import wait_until
from tests.programs import program

FOLDER = Path(__file__).parents[1] / "deploy/haproxy"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


@contextmanager
def haproxy(*servers: int, models: Path = FOLDER / "models.map") -> Iterator[tuple[int, int]]:
    """The ports of its front and of its metrics. `servers`: the ports of two, both in rotation when
    this begins. `models`: which of them has which model."""
    command = program("haproxy", "haproxy")
    front, metrics = free_port(), free_port()
    libraries = Path(command).parents[1] / "lib/x86_64-linux-gnu"
    process = subprocess.Popen(
        [command, "-db", "-f", FOLDER / "haproxy.cfg"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={
            **os.environ,
            "LD_LIBRARY_PATH": str(libraries),
            "LLM_FRONT": f"127.0.0.1:{front}",
            "LLM_METRICS": f"127.0.0.1:{metrics}",
            "LLM_SERVER_A": f"127.0.0.1:{servers[0]}",
            "LLM_SERVER_B": f"127.0.0.1:{servers[1]}",
            "LLM_SERVER_MAXCONN": "20",
            "LLM_MODELS_MAP": str(models),
        },
    )
    try:
        wait_until(partial(up, metrics, 2), 90)
        yield front, metrics
    finally:
        process.kill()
        process.wait()


def up(metrics: int, servers: int) -> bool:
    """Are so many servers in rotation?"""
    try:
        text = httpx.get(f"http://127.0.0.1:{metrics}/metrics", timeout=5).text
    except httpx.TransportError:
        return False
    return f'haproxy_backend_active_servers{{proxy="llm"}} {servers}' in text
