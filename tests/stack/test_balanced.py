"""What Prometheus sees of the profile `lb`: both services, and what HAProxy makes of them."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.balancer import haproxy
from tests.dialects.serving import wait_until
from tests.programs import program
from tests.prometheus.test_rules import OF_THE_BALANCER
from tests.service_manager import service_manager
from tests.stack import rewriting
from tests.stack.programs import Prometheus, free_port, prometheus
from tests.test_systemd import CHAT, PATH

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Balanced:
    front: int
    second: subprocess.Popen[bytes]
    prometheus: Prometheus

    def firing(self, alert: str) -> float | None:
        return self.prometheus.value(f'ALERTS{{alertname="{alert}",alertstate="firing"}}')


@pytest.fixture(scope="module")
def balanced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balanced]:
    program("prometheus", "prometheus")
    folder = tmp_path_factory.mktemp("balanced")
    with ExitStack() as opened:
        manager = opened.enter_context(service_manager(folder))
        ports = [free_port(), free_port()]
        _, second = (
            manager.spawn("tests.serve_fake", "short", "--port", str(port)) for port in ports
        )
        front, metrics = opened.enter_context(haproxy(*ports))
        own = free_port()
        configuration = rewriting.prometheus(
            folder / "scraping",
            {"service:11436": at(ports[0]), "localhost:9090": at(own)},
            llm_b=at(ports[1]),
            haproxy=at(metrics),
        )
        pool(configuration.parent, at(ports[1]))
        scraper = opened.enter_context(prometheus(folder, configuration, own))
        yield Balanced(front, second, scraper)


def at(port: int) -> str:
    return f"127.0.0.1:{port}"


def pool(folder: Path, address: str) -> None:
    """As an operator adds another machine."""
    (folder / "targets").mkdir()
    (folder / "targets/services.yml").write_text(
        f"- targets: ['{address}']\n  labels: {{instance: third}}\n"
    )


def test_all_that_serves_and_what_balances_it_is_scraped(balanced: Balanced) -> None:
    for job, instance in (
        ("llm-service", "llm-host"),
        ("llm-service", "llm-b"),
        ("llm-service", "third"),
        ("llm-balancer", "haproxy"),
    ):
        up = f'up{{job="{job}",instance="{instance}"}}'
        wait_until(lambda up=up: balanced.prometheus.value(up) == 1, 60)


def test_requests_through_the_balancer_are_seen_at_both_services(balanced: Balanced) -> None:
    for _ in range(6):
        answer = httpx.post(f"http://127.0.0.1:{balanced.front}{PATH}", json=CHAT, timeout=30)
        assert answer.status_code == 200

    def seen(instances: str) -> float | None:
        requests = f'llm_requests_total{{instance=~"{instances}",code="200"}}'
        return balanced.prometheus.value(f"sum({requests})")

    wait_until(lambda: seen("llm-host|llm-b") == 6, 30)
    assert (seen("llm-host") or 0) > 0
    assert (seen("llm-b") or 0) > 0


@pytest.mark.parametrize("name", sorted(OF_THE_BALANCER))
def test_what_rules_ask_of_the_balancer_is_there(balanced: Balanced, name: str) -> None:
    wait_until(lambda: balanced.prometheus.value(f'count({name}{{proxy="llm"}})'), 30)
    assert balanced.prometheus.value('count(haproxy_server_status{proxy="llm",state="UP"} == 1)')


def test_a_service_that_the_balancer_leaves_out_is_told_of(balanced: Balanced) -> None:
    assert balanced.firing("LLMBalancerServerDown") is None
    balanced.second.send_signal(signal.SIGKILL)

    wait_until(lambda: balanced.firing("LLMBalancerServerDown"), 60)
