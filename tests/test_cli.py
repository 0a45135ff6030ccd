"""The command as a process: how it starts, and how it stops."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from service.app import VERSION
from service.cli import parser, unknown_variables
from service.settings import Settings
from tests.dialects.serving import wait_until

ROOT = Path(__file__).parents[1]
PATH = "/v1/chat/completions"
STREAM: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "stream": True}


class Service:
    """A running process, its address, and what it logged."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.url = ""
        self.lines: list[dict[str, Any]] = []
        self._listening = threading.Event()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        assert self._listening.wait(20), "it does not listen"

    def _read(self) -> None:
        assert self.process.stderr is not None
        for text in self.process.stderr:
            self.lines.append(json.loads(text))
            message = self.lines[-1]["message"]
            if message.startswith("Listening on "):
                self.url = message.removeprefix("Listening on ")
                self._listening.set()

    def stream(self) -> Reader:
        reader = Reader(self.url)
        reader.start()
        return reader

    def stop(self, sig: int = signal.SIGTERM) -> None:
        self.process.send_signal(sig)

    def code(self, seconds: float) -> int:
        return self.process.wait(seconds)


class Reader(threading.Thread):
    """Reads one stream to its end. `text` is what came of it."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.text = ""

    def run(self) -> None:
        with contextlib.suppress(httpx.TransportError):
            with httpx.stream("POST", self.url + PATH, json=STREAM, timeout=30) as response:
                for chunk in response.iter_text():
                    self.text += chunk


@contextmanager
def running(kind: str, *flags: str) -> Iterator[Service]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.serve_fake", kind, "serve", "--port", "0", *flags],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    service = Service(process)
    try:
        yield service
    finally:
        process.kill()
        process.wait()
        service.reader.join(5)
        assert process.stderr is not None
        process.stderr.close()


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=20,
    )


def ready(url: str) -> int:
    return httpx.get(url + "/health/ready", timeout=5).status_code


def stalled(url: str) -> socket.socket:
    """A client that asks for a stream and then reads nothing of it."""
    parts = urlsplit(url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((parts.hostname or "", parts.port or 0))
    body = json.dumps(STREAM).encode()
    connection.sendall(
        b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
        % (PATH.encode(), len(body), body)
    )
    return connection


def test_every_setting_has_a_flag() -> None:
    flags = {option for action in parser()._actions for option in action.option_strings}

    assert {"--" + key.replace("_", "-") for key in Settings.model_fields} <= flags
    assert {"--debug", "--default-tensor-split", "--version", "--help"} <= flags


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {}),
        (["serve"], {}),
        (["serve", "--port", "1"], {"port": "1"}),
        (["--port", "1"], {"port": "1"}),
        (["--model-dir", "a", "b", "--model-dir", "c"], {"model_dir": ["a", "b", "c"]}),
        (["--default-tensor-split", "0.5,0.5"], {"tensor_split": "0.5,0.5"}),
        (["--insecure-no-auth"], {"insecure_no_auth": True}),
        (["--no-preserve-think-tags"], {"preserve_think_tags": False}),
        (["--debug"], {"debug": True}),
    ],
)
def test_only_what_was_said_is_passed_on(arguments: list[str], expected: dict[str, Any]) -> None:
    assert vars(parser().parse_args(arguments)) == {"command": "serve", **expected}


def test_a_variable_that_is_no_setting_is_found() -> None:
    assert unknown_variables({"LLM_PORT": "1", "LLM_PROT": "1", "PATH": "", "llm_port": ""}) == [
        "LLM_PROT"
    ]


def test_help_and_version_need_no_model() -> None:
    assert run("--version").stdout.strip() == VERSION
    text = run("serve", "--help").stdout
    assert "--kv-cache" in text
    assert "--default-tensor-split" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "host: 0.0.0.0 can be reached from other machines"),
        (
            ["--host", "0.0.0.0", "--api-keys-file", "/nowhere"],
            "api_keys_file: cannot read /nowhere",
        ),
        (["--port", "x"], "port: "),
        (["--config", "/nowhere.yaml"], "config: cannot read /nowhere.yaml"),
        (["--tensor-split", "1,1", "--gpu-layers", "0"], "tensor_split: "),
    ],
)
def test_what_cannot_be_honoured_is_one_line_and_exit_code_two(
    arguments: list[str], said: str
) -> None:
    result = run("serve", *arguments)

    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"llm-inference: {said}")
    assert result.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_no_success(tmp_path: Path) -> None:
    quietly = ("--no-discover-models", "--state-dir", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("serve", "--port", str(taken.getsockname()[1]), *quietly)

    assert result.returncode not in (0, None)


def test_it_serves_and_ends_as_it_is_asked_to() -> None:
    with running("short") as service:
        reader = service.stream()
        reader.join(10)
        assert "[DONE]" in reader.text
        service.stop()
        assert service.code(5) == 0


def test_running_streams_finish_while_new_requests_are_refused() -> None:
    with running("slow", "--drain-timeout", "10") as service:
        readers = [service.stream() for _ in range(12)]
        wait_until(lambda: all('"a"' in reader.text for reader in readers))
        service.stop()
        signalled = time.monotonic()
        while ready(service.url) == 200:
            assert time.monotonic() - signalled < 5
        refused = httpx.post(service.url + PATH, json=STREAM)
        alive = httpx.get(service.url + "/health/live")
        code = service.code(10)
        for reader in readers:
            reader.join(5)

    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "draining"
    assert refused.headers["retry-after"]
    assert refused.headers["connection"] == "close"
    assert alive.status_code == 200
    assert code == 0
    assert ['"b"' in r.text and "[DONE]" in r.text for r in readers] == [True] * 12


def test_a_reader_that_reads_nothing_does_not_hold_the_process() -> None:
    with running("flood", "--drain-timeout", "1") as service:
        connection = stalled(service.url)
        time.sleep(1)
        service.stop()
        stopped = time.monotonic()
        code = service.code(15)
        connection.close()

    assert code == 0
    assert time.monotonic() - stopped < 1 + 5


def test_the_second_signal_means_now() -> None:
    with running("endless", "--drain-timeout", "600") as service:
        reader = service.stream()
        wait_until(lambda: reader.text)
        service.stop()
        time.sleep(0.3)
        assert service.process.poll() is None
        service.stop()
        assert service.code(2) == 0


def test_a_start_that_fails_late_is_no_success() -> None:
    with running("doomed") as service:
        code = service.code(10)
        lines = [line for line in service.lines if line["level"] == "CRITICAL"]

    assert code == 1
    assert "the disk is gone" in lines[0]["exception"]


def test_it_starts_with_the_seeds_file_and_says_what_means_nothing(tmp_path: Path) -> None:
    file = ROOT / "tests/seed_settings.yaml"
    with running("short", "--config", str(file), "--state-dir", str(tmp_path)) as service:
        said = [line for line in service.lines if "llama_cpp_path" in line["message"]]
        assert [(line["level"], "has no meaning here" in line["message"]) for line in said] == [
            ("WARNING", True)
        ]


def test_its_log_is_json_with_one_line_for_a_request() -> None:
    with running("short") as service:
        httpx.post(service.url + PATH, json=STREAM, headers={"X-Request-Id": "r1"})
        service.stop(signal.SIGINT)
        assert service.code(5) == 0
        requests = [line for line in service.lines if line["logger"] == "service.request"]

    assert [(line["request_id"], line["status"], line["level"]) for line in requests] == [
        ("r1", 200, "INFO")
    ]
    assert any(line["message"].startswith("Stopping") for line in service.lines)
