"""The exporters as a process: over the library where the linker finds it, and over none."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families as plain

from tests.dialects.serving import wait_until
from tests.exporters.catalogue import CATALOGUE, ELSEWHERE
from tests.fakenvml.driver import Driver

ROOT = Path(__file__).parents[2]


@contextmanager
def exporting(environment: dict[str, str], *arguments: str) -> Iterator[str]:
    """Yields the address; ended by SIGTERM, which must succeed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "exporters", "--port", "0", *arguments],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        line = next((x for x in process.stderr if "Listening on" in x), "")
        yield line.rpartition(" ")[2].strip()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture
def cards(library: Path, tmp_path: Path) -> Driver:
    """Two kinds of card that between them have everything that there is."""
    driver = Driver(library, tmp_path / "cards")
    driver.say(
        card1="h200", card0__fans=2, card0__fan_percent=30, card0__retired0=2, card0__retired1=0,
        card0__retired_pending=0, card0__processes="1:1000", card0__nvmlDeviceGetName=-4,
    )  # fmt: skip
    return driver


def get(url: str, name: str = "") -> str:
    """The samples whose lines begin like this."""
    lines = httpx.get(url, timeout=10).text.splitlines(keepends=True)
    return "".join(line for line in lines if line.startswith(name))


@pytest.fixture
def text(cards: Driver, tmp_path: Path) -> str:
    arguments = ("--model-store", str(tmp_path), "--pcie-throughput", "--interval", "0.3")
    with exporting(cards.environment(), *arguments) as url:
        # Two readings make a usage of the processors.
        wait_until(lambda: "llm_host_cpu_usage_ratio{" in get(url))
        return get(url)


def test_promtool_has_nothing_to_object_to(text: str) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is missing: Debian's package prometheus has it")

    result = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True
    )

    assert (result.returncode, result.stderr, result.stdout) == (0, "", "")


def test_every_family_of_the_catalogue_is_there_or_said_to_be_elsewhere(text: str) -> None:
    found = {family.name: family for family in plain(text) if family.name.startswith("llm_")}

    for name, (kind, labels, of_machine) in CATALOGUE.items():
        if name not in found and of_machine:
            # This machine's kernel, or its board, does not tell.
            continue
        assert name in found, f"{name} is missing"
        assert (found[name].type, labels_of(found[name])) == (kind, sorted(labels)), name
    assert found.keys() - CATALOGUE.keys() == set(), "new families belong into the catalogue"
    assert not ELSEWHERE.keys() & found.keys()
    assert all(ELSEWHERE.values())


def labels_of(family: Metric) -> list[str]:
    return sorted({key for sample in family.samples for key in sample.labels})


def test_gpus_are_found_as_the_linker_finds_them_and_change_while_it_runs(cards: Driver) -> None:
    with exporting(cards.environment(), "--interval", "0.3", "--no-collector.host") as url:
        wait_until(lambda: get(url, "llm_gpu_temperature_celsius{").count("\n") == 4)
        cards.say(card3__temperature=91, card2__lost=1)
        wait_until(lambda: " 91.0" in get(url, "llm_gpu_temperature_celsius{"))
        wait_until(lambda: get(url, "llm_gpu_up{").count(" 0.0") == 1)

        assert "llm_host_" not in get(url)
        assert 'llm_exporter_collector_success{collector="gpu"} 1.0' in get(url)


def test_a_hung_driver_holds_up_neither_a_scrape_nor_the_end(cards: Driver) -> None:
    with exporting(cards.environment(), "--interval", "0.3") as url:
        wait_until(lambda: "llm_gpu_up{" in get(url))
        cards["hang.nvmlDeviceGetUtilizationRates"] = 1
        wait_until(lambda: 'llm_exporter_collector_success{collector="gpu"} 0.0' in get(url))

        answer = httpx.get(url, timeout=5)
        assert answer.status_code == 200
        assert "llm_gpu_up{" not in answer.text
        assert 'llm_exporter_collector_success{collector="host"} 1.0' in answer.text


def test_a_machine_without_gpus_is_measured_all_the_same() -> None:
    if os.path.exists("/dev/nvidiactl"):
        pytest.skip("this machine has a GPU")
    with exporting(dict(os.environ)) as url:
        text = get(url)

    assert "llm_host_memory_total_bytes " in text
    assert "llm_gpu" not in text
    assert 'collector="gpu"' not in text


def test_a_port_that_is_taken_is_said_to_be() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", "exporters", "--port", str(taken.getsockname()[1])]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)

    assert result.returncode == 1
    assert "Cannot listen on 127.0.0.1" in result.stderr


@pytest.mark.parametrize(
    "argument",
    ["--port=70000", "--port=x", "--interval=0", "--interval=nan", "--expected-gpus=x",
     "--expected-gpus=-1", "--nothing"],
)  # fmt: skip
def test_arguments_that_cannot_be_honoured_are_refused(argument: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "exporters", argument],
        cwd=ROOT, capture_output=True, text=True, timeout=20,
    )  # fmt: skip

    assert result.returncode == 2
    assert argument.split("=")[0] in result.stderr
