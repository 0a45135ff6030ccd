"""Debian's `docker-registry` on a free port of loopback: the real thing to pull from and push to."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from tests.dialects.serving import wait_until

PROGRAM = shutil.which("docker-registry")

CONFIG = """\
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Yields `127.0.0.1:port`."""
    assert PROGRAM is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "config.yml"
    config.write_text(CONFIG.format(folder=folder / "data", port=port))
    process = subprocess.Popen(
        [PROGRAM, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def answers() -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{port}/v2/").status_code == 200
        return False

    try:
        wait_until(lambda: process.poll() is not None or answers(), 20)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
