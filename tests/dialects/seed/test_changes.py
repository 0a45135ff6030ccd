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
from tests.dialects.serving import wait_until
from tests.optimization_bench import Advice

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


def await_line(folder: Path, *line: str) -> None:
    """The log is written behind the answer."""

    def written() -> bool:
        path = folder / "audit.log"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        whole = [json.loads(text) for text in lines if text.endswith("\n")]
        return bool(whole) and (whole[-1]["action"], whole[-1]["result"]) == line

    wait_until(written, 30)


@pytest.mark.parametrize(("path", "body", "action"), CHANGES)
def test_a_header_that_names_an_old_version_fails_its_precondition(
    http: TestClient, tmp_path: Path, path: str, body: dict[str, Any] | str, action: str
) -> None:
    before = http.get(CONFIGURE).json()["hash"]
    content = body if isinstance(body, str) else json.dumps(body)
    stale = http.post(path, content=content, headers={"If-Match": '"0123456789abcdef"'})

    assert stale.status_code == 412, stale.text
    assert http.get(CONFIGURE).json()["hash"] == before
    await_line(tmp_path, action, "stale_version")

    now = http.post(path, content=content, headers={"If-Match": f'"{before}"'})
    assert now.status_code == 200, now.text
    await_line(tmp_path, action, "done")
