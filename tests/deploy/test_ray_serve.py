"""deploy/ray under the real Ray Serve, in an environment of its own: `make test-ray`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from tests.balancer import free_port
from tests.deploy.conftest import ROOT
from tests.dialects.serving import wait_until

pytestmark = pytest.mark.timeout(600)

PYTHON = ROOT / ".venv/ray/bin/python"
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "2+2"}], "max_tokens": 8}
NAMED = {"model": "demo:latest", **CHAT}
TGI = {"inputs": "2+2", "parameters": {"max_new_tokens": 8}}
# It is gone on with until its length is reached.
LONG = {"model": "demo", "prompt": "1, 2, 3,", "max_tokens": 600, "ignore_eos": True}


@dataclass(frozen=True)
class Cluster:
    url: str
    targets: Path

    def services(self, pool: str = "demo-latest") -> dict[int, str]:
        """The processes of replicas' services, and their addresses."""
        found = {}
        for path in self.targets.glob("*.yml"):
            (told,) = json.loads(path.read_text())
            if told["labels"]["pool"] == pool:
                found[int(path.stem.rpartition("-")[2])] = told["targets"][0]
        return found

    def metric(self, name: str, part: str = "") -> float:
        """Of all replicas together."""
        found = 0.0
        for address in self.services().values():
            for line in httpx.get(f"http://{address}/metrics", timeout=30).text.splitlines():
                if line.startswith((name + "{", name + " ")) and part in line:
                    found += float(line.rpartition(" ")[2])
        return found

    def cancelled(self) -> float:
        return self.metric("llm_requests_finished_total", 'finish_reason="cancelled"')

    def ask(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return httpx.post(self.url + path, json=body, timeout=300)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("ray")
    wanted = yaml.safe_load((ROOT / "deploy/ray/serve.yaml").read_text())
    port = wanted["http_options"]["port"] = free_port()
    args = wanted["applications"][0]["args"]
    args |= {
        "command": [sys.executable, "-m", "service"],
        "targets": str(folder / "targets"),
        "arguments": ["--no-discover-models"],
    }
    first = ["--model-dir", str(folder / "none")]
    args["models"][0] |= {"queue": 4, "cpus": 0.5, "arguments": first}
    for name in ("none", "models"):
        (folder / name).mkdir()
    shutil.copy(ROOT / "service/catalog/demo.gguf", folder / "models/second.gguf")
    second = ["--model-dir", str(folder / "models")]
    args["models"].append({"name": "second:latest", "cpus": 0.5, "arguments": second})
    recipe = folder / "serve.yaml"
    recipe.write_text(yaml.safe_dump(wanted))
    # Ray's sockets have names that must not be long.
    with tempfile.TemporaryDirectory(prefix="ray-") as short, (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [PYTHON, "-m", "deploy.ray", recipe],
            cwd=ROOT,
            env={**os.environ, "RAY_TMPDIR": short},
            stdout=log,
            stderr=log,
        )
        found = Cluster(f"http://127.0.0.1:{port}", folder / "targets")
        try:
            wait_until(lambda: len(found.services()) == 2 or process.poll() is not None, 300)
            wait_until(lambda: answers(found) or process.poll() is not None, 300)
            assert process.poll() is None, (folder / "log").read_text(errors="replace")[-4000:]
            yield found
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 0
            wait_until(lambda: not any(map(psutil.pid_exists, found.services())), 30)
        finally:
            if process.poll() is None:
                # What Ray started for it is below it.
                for child in psutil.Process(process.pid).children():
                    child.kill()
            process.kill()
            process.wait()


def answers(cluster: Cluster) -> bool:
    try:
        return httpx.get(cluster.url + "/v1/models", timeout=10).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", NAMED),
        ("/api/chat", {**NAMED, "stream": False}),
        ("/v1/messages", NAMED),
        ("/vllm/v1/completions", {"model": "demo", "prompt": "2+2", "max_tokens": 8}),
        ("/generate", TGI),
    ],
)
def test_each_dialect_is_answered(cluster: Cluster, path: str, body: dict[str, Any]) -> None:
    answer = cluster.ask(path, body)

    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("path", "body", "end"),
    [
        ("/v1/chat/completions", {**NAMED, "stream": True}, b"data: [DONE]"),
        ("/api/chat", NAMED, b'"done":true'),
        ("/v1/messages", {**NAMED, "stream": True}, b"message_stop"),
        ("/generate_stream", TGI, b'"generated_text"'),
    ],
)
def test_each_dialect_streams_to_its_end(
    cluster: Cluster, path: str, body: dict[str, Any], end: bytes
) -> None:
    with httpx.stream("POST", cluster.url + path, json=body, timeout=60) as answer:
        parts = list(answer.iter_raw())

    assert len(parts) > 1
    assert end in b"".join(parts)


def test_a_request_goes_where_its_model_is_and_lists_have_all(cluster: Cluster) -> None:
    assert httpx.get(cluster.url + "/v1/models/second:latest", timeout=60).status_code == 404
    for name in ("second", "second:latest", "demo"):
        assert cluster.ask("/v1/chat/completions", {**NAMED, "model": name}).status_code == 200
    listed = httpx.get(cluster.url + "/v1/models", timeout=60).json()["data"]
    assert {"demo:latest", "second:latest"} <= {each["id"] for each in listed}


def test_what_is_wrong_is_said_by_the_service(cluster: Cluster) -> None:
    answer = cluster.ask("/v1/chat/completions", {**NAMED, "model": "nobody's"})

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


def test_a_client_that_goes_away_ends_its_request(cluster: Cluster) -> None:
    before = cluster.cancelled()
    for _ in range(4):
        with httpx.stream(
            "POST", cluster.url + "/v1/completions", json={**LONG, "stream": True}, timeout=60
        ) as answer:
            next(answer.iter_raw())
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(cluster.url + "/v1/completions", json=LONG, timeout=1)

    wait_until(lambda: cluster.cancelled() == before + 5, 60)
    wait_until(lambda: cluster.metric("llm_active_requests") == 0, 60)


def test_a_burst_is_served_as_far_as_there_is_room_and_the_rest_may_come_again(
    cluster: Cluster,
) -> None:
    with ThreadPoolExecutor(24) as crowd:
        found = list(crowd.map(lambda _: cluster.ask("/v1/completions", LONG), range(24)))

    counted = Counter(answer.status_code for answer in found)
    assert counted.keys() <= {200, 429, 503}
    assert counted[200] >= 12
    assert counted[429] + counted[503] > 0
    assert all("retry-after" in each.headers for each in found if each.status_code != 200)


class Client(threading.Thread):
    """Asks until it is told to stop."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True)
        self.cluster = cluster
        self.statuses: list[int] = []
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.is_set():
            self.statuses.append(self.cluster.ask("/v1/chat/completions", NAMED).status_code)


@pytest.fixture
def crowd(cluster: Cluster) -> Iterator[list[Client]]:
    clients = [Client(cluster) for _ in range(4)]
    for client in clients:
        client.start()
    yield clients
    for client in clients:
        client.stopped.set()
        client.join(60)


def engines(service: int) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(service).children():
        try:
            if "service.engine" in child.cmdline():
                found.append(child)
        except psutil.Error:
            continue
    return found


def test_an_engine_that_dies_is_restarted_below_the_same_replica(
    cluster: Cluster, crowd: list[Client]
) -> None:
    before = cluster.services()
    victim, *_ = before
    (engine,) = engines(victim)
    engine.kill()

    wait_until(lambda: engines(victim) and engine not in engines(victim), 60)
    asked_until(crowd, 20)
    assert cluster.services() == before
    assert {status for client in crowd for status in client.statuses} == {200}


def test_a_replica_that_dies_is_replaced_and_no_request_fails(
    cluster: Cluster, crowd: list[Client]
) -> None:
    victim, other = cluster.services()
    psutil.Process(psutil.Process(victim).ppid()).kill()

    # Its service ends with it, and the other one serves meanwhile.
    wait_until(lambda: not psutil.pid_exists(victim), 60)
    wait_until(lambda: victim not in cluster.services() and len(cluster.services()) == 2, 300)
    assert other in cluster.services()
    asked_until(crowd, 20)
    assert {status for client in crowd for status in client.statuses} == {200}


def asked_until(crowd: list[Client], more: int) -> None:
    wanted = sum(len(client.statuses) for client in crowd) + more
    wait_until(lambda: sum(len(client.statuses) for client in crowd) >= wanted, 120)
