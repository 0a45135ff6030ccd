"""Prometheus, Alertmanager and who is told, as processes and threads of a test."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from tests.dialects.serving import wait_until
from tests.programs import program


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


@contextmanager
def running(log: Path, ready: str, path: str, *arguments: str) -> Iterator[None]:
    """Once the address `ready` answers with 200; ended by SIGTERM."""
    # What tools/debian.sh unpacks finds its own files from the root that it was unpacked to.
    root = Path(path).parents[2]
    with log.open("wb") as file:
        process = subprocess.Popen([path, *arguments], cwd=root, stdout=file, stderr=file)
    try:
        wait_until(lambda: process.poll() is not None or answers(ready), 60)
        assert process.poll() is None, log.read_text()[-4000:]
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@dataclass(frozen=True)
class Prometheus:
    url: str

    def get(self, path: str, **parameters: Any) -> Any:
        response = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=20)
        response.raise_for_status()
        return response.json()["data"]

    def value(self, query: str) -> float | None:
        """Of the first series; None where there is none."""
        result = self.get("query", query=query)["result"]
        return float(result[0]["value"][1]) if result else None


@contextmanager
def prometheus(folder: Path, configuration: Path, port: int) -> Iterator[Prometheus]:
    url = f"http://127.0.0.1:{port}"
    with running(
        folder / "prometheus.log",
        url + "/-/ready",
        program("prometheus", "prometheus"),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
        # It tells again of what fires after a minute, which is four seconds here.
        "--rules.alert.resend-delay=4s",
    ):
        yield Prometheus(url)


@dataclass(frozen=True)
class Alertmanager:
    url: str

    def alerts(self, state: str, **labels: str) -> list[dict[str, str]]:
        """The labels of those in a state: `active`, or `suppressed`."""
        response = httpx.get(self.url + "/api/v2/alerts", timeout=20).raise_for_status()
        found = [a["labels"] for a in response.json() if a["status"]["state"] == state]
        return [one for one in found if labels.items() <= one.items()]


@contextmanager
def alertmanager(folder: Path, configuration: Path, port: int) -> Iterator[Alertmanager]:
    url = f"http://127.0.0.1:{port}"
    with running(
        folder / "alertmanager.log",
        url + "/-/ready",
        # As Debian names it.
        program("prometheus-alertmanager", "prometheus-alertmanager"),
        f"--config.file={configuration}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ):
        yield Alertmanager(url)


@dataclass(frozen=True)
class Told:
    receiver: str
    status: str
    labels: dict[str, str]
    annotations: dict[str, str]


@dataclass
class Receivers:
    url: str = ""
    told: list[Told] = field(default_factory=list)

    def of(self, receiver: str, status: str, **labels: str) -> list[Told]:
        return [
            one
            for one in list(self.told)
            if (one.receiver, one.status) == (receiver, status)
            and labels.items() <= one.labels.items()
        ]


@contextmanager
def receivers() -> Iterator[Receivers]:
    all_of_them = Receivers()

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            receiver = self.path.rpartition("/")[2]
            all_of_them.told += [
                Told(receiver, one["status"], one["labels"], one["annotations"])
                for one in body["alerts"]
            ]
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    all_of_them.url = f"http://127.0.0.1:{server.server_address[1]}"
    serving = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    serving.start()
    try:
        yield all_of_them
    finally:
        server.shutdown()
        server.server_close()
        serving.join(5)
