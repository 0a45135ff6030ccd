"""A port for one dialect: at its root that dialect as it is, the same app behind it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.dialects.routing import ListenerDialect
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime
from tests.service_process import ROOT, Service, service

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "stream": False}


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


def client(runtime: FakeRuntime, dialect: str) -> TestClient:
    app = create_app(Settings(), runtime.make)
    return TestClient(ListenerDialect(app, dialect), base_url="http://127.0.0.1")


def test_the_root_is_the_dialects_own(runtime: FakeRuntime) -> None:
    with client(runtime, "ollama") as http:
        assert http.get("/", headers={"accept": "text/html"}).text == "Ollama is running"
        wrong = http.post("/api/chat", json={"model": "none"})
    assert wrong.json() == {"error": "model 'none' not found"}
    with client(runtime, "vllm") as http:
        wrong = http.post("/v1/chat/completions", json={**CHAT, "model": "none"})
    assert wrong.json()["error"]["code"] == 404


def test_what_the_dialect_has_not_is_there_as_on_the_first_port(runtime: FakeRuntime) -> None:
    with client(runtime, "tgi") as http:
        assert http.get("/metrics").status_code == 200, "its own leads there, and not in a circle"
    with client(runtime, "ollama") as http:
        assert http.get("/metrics").status_code == 200
        assert http.get("/v1/models").json()["object"] == "list"
        assert http.get("/nowhere").status_code == 404
        assert http.post("/api/tags").status_code == 405


def test_who_names_a_dialect_gets_that_one(runtime: FakeRuntime) -> None:
    with client(runtime, "tgi") as http:
        by_path = http.get("/vllm/v1/models").json()
        by_header = http.get("/v1/models", headers={"X-LLM-Dialect": "vllm"}).json()
        unknown = http.get("/v1/models", headers={"X-LLM-Dialect": "klingon"}).json()
    assert by_path == by_header
    assert unknown != by_path


def test_foreign_hosts_are_refused_on_every_port(runtime: FakeRuntime) -> None:
    with client(runtime, "ollama") as http:
        assert http.get("/", headers={"host": "evil.example"}).status_code == 421


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    pytest.importorskip("llama_cpp", reason="the engine needs llama-cpp-python")
    folder = tmp_path_factory.mktemp("no-models")
    ports = "ollama=0,tgi=0"
    with service(folder, "--default-context-size", "1024", "--listeners", ports) as running:
        yield running


def address(running: Service, dialect: str) -> str:
    head = f"Speaking {dialect} on "
    said = [entry["message"] for entry in running.log if entry["message"].startswith(head)]
    return str(said[0]).removeprefix(head)


def test_ollamas_client_finds_ollama_where_it_is_told_to_listen(running: Service) -> None:
    with ollama.Client(address(running, "ollama")) as found:
        answer = found.chat("demo", [{"role": "user", "content": "What is 2 + 3?"}], think=False)

        assert answer.message.content
        assert httpx.get(address(running, "tgi") + "/info").json()["router"]
        assert httpx.get(address(running, "tgi") + "/").status_code == 200

    assert running.metric("llm_requests_total", 'api="ollama"') >= 1


def test_a_port_that_is_taken_ends_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", "service", "serve", "--port", "0", "--log-format", "json"]
        listeners = f"ollama={taken.getsockname()[1]}"
        folders = ["--model-dir", str(tmp_path), "--state-dir", str(tmp_path)]
        ended = subprocess.run(
            [*command, *folders, "--listeners", listeners],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    lines = [json.loads(line)["message"] for line in ended.stderr.splitlines()]
    assert ended.returncode == 3
    assert any(line.startswith("Cannot listen: ") for line in lines)
