"""Models: found, listed, shown, loaded and unloaded."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from service.app import VERSION
from service.catalog.demo import PATH
from service.settings import Settings
from tests.dialects.fakes import CARD, FakeRuntime
from tests.dialects.ollama.http import GENERATE, client, post


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/api/chat", {"messages": []}, 400, "model is required"),
        ("/api/generate", {"prompt": "x"}, 404, "model '' not found"),
        ("/api/generate", {"model": "gpt-4o"}, 404, "model 'gpt-4o' not found"),
        ("/api/chat", {"model": "gpt-4o"}, 404, "model 'gpt-4o' not found"),
        ("/api/chat", {"model": "a b:"}, 400, "invalid model name"),
        ("/api/show", {}, 400, "model is required"),
        ("/api/show", {"name": "nope"}, 404, "model 'nope' not found"),
        ("/api/embed", {"input": "x"}, 404, "model '' not found"),
        ("/api/embed", {"model": "no", "input": "x"}, 404,
         'model "no" not found, try pulling it first'),
        ("/api/embeddings", {"prompt": "x"}, 400, "model is required"),
        ("/api/embeddings", {"model": "no"}, 404, 'model "no" not found, try pulling it first'),
    ],
)  # fmt: skip
def test_a_model_that_nobody_has_is_missed_in_ollamas_words(
    path: str, body: dict[str, Any], status: int, error: str
) -> None:
    response = post(path, body)

    assert (response.status_code, response.json()) == (status, {"error": error})


def test_models_are_listed_and_head_is_enough() -> None:
    with client() as http:
        (model,) = http.get("/api/tags").json()["models"]
        (loaded,) = http.get("/api/ps").json()["models"]
        assert http.head("/api/tags").status_code == http.head("/api/version").status_code == 200

    assert model["name"] == loaded["name"] == "demo:latest"
    assert set(model["capabilities"]) == {"completion", "tools", "thinking"}


def test_a_model_is_shown_under_either_name_of_the_field() -> None:
    runtime = FakeRuntime()
    card = replace(CARD, path=str(PATH))
    runtime.resolve = lambda name: card  # type: ignore[method-assign]
    with client(runtime) as http:
        shown = http.post("/api/show", json={"model": "demo"}).json()
        assert http.post("/api/show", json={"name": "demo"}).json() == shown
        verbose = http.post("/api/show", json={"model": "demo", "verbose": True}).json()
        copilot = {"User-Agent": "GitHubCopilotChat/0.30"}
        named = http.post("/api/show", json={"model": "my-demo"}, headers=copilot).json()

    assert shown["model_info"]["general.architecture"] == "llama"
    assert "general.basename" not in shown["model_info"]
    assert len(verbose["model_info"]["tokenizer.ggml.tokens"]) > 100
    assert named["model_info"]["general.basename"] == "my-demo"


def test_a_file_that_is_gone_is_an_error_without_its_path() -> None:
    response = post("/api/show", {"model": "demo"})

    assert response.status_code == 500
    assert "/models" not in response.text


def test_the_version_is_one_that_clients_can_compare() -> None:
    with client(ollama_compat_version="0.40.1") as http:
        response = http.get("/api/version")
        assert http.get("/api/status").json()["cloud"]["disabled"] is True

    assert response.json() == {"version": "0.40.1"}
    assert response.headers["x-server-version"] == VERSION
    default = Settings().ollama_compat_version
    assert all(part.isdigit() for part in default.split("."))


@pytest.mark.parametrize("version", ["latest", "0.33.2-rc1", "1", "v1.2"])
def test_a_version_that_clients_cannot_compare_stops_the_start(version: str) -> None:
    with pytest.raises(ValueError, match="ollama_compat_version"):
        Settings(ollama_compat_version=version)


@pytest.mark.parametrize(
    ("path", "empty"),
    [("/api/chat", {"message": {"role": "assistant", "content": ""}}), ("/api/generate", {"response": ""})],
)  # fmt: skip
def test_an_empty_prompt_loads_the_model_or_unloads_it(path: str, empty: dict[str, Any]) -> None:
    runtime = FakeRuntime()
    with client(runtime) as http:
        loaded = http.post(path, json={"model": "demo", "keep_alive": "1h"})
        unloaded = http.post(path, json={"model": "demo", "keep_alive": 0})

    assert runtime.loads == [("demo", 3600.0)]
    assert runtime.unloads == ["demo"]
    assert runtime.requests == []
    for response, word in ((loaded, "load"), (unloaded, "unload")):
        assert response.headers["content-type"].startswith("application/json")
        body = response.json()
        assert body.pop("created_at").endswith("Z")
        assert body == {"model": "demo", **empty, "done": True, "done_reason": word}


@pytest.mark.parametrize(
    ("value", "seconds"), [(0, 0.0), (-1, -1.0), ("5m", 300.0), ("-1", -1.0), (None, None)]
)
def test_a_request_says_how_long_its_model_stays(value: Any, seconds: float | None) -> None:
    runtime = FakeRuntime()
    post("/api/generate", {**GENERATE, "keep_alive": value}, runtime)

    assert runtime.requests[0].keep_alive == seconds
