from __future__ import annotations

from typing import Any

import pytest

from tests.dialects.fakes import FakeRuntime
from tests.dialects.ollama.http import post, whole


def test_vectors_come_in_the_order_of_their_texts() -> None:
    runtime = FakeRuntime()
    body = whole("/api/embed", {"model": "demo", "input": ["a b", "abc"], "dimensions": 2}, runtime)

    assert body.pop("total_duration") >= 1
    assert body.pop("load_duration") >= 1
    assert body == {
        "model": "demo", "embeddings": [[3.0, 2.0], [3.0, 1.0]], "prompt_eval_count": 3,
    }  # fmt: skip
    (request,) = runtime.embedded
    assert (request.normalize, request.dimensions, request.endpoint) == (True, 2, "/api/embed")
    assert request.truncation is not None


def test_one_text_has_one_row() -> None:
    assert whole("/api/embed", {"model": "demo", "input": "abc"})["embeddings"] == [[3.0, 1.0]]


@pytest.mark.parametrize("body", [{}, {"input": ""}, {"input": []}, {"input": None}])
def test_nothing_to_embed_loads_the_model(body: dict[str, Any]) -> None:
    runtime = FakeRuntime()

    assert post("/api/embed", {"model": "demo", **body}, runtime).json() == {
        "model": "demo", "embeddings": [],
    }  # fmt: skip
    assert runtime.loads == [("demo", None)]


def test_the_older_endpoint_gives_the_vector_as_it_is() -> None:
    runtime = FakeRuntime()
    body = {"model": "demo", "prompt": "abc", "keep_alive": 9}

    assert post("/api/embeddings", body, runtime).json() == {"embedding": [3.0, 1.0]}
    assert not runtime.embedded[0].normalize
    assert runtime.embedded[0].keep_alive == 9.0
    assert post("/api/embeddings", {"model": "demo"}).json() == {"embedding": []}


def test_a_text_that_must_not_be_cut_is_not() -> None:
    runtime = FakeRuntime()
    post("/api/embed", {"model": "demo", "input": "x", "truncate": False}, runtime)

    assert runtime.embedded[0].truncation is None
