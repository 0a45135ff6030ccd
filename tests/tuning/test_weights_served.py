"""Shares of GPUs in the real service, on the cards of a driver that is set by the test.

llama.cpp has no GPU here: what a change of shares does is seen in the settings in force, in their
version, and in the engine that is started anew with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service.dialects.seed import weights as seed_weights
from service.fleet.devices import built_for_gpus
from tests.dialects.serving import wait_until
from tests.fakenvml.driver import Driver, compiled
from tests.service_process import Service, service

pytest.importorskip("llama_cpp", reason="the engine needs llama-cpp-python")

PATH = "/api/dashboard/weight-distribution"
CONFIGURE = "/api/dashboard/configure"
ASK = {"model": "demo", "messages": [{"role": "user", "content": "What is 7 plus 5?"}]}
GIB = 1 << 30
OWN = """
night:
  extends: conservative
  settings: {threads: 1, tensor_split: equal}
"""


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Driver:
    folder = tmp_path_factory.mktemp("nvml")
    driver = Driver(compiled(folder), folder / "cards")
    driver.say(card1__memory_used=7 * GIB, card3__temperature=83)
    return driver


@pytest.fixture(scope="module")
def running(cards: Driver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("models")
    presets = folder / "presets.yaml"
    presets.write_text(OWN)
    with service(folder, "--presets-file", str(presets), **cards.environment()) as running:
        wait_until(lambda: httpx.get(running.url + PATH).status_code == 200, 60)
        yield running


def shown(running: Service) -> dict[str, Any]:
    answer = httpx.get(running.url + PATH, timeout=30)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def sent(running: Service, path: str = PATH, **body: Any) -> httpx.Response:
    return httpx.post(running.url + path, json=body, timeout=120)


def test_shares_are_applied_shown_and_taken_back(running: Service, cards: Driver) -> None:
    assert sent(running, "/v1/chat/completions", **ASK).status_code == 200
    (before,) = running.engines()
    version = httpx.get(running.url + CONFIGURE).json()["version"]

    answer = sent(running, preset="balanced")
    body = answer.json()
    assert answer.status_code == 200, answer.text
    split = [float(share) for share in body["config"]["tensor_split"].split(",")]
    # The second card has 1 GiB left, the others some 5.8.
    assert split[1] < 0.1 < min(split[0], split[2], split[3])
    assert sum(split) == pytest.approx(1)
    assert body["requires_reload"] == ["demo:latest"]
    assert (seed_weights.WITHOUT_GPU_BUILD in body["warnings"]) != built_for_gpus()

    now = httpx.get(running.url + CONFIGURE).json()
    assert (now["version"], now["config"]["tensor_split"]) == (version + 1, split)
    assert (now["why"], now["sources"]["tensor_split"]) == ("weights", "override")
    found = shown(running)
    assert (found["source"], found["tensor_split"]) == (
        "configured",
        body["config"]["tensor_split"],
    )
    assert found["validation_errors"] == ["GPU 3 temperature is high: 83°C"]
    # Another engine answers, of which the driver is told.
    assert sent(running, "/v1/chat/completions", **ASK).status_code == 200
    wait_until(lambda: before.pid not in [engine.pid for engine in running.engines()], 60)
    (after,) = running.engines()
    cards["card2.processes"] = f"{after.pid}:{GIB}"

    def measured() -> list[float | None]:
        return [gpu["measured_percentage"] for gpu in shown(running)["gpus"]]

    wait_until(lambda: measured() == [0, 0, 100, 0], 60)
    del cards["card2.processes"]

    stale = sent(running, preset="equal", version=version)
    assert stale.status_code == 409, stale.text
    back = sent(running, CONFIGURE + "/rollback", version=version)
    assert back.status_code == 200, back.text
    assert shown(running)["source"] != "configured"


def test_what_no_card_holds_changes_nothing(running: Service) -> None:
    version = httpx.get(running.url + CONFIGURE).json()["version"]
    config = {"context_size": 1 << 26, "gpu_layers": 99}
    answer = sent(running, preset="equal", model_config=config)

    assert answer.status_code == 409, answer.text
    assert "GPU 1 insufficient memory: need " in answer.json()["error"]
    assert httpx.get(running.url + CONFIGURE).json()["version"] == version


def test_a_try_changes_nothing(running: Service) -> None:
    version = httpx.get(running.url + CONFIGURE).json()["version"]
    weights = [{"gpu_id": n, "weight": w} for n, w in enumerate((40, 30, 20, 5))]
    body = sent(running, PATH + "/validate", gpu_weights=weights).json()

    assert body["is_valid"] is False
    assert body["validation_errors"][0] == "Total weight must equal 100% (current: 95%)"
    assert sent(running, preset="equal", dry_run=True).json()["dry_run"] is True
    assert httpx.get(running.url + CONFIGURE).json()["version"] == version


def test_the_operators_own_preset_is_applied_as_it_is_listed(running: Service) -> None:
    listed = httpx.get(running.url + "/api/dashboard/presets", timeout=60).json()["presets"]
    (night,) = [preset for preset in listed if preset["name"] == "night"]
    assert night["settings"]["tensor_split"] == [0.25] * 4
    assert night["settings"]["threads"] == 1

    answer = sent(running, CONFIGURE, preset="night")
    assert answer.status_code == 200, answer.text
    config = httpx.get(running.url + CONFIGURE).json()["config"]
    assert {key: config[key] for key in ("threads", "batch_size")} == {
        "threads": 1,
        "batch_size": 128,
    }
    assert config["tensor_split"] == [0.25] * 4
    assert config["default_context_size"] == night["settings"]["default_context_size"]
