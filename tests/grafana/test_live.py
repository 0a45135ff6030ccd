"""Every query of every dashboard, asked of Prometheus as Grafana would ask.

Two services that Debian's Prometheus scrapes each second: one with four GPUs of a fake driver below
the real NVML binding, and one without any, both with requests of all dialects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import pytest

from grafana.panels import families
from tests.dialects.serving import wait_until
from tests.fakenvml.driver import Driver, compiled
from tests.grafana.asking import Choose, choose, each, everything, put_in
from tests.grafana.prometheus import Asked, scraping
from tests.grafana.reading import DASHBOARDS, asked, variables
from tests.grafana.traffic import all_dialects, unload
from tests.service_process import Service, service

ROOT: Final = Path(__file__).parents[2]
RULES: Final = ROOT / "prometheus" / "rules" / "alerts.yml"

# Families that a query may be empty for, and why there is nothing of them here.
MAY_BE_EMPTY: Final = {
    "llm_gpu_pcie_throughput_bytes": "read only where it was asked for, as it takes 20 ms a card",
    "llm_gpu_retired_pages_total": "of cards older than those that are faked here",
    "llm_gpu_page_retirement_pending": "of cards older than those that are faked here",
    "llm_exporter_nvml_errors_total": "the driver refuses nothing that it should have",
    "llm_model_load_failures_total": "shown where there are some, and no load fails here",
    "llm_host_cgroup_memory_limit_bytes": "not every machine that tests run on limits its memory",
    "llm_host_cgroup_memory_used_bytes": "not every machine that tests run on limits its memory",
    "llm_host_pressure_ratio": "not every kernel tells it",
    "llm_host_swap_in_bytes_total": "not every container is told",
    "llm_host_swap_out_bytes_total": "not every container is told",
    "llm_host_network_bytes_total": "not every container has a network",
    "llm_config_threads": "left to the engine",
    "llm_config_predicted_vram_bytes": "the engine of the tests has no layers on GPUs",
    "llm_api_keys": "there is no key file",
    "llm_api_keys_last_reload_success_timestamp_seconds": "there is no key file",
    "llm_optimization_effect_ratio": "a change is compared for longer than this takes",
    "llm_optimization_effect_low_ratio": "a change is compared for longer than this takes",
    "llm_optimization_effect_high_ratio": "a change is compared for longer than this takes",
    "llm_optimization_change_verdict": "a change is compared for longer than this takes",
    "llm_optimization_applied_total": "a change is compared for longer than this takes",
}


@dataclass(frozen=True)
class Fleet:
    prometheus: Asked
    with_gpus: str
    without_gpus: str


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    cards = Driver(compiled(folder), folder / "cards")
    # Three Tesla M10 as one finds them, and a card that answers everything.
    cards.say(card1="h200", card1__fans=1, card1__fan_percent=40, card2__throttle=0x20)
    settings = (
        "--price-per-kwh=0.3", "--tensor-split=0.25,0.25,0.25,0.25", "--gpu-layers=2",
        "--default-context-size=4096",
    )  # fmt: skip
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    with (
        service(folder / "a", *settings, **cards.environment()) as rich,
        service(folder / "b") as poor,
    ):
        addresses = [running.url.removeprefix("http://") for running in (rich, poor)]
        jobs = {"llm-service": addresses}
        with scraping(folder / "prometheus", jobs, str(RULES)) as server:
            live(server, rich, poor, cards)
            yield Fleet(server, *addresses)


def live(server: Asked, rich: Service, poor: Service, cards: Driver) -> None:
    """Twice the same, with a scrape between: a counter that is born at one has no increase."""

    def seen(expr: str) -> None:
        wait_until(lambda: server.value(expr) > 0, 60)

    seen('sum(up{job="llm-service"}) == 2')
    for time in (1, 2):
        if time == 2:
            unload(rich.url)
            seen("sum(llm_model_loaded == bool 0)")
            cards["xid"] = "0:79"
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(all_dialects, (rich.url, poor.url)))
        (engine,) = rich.engines()
        memory = f"{engine.pid}:7340032"
        cards.say(card0__processes=memory, card1__processes=memory)
        answered = rich.metric("llm_requests_total")
        seen(f"sum(llm_requests_total{{instance='{rich.url[7:]}'}}) >= {answered}")
    seen("sum(increase(llm_generated_tokens_total[1m]))")
    httpx.post(rich.url + "/api/dashboard/configure", json={"price_per_kwh": 0.31}, timeout=60)
    seen("sum(llm_model_memory_bytes)")
    # Energy is that of the time in which a model computed while it was known to be on the card.
    all_dialects(rich.url)
    seen("sum(rate(llm_model_energy_joules_total[1m]))")
    seen("sum(increase(llm_gpu_xid_errors_total[1m]))")
    seen("count(llm_optimization_recommendation_gain_points)")
    seen("count(llm_optimization_change_timestamp_seconds)")
    seen("sum(changes(llm_model_loaded[5m]))")
    seen('sum(ALERTS{alertstate="firing",alertname=~"LLM.+",severity=~"warning|critical"})')


def results(fleet: Fleet, uid: str, choice: Choose) -> dict[str, int]:
    """Each query, and how many series with a value it has."""
    chosen = choose(variables(uid), fleet.prometheus.values_of, choice)
    return {
        str(query): len(fleet.prometheus.ask(put_in(query.expr, chosen), query.instant))
        for query in asked(uid)
    }


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_every_variable_has_something_to_choose(fleet: Fleet, uid: str) -> None:
    chosen = choose(variables(uid), fleet.prometheus.values_of, each)

    assert [name for name, values in chosen.items() if values == ".+"] == []


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_no_query_is_empty_but_for_a_reason(fleet: Fleet, uid: str) -> None:
    found = results(fleet, uid, everything)

    empty = [query for query in asked(uid) if found[str(query)] == 0]
    assert [query for query in empty if not set(families([query.expr])) & MAY_BE_EMPTY.keys()] == []


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_series_have_the_labels_that_they_are_named_by(fleet: Fleet, uid: str) -> None:
    chosen = choose(variables(uid), fleet.prometheus.values_of, everything)
    for query in asked(uid):
        found = fleet.prometheus.ask(put_in(query.expr, chosen), query.instant)
        labels = {label for series in found for label in series["metric"]}
        assert not found or query.named_by <= labels, query


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_all_of_them_chosen_one_by_one_are_all(fleet: Fleet, uid: str) -> None:
    assert results(fleet, uid, each) == results(fleet, uid, everything)


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_one_of_each_can_be_chosen(fleet: Fleet, uid: str) -> None:
    def one(values: Sequence[str]) -> Sequence[str]:
        return [fleet.with_gpus] if fleet.with_gpus in values else values[:1]

    found = results(fleet, uid, one)

    assert sum(map(bool, found.values())) > len(found) / 2


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_a_service_without_gpus_breaks_no_query(fleet: Fleet, uid: str) -> None:
    def poor(values: Sequence[str]) -> Sequence[str] | None:
        return [fleet.without_gpus] if fleet.without_gpus in values else None

    found = results(fleet, uid, poor)

    assert sum(map(bool, found.values())) >= 1
    assert [query for query, count in found.items() if "llm_gpu_temp" in query and count] == []


def test_a_prometheus_that_knows_nobody_breaks_no_query(tmp_path: Path) -> None:
    with scraping(tmp_path / "empty", {}) as server:
        nobody = Fleet(server, "", "")
        found = [results(nobody, uid, everything) for uid in DASHBOARDS]

    filled = [query for page in found for query, count in page.items() if count]
    assert [query for query in filled if "Ready" not in query] == []
    assert len(filled) == 1
