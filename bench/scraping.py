"""`python -m bench.scraping`: two minutes of a real Prometheus at a service under load.

Scrapes every other second, seven times as often as prometheus/prometheus.yml has it, while eight
clients are answered by the demo model; then asks Prometheus which scrapes failed, how long they took
and which exemplars it kept. Exit codes: 0 every scrape succeeded and exemplars were found, 1 not.
Needs `prometheus` on the PATH (`make test` unpacks one into .venv/debian/usr/bin).
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from bench.client import Target, ask
from bench.paths import LOGS
from bench.servers import START_SECONDS, Setup, free_port, ours, running
from bench.summary import percentile
from bench.workloads import Closed, Distinct

CLIENTS: Final = 8
WITH_EXEMPLARS: Final = (
    "llm_requests_total",
    "llm_request_duration_seconds_bucket",
    "llm_time_to_first_token_seconds_bucket",
)
CONFIGURATION: Final = """\
global: {scrape_interval: 2s}
scrape_configs:
- job_name: llm-service
  static_configs: [{targets: ['%s']}]
"""


@dataclass(frozen=True)
class Prometheus:
    url: str

    def get(self, path: str, **parameters: Any) -> Any:
        with urlopen(f"{self.url}/api/v1/{path}?{urlencode(parameters)}", timeout=30) as answer:
            return json.load(answer)["data"]

    def samples(self, series: str, seconds: int) -> list[float]:
        """All that were scraped in the last seconds, of one series."""
        (found,) = self.get("query", query=f"{series}[{seconds}s]")["result"]
        return [float(value) for _, value in found["values"]]

    def exemplars(self, name: str, seconds: int) -> list[dict[str, str]]:
        now, _ = self.get("query", query="vector(1)")["result"][0]["value"]
        found = self.get("query_exemplars", query=name, start=now - seconds, end=now)
        return [exemplar["labels"] for series in found for exemplar in series["exemplars"]]


@asynccontextmanager
async def prometheus(program: str, target: str) -> AsyncIterator[Prometheus]:
    port = free_port()
    with tempfile.TemporaryDirectory() as made:
        configuration = Path(made) / "prometheus.yml"
        configuration.write_text(CONFIGURATION % target.partition("://")[2])
        command = [
            program,
            f"--config.file={configuration}",
            f"--storage.tsdb.path={made}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=exemplar-storage",
        ]
        with running(command, LOGS / f"prometheus-{port}.log", {}):
            scraper = Prometheus(f"http://127.0.0.1:{port}")
            await asyncio.to_thread(until_it_scraped, scraper)
            yield scraper


def until_it_scraped(scraper: Prometheus) -> None:
    deadline = monotonic() + START_SECONDS
    while not has_scraped(scraper):
        if monotonic() > deadline:
            raise TimeoutError(f"{scraper.url} has not scraped anything, see {LOGS}")
        sleep(0.2)


def has_scraped(scraper: Prometheus) -> bool:
    try:
        return bool(scraper.get("query", query="up")["result"])
    except (URLError, ConnectionError):
        return False


async def load(target: Target, seconds: float) -> int:
    """Eight clients that ask again and again; how many answers they got."""
    requests = Distinct(Closed(CLIENTS), requests=64, prompt_words=32, max_tokens=64).plan(
        "scraped"
    )
    endless, answered = itertools.cycle(requests), 0

    async def client() -> None:
        nonlocal answered
        while True:
            await ask(target, next(endless))
            answered += 1

    clients = [asyncio.create_task(client()) for _ in range(CLIENTS)]
    done, going = await asyncio.wait(clients, timeout=seconds)
    for task in going:
        task.cancel()
    await asyncio.gather(*going, return_exceptions=True)
    for task in done:
        task.result()
    return answered


def report(scraper: Prometheus, answered: int, seconds: int) -> bool:
    up = scraper.samples('up{job="llm-service"}', seconds)
    took = [1000 * s for s in scraper.samples("scrape_duration_seconds", seconds)]
    (lines, *_) = scraper.samples("scrape_samples_scraped", 5)
    failed, found = up.count(0), {n: scraper.exemplars(n, seconds) for n in WITH_EXEMPLARS}
    print(f"{answered} answers to {CLIENTS} clients in {seconds} s")
    print(f"{len(up)} scrapes of {lines:.0f} samples, {failed} failed")
    times = ", ".join(f"{name} {percentile(took, q):.0f}" for name, q in
                      (("median", 50), ("p95", 95), ("longest", 100)))  # fmt: skip
    print(f"milliseconds of a scrape: {times}")
    for name, exemplars in found.items():
        ids = {labels["request_id"] for labels in exemplars}
        print(f"{name}: {len(exemplars)} exemplars, of {len(ids)} requests")
    return not failed and len(up) > 0 and all(found.values())


async def scraped(program: str, seconds: int) -> bool:
    async with (
        ours(Setup(), None) as service,
        prometheus(program, service.target.url) as scraper,
    ):
        answered = await load(service.target, seconds)
        return await asyncio.to_thread(report, scraper, answered, seconds)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scraping", description=__doc__)
    parser.add_argument("--seconds", type=int, default=120, help="of load and scrapes (120)")
    given = parser.parse_args()
    program = shutil.which("prometheus")
    if program is None:
        print("prometheus is not on the PATH: Debian's package prometheus has it", file=sys.stderr)
        return 2
    return int(not asyncio.run(scraped(program, given.seconds)))


if __name__ == "__main__":
    sys.exit(main())
