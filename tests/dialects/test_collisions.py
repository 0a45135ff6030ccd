"""What the root makes of paths that several dialects have."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime

MESSAGES = [{"role": "user", "content": "hi"}]


def client(runtime: FakeRuntime | None = None) -> TestClient:
    app = create_app(Settings(), (runtime or FakeRuntime()).make)
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (
            {"inputs": "ab"},
            [
                {"id": 97, "text": "a", "start": 0, "stop": 1},
                {"id": 98, "text": "b", "start": 1, "stop": 2},
            ],
        ),
        (
            {"prompt": "ab"},
            {"count": 2, "max_model_len": 2048, "tokens": [97, 98], "token_strs": None},
        ),
        ({"content": "ab"}, {"tokens": [97, 98]}),
    ],
)
def test_the_key_says_whose_tokens_are_wanted(body: dict[str, Any], answer: Any) -> None:
    with client() as http:
        assert http.post("/tokenize", json=body).json() == answer


def test_a_chat_may_be_tokenized_and_tokens_shown() -> None:
    with client() as http:
        body = {"messages": MESSAGES, "return_token_strs": True}
        answer = http.post("/tokenize", json=body).json()
        assert http.post("/vllm/tokenize", json=body).json() == answer

    assert "".join(answer["token_strs"]) == "<user>hi"
    assert answer["count"] == 8


@pytest.mark.parametrize(
    "body", [{}, {"inputs": "a", "prompt": "b"}, {"prompt": "", "content": "x"}]
)
def test_no_key_or_two_say_nothing(body: dict[str, Any]) -> None:
    with client() as http:
        response = http.post("/tokenize", json=body)

    assert response.status_code == 400
    assert "inputs, prompt, messages, content" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status", "shape"),
    [
        ({"inputs": ""}, 422, "error_type"),
        ({"prompt": 1}, 400, "code"),
        ({"content": {}}, 400, "code"),
    ],
)
def test_who_read_a_request_words_what_is_wrong_with_it(
    body: dict[str, Any], status: int, shape: str
) -> None:
    with client() as http:
        response = http.post("/tokenize", json=body)

    assert response.status_code == status
    answer = response.json()
    if shape == "error_type":
        assert answer["error_type"] == "validation"
    else:
        assert answer["error"]["code"] == 400


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a":1,"a":2}', b"{}"])
def test_what_nobody_could_read_is_worded_as_the_path_is(content: bytes) -> None:
    """As a wrong method there is, and a path below it."""
    with client() as http:
        response = http.post("/tokenize", content=content)
        other = http.get("/tokenize")

    assert (response.status_code, response.json()["error"]["code"]) == (400, 400)
    assert (other.status_code, other.json()["error"]["code"]) == (405, 405)


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/v1/score", "/score", "/pooling"])
def test_what_only_vllm_has_is_worded_by_vllm_whatever_fails(path: str) -> None:
    with client() as http:
        answers = [http.get(path), http.post(path, content=b"{")]

    assert [answer.json()["error"]["code"] for answer in answers] == [
        answer.status_code for answer in answers
    ]


def test_text_comes_back_under_every_name_that_a_client_looks_for() -> None:
    with client() as http:
        body = {"tokens": [104, 105], "model": "demo", "add_special_tokens": False}
        response = http.post("/detokenize", json=body)
        strict = http.post("/vllm/detokenize", json=body).json()

    assert response.json() == {"prompt": "hi", "content": "hi", "text": "hi"}
    assert strict == {"prompt": "hi"}
    assert "x-ignored-params" not in response.headers


@pytest.mark.parametrize("body", [{}, {"tokens": "x"}, {"tokens": [-1]}, {"tokens": [1.5]}])
def test_tokens_that_are_none_are_refused(body: dict[str, Any]) -> None:
    with client() as http:
        response = http.post("/detokenize", json=body)

    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith("tokens")
