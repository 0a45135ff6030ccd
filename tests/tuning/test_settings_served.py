"""Settings that change under a service as a user starts it: by HTTP, by its file, by signal and
from a terminal."""

from __future__ import annotations

import io
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.commands import config
from tests.dialects.serving import wait_until
from tests.service_process import Service, service

pytest.importorskip("llama_cpp", reason="the engine needs llama-cpp-python")

PATH = "/api/dashboard/configure"
STREAMS = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("state")
    (folder / "config.yaml").write_text("queue_timeout: 50\n")
    return folder


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Service]:
    config = ("--config", str(folder / "config.yaml"))
    with service(folder, *config, "--default-context-size", "2048") as running:
        yield running


def shown(running: Service) -> dict[str, Any]:
    body: dict[str, Any] = httpx.get(running.url + PATH, timeout=30).json()
    return body


def engine(running: Service) -> dict[str, Any]:
    (found,) = shown(running)["engines"]
    assert isinstance(found, dict)
    return found


def change(running: Service, **patch: Any) -> httpx.Response:
    return httpx.post(running.url + PATH, json=patch, timeout=120)


class Clients:
    """Streams that follow one another until they are told to stop."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.begun = 0
        self.ended = 0
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(STREAMS)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(120)

    def _run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=120) as http:
            while not self._stop.is_set():
                try:
                    self._one(http)
                except (httpx.HTTPError, AssertionError) as error:
                    self.failures.append(repr(error))

    def _one(self, http: httpx.Client) -> None:
        body = {
            "model": "demo",
            "stream": True,
            "max_tokens": 60,
            "messages": [{"role": "user", "content": "Tell me of the sea."}],
        }
        with http.stream("POST", "/v1/chat/completions", json=body) as answer:
            assert answer.status_code == 200, answer.read()
            self.begun += 1
            lines = [line for line in answer.iter_lines() if line]
        assert lines[-1] == "data: [DONE]"
        assert not any('"error"' in line for line in lines)
        self.ended += 1


def test_no_stream_fails_while_the_context_changes_and_where_it_cannot(running: Service) -> None:
    with Clients(running.url) as clients:
        wait_until(lambda: clients.begun >= STREAMS, 60)
        for size in (4096, 1024, 2048):
            answer = change(running, context_size=size)
            assert answer.status_code == 200, answer.text
            assert answer.json()["requires_reload"] == ["demo:latest"]
            assert engine(running)["n_ctx"] == size
        version = shown(running)["version"]
        refused = change(running, context_size=1 << 40)
        assert refused.status_code == 409
        assert "GiB" in refused.json()["error"]
        assert engine(running)["n_ctx"] == 2048
        assert shown(running)["version"] == version
        ended = clients.ended
        wait_until(lambda: clients.ended > ended + STREAMS, 60)

    assert clients.failures == []
    wait_until(lambda: len(running.engines()) == 1, 30)
    assert running.metric("llm_config_changes_total", 'result="refused"', 'source="api"') == 1


def test_the_engine_computes_with_other_threads_at_once(running: Service) -> None:
    before = engine(running)
    assert change(running, threads=1).status_code == 200
    wait_until(lambda: engine(running)["threads"] == 1, 10)
    assert change(running, threads=None).status_code == 200
    wait_until(lambda: engine(running)["threads"] == before["threads"], 10)

    assert engine(running)["pid"] == before["pid"]


@pytest.mark.parametrize(
    ("patch", "reported"),
    [
        (
            {
                "parallel_slots": 2,
                "batch_size": 256,
                "cache_type_k": "q8_0",
                "cache_type_v": "q4_0",
                "mmap": False,
                "kv_cache": "split",
            },
            {
                "n_seq": 2,
                "n_batch": 256,
                "cache_type_k": "q8_0",
                "cache_type_v": "q4_0",
                "mmap": False,
                "kv_layout": "split",
            },
        ),
        (
            {"flash_attention": "off", "models": {"demo": {"context_size": 4096}}},
            {"flash_attention": False, "n_ctx": 4096},
        ),
    ],
    ids=["all", "own"],
)
def test_the_engine_says_that_it_was_loaded_so(
    running: Service, patch: dict[str, Any], reported: dict[str, Any]
) -> None:
    assert engine(running).items().isdisjoint(reported.items())
    assert change(running, **patch).json()["requires_reload"] == ["demo:latest"]
    assert engine(running).items() >= reported.items()
    assert change(running, **dict.fromkeys(patch)).status_code == 200


def test_the_file_is_read_anew_on_sighup_and_a_bad_one_is_not_taken(
    running: Service, folder: Path
) -> None:
    file = folder / "config.yaml"
    file.write_text("queue_timeout: 40\nlog_level: DEBUG\n")
    running.process.send_signal(signal.SIGHUP)
    wait_until(lambda: shown(running)["config"]["queue_timeout"] == 40, 30)
    assert shown(running)["sources"]["queue_timeout"] == "file"
    wait_until(lambda: any(line.get("level") == "DEBUG" for line in running.log), 30)

    file.write_text("queue_timeout: soon\n")
    wait_until(lambda: running.metric("llm_config_last_reload_successful") == 0, 30)
    drift = shown(running)["drift"]
    assert drift["file_differs"]
    assert "queue_timeout" in drift["problems"][0]
    assert shown(running)["config"]["queue_timeout"] == 40

    file.write_text("queue_timeout: 30\n")
    wait_until(lambda: running.metric("llm_config_last_reload_successful") == 1, 30)
    assert shown(running)["config"]["queue_timeout"] == 30
    assert not shown(running)["drift"]["file_differs"]
    assert running.metric("llm_config_changes_total", 'result="applied"', 'source="file"') == 2


def command(*arguments: str) -> list[str]:
    out = io.StringIO()
    assert config.main(arguments, out) == 0
    return out.getvalue().splitlines()


def test_a_terminal_shows_what_the_service_has(running: Service) -> None:
    assert change(running, queue_size=3).status_code == 200
    version = shown(running)["version"]
    url = ("--url", running.url)

    assert command(*url, "show")[0].startswith(f"version {version}, ")
    assert any(line.split() == ["queue_size:", "3", "override"] for line in command(*url, "show"))
    assert len(command(*url, "show", "--all")) > 40
    assert command(*url, "history")[0].split()[0] == str(version)
    assert "queue_size: 3" in command(*url, "export")
    back = command(*url, "rollback", str(version - 1))
    assert back == [f"version {version + 1} is in force"]
    assert shown(running)["config"]["queue_size"] is None


def test_a_terminal_is_told_what_was_refused(
    running: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    assert config.main(["--url", running.url, "rollback", "99999"]) == 1
    assert capsys.readouterr().err == "llm-inference: There is no version 99999.\n"


def test_a_file_is_checked_without_a_service(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("threads: 3\n")
    assert command("validate", str(file)) == [f"{file} is in order: 1 settings"]
    file.write_text("threads: 3\nllama_cpp_path: /opt/llama.cpp\n")
    said = command("validate", str(file))
    assert said[0] == f"{file} is in order: 1 settings"
    assert said[1].startswith(f"llama_cpp_path in {file} has no meaning here")
    file.write_text("threads: 0\ncolour: 1\n")
    assert config.main(["validate", str(file)]) == 1
    told = capsys.readouterr().err
    assert "threads: " in told
    assert "colour: there is no such setting" in told


def test_a_start_is_on_the_last_version_that_is_whole_and_a_rollback_needs_no_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with service(tmp_path, "--default-context-size", "1024") as running:
        assert change(running, queue_size=5).status_code == 200
        assert change(running, queue_size=6).status_code == 200
    monkeypatch.setenv("LLM_PORT", str(free_port()))
    offline = ("--state-dir", str(tmp_path))
    assert command(*offline, "history")[0].split()[0] == "3"
    assert command(*offline, "rollback", "2") == [
        "version 4 is what the next start begins with; no service answers"
    ]
    assert any("queue_size: 5" in line for line in command(*offline, "show"))
    assert "queue_size: 5" in command(*offline, "export")

    newest = tmp_path / "config" / "00000004.json"
    newest.write_bytes(newest.read_bytes()[:-20])
    with service(tmp_path, "--default-context-size", "1024") as running:
        assert shown(running)["config"]["queue_size"] == 6
        assert running.metric("llm_config_last_reload_successful") == 0
        assert any("is damaged" in line["message"] for line in running.log)
        assert change(running, queue_size=7).status_code == 200
        assert running.metric("llm_config_last_reload_successful") == 1
    assert (tmp_path / "config" / "00000005.json").exists()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
