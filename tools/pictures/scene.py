"""What is measured: the service with four faked GPUs, users of all dialects, and the stack of
compose.yaml beside it, on free ports.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import httpx

from tests.dialects.serving import wait_until
from tests.exporters.test_main import exporting
from tests.fakenvml.driver import Driver, compiled
from tests.grafana.prometheus import Asked
from tests.grafana.traffic import unload
from tests.service_process import Service, service
from tests.stack import rewriting
from tests.stack.programs import alertmanager, free_port, prometheus, receivers
from tools.pictures.answers import Measured, measured
from tools.pictures.heat import CARDS, warming
from tools.pictures.load import users

ROOT: Final = Path(__file__).parents[2]
# A third of what the stack has, since minutes have to show something.
SCRAPE_SECONDS: Final = 5
SETTINGS: Final = (
    "--price-per-kwh=0.3", "--tensor-split=0.25,0.25,0.25,0.25", "--gpu-layers=2",
    "--default-context-size=4096", "--parallel-slots=2", f"--expected-gpus={len(CARDS)}",
)  # fmt: skip
CHANGE: Final = {"parallel_slots": 4}


def measurements(folder: Path, seconds: int, seed: int) -> dict[str, Measured]:
    """Dashboard → what its panels were answered after so many seconds of load."""
    cards = Driver(compiled(folder), folder / "cards")
    models = folder / "models"
    models.mkdir()
    with service(models, *SETTINGS, **cards.environment()) as running:
        engines = lambda: [engine.pid for engine in running.engines()]  # noqa: E731
        with warming(cards, engines), scraped(folder, running, cards) as asked:
            wait_until(lambda: asked.value('sum(up{job=~"llm-.+"})') == 2, 120)
            with users(running.url, seed):
                act(running, seconds)
                wait_until(lambda: asked.value("count(llm_optimization_score)") > 0, 120)
                return measured(asked, seconds, SCRAPE_SECONDS)


@contextmanager
def scraped(folder: Path, running: Service, cards: Driver) -> Iterator[Asked]:
    """By Prometheus with the stack's own file and rules, of which addresses and pace are changed."""
    with ExitStack() as opened:
        told = opened.enter_context(receivers())
        alerts = rewriting.alertmanager(folder / "alerting", {"http://bridge:8080": told.url})
        manager = opened.enter_context(alertmanager(folder, alerts, free_port()))
        models = str(folder / "models")
        exporter = opened.enter_context(
            exporting(
                cards.environment(), "--expected-gpus", str(len(CARDS)), "--model-store", models
            )
        )
        port = free_port()
        token = folder / "metrics_token"
        token.write_text("no keys are in force\n")
        (folder / "rules").symlink_to(ROOT / "prometheus" / "rules")
        text = rewriting.moved(
            (ROOT / "prometheus/prometheus.yml").read_text(),
            {
                "/run/secrets/metrics_token": str(token),
                "service:11436": netloc(running.url),
                "exporter:9836": netloc(exporter),
                "alertmanager:9093": netloc(manager.url),
                "localhost:9090": f"127.0.0.1:{port}",
                "_interval: 15s": f"_interval: {SCRAPE_SECONDS}s",
            },
        )
        file = rewriting.written(folder / "prometheus.yml", text)
        since = time.time()
        server = opened.enter_context(prometheus(folder, file, port))
        yield Asked(opened.enter_context(httpx.Client(base_url=server.url, timeout=60)), since)


def netloc(url: str) -> str:
    return httpx.URL(url).netloc.decode()


def act(running: Service, seconds: int) -> None:
    """A model goes and comes back, and the configuration changes: all of it shows on the dashboards."""
    time.sleep(0.3 * seconds)
    unload(running.url)
    time.sleep(0.3 * seconds)
    httpx.post(
        running.url + "/api/dashboard/configure", json=CHANGE, timeout=120
    ).raise_for_status()
    time.sleep(0.4 * seconds)
