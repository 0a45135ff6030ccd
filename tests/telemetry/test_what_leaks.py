"""What clients send is in no log line, no metric and no error; and a line stays a line.

The real service, at DEBUG, where everything that has a logger says what it has to say.
"""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.dialects.serving import wait_until
from tests.service_process import Service, service

CANARY = "zebra-canary-7f3a"
KEY = "sk-canary-key-91c2"
MESSAGES = [{"role": "user", "content": CANARY}]
HEADERS = {"Authorization": f"Bearer {KEY}", "x-api-key": KEY, "Cookie": f"session={KEY}"}
LONG = "n" * 1_000_000
HOSTILE = ["a\nb", "\x1b[31mred", "\u2028x\r\n{}", "\x00\x9b2J", LONG]

# Each with an answer, and each refused, in each dialect.
ASKED: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 2}),
    ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 2, "stream": True}),
    ("/v1/chat/completions", {"messages": MESSAGES, "temperature": 99}),
    ("/v1/chat/completions", {"messages": MESSAGES, "model": "none-such"}),
    ("/v1/chat/completions", {"messages": MESSAGES, "tools": [{"type": "function"}]}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": CANARY * 4000}]}),
    ("/v1/completions", {"prompt": CANARY, "max_tokens": 2}),
    ("/v1/completions", {"prompt": [CANARY, {"no": CANARY}]}),
    ("/v1/responses", {"input": CANARY, "max_output_tokens": 16}),
    ("/v1/embeddings", {"input": CANARY}),
    ("/v1/embeddings", {"input": [CANARY, 3]}),
    ("/v1/messages", {"messages": MESSAGES, "max_tokens": 2, "model": "demo"}),
    ("/v1/messages", {"messages": MESSAGES, "model": "demo"}),
    ("/api/chat", {"model": "demo", "messages": MESSAGES, "options": {"num_predict": 2}}),
    ("/api/generate", {"model": "demo", "prompt": CANARY, "options": {"num_predict": "x"}}),
    ("/generate", {"inputs": CANARY, "parameters": {"max_new_tokens": 2}}),
    ("/generate", {"inputs": CANARY, "parameters": {"max_new_tokens": -2}}),
    ("/vllm/tokenize", {"prompt": CANARY, "model": "demo"}),
    ("/completion", {"prompt": CANARY, "n_predict": 2}),
    ("/infill", {"input_prefix": CANARY, "input_suffix": CANARY}),
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder: Path = tmp_path_factory.mktemp("leaks")
    with service(folder, "--log-level", "DEBUG") as running:
        yield running


def logged(running: Service, id: str) -> dict[str, Any]:
    """The line of the request with that id."""

    def found() -> list[dict[str, Any]]:
        lines = (line for line in running.log if line["logger"] == "service.request")
        return [line for line in lines if line["request_id"] == id]

    wait_until(found, 10)
    return found()[0]


def test_no_prompt_and_no_key_is_in_a_log_a_metric_or_an_error(running: Service) -> None:
    failures = []
    with httpx.Client(base_url=running.url, timeout=60, headers=HEADERS) as http:
        for number, (path, body) in enumerate(ASKED):
            answer = http.post(path, json=body, headers={"X-Request-Id": f"leak-{number}"})
            assert answer.status_code < 500 or answer.status_code == 501
            if answer.status_code >= 400:
                failures.append(answer.text)
        broken = http.post("/v1/chat/completions", content=f'{{"messages": "{CANARY}')
        failures.append(broken.text)
        # A prompt in the query, where some clients put keys too.
        http.get(f"/v1/models?prompt={CANARY}&key={KEY}", headers={"X-Request-Id": "leak-query"})
    for number in range(len(ASKED)):
        logged(running, f"leak-{number}")
    logged(running, "leak-query")
    kept = [running.metrics(), json.dumps(running.log), *failures]
    kept += [httpx.get(running.url + path).text for path in ("/api/metrics/apis", "/health/models")]

    assert len(failures) >= 8
    for text in kept:
        assert CANARY not in text
        assert KEY not in text


def test_whatever_names_clients_send_a_line_is_one_object(running: Service) -> None:
    with httpx.Client(base_url=running.url, timeout=60) as http:
        for number, name in enumerate(HOSTILE):
            body = {"messages": MESSAGES, "max_tokens": 1, "model": name, name: 1}
            http.post("/v1/chat/completions", json=body, headers={"X-Request-Id": f"m{number}"})
            body["model"] = "demo"
            http.post("/v1/chat/completions", json=body, headers={"X-Request-Id": f"p{number}"})
    sent = b"GET /%1b[31m%0a%1b%e2%80%a8 HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: raw\r\n\r\n"
    address = urlsplit(running.url)
    with socket.create_connection((address.hostname, address.port), 10) as raw:
        raw.sendall(sent)
        raw.recv(100)
    assert logged(running, "raw")["status"] == 404

    # That each line of its log is JSON is what `service_process` reads it by.
    for number in range(len(HOSTILE)):
        assert logged(running, f"m{number}")["status"] in (400, 404)
        assert logged(running, f"p{number}")["status"] == 200
    assert all(len(json.dumps(line)) < 4000 for line in running.log)
    assert all(json.dumps(line, ensure_ascii=False).isprintable() for line in running.log)


def test_a_signal_switches_debug_off_and_on(running: Service) -> None:
    def said(level: str) -> bool:
        return any(line["message"] == f"The log level is {level}" for line in running.log)

    running.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: said("INFO"), 10)
    running.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: said("DEBUG"), 10)

    assert httpx.get(running.url + "/version").status_code == 200


def test_the_engines_outlive_that_signal(running: Service) -> None:
    before = [engine.pid for engine in running.engines()]
    assert before
    for engine in running.engines():
        engine.send_signal(signal.SIGUSR1)
    body = {"messages": MESSAGES, "max_tokens": 1}
    answer = httpx.post(running.url + "/v1/chat/completions", json=body, timeout=60)

    assert answer.status_code == 200
    assert [engine.pid for engine in running.engines()] == before
