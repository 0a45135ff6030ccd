"""The service as a user starts it: a process on a free port of loopback, its engines below it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.dialects.serving import wait_until

ROOT = Path(__file__).parents[1]
# What else lies on the machine is none of a test's business.
PLACES = ("--no-discover-models",)


@dataclass
class Service:
    url: str
    process: subprocess.Popen[str]
    log: list[dict[str, Any]] = field(default_factory=list)
    # What it is asked with, where it asks for keys.
    headers: dict[str, str] = field(default_factory=dict)

    def engines(self) -> list[psutil.Process]:
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if "service.engine" in child.cmdline()]

    def metrics(self) -> str:
        return httpx.get(self.url + "/metrics", headers=self.headers, timeout=10).text

    def ready(self) -> bool:
        answer = httpx.get(self.url + "/health/ready", headers=self.headers)
        return answer.status_code == 200

    def metric(self, name: str, *parts: str) -> float:
        """The sum of the samples of a name that have all these parts in their labels."""
        rows = [
            line
            for line in self.metrics().splitlines()
            if line.startswith((name + "{", name + " ")) and all(part in line for part in parts)
        ]
        return sum(float(line.rpartition(" ")[2]) for line in rows)

    def at_rest(self) -> bool:
        return self.metric("llm_active_requests") == 0


@contextmanager
def service(
    folder: Path, *arguments: str, authorization: str | None = None, **environment: str
) -> Iterator[Service]:
    """Serves the models in `folder`, or the demo model; ended by SIGTERM, which must succeed."""
    command = [sys.executable, "-m", "service", "serve", "--port", "0", "--log-format", "json"]
    process = subprocess.Popen(
        [*command, *PLACES, "--model-dir", str(folder), "--state-dir", str(folder), *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    asked_with = {} if authorization is None else {"Authorization": authorization}
    running = Service("", process, headers=asked_with)
    reader = threading.Thread(target=_read, args=(process, running), daemon=True)
    reader.start()
    try:
        wait_until(lambda: running.url or process.poll() is not None, 30)
        wait_until(running.ready, 60)
        yield running
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        reader.join(5)
        process.stderr.close()


def _read(process: subprocess.Popen[str], running: Service) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        entry = json.loads(line)
        running.log.append(entry)
        message = entry["message"]
        if message.startswith("Listening on "):
            running.url = message.removeprefix("Listening on ")
