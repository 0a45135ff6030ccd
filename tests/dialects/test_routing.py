"""Who has the word where a request names its dialect twice, or one that has no such path."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime


def get(path: str, dialect: str) -> Any:
    app = create_app(Settings(), FakeRuntime().make)
    with TestClient(app, base_url="http://localhost") as http:
        return http.get(path, headers={"X-LLM-Dialect": dialect})


@pytest.mark.parametrize("dialect", ["openai", "ollama", "nobody's"])
def test_the_prefix_counts_for_more_than_the_header(dialect: str) -> None:
    response = get("/openai/v1/models", dialect)

    assert response.status_code == 200
    assert response.json()["object"] == "list"


@pytest.mark.parametrize("path", ["/metrics", "/health/ready", "/api/models", "/api/requests"])
@pytest.mark.parametrize("dialect", ["openai", "tgi", "vllm", "ollama"])
def test_what_the_dialect_has_not_is_there_as_without_the_header(path: str, dialect: str) -> None:
    assert get(path, dialect).status_code == 200


def test_what_the_dialect_has_is_its_own() -> None:
    assert get("/v1/models", "vllm").json() == get("/vllm/v1/models", "").json()
    assert get("/health", "tgi").content == b""
    assert get("/health", "ollama").json()["status"] == "healthy"


def test_a_path_that_nobody_has_is_not_found() -> None:
    assert get("/nowhere", "ollama").status_code == 404
    assert get("/ollama/nowhere", "openai").status_code == 404
