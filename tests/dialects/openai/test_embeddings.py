from __future__ import annotations

import base64
import struct
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.dialects.fields import Fields
from service.dialects.openai.embeddings import encode_vector, parse_embeddings
from service.errors import ContextOverflow, InvalidRequest
from service.generation import Chat, EmbeddingRequest, Text, Tokens, Truncation
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime


def parse(**body: Any) -> tuple[EmbeddingRequest, bool]:
    fields = Fields({"input": "hi", **body})
    return parse_embeddings(fields, id="1", arrived=0.0, endpoint="/v1/embeddings")


def client(runtime: FakeRuntime | None = None) -> TestClient:
    app = create_app(Settings(), (runtime or FakeRuntime()).make)
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("input", "inputs"),
    [
        ("a", (Text("a"),)),
        ("", (Text(""),)),
        (["a", "b"], (Text("a"), Text("b"))),
        ([1, 2], (Tokens((1, 2)),)),
        ([[1], [2, 3]], (Tokens((1,)), Tokens((2, 3)))),
    ],
)
def test_each_form_of_input_is_read(input: Any, inputs: tuple[Text | Tokens, ...]) -> None:
    assert parse(input=input)[0].inputs == inputs


@pytest.mark.parametrize(
    ("wire", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": {}}, "input"),
        ({"input": [1, "a"]}, "input.1"),
        ({"input": [[1], ["a"]]}, "input.1.0"),
        ({"input": ["a"] * 2049}, "input"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": "x"}, "dimensions"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"truncation_side": "middle"}, "truncation_side"),
        ({"normalize": "yes"}, "normalize"),
        ({"model": 1}, "model"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(wire: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(**wire)

    assert caught.value.param == param


def test_the_parameters_arrive() -> None:
    request, as_base64 = parse(
        model="demo",
        dimensions=2,
        encoding_format="base64",
        truncate_prompt_tokens=8,
        truncation_side="left",
        priority=-3,
    )

    assert as_base64
    assert (request.priority, parse()[0].priority) == (-3, 0)
    assert (request.model, request.dimensions, request.normalize) == ("demo", 2, True)
    assert request.truncation == Truncation(8, side="left")
    assert parse(truncate_prompt_tokens=-1)[0].truncation == Truncation(None, side="right")
    assert parse()[0].truncation is None


def test_a_vector_is_numbers_or_their_bytes() -> None:
    vector = struct.pack("<3f", 0.5, -1.0, 0.25)

    assert encode_vector(vector) == [0.5, -1.0, 0.25]
    assert encode_vector(vector, as_base64=True) == base64.b64encode(vector).decode()


def test_vectors_come_in_the_order_of_the_inputs() -> None:
    with client() as http:
        answer = http.post("/v1/embeddings", json={"input": ["hi there", "x"], "model": "demo"})

    assert answer.json() == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [8.0, 2.0]},
            {"object": "embedding", "index": 1, "embedding": [1.0, 1.0]},
        ],
        "model": "demo",
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }
    assert "x-prompt-truncated" not in answer.headers


@pytest.mark.parametrize(
    ("runtime", "model", "status", "code"),
    [
        (FakeRuntime(), "nope", 404, "model_not_found"),
        (FakeRuntime(refuses=ContextOverflow(9, 8, None)), "demo", 400, "context_length_exceeded"),
        (FakeRuntime(refuses=InvalidRequest("it cannot", param="model")), "demo", 400,
         "invalid_request"),
    ],
)  # fmt: skip
def test_failures_have_a_status(runtime: FakeRuntime, model: str, status: int, code: str) -> None:
    with client(runtime) as http:
        answer = http.post("/v1/embeddings", json={"input": "hi", "model": model})

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_parameters_without_effect_are_named() -> None:
    body = {"input": "hi", "user": "me", "frobnicate": 1}
    with client() as http:
        answer = http.post("/v1/embeddings", json=body)

    assert answer.headers["x-ignored-params"] == "frobnicate"


@pytest.mark.parametrize("path", ["/v1/embeddings", "/vllm/v1/embeddings"])
def test_a_conversation_is_embedded_as_the_text_that_it_becomes(path: str) -> None:
    runtime = FakeRuntime()
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    with client(runtime) as http:
        response = http.post(path, json={"messages": messages})
        both = http.post(path, json={"messages": messages, "input": "hi"})
        none = http.post(path, json={"messages": []})

    assert response.status_code == 200
    assert "x-ignored-params" not in response.headers
    request, _ = runtime.embedded
    (chat,) = request.inputs
    assert isinstance(chat, Chat)
    assert [message.content for message in chat.messages] == ["hi", "ho"]
    assert not chat.add_generation_prompt
    assert (both.status_code, both.headers["x-ignored-params"]) == (200, "messages")
    assert (none.status_code, none.json()["error"]["param"]) == (400, "messages")
