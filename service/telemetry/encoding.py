"""The text formats of Prometheus, as the client library writes them, with what repeats kept.

Of a line only the value changes: its name and labels, with all their escapes, are written once, by
the library, and so are a family's help and type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Final

from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample
from prometheus_client.utils import floatToGoString

END: Final = "# EOF\n"
# The library does not say so.
number: Callable[[float], str] = floatToGoString


def chosen(accept: str) -> tuple[str, bool]:
    """The content type, and whether it is OpenMetrics, by what a scraper accepts."""
    _, content_type = choose_encoder(accept)
    return content_type, content_type.startswith("application/openmetrics-text")


def body(families: Iterable[str], *, openmetrics: bool) -> bytes:
    return "".join((*families, END if openmetrics else "")).encode()


def encode(metrics: Iterable[Metric], *, openmetrics: bool) -> str:
    """Without the end mark. No timestamps, and none of the gauges that OpenMetrics
    has beside a histogram: nothing of ours has them."""
    parts = []
    for metric in metrics:
        parts.append(heading(metric.name, metric.documentation, metric.type, openmetrics))
        for sample in metric.samples:
            head = cached_head(sample.name, tuple(sample.labels.items()))
            parts.append(line(head, sample, exemplars=openmetrics))
    return "".join(parts)


def line(head: str, sample: Sample, *, exemplars: bool) -> str:
    if exemplars and sample.exemplar:
        return f"{head}{number(sample.value)}{told(sample.exemplar)}\n"
    return f"{head}{number(sample.value)}\n"


@lru_cache(maxsize=4096)
def heading(name: str, help: str, kind: str, openmetrics: bool) -> str:
    encoder = generate_openmetrics if openmetrics else generate_latest
    return encoder(Only(Metric(name, help, kind))).decode().removesuffix(END)


def heads(series: Iterable[tuple[str, dict[str, str]]]) -> list[str]:
    """All of each sample's line that stands before its value; the same in both formats."""
    metric = Metric("any", "", "gauge")
    for name, labels in series:
        metric.add_sample(name, labels, 0.0)
    lines = generate_latest(Only(metric)).decode().split("0.0\n")
    return [lines[0].split("\n", 2)[2], *lines[1:-1]]


@lru_cache(maxsize=16384)
def cached_head(name: str, labels: tuple[tuple[str, str], ...]) -> str:
    return heads([(name, dict(labels))])[0]


def told(exemplar: Exemplar) -> str:
    """As OpenMetrics 1.0 writes it behind a sample."""
    labels = ",".join(
        f'{name}="{escaped(value)}"' for name, value in sorted(exemplar.labels.items())
    )
    when = "" if exemplar.timestamp is None else f" {exemplar.timestamp}"
    return f" # {{{labels}}} {number(exemplar.value)}{when}"


def escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


class Only(Collector):
    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric
