"""Advice from beginning to end: a service that is started with too many threads for its machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from service.control.hardware import cores
from tests.dialects.serving import wait_until
from tests.service_process import Service, service

CORES = cores(os.sched_getaffinity(0))
THREADS = 8 * CORES
CHAT = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("crowded"), "--threads", str(THREADS)) as running:
        yield running


def analysis(running: Service, query: str = "?refresh=1") -> dict[str, Any]:
    body: dict[str, Any] = httpx.get(
        running.url + "/api/metrics/optimization" + query, timeout=30
    ).json()
    return body


def ids(running: Service) -> set[str]:
    return {advice["id"] for advice in analysis(running)["recommendations"]}


def after(running: Service, condition: Callable[[], bool]) -> None:
    """Analyses are made in the background; each look begins another."""
    wait_until(condition, 60)


def test_advice_is_seen_followed_and_gone(crowded: Service) -> None:
    httpx.post(crowded.url + "/v1/chat/completions", json=CHAT, timeout=60).raise_for_status()
    after(crowded, lambda: "threads-physical" in ids(crowded))
    body = analysis(crowded, "")
    (advice,) = [r for r in body["recommendations"] if r["id"] == "threads-physical"]

    usable = advice["evidence"]["usable_cores"]
    assert 1 <= usable <= CORES
    assert f"{THREADS} threads on {usable} usable" in advice["description"]
    assert advice["patch"] == {"threads": usable}
    assert (advice["needs"], advice["evidence"]["cpu_layer_share"]) == ("nothing", 1.0)
    assert advice["gain_points"] > 10
    assert body["overall_score"] <= 60
    assert crowded.metric("llm_optimization_recommendation_info", 'id="threads-physical"') == 1
    assert 0 < crowded.metric("llm_optimization_score") <= 60

    imagined = analysis(crowded, f"?threads={usable}")
    assert imagined["overall_score"] > body["overall_score"]
    assert imagined["what_if"]["fits"] is True
    assert imagined["what_if"]["placement"]["host_free_bytes"] > 0

    answer = httpx.post(crowded.url + "/api/dashboard/configure", json=advice["patch"], timeout=60)
    assert answer.status_code == 200
    after(crowded, lambda: "threads-physical" not in ids(crowded))
    assert crowded.metric("llm_optimization_recommendation_info", 'id="threads-physical"') == 0


def test_traffic_is_in_the_next_analysis(crowded: Service) -> None:
    before = analysis(crowded)["measured_at"]
    httpx.post(crowded.url + "/v1/chat/completions", json=CHAT, timeout=60).raise_for_status()
    after(crowded, lambda: analysis(crowded)["measured_at"] not in (before, None))

    measured = {c["id"]: c["value"] for c in analysis(crowded, "")["components"]}
    assert 0 <= measured["serving.queue"] <= 1
    assert measured["serving.batch"] == 0
    assert measured["cpu.threads"] == 1
