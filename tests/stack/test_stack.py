"""From a GPU's sensor to the webhook that pages: the real programs, with our files between them.

One story in the order of the tests, each of which begins where the one before it ended.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import httpx
import psutil
import pytest

from tests.dialects.serving import wait_until
from tests.exporters.test_main import exporting
from tests.fakenvml.driver import Driver, compiled
from tests.programs import program
from tests.prometheus.test_rules import OF_OTHERS
from tests.service_process import Service, service
from tests.stack import rewriting
from tests.stack.programs import (
    Alertmanager,
    Prometheus,
    Receivers,
    Told,
    alertmanager,
    free_port,
    prometheus,
    receivers,
)

# Each wait has its own bound; together they may take longer than a test has.
pytestmark = pytest.mark.timeout(300)

HW_SLOWDOWN = 0x8
HOT = "LLMGpuTemperatureHigh"


@dataclass(frozen=True)
class Stack:
    service: Service
    cards: Driver
    prometheus: Prometheus
    alertmanager: Alertmanager
    receivers: Receivers

    def told(self, receiver: str, status: str, alert: str, **labels: str) -> list[Told]:
        return self.receivers.of(receiver, status, alertname=alert, **labels)

    def suppressed(self, alert: str, **labels: str) -> bool:
        return bool(self.alertmanager.alerts("suppressed", alertname=alert, **labels))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    for name, package in (("prometheus", "prometheus"), ("amtool", "prometheus-alertmanager")):
        program(name, package)
    folder = tmp_path_factory.mktemp("stack")
    cards = Driver(compiled(folder), folder / "cards")
    models = folder / "models"
    models.mkdir()
    with ExitStack() as opened:
        told = opened.enter_context(receivers())
        ports = {name: free_port() for name in ("prometheus", "alertmanager")}
        manager = opened.enter_context(
            alertmanager(
                folder,
                rewriting.alertmanager(folder / "alerting", {"http://bridge:8080": told.url}),
                ports["alertmanager"],
            )
        )
        ours = opened.enter_context(service(models))
        exporter = opened.enter_context(
            exporting(cards.environment(), "--interval", "0.5", "--expected-gpus", "4")
        )
        addresses = {
            "service:11436": host(ours.url),
            "exporter:9836": host(exporter),
            "alertmanager:9093": host(manager.url),
            "localhost:9090": f"127.0.0.1:{ports['prometheus']}",
        }
        configuration = rewriting.prometheus(folder / "scraping", addresses)
        scraper = opened.enter_context(prometheus(folder, configuration, ports["prometheus"]))
        yield Stack(ours, cards, scraper, manager, told)


def host(url: str) -> str:
    return httpx.URL(url).netloc.decode()


def ask(url: str) -> int:
    body = {"messages": [{"role": "user", "content": "2+2"}], "max_tokens": 4}
    return httpx.post(url + "/v1/chat/completions", json=body, timeout=60).status_code


def test_all_targets_are_up_within_half_a_minute(stack: Stack) -> None:
    def up() -> bool:
        found = stack.prometheus.get("targets")["activeTargets"]
        return [target["health"] for target in found] == ["up"] * 4

    wait_until(up, 30)
    wait_until(lambda: stack.told("deadman", "firing", "LLMWatchdog"), 30)


def test_a_hot_gpu_is_one_warning_for_the_team(stack: Stack) -> None:
    stack.cards.say(card1__temperature=82, card1__throttle=HW_SLOWDOWN)

    wait_until(lambda: stack.told("team", "firing", HOT), 40)
    (warning,) = stack.told("team", "firing", HOT)
    assert warning.labels["severity"] == "warning"
    assert warning.annotations["description"].startswith("GPU 1 of llm-host is at 82 °C")
    assert stack.receivers.of("pager", "firing") == []


def test_exemplars_of_a_scraped_service_lead_to_its_requests(stack: Stack) -> None:
    scrapes = 'count_over_time(up{job="llm-service"}[2m])'
    while (stack.prometheus.value(scrapes) or 0) < 10:
        assert ask(stack.service.url) == 200
    assert stack.prometheus.value('min_over_time(up{job="llm-service"}[2m])') == 1

    def exemplars() -> list[dict[str, str]]:
        name = "llm_time_to_first_token_seconds_bucket"
        end = stack.prometheus.value("vector(time())") or 0
        found = stack.prometheus.get("query_exemplars", query=name, start=end - 120, end=end)
        return [exemplar["labels"] for series in found for exemplar in series["exemplars"]]

    wait_until(exemplars, 20)
    wait_until(stack.service.at_rest)
    answered = {entry.get("request_id") for entry in stack.service.log}
    assert {labels["request_id"] for labels in exemplars()} <= answered


def test_a_gpu_has_its_series_once(stack: Stack) -> None:
    assert stack.prometheus.value("count(llm_gpu_up)") == 4
    assert (
        stack.prometheus.value('count({job="llm-service",__name__=~"llm_(gpu|host)_.+"})') is None
    )
    assert stack.prometheus.value('count({job="llm-service",__name__=~"llm_model_.+"})') is not None


@pytest.mark.parametrize("name", sorted(OF_OTHERS))
def test_what_rules_ask_of_prometheus_and_alertmanager_is_there(stack: Stack, name: str) -> None:
    wait_until(lambda: stack.prometheus.value(f"count({name})"), 10)


def test_no_rule_fails(stack: Stack) -> None:
    groups = stack.prometheus.get("rules")["groups"]

    assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}
    assert {rule.get("lastError") for group in groups for rule in group["rules"]} == {None}


def test_an_engine_that_keeps_dying_is_told_of_until_it_is_back(stack: Stack) -> None:
    ours = stack.service
    for _ in range(5):
        wait_until(lambda: ours.engines() and ours.metric("llm_engine_up") == 1, 30)
        deaths = ours.metric("llm_engine_deaths_total")
        for engine in ours.engines():
            engine.kill()
        wait_until(lambda before=deaths: ours.metric("llm_engine_deaths_total") > before, 30)
    # The next start is eight seconds away.
    wait_until(lambda: stack.told("pager", "firing", "LLMEngineDown", model="demo:latest"), 40)
    wait_until(lambda: stack.told("pager", "resolved", "LLMEngineDown", model="demo:latest"), 60)
    assert ask(ours.url) == 200


def test_a_gpu_that_gets_hotter_is_one_page_and_no_more_warnings(stack: Stack) -> None:
    stack.cards.say(card1__temperature=88)

    wait_until(lambda: stack.told("pager", "firing", HOT), 40)
    (page,) = stack.told("pager", "firing", HOT)
    assert page.labels["severity"] == "critical"
    wait_until(lambda: stack.suppressed(HOT, severity="warning", gpu="1"), 40)
    wait_until(lambda: stack.suppressed("LLMGpuNearSlowdown", gpu="1"), 40)
    wait_until(lambda: stack.suppressed("LLMGpuThrottling", gpu="1"), 90)
    told = stack.receivers.of("team", "firing", gpu="1")
    assert [one.labels["alertname"] for one in told] == [HOT]


def test_a_service_that_was_killed_is_one_alert(stack: Stack) -> None:
    # Its engine's deaths are of the last ten minutes: that alert still fires.
    wait_until(lambda: stack.alertmanager.alerts("active", alertname="LLMEngineCrashing"), 30)
    psutil.Process(stack.service.process.pid).send_signal(signal.SIGKILL)

    wait_until(lambda: stack.told("pager", "firing", "LLMTargetDown", job="llm-service"), 40)
    wait_until(lambda: stack.suppressed("LLMEngineCrashing"), 30)
    active = stack.alertmanager.alerts("active", job="llm-service")
    assert [labels["alertname"] for labels in active] == ["LLMTargetDown"]
    assert len(stack.told("pager", "firing", "LLMTargetDown")) == 1


def test_a_gpu_that_cooled_down_is_over_for_everyone(stack: Stack) -> None:
    stack.cards.say(card1__temperature=70, card1__throttle=0)

    wait_until(lambda: stack.told("pager", "resolved", HOT), 60)
    wait_until(lambda: stack.told("team", "resolved", HOT), 60)
    assert stack.alertmanager.alerts("active", gpu="1", severity="critical") == []
