"""Debian's `docker-registry` on a free port of loopback: the real thing to pull from and push to."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.dialects.serving import wait_until

PROGRAM = shutil.which("docker-registry")

CONFIG = """\
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"{tls}}}
"""


@contextmanager
def registry(folder: Path, certificate: Path | None = None) -> Iterator[str]:
    """Yields `127.0.0.1:port`; by HTTPS with a `certificate`, whose key lies beside it."""
    assert PROGRAM is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "config.yml"
    tls = ""
    if certificate is not None:
        key = certificate.with_suffix(".key")
        tls = f", tls: {{certificate: {certificate}, key: {key}}}"
    config.write_text(CONFIG.format(folder=folder / "data", port=port, tls=tls))
    process = subprocess.Popen(
        [PROGRAM, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def answers() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    try:
        wait_until(lambda: process.poll() is not None or answers(), 20)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def certify(folder: Path, host: str) -> Path:
    """A certificate of its own authority, for a day."""
    certificate = folder / f"{host}.crt"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "1", "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}",
         "-keyout", str(certificate.with_suffix(".key")), "-out", str(certificate)],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    return certificate
