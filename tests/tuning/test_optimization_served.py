"""Advice on a real service, from the analysis to the verdict, and back: the demo model computed with
far too many threads. How much it helps depends on what else the machine does, so what is held here
is that it is measured, and never the wrong way round."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.dialects.serving import wait_until
from tests.service_process import Service, service

METRIC = "llm_time_per_output_token_seconds"
# Enough for a look at 30 requests after the first few, which are not counted.
ENOUGH = 40


class Load:
    """One client, who asks one thing after the other."""

    def __init__(self, url: str) -> None:
        self.codes: list[int] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(url,), daemon=True)

    def _run(self, url: str) -> None:
        with httpx.Client(base_url=url, timeout=60) as http:
            while not self._stopped.is_set():
                number = len(self.codes)
                body = {
                    "model": "",
                    "prompt": f"{number % 7}{number} is",
                    "max_tokens": 8,
                    "ignore_eos": True,
                }
                self.codes.append(http.post("/v1/completions", json=body).status_code)

    def more(self, count: int) -> None:
        """Comes back when so many more were answered."""
        wanted = len(self.codes) + count
        wait_until(lambda: len(self.codes) >= wanted or not self._thread.is_alive(), 90)
        assert len(self.codes) >= wanted

    @contextmanager
    def running(self) -> Iterator[Load]:
        self._thread.start()
        yield self
        self._stopped.set()
        self._thread.join(60)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("served"), "--threads", "16") as running:
        yield running


def advised(running: Service) -> dict[str, Any]:
    """What is advised at this moment; asked for again, it is what is advised by then."""
    url = f"{running.url}/api/metrics/optimization?refresh=1"
    advice = httpx.get(url, timeout=60).json()["recommendations"]
    return {recommendation["id"]: recommendation for recommendation in advice}


def until_advised(running: Service) -> dict[str, Any]:
    wait_until(lambda: "threads-physical" in advised(running), 60)
    advice: dict[str, Any] = advised(running)["threads-physical"]
    return advice


def last_verdict(running: Service, change: str) -> dict[str, Any]:
    """Of a change, the newest that has an interval."""
    found: list[dict[str, Any]] = []

    def told() -> bool:
        query = {"kind": "verdict", "change": change}
        body = httpx.get(f"{running.url}/api/optimization/history", params=query).json()
        found[:] = [record for record in body["records"] if METRIC in record.get("effects", {})]
        return bool(found)

    wait_until(told, 60)
    return found[0]


def changed(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


@pytest.mark.timeout(400)
def test_advice_is_applied_measured_and_taken_back_while_nobody_is_failed(served: Service) -> None:
    url = f"{served.url}/api/optimization"
    load = Load(served.url)
    with load.running():
        load.more(ENOUGH)
        advice = until_advised(served)
        cores = advice["patch"]["threads"]
        assert advice["evidence"]["threads"] == 16
        assert advice["evidence"]["usable_cores"] == cores < 16

        applied = changed(httpx.post(f"{url}/apply", json={"id": "threads-physical"}, timeout=60))
        assert applied["applied"] == {"threads": [16, cores]}
        assert applied["verify"] == {"metric": METRIC, "direction": "down"}
        load.more(ENOUGH)
        first = last_verdict(served, applied["change_id"])

        back = httpx.post(f"{url}/rollback/{applied['change_id']}", timeout=60)
        undone = changed(back)
        assert undone["applied"] == {"threads": [cores, 16]}
        assert undone["undone"] == applied["change_id"]
        load.more(ENOUGH)
        second = last_verdict(served, undone["change_id"])

    assert set(load.codes) == {200}
    for verdict, never in ((first, "regressed"), (second, "improved")):
        effect = verdict["effects"][METRIC]
        assert verdict["verdict"] in {"improved", "neutral", "regressed"} - {never}, verdict
        assert effect["low"] <= effect["ratio"] <= effect["high"]
        assert min(effect["before"], effect["after"]) >= 20
    for of in ("threads-physical", "rollback"):
        assert served.metric("llm_optimization_change_verdict", f'id="{of}"') == 1
        assert 0 < served.metric("llm_optimization_effect_ratio", f'id="{of}"') < 100
    # The first one's window was closed by going back, and that is counted.
    wait_until(
        lambda: served.metric("llm_optimization_applied_total", 'id="threads-physical"') == 1, 30
    )


@pytest.mark.timeout(200)
def test_a_user_ends_a_trial_and_finds_the_configuration_as_it_was(served: Service) -> None:
    url = f"{served.url}/api/optimization/trial"
    before = httpx.get(f"{served.url}/api/dashboard/configure").json()["config"]
    finished = served.metric("llm_requests_finished_total")
    until_advised(served)
    wait_until(served.at_rest, 30)

    started = httpx.post(url, json={"id": "threads-physical", "seconds": 600})
    assert started.status_code == 202, started.text
    again = httpx.post(url, json={"id": "threads-physical"})
    assert again.status_code == 409
    wait_until(lambda: httpx.get(url).json()["running"]["done"] >= 1, 60)
    body = {"model": "", "prompt": "6 and 1 is", "max_tokens": 8}
    user = httpx.post(f"{served.url}/v1/completions", json=body, timeout=60)
    wait_until(lambda: httpx.get(url).json()["running"] is None, 60)

    assert user.status_code == 200
    last = httpx.get(url).json()["last"]
    assert (last["rule"], last["verdict"]) == ("threads-physical", "insufficient_data")
    assert last["outcome"] == "interrupted"
    after = httpx.get(f"{served.url}/api/dashboard/configure").json()["config"]
    assert after == before
    assert served.metric("llm_requests_finished_total") == finished + 1


def test_a_dismissed_advice_is_not_given_again(served: Service) -> None:
    url = f"{served.url}/api/optimization"
    until_advised(served)

    changed(httpx.post(f"{url}/dismiss", json={"id": "threads-physical"}))

    wait_until(lambda: "threads-physical" not in advised(served), 60)
    (record,) = httpx.get(f"{url}/history", params={"kind": "dismissal"}).json()["records"]
    assert (record["id"], record["by"]) == ("threads-physical", "local")
