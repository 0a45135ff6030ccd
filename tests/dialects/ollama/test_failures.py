"""What fails, in Ollama's words, before an answer and within it."""

from __future__ import annotations

from typing import Any

import pytest

from service.errors import EngineFailed, ModelLoadFailed, Overloaded, ServiceError
from service.events import FinishReason, TextDelta
from tests.dialects.fakes import FakeRuntime, end
from tests.dialects.ollama.http import CHAT, client, lines, post


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (Overloaded("full", retry_after=2.0), 503,
         "server busy, please try again.  maximum pending requests exceeded"),
        (ModelLoadFailed("It needs 9 GiB."), 500, "It needs 9 GiB."),
        (EngineFailed("It broke."), 500, "It broke."),
    ],
)  # fmt: skip
def test_what_fails_before_an_answer_has_a_status_of_ollamas(
    error: ServiceError, status: int, words: str
) -> None:
    response = post("/api/chat", CHAT, FakeRuntime(script=error))

    assert (response.status_code, response.json()) == (status, {"error": words})
    assert response.headers["content-type"].startswith("application/json")


def failing(*before: Any) -> FakeRuntime:
    broken = end(reason=FinishReason.ERROR, error="It broke.", code="engine_failed")
    return FakeRuntime(script=[*before, [broken]])


@pytest.mark.parametrize("stream", [True, False])
def test_what_fails_before_the_first_word_has_a_status_too(stream: bool) -> None:
    response = post("/api/chat", {**CHAT, "stream": stream}, failing())

    assert (response.status_code, response.json()) == (500, {"error": "It broke."})
    assert response.headers["content-type"].startswith("application/json")


def test_what_fails_later_is_the_last_line() -> None:
    response = post("/api/chat", CHAT, failing([TextDelta(0, "a")]))

    assert response.status_code == 200
    assert lines(response)[-1] == {"error": "It broke."}
    assert "done_reason" not in response.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/pull", 400),
        ("POST", "/api/push", 400),
        ("POST", "/api/create", 400),
        ("POST", "/api/copy", 400),
        ("DELETE", "/api/delete", 403),
        ("HEAD", "/api/blobs/sha256:00", 400),
        ("POST", "/api/blobs/sha256:00", 400),
        ("POST", "/api/me", 401),
        ("POST", "/api/signout", 401),
        ("POST", "/api/experimental/web_search", 404),
        ("GET", "/api/chat", 405),
        ("GET", "/ollama/api/nothing", 404),
    ],
)
def test_what_there_is_not_is_said_in_ollamas_shape(method: str, path: str, status: int) -> None:
    with client() as http:
        response = http.request(
            method, path, json={"model": "demo"} if method == "DELETE" else None
        )

    assert response.status_code == status
    if method != "HEAD":
        assert list(response.json()) == ["error"]
    if status == 405:
        assert response.headers["allow"] == "POST"
