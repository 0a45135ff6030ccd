"""What is done to models and to others' requests is put on record."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.control.audit_chain import entries
from service.dialects.deeds import Deed
from service.errors import ModelLoadFailed
from service.serving.progress import Progress
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime
from tests.key_files import bearer, line, put


@contextmanager
def client(
    folder: Path, runtime: FakeRuntime, *lines: str, **settings: Any
) -> Iterator[TestClient]:
    keys = put(folder / "keys", *lines) if lines else None
    made = Settings(state_dir=folder, api_keys_file=keys, exporters=False, **settings)
    with TestClient(create_app(made, runtime.make), base_url="http://localhost") as http:
        yield http


def recorded(folder: Path) -> list[tuple[str, str, Any, str]]:
    """(key, action, changes, result) of each line."""
    return [
        (entry["key"], entry["action"], entry["changes"], entry["result"])
        for entry in entries(folder)
    ]


def test_each_load_and_unload_that_is_asked_for_is_recorded(tmp_path: Path) -> None:
    with client(tmp_path, FakeRuntime(), dev_routes=True) as http:
        http.post("/models/load", json={"model": "demo"})
        http.post("/models/unload", json={"model": "demo"})
        http.post("/api/models/unload")
        http.post("/api/generate", json={"model": "demo", "keep_alive": 0})
        http.post("/wake_up?model=demo")
        http.post("/sleep")

    there, gone = {"model": [None, "demo"]}, {"model": ["demo", None]}
    whole = {"model": ["demo:latest", None]}
    assert recorded(tmp_path) == [
        ("local", "load", there, "done"),
        ("local", "unload", gone, "done"),
        ("local", "unload", whole, "done"),
        ("local", "unload", gone, "done"),
        ("local", "load", there, "done"),
        ("local", "unload", whole, "done"),
    ]


def test_what_was_tried_in_vain_is_recorded_with_the_reason(tmp_path: Path) -> None:
    runtime = FakeRuntime(refuses=ModelLoadFailed("too large"))
    with client(tmp_path, runtime, line("ops", "admin")) as http:
        http.post("/models/load", json={"model": "demo"}, headers=bearer("ops"))
        http.post("/models/unload", json={"model": "nothing"}, headers=bearer("ops"))
        http.post("/api/pull", json={"model": "demo"}, headers=bearer("ops"))

    assert [(key, action, result) for key, action, _, result in recorded(tmp_path)] == [
        ("ops", "load", "model_load_failed"),
        ("ops", "unload", "model_not_found"),
        ("ops", "pull", "forbidden"),
    ]


def test_models_on_disk_are_changed_on_record(tmp_path: Path) -> None:
    with client(tmp_path, FakeRuntime()) as http:
        http.post("/api/copy", json={"source": "a", "destination": "b"})
        http.request("DELETE", "/api/delete", json={"model": "demo"})
        http.post("/api/push", json={"model": "a"})

    assert [(action, changes, result) for _, action, changes, result in recorded(tmp_path)] == [
        ("copy", {"model": ["a:latest", "b:latest"]}, "model_not_found"),
        ("delete", {"model": ["demo:latest", None]}, "forbidden"),
        ("push", {"model": ["a:latest", "a:latest"]}, "forbidden"),
    ]


def progress(id: str, owner: str) -> Progress:
    return Progress(id, "demo", "openai", "/v1/x", "completed", 1.0, 2.0, 2.0, owner=owner)


def test_others_requests_are_ended_on_record_and_ones_own_are_not(tmp_path: Path) -> None:
    known = {id: progress(id, owner) for id, owner in (("x", "a"), ("y", "ops"))}
    runtime = FakeRuntime(known=known, open={"x", "y"})
    lines = [line("a", "inference"), line("ops", "admin")]
    with client(tmp_path, runtime, *lines, dev_routes=True) as http:
        http.post("/api/cancel/x", headers=bearer("a"))
        http.post("/api/cancel/y", headers=bearer("ops"))
        http.post("/api/cancel/x", headers=bearer("ops"))
        http.post("/api/dismiss/x", headers=bearer("ops"))
        http.post("/abort_requests", json={"request_ids": ["cmpl-x", "y"]}, headers=bearer("ops"))
        runtime.dismissed.clear()
        http.post("/api/dismiss/completed", headers=bearer("ops"))

    ended = {"request": ["x", None], "owner": ["a", "a"]}
    assert recorded(tmp_path) == [
        ("ops", "cancel", ended, "done"),
        ("ops", "dismiss", ended, "done"),
        ("ops", "cancel", ended, "done"),
        ("ops", "dismiss", {"requests": [1, 0]}, "done"),
    ]


def test_without_keys_all_requests_are_ones_own(tmp_path: Path) -> None:
    runtime = FakeRuntime(known={"x": progress("x", "local")}, open={"x"})
    with client(tmp_path, runtime) as http:
        assert http.post("/api/cancel/x").status_code == 200
        assert http.post("/api/dismiss/completed").json() == {
            "message": "Dismissed 1 completed requests"
        }

    assert recorded(tmp_path) == []


class Recorded:
    def __init__(self) -> None:
        self.results: list[str] = []

    def write(self, caller: Any, action: str, changes: Any, result: str) -> None:
        self.results.append(result)


class Asked:
    """As much of a request as a deed looks at."""

    def __init__(self) -> None:
        self.state = {"audit": Recorded()}
        self.scope = {"type": "http"}


async def steps(error: BaseException | None = None) -> AsyncGenerator[int, None]:
    yield 1
    if error is not None:
        raise error
    yield 2


@pytest.mark.parametrize(
    ("error", "result"),
    [(None, "done"), (ModelLoadFailed("x"), "model_load_failed"), (OSError(), "internal_error")],
)
async def test_what_is_streamed_is_recorded_once_when_it_is_over(
    error: Exception | None, result: str
) -> None:
    request: Any = Asked()
    with Deed(request, "pull", model=(None, "demo")) as deed:
        followed = deed.followed(steps(error))
    assert request.state["audit"].results == []
    with suppress(ModelLoadFailed, OSError):
        assert [step async for step in followed] == [1, 2]

    assert request.state["audit"].results == [result]


async def test_who_leaves_in_the_middle_has_abandoned_it() -> None:
    request: Any = Asked()
    with Deed(request, "pull", model=(None, "demo")) as deed:
        followed = deed.followed(steps())
    await anext(followed)
    await followed.aclose()

    assert request.state["audit"].results == ["abandoned"]
