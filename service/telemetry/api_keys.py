"""Of the file of API keys: how many there are, and whether the file is right as it is now. Nothing
where no keys are asked for."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from service.access.key_file import KeyFile


class ApiKeys(Collector):
    def __init__(self, file: KeyFile | None) -> None:
        self._file = file

    def collect(self) -> Iterator[Metric]:
        file = self._file
        for name, help, value in (
            ("llm_api_keys", "Keys in force, the expired among them.", file and len(file.keys.all)),
            (
                "llm_api_keys_last_reload_successful",
                "Whether the key file could be used when it was last read; 0: older keys are in force.",
                file and int(file.problem is None),
            ),
            (
                "llm_api_keys_last_reload_success_timestamp_seconds",
                "When the keys in force were read, in Unix time.",
                file and file.loaded,
            ),
        ):
            family = GaugeMetricFamily(name, help)
            if value is not None:
                family.add_metric((), value)
            yield family
