"""Of the file of API keys: how many there are, and whether the file is right as it is now. Nothing
where no keys are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from service.access.key_file import KeyFile

FAMILIES: Final = (
    ("llm_api_keys", "Keys in force, the expired among them."),
    (
        "llm_api_keys_last_reload_successful",
        "Whether the key file could be used when it was last read; 0: older keys are in force.",
    ),
    (
        "llm_api_keys_last_reload_success_timestamp_seconds",
        "When the keys in force were read, in Unix time.",
    ),
)


class ApiKeys(Collector):
    def __init__(self, file: KeyFile | None) -> None:
        self._file = file

    def collect(self) -> Iterator[Metric]:
        file = self._file
        if file is None:
            values: tuple[float | None, ...] = (None, None, None)
        else:
            values = (len(file.keys.all), float(file.problem is None), file.loaded)
        for (name, help), value in zip(FAMILIES, values, strict=True):
            family = GaugeMetricFamily(name, help)
            if value is not None:
                family.add_metric((), value)
            yield family
