"""The command against the service as a user starts it."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.commands.models import Refused, line, main, progress, size
from tests.registry import PROGRAM, registry
from tests.service_process import ROOT, Service, service

pytest.importorskip("llama_cpp", reason="the engine needs llama-cpp-python")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if PROGRAM is None:
        pytest.skip("there is no docker-registry")
    with registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(scope="module")
def running(host: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("models")
    store = ("--store-dir", str(folder / "own"), "--pull-from", f"http://{host}")
    with service(folder, "--default-context-size", "512", *store) as running:
        yield running


def run(running: Service, *arguments: str) -> list[str]:
    out = io.StringIO()
    assert main(["--url", running.url, *arguments], out) == 0
    return out.getvalue().splitlines()


def test_a_model_is_copied_pushed_pulled_shown_and_deleted(running: Service, host: str) -> None:
    name = f"{host}/library/mine:v1"
    assert run(running, "cp", "demo", name) == [f"copied demo to {name}"]
    assert run(running, "push", name)[-2:] == ["pushing manifest", "success"]
    assert run(running, "rm", name) == [f"deleted {name}"]
    pulled = run(running, "pull", name)
    listed = run(running, "list")

    assert (pulled[0], pulled[-1]) == ("pulling manifest", "success")
    assert len(pulled) == len(set(pulled))
    assert listed[0].split() == ["NAME", "ID", "SIZE", "MODIFIED"]
    assert [row.split()[0] for row in listed[1:]] == [name, "demo:latest"]
    assert listed == run(running)
    shown = run(running, "show", name)
    assert any(row.startswith("context length") for row in shown)
    assert any(row.startswith("quantization") and row.endswith("F16") for row in shown)
    run(running, "rm", name)


def test_what_is_refused_is_said_in_the_services_words(
    running: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, words in (
        (["pull", "llama3"], "`pull_from`"),
        (["rm", "demo"], "not in this server's own store"),
        (["show", "nothing"], "model 'nothing' not found"),
        (["cp", "nothing", "x"], 'model "nothing" not found'),
    ):
        assert main(["--url", running.url, *arguments]) == 1
        error = capsys.readouterr().err
        assert error.startswith("llm-inference: ")
        assert words in error


def test_a_service_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--url", "http://127.0.0.1:9", "list"]) == 1
    assert "no answer from http://127.0.0.1:9" in capsys.readouterr().err


def test_it_is_part_of_the_command(running: Service, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service", "models", "--url", running.url, "list"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, "demo:latest" in ran.stdout) == (0, True), ran.stderr


def test_a_bar_is_drawn_anew_and_a_log_is_written_once() -> None:
    steps: list[dict[str, Any]] = [
        {"status": "pulling manifest"},
        {"status": "pulling abc", "digest": "d", "total": 2000},
        {"status": "pulling abc", "digest": "d", "total": 2000, "completed": 1000},
        {"status": "success"},
    ]
    log, terminal = io.StringIO(), io.StringIO()
    progress(iter(steps), log, live=False)
    progress(iter(steps), terminal, live=True)

    assert log.getvalue() == "pulling manifest\npulling abc\nsuccess\n"
    drawn = terminal.getvalue()
    assert drawn.count("\r") == 1
    assert drawn.count("\n") == 3
    assert f"{'█' * 12}{'░' * 12}  50 %  1.0 KB of 2.0 KB" in drawn
    assert line({"status": "x", "total": 3, "completed": 3}).endswith("100 %  3 B of 3 B")


def test_an_error_ends_the_progress() -> None:
    out = io.StringIO()
    with pytest.raises(Refused, match="no room"):
        progress(iter([{"status": "a"}, {"error": "no room"}]), out, live=True)
    assert out.getvalue().endswith("\n")


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (4473376, "4.5 MB"), (123e6, "123 MB"),
     (4e9, "4.0 GB"), (5e12, "5000 GB")],
)  # fmt: skip
def test_sizes_are_short(count: float, text: str) -> None:
    assert size(count) == text
