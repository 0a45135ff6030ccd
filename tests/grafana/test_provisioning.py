from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
PROVISIONING: Final = ROOT / "grafana" / "provisioning"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


SOURCES: Final = {
    source["uid"]: source
    for path in sorted(PROVISIONING.glob("datasources/*.yml"))
    for source in read(path)["datasources"]
}
COMPOSE: Final = read(ROOT / "compose.yaml")


def test_each_source_has_an_address_that_the_composition_has() -> None:
    assert SOURCES.keys() == {"prometheus", "alertmanager", "tempo"}
    for uid, source in SOURCES.items():
        host, _, port = source["url"].removeprefix("http://").partition(":")
        assert host == uid in COMPOSE["services"]
        assert port.isdigit()
        assert source["editable"] is False


def test_there_is_one_default_source() -> None:
    assert [uid for uid, source in SOURCES.items() if source.get("isDefault")] == ["prometheus"]


def test_grafana_knows_how_often_prometheus_scrapes() -> None:
    scraped = read(ROOT / "prometheus/prometheus.yml")["global"]["scrape_interval"]

    assert SOURCES["prometheus"]["jsonData"]["timeInterval"] == scraped


def test_points_of_latency_lead_to_their_trace_and_request() -> None:
    places = {
        place["name"]: place
        for place in SOURCES["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    }

    assert places["trace_id"]["datasourceUid"] in SOURCES
    # One dollar is Grafana's own, for the environment.
    assert places["request_id"]["url"].endswith("/api/progress/$${__value.raw}")


def test_sources_refer_to_sources_that_there_are() -> None:
    assert SOURCES["prometheus"]["jsonData"]["alertmanagerUid"] in SOURCES
    assert SOURCES["tempo"]["jsonData"]["serviceMap"]["datasourceUid"] in SOURCES


def test_dashboards_are_read_from_where_the_composition_puts_them() -> None:
    (provider,) = read(PROVISIONING / "dashboards" / "llm.yml")["providers"]

    mounts = dict(volume.split(":")[:2] for volume in COMPOSE["services"]["grafana"]["volumes"])
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
    assert (provider["folder"], provider["allowUiUpdates"]) == ("LLM", False)
