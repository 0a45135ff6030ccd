from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime
from tests.optimization_bench import Advice

URL = "/api/optimization"
ID = "threads-physical"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
def http(folder: Path, runtime: FakeRuntime) -> Iterator[TestClient]:
    settings = Settings(state_dir=folder, exporters=False, threads=16)
    with TestClient(create_app(settings, runtime.make), base_url="http://localhost") as client:
        # What is advised is a fixed thing here; the settings and all the rest are real.
        client.app_state["optimization"]._analyst = Advice()
        yield client


def audited(folder: Path) -> list[tuple[str, str]]:
    lines = (folder / "audit.log").read_text().splitlines()
    return [(entry["action"], entry["result"]) for entry in map(json.loads, lines)]


def records(http: TestClient, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.get(f"{URL}/history", params=query).json()["records"]
    return found


def test_advice_is_applied_and_taken_back_exactly(http: TestClient) -> None:
    before = http.get("/api/dashboard/configure").json()

    applied = http.post(f"{URL}/apply", json={"id": ID, "config_hash": before["hash"]})
    assert applied.status_code == 200
    body = applied.json()
    assert body["applied"] == {"threads": [16, 2]}
    assert body["verify"]["metric"] == "llm_time_per_output_token_seconds"
    now = http.get("/api/dashboard/configure").json()
    assert (now["config"]["threads"], now["hash"]) == (2, body["config_hash"])

    back = http.post(f"{URL}/rollback/{body['change_id']}").json()
    assert (back["undone"], back["applied"]) == (body["change_id"], {"threads": [2, 16]})
    after = http.get("/api/dashboard/configure").json()
    assert (after["hash"], after["config"]) == (before["hash"], before["config"])
    assert [change["why"] for change in records(http, kind="change")] == [
        "rollback:1",
        "advice:threads-physical",
    ]


def test_what_was_changed_and_taken_back_meanwhile_stands_in_no_ones_way(http: TestClient) -> None:
    http.post(f"{URL}/apply", json={"id": ID})
    http.post("/api/dashboard/configure", json={"keep_alive": 60})
    assert http.post(f"{URL}/rollback/1").status_code == 409
    assert http.post(f"{URL}/rollback/2").status_code == 200

    assert http.post(f"{URL}/rollback/1").json()["applied"] == {"threads": [2, 16]}


def test_what_was_thought_out_for_another_configuration_is_not_applied(http: TestClient) -> None:
    stale = http.post(f"{URL}/apply", json={"id": ID, "config_hash": "0123456789abcdef"})
    by_header = http.post(f"{URL}/apply", json={"id": ID}, headers={"If-Match": '"0123"'})

    assert (stale.status_code, by_header.status_code) == (409, 412)
    assert http.get("/api/dashboard/configure").json()["config"]["threads"] == 16


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("apply", {"id": "no-such-advice"}, 404),
        # Known, and not advised now.
        ("apply", {"id": "split-by-free-vram"}, 409),
        ("apply", {}, 400),
        ("apply", {"id": 3}, 400),
        ("apply", {"id": ID, "config_hash": 3}, 400),
        ("apply", {"id": ID, "force": True}, 400),
        ("rollback/99", {}, 404),
        ("rollback/x", {"later_changes": "yes"}, 400),
        ("dismiss", {"id": "no-such-advice"}, 404),
        ("dismiss", {"id": ID, "until": "tomorrow"}, 400),
        ("dismiss", {"id": ID, "until": 1.0}, 400),
        ("trial", {"id": "no-such-advice"}, 404),
        ("trial", {"id": ID, "seconds": 1e9}, 400),
        ("trial", {"id": ID, "seconds": True}, 400),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_changed(
    http: TestClient, path: str, body: dict[str, Any], status: int
) -> None:
    response = http.post(f"{URL}/{path}", json=body)

    assert response.status_code == status
    assert isinstance(response.json()["error"], str)
    assert http.get("/api/dashboard/configure").json()["version"] == 1
    assert records(http) == []


def test_what_was_dismissed_is_remembered_until_then(http: TestClient) -> None:
    until = time.time() + 3600

    assert http.post(f"{URL}/dismiss", json={"id": ID, "until": until}).json() == {
        "status": "success",
        "id": ID,
        "until": until,
    }
    (record,) = records(http, kind="dismissal")
    assert (record["id"], record["until"], record["by"]) == (ID, until, "local")
    assert http.app_state["optimization"].dismissed() == {ID}


def test_a_state_directory_that_takes_nothing_is_507(http: TestClient, folder: Path) -> None:
    (folder / "optimization").parent.mkdir(parents=True, exist_ok=True)
    (folder / "optimization").write_text("a file where a folder should be")

    response = http.post(f"{URL}/dismiss", json={"id": ID})

    assert response.status_code == 507
    assert "error" in response.json()


def test_every_change_is_in_the_audit_log_and_so_is_what_was_refused(
    folder: Path, runtime: FakeRuntime
) -> None:
    settings = Settings(state_dir=folder, exporters=False, threads=16)
    with TestClient(create_app(settings, runtime.make), base_url="http://localhost") as http:
        http.app_state["optimization"]._analyst = Advice()
        http.post(f"{URL}/apply", json={"id": ID})
        http.post(f"{URL}/rollback/1")
        http.post(f"{URL}/rollback/1")
        http.post(f"{URL}/dismiss", json={"id": ID})

    assert audited(folder) == [
        ("advice:threads-physical", "done"),
        ("rollback of change 1", "done"),
        ("rollback of change 1", "change_refused"),
        ("dismiss", "done"),
    ]


def test_the_history_is_filtered_and_bounded(http: TestClient) -> None:
    http.post(f"{URL}/apply", json={"id": ID})
    http.post("/api/dashboard/configure", json={"keep_alive": 60})
    http.post(f"{URL}/dismiss", json={"id": ID})
    wanted = {"kind": "change,dismissal"}

    assert [r["kind"] for r in records(http, **wanted)] == ["dismissal", "change", "change"]
    assert [r["why"] for r in records(http, kind="change", limit=1)] == ["configure"]
    assert {r["kind"] for r in records(http, rule=ID)} >= {"change", "dismissal"}
    assert {r.get("id") for r in records(http, change="2", kind="change")} == {"2"}
    assert records(http, since=time.time() + 60) == []
    body = http.get(f"{URL}/history").json()
    assert (body["open_change"], body["skipped_lines"]) == ("2", 0)


@pytest.mark.parametrize(
    "query", ["kind=gossip", "limit=0", "limit=many", "since=yesterday", "since=nan", "limit=inf"]
)
def test_a_filter_that_means_nothing_is_refused(http: TestClient, query: str) -> None:
    assert http.get(f"{URL}/history?{query}").status_code == 400


def test_a_change_that_waits_for_the_next_start_has_no_window(http: TestClient) -> None:
    http.post("/api/dashboard/configure", json={"expected_gpus": 2})

    assert http.get(f"{URL}/history").json()["open_change"] is None


def test_a_trial_needs_an_idle_service(http: TestClient, runtime: FakeRuntime) -> None:
    runtime.waiting = 1

    response = http.post(f"{URL}/trial", json={"id": ID})

    assert response.status_code == 409
    assert "idle" in response.json()["error"]
    assert http.get(f"{URL}/trial").json() == {"running": None, "last": None}
