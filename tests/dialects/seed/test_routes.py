from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.dialects.seed.encode import api_format, encode_progress
from service.errors import Cancelled
from service.serving.progress import Progress
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime

MESSAGES = [{"role": "user", "content": "hi"}]
RUNNING = Progress(
    id="r1",
    model="demo:latest",
    dialect="ollama",
    endpoint="/api/chat",
    state="generating",
    started=100.0,
    updated=104.0,
    max_tokens=40,
    prompt_tokens=7,
    cached_tokens=2,
    processed_tokens=7,
    generated_tokens=8,
)
DONE = replace(RUNNING, id="r2", state="completed", ended=104.0)


def client(runtime: FakeRuntime | None = None) -> TestClient:
    app = create_app(Settings(), (runtime or FakeRuntime()).make)
    return TestClient(app, base_url="http://localhost")


def test_progress_says_what_is_known_under_its_old_names() -> None:
    assert encode_progress(RUNNING) == {
        "request_id": "r1",
        "status": "generating",
        "progress": 8,
        "total": 40,
        "start_time": 100.0,
        "last_update": 104.0,
        "model": "demo:latest",
        "error": None,
        "prompt": {"total": 7, "cached": 2, "processed": 7},
        "queue_position": None,
        "load_percent": None,
        "tokens_per_second": 2.0,
        "eta_s": 16.0,
        "api_format": "ollama_chat",
    }


@pytest.mark.parametrize(
    ("given", "key", "value"),
    [
        ({"state": "prefill", "generated_tokens": 0}, "status", "generating"),
        ({"generated_tokens": 0}, "tokens_per_second", None),
        ({"generated_tokens": 0}, "eta_s", None),
        ({"max_tokens": None}, "total", None),
        ({"max_tokens": None}, "eta_s", None),
        ({"state": "completed"}, "eta_s", None),
        ({"state": "loading", "load_fraction": 0.5}, "load_percent", 50.0),
        ({"state": "queued", "queue_position": 3}, "queue_position", 3),
        ({"state": "error", "error": "It broke."}, "error", "It broke."),
    ],
)
def test_what_is_not_known_is_not_made_up(given: dict[str, Any], key: str, value: Any) -> None:
    assert encode_progress(replace(RUNNING, **given))[key] == value


@pytest.mark.parametrize(
    ("dialect", "endpoint", "name"),
    [
        ("openai", "/v1/chat/completions", "openai"),
        ("ollama", "/api/chat", "ollama_chat"),
        ("ollama", "/api/generate", "ollama_generate"),
        ("ollama", "/api/embed", "ollama_embed"),
        ("vllm", "/v1/chat/completions", "vllm_chat"),
        ("vllm", "/v1/completions", "vllm_completion"),
        ("tgi", "/generate", "huggingface"),
        ("anthropic", "/v1/messages", "anthropic"),
    ],
)
def test_an_api_has_the_name_that_older_tools_know(dialect: str, endpoint: str, name: str) -> None:
    assert api_format(dialect, endpoint) == name


def test_requests_are_listed_the_newest_first() -> None:
    runtime = FakeRuntime(known={"r1": RUNNING, "r2": DONE})
    with client(runtime) as http:
        listed = http.get("/api/requests").json()["requests"]
        assert http.get("/api/progress/r2").json()["status"] == "completed"

    assert [entry["request_id"] for entry in listed] == ["r2", "r1"]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/progress/no"), ("POST", "/api/cancel/no")]
)
def test_a_request_that_nobody_knows_is_not_found(method: str, path: str) -> None:
    with client() as http:
        response = http.request(method, path)

    assert (response.status_code, response.json()) == (404, {"error": "Request not found"})


def test_what_is_dismissed_is_off_the_list_and_goes_on() -> None:
    runtime = FakeRuntime(known={"r1": RUNNING, "r2": DONE, "r3": replace(DONE, id="r3")})
    with client(runtime) as http:
        for _ in range(2):
            response = http.post("/api/dismiss/r1")
            assert (response.status_code, response.json()) == (
                200,
                {"message": "Request dismissed"},
            )
        all_ended = http.post("/api/dismiss/completed").json()
        again = http.post("/api/dismiss/completed").json()
        assert http.get("/api/requests").json() == {"requests": []}

    assert all_ended == {"message": "Dismissed 2 completed requests"}
    assert again == {"message": "Dismissed 0 completed requests"}
    assert runtime.cancelled == []


def test_a_request_that_runs_can_be_cancelled_by_its_id() -> None:
    runtime = FakeRuntime(open={"r1"})
    with client(runtime) as http:
        assert http.post("/api/cancel/r1").json() == {"message": "Request cancelled"}

    assert runtime.cancelled == ["r1"]


def test_progress_can_be_followed_to_its_end() -> None:
    states = [
        replace(RUNNING, state="queued", generated_tokens=0, queue_position=1),
        replace(RUNNING, state="queued", generated_tokens=0, queue_position=1),
        RUNNING,
        replace(RUNNING, state="completed", generated_tokens=40),
    ]

    class Moving(FakeRuntime):
        def progress(self, id: str) -> Progress | None:
            return states.pop(0) if len(states) > 1 else states[0]

    with client(Moving()) as http:
        response = http.get("/api/progress/r1?stream=1")

    assert response.headers["content-type"].startswith("text/event-stream")
    frames = [
        json.loads(frame.removeprefix("data: ")) for frame in response.text.split("\n\n") if frame
    ]
    assert [(frame["status"], frame["progress"]) for frame in frames] == [
        ("queued", 0), ("generating", 8), ("completed", 40),
    ]  # fmt: skip


def test_models_have_the_names_of_both_apis() -> None:
    with client() as http:
        (model,) = http.get("/api/models").json()["models"]
        (tag,) = http.get("/api/tags").json()["models"]

    assert model.items() >= tag.items()
    assert model["id"] == "demo:latest"
    assert (model["parameter_size"], model["quantization"]) == ("2.50M", "Q8_0")
    assert (model["context_size"], model["loaded"]) == (2048, True)
    assert model["created"] == "2025-10-09T08:53:20.000000000Z"


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/chat/completions", {"messages": MESSAGES}, 499, "The request was cancelled."),
        ("/v1/embeddings", {"input": "hi"}, 499, "The request was cancelled."),
        ("/api/chat", {"model": "demo", "messages": MESSAGES}, 499, "request canceled"),
        ("/generate", {"inputs": "hi"}, 424, "The request was cancelled."),
        (
            "/v1/messages",
            {"model": "demo", "max_tokens": 9, "messages": MESSAGES},
            499,
            "The request was cancelled.",
        ),
    ],
)
def test_who_waits_for_a_cancelled_request_is_told_so_in_its_dialect(
    path: str, body: dict[str, Any], status: int, words: str
) -> None:
    with client(FakeRuntime(script=Cancelled(), refuses=Cancelled())) as http:
        response = http.post(path, json=body)

    assert response.status_code == status
    assert words in response.text
