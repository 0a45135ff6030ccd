"""What holds of every route that changes the configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime
from tests.test_optimization import Advice

CONFIGURE = "/api/dashboard/configure"
CHANGES: list[tuple[str, dict[str, Any] | str, str]] = [
    (CONFIGURE, {"queue_size": 7}, "configure"),
    (f"{CONFIGURE}/rollback", {"version": 1}, "rollback:1"),
    (f"{CONFIGURE}/import", "queue_size: 9\n", "import"),
    ("/api/optimization/apply", {"id": "threads-physical"}, "advice:threads-physical"),
    ("/api/optimization/rollback/1", {}, "rollback of change 1"),
]


@pytest.fixture
def http(tmp_path: Path) -> Iterator[TestClient]:
    settings = Settings(state_dir=tmp_path, exporters=False, threads=16)
    app = create_app(settings, FakeRuntime().make)
    with TestClient(app, base_url="http://localhost") as client:
        client.app_state["optimization"]._analyst = Advice()
        assert client.post(CONFIGURE, json={"queue_size": 5}).status_code == 200
        yield client


def results(folder: Path) -> list[tuple[str, str]]:
    lines = (folder / "audit.log").read_text().splitlines()
    return [(entry["action"], entry["result"]) for entry in map(json.loads, lines)]


@pytest.mark.parametrize(("path", "body", "action"), CHANGES)
def test_a_header_that_names_an_old_version_fails_its_precondition(
    http: TestClient, tmp_path: Path, path: str, body: dict[str, Any] | str, action: str
) -> None:
    before = http.get(CONFIGURE).json()["hash"]
    content = body if isinstance(body, str) else json.dumps(body)
    stale = http.post(path, content=content, headers={"If-Match": '"0123456789abcdef"'})

    assert stale.status_code == 412, stale.text
    assert http.get(CONFIGURE).json()["hash"] == before
    assert results(tmp_path)[-1] == (action, "stale_version")

    now = http.post(path, content=content, headers={"If-Match": f'"{before}"'})
    assert now.status_code == 200, now.text
    assert results(tmp_path)[-1] == (action, "done")
