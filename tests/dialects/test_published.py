"""The comparison with published documents, on a document of three paths."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dialects.live import Asked, Told
from tests.dialects.published import BASES, Document, deviations, modern

MODEL = {
    "type": "object",
    "required": ["id"],
    "properties": {"id": {"$ref": "#/components/schemas/Id"}},
}
PAPER: dict[str, Any] = {
    "paths": {
        "/models": {
            "get": {"responses": {"200": {"content": {"application/json": {"schema": MODEL}}}}}
        },
        "/models/{id}": {"get": {"responses": {"404": {"description": "no"}}}},
        "/stream": {
            "post": {"responses": {"200": {"content": {"text/event-stream": {"schema": MODEL}}}}}
        },
    },
    "components": {"schemas": {"Id": {"type": "string", "nullable": True}}},
}


def told(method: str, path: str, content: bytes, kind: str = "application/json") -> Told:
    return Told(Asked("openai", method, path), 200, kind, content)


@pytest.mark.parametrize(
    ("answer", "faults"),
    [
        (told("GET", "/v1/models", b'{"id":"x","more":1}'), []),
        (told("GET", "/v1/models", b'{"id":null}'), []),
        (told("GET", "/v1/models", b'{"id":1}'), ["$.id: 1 is not"]),
        (told("GET", "/v1/models", b"{}"), ["$: 'id' is a required property"]),
        (told("GET", "/v1/models/a/b", b"{}"), []),
        (told("GET", "/v1/nothing", b"{}"), []),
        (
            told("POST", "/v1/stream", b'data: {"id":"x"}\n\ndata: {}\n\n', "text/event-stream"),
            ["$: 'id' is a required property"],
        ),
    ],
)
def test_an_answer_is_held_against_what_is_written_of_it(answer: Told, faults: list[str]) -> None:
    found = list(Document("openai", PAPER).faults(answer))

    assert len(found) == len(faults)
    for line, fault in zip(found, faults, strict=True):
        assert line.startswith(
            f"{answer.asked.method} {answer.asked.path} 200 {answer.media_type} "
        )
        assert fault in line


def test_nullable_is_read_as_newer_documents_write_it() -> None:
    assert modern({"nullable": False, "type": "string"}) == {"type": "string"}
    assert modern([{"nullable": True, "type": "string"}]) == [
        {"anyOf": [{"type": "null"}, {"type": "string"}]}
    ]


def test_every_deviation_has_its_reason_and_somebody_whose_it_is() -> None:
    for each in deviations():
        assert each.document in BASES
        assert each.fault_of in ("document", "us")
        assert len(each.because) > 40
