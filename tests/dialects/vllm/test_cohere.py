"""Cohere's /v2/embed, as vLLM serves it."""

from __future__ import annotations

import base64
import struct
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from service.app import create_app
from service.dialects.fields import Fields
from service.dialects.vllm.cohere import encode_as, packed, parse_embed
from service.errors import InvalidRequest
from service.generation import Text, Truncation
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime


def parse(**body: Any) -> Any:
    fields = Fields({"texts": ["a b"], **body})
    return parse_embed(fields, id="r", arrived=0.0, endpoint="/v2/embed")


def test_texts_come_back_as_vectors_of_each_form() -> None:
    runtime = FakeRuntime()
    app = create_app(Settings(), runtime.make)
    body = {
        "model": "demo",
        "texts": ["a bc", "d"],
        "input_type": "search_query",
        "embedding_types": ["float", "ubinary", "binary", "base64"],
    }
    with TestClient(app, base_url="http://localhost") as http:
        answers = [http.post(prefix + "/v2/embed", json=body) for prefix in ("", "/vllm")]

    for answer in answers:
        found = answer.json()
        assert answer.status_code == 200
        assert found["embeddings"] == {
            "float": [[4.0, 2.0], [1.0, 1.0]],
            "ubinary": [[192], [192]],
            "binary": [[64], [64]],
            "base64": [base64.b64encode(struct.pack("<2f", *v)).decode() for v in ((4, 2), (1, 1))],
        }
        assert found["texts"] == body["texts"]
        assert found["meta"]["billed_units"] == {"input_tokens": 3}
        assert found["response_type"] == "embeddings_by_type"
        assert answer.headers["x-ignored-params"] == "input_type"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, Truncation(side="right")),
        ({"truncate": "END", "max_tokens": 4}, Truncation(4, side="right")),
        ({"truncate": "START"}, Truncation(side="left")),
        ({"truncate": "NONE"}, None),
    ],
)
def test_what_is_too_long_is_cut_at_the_end_that_is_named(
    body: dict[str, Any], expected: Truncation | None
) -> None:
    assert parse(**body)[0].truncation == expected


def test_inputs_of_several_parts_are_one_text() -> None:
    content = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]

    assert parse(texts=None, inputs=[{"content": content}])[0].inputs == (Text("a\nb"),)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"texts": None}, "texts"),
        ({"texts": []}, "texts"),
        ({"texts": [1]}, "texts.0"),
        ({"inputs": [{"content": [{"type": "text", "text": "a"}]}]}, "texts"),
        ({"texts": None, "images": ["data:"]}, "images"),
        ({"texts": None, "inputs": [{"content": []}]}, "inputs.0.content"),
        (
            {"texts": None, "inputs": [{"content": [{"type": "image_url"}]}]},
            "inputs.0.content.0.type",
        ),
        ({"embedding_types": ["float", "int8"]}, "embedding_types.1"),
        ({"truncate": "MIDDLE"}, "truncate"),
        ({"output_dimension": 0}, "output_dimension"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(**body)

    assert caught.value.param == param


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40))
def test_bits_tell_the_signs(values: list[float]) -> None:
    bits = "".join(f"{byte:08b}" for byte in packed(array("f", values)))

    assert [bit == "1" for bit in bits[: len(values)]] == [value >= 0 for value in values]
    assert set(bits[len(values) :]) <= {"0"}
    vector = array("f", values).tobytes()
    assert all(-128 <= byte < 128 for byte in encode_as("binary", vector))
