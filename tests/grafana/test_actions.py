"""Whether the service takes what the buttons would send."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from grafana.actions import Actions
from grafana.build import rendered
from grafana.config import PRESETS
from service.app import create_app
from service.control.presets import BUILT_IN
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime
from tests.grafana.test_build import actions_of

SERVICE = "http://localhost"
GRAFANA = "http://127.0.0.1:3000"
BUTTONS: list[dict[str, Any]] = [
    button["fetch"]
    for text in rendered(Actions(SERVICE)).values()
    for button in actions_of(json.loads(text))
]


def preflight(http: TestClient, fetch: dict[str, Any]) -> int:
    headers = {
        "Origin": GRAFANA,
        "Access-Control-Request-Method": fetch["method"],
        "Access-Control-Request-Headers": ",".join(name.lower() for name, _ in fetch["headers"]),
    }
    return int(http.options(fetch["url"].removeprefix(SERVICE), headers=headers).status_code)


@pytest.mark.parametrize(("origins", "taken"), [((GRAFANA,), True), (("http://other",), False)])
def test_a_browser_may_send_them_from_the_origins_that_the_operator_named(
    origins: tuple[str, ...], taken: bool
) -> None:
    app = create_app(Settings(exporters=False, cors_origins=origins), FakeRuntime().make)
    with TestClient(app, base_url=SERVICE) as http:
        assert {preflight(http, fetch) == 200 for fetch in BUTTONS} == {taken}


def test_a_page_of_an_origin_that_nobody_named_changes_nothing() -> None:
    app = create_app(Settings(exporters=False), FakeRuntime().make)
    with TestClient(app, base_url=SERVICE) as http:
        for fetch in BUTTONS:
            headers = dict(fetch["headers"], Origin=GRAFANA)
            path = fetch["url"].removeprefix(SERVICE)
            assert http.post(path, content=fetch["body"], headers=headers).status_code == 403


def test_each_preset_has_its_button() -> None:
    assert [preset.name for preset in BUILT_IN] == list(PRESETS)
    bodies = [json.loads(fetch["body"]) for fetch in BUTTONS]
    assert [body["preset"] for body in bodies if "preset" in body] == list(PRESETS)
