"""What a server's /metrics says of a stretch of time: the difference of two scrapes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from bench.client import get

# A sample's name, with `le` for a bucket; series of other labels are added up.
Samples = Mapping[tuple[str, str], float]


async def scrape(url: str) -> Samples:
    return parse((await get(url, "/metrics")).decode())


def parse(text: str) -> Samples:
    found: defaultdict[tuple[str, str], float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name, sample.labels.get("le", "")] += sample.value
    return found


def mean(before: Samples, after: Samples, family: str) -> float:
    """Of a histogram's or summary's observations between the two."""
    total, count = (
        after.get((family + suffix, ""), 0.0) - before.get((family + suffix, ""), 0.0)
        for suffix in ("_sum", "_count")
    )
    return total / count if count else math.nan


def quantile(before: Samples, after: Samples, family: str, q: float) -> float:
    """As Prometheus computes it: linear inside the bucket that the quantile falls in."""
    name = family + "_bucket"
    buckets = sorted(
        (float(le), value - before.get((name, le), 0.0))
        for (sample, le), value in after.items()
        if sample == name
    )
    if not buckets or not buckets[-1][1]:
        return math.nan
    rank, lower, below = q * buckets[-1][1], 0.0, 0.0
    for upper, count in buckets:
        if count >= rank:
            if math.isinf(upper):
                return lower
            return lower + (upper - lower) * (rank - below) / (count - below)
        lower, below = upper, count
    return lower
