"""What a dashboard asks of Prometheus, the real one of tests/stack/programs.py."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from tests.stack.programs import free_port, prometheus

SCRAPE: Final = "1s"
STEP_SECONDS: Final = 5


@dataclass(frozen=True)
class Asked:
    """`since`: when it began, in Unix seconds."""

    http: httpx.Client
    since: float

    def api(self, path: str, **parameters: Any) -> Any:
        """Raises AssertionError with what Prometheus says of a query that it does not understand."""
        answer = self.http.get(f"/api/v1/{path}", params=parameters).json()
        assert answer["status"] == "success", f"{answer.get('error')}: {parameters}"
        return answer["data"]

    def values_of(self, series: str, label: str) -> list[str]:
        found: list[str] = self.api(f"label/{label}/values", **{"match[]": series})
        return found

    def value(self, expr: str) -> float:
        """Of the only series; 0 where there is none."""
        result = self.api("query", query=expr)["result"]
        return float(result[0]["value"][1]) if result else 0.0

    def ask(self, expr: str, instant: bool) -> list[dict[str, Any]]:
        """The series that have a value, as a panel would get them."""
        if instant:
            result = self.api("query", query=expr)["result"]
            return [found for found in result if is_number(found["value"])]
        # The last step is now: what has just happened counts.
        end = time.time()
        start = end - math.ceil((end - self.since) / STEP_SECONDS) * STEP_SECONDS
        data = self.api("query_range", query=expr, start=start, end=end, step=STEP_SECONDS)
        return [found for found in data["result"] if any(map(is_number, found["values"]))]


def is_number(sample: Sequence[Any]) -> bool:
    return not math.isnan(float(sample[1]))


@contextmanager
def scraping(folder: Path, targets: dict[str, list[str]], rules: str = "") -> Iterator[Asked]:
    """Scrapes `targets` (job → addresses) each second."""
    config = {
        "global": {"scrape_interval": SCRAPE, "evaluation_interval": SCRAPE},
        "rule_files": [rules] if rules else [],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": addresses}]}
            for job, addresses in targets.items()
        ],
    }
    folder.mkdir(exist_ok=True)
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    since = time.time()
    with (
        prometheus(folder, file, free_port()) as server,
        httpx.Client(base_url=server.url, timeout=30) as http,
    ):
        yield Asked(http, since)
