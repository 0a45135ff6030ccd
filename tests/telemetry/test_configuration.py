from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families as plain

from exporters.readings import GpuReading
from service.control.config import fingerprint
from service.settings import Settings
from service.telemetry.configuration import OF_ONE_PLACE, Configuration
from service.telemetry.exposition import Exposition, render


@dataclass
class Changed:
    settings: Settings
    outcomes: Mapping[tuple[str, str], int]
    changed_at: float = 1_760_000_000.0
    successful: bool = True
    pending: tuple[str, ...] = ()
    preset: str = "custom"
    number: int = 1


def in_force(settings: Settings) -> Changed:
    return Changed(settings, Counter({("api", "applied"): 2}))


def samples(shown: Sequence[GpuReading] | None = None, **given: Any) -> dict[str, Any]:
    """name → value, or name → {labels: value}."""
    registry = CollectorRegistry()
    registry.register(Configuration(in_force(Settings(**given)), lambda: shown))
    found: dict[str, Any] = {}
    for family in plain(render(Exposition((), registry), "", "")[0].decode()):
        for sample in family.samples:
            if sample.labels:
                found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
            else:
                found[sample.name] = sample.value
    return found


def test_settings_in_force_are_gauges() -> None:
    found = samples(
        gpu_layers=12,
        default_context_size=8192,
        threads=6,
        tensor_split=(1, 3),
        request_timeout=90,
        queue_size=7,
    )

    assert found["llm_config_gpu_layers"] == 12
    assert found["llm_config_context_tokens"] == 8192
    assert found["llm_config_threads"] == 6
    assert found["llm_config_tensor_split_ratio"] == {("0",): 0.25, ("1",): 0.75}
    assert found["llm_config_request_timeout_seconds"] == 90
    assert found["llm_config_queue_requests"] == 7


@pytest.mark.parametrize(
    ("indexes", "expected"),
    [
        ((2, 3), {("2",): 0.25, ("3",): 0.75}),
        ((1, 0, 2), {("1",): 0.25, ("0",): 0.75}),
        # There is no second one that its share could be of.
        ((2,), {("2",): 0.25}),
    ],
)
def test_a_share_is_of_the_gpu_that_an_engine_counts_there(
    indexes: tuple[int, ...], expected: dict[tuple[str], float]
) -> None:
    shown = [GpuReading(index=index, uuid=f"u{index}") for index in indexes]

    assert samples(shown, tensor_split=(1, 3))["llm_config_tensor_split_ratio"] == expected


def test_what_is_left_to_the_engine_has_no_series() -> None:
    found = samples()

    assert {"llm_config_gpu_layers", "llm_config_context_tokens", "llm_config_threads"} & (
        found.keys()
    ) == set()
    assert "llm_config_tensor_split_ratio" not in found


@pytest.mark.parametrize(("keep_alive", "shown"), [(-1, math.inf), (0, 0), (300, 300)])
def test_a_model_that_stays_for_ever_is_kept_for_an_infinite_time(
    keep_alive: float, shown: float
) -> None:
    assert samples(keep_alive=keep_alive)["llm_config_keep_alive_seconds"] == shown


def test_the_hash_tells_two_configurations_apart_and_nothing_else() -> None:
    assert samples()["llm_config_info"] == samples()["llm_config_info"]
    assert samples()["llm_config_info"] != samples(port=9)["llm_config_info"]


def test_the_hash_in_force_is_a_versions_where_nothing_waits() -> None:
    settings = Settings(port=9)
    registry = CollectorRegistry()
    registry.register(Configuration(in_force(settings)))
    text = render(Exposition((), registry), "", "")[0].decode()

    assert f'hash_in_force="{fingerprint(settings)}"' in text


def shared(**given: Any) -> str:
    registry = CollectorRegistry()
    registry.register(Configuration(in_force(Settings(**given))))
    text = render(Exposition((), registry), "", "")[0].decode()
    (found,) = re.findall(r'hash_shared="(\w+)"', text)
    return str(found)


def test_where_a_service_is_is_not_what_its_pool_has_to_agree_about() -> None:
    assert Settings.model_fields.keys() >= OF_ONE_PLACE
    assert shared() == shared(port=9, state_dir="/elsewhere", model_dir=["/m"])
    assert shared() != shared(parallel_slots=5)


def test_changes_are_counted_by_who_made_them_and_what_came_of_them() -> None:
    found = samples()

    assert found["llm_config_changes_total"]["applied", "api"] == 2
    assert found["llm_config_changes_total"]["invalid", "file"] == 0
    assert found["llm_config_last_reload_successful"] == 1
    assert found["llm_config_last_reload_timestamp_seconds"] == 1_760_000_000.0
    assert found["llm_config_version"] == 1
    assert found["llm_config_pending_settings"] == 0
