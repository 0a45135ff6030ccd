"""That the schemas would notice: a key too many, one too few, one that is misspelt."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.dialects.wire_schemas import (
    DIALECTS,
    answer_faults,
    document,
    faults,
    frames_of,
    route,
    routes,
    strict,
    validator,
)

NAMES = [(dialect, name) for dialect in DIALECTS for name in document(dialect)["types"]]


@pytest.mark.parametrize(("dialect", "name"), NAMES)
def test_every_type_is_a_schema(dialect: str, name: str) -> None:
    Draft202012Validator.check_schema(validator(dialect, name).schema)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_route_names_types_that_there_are(dialect: str) -> None:
    for found in routes(dialect).values():
        names = {found.answer, found.frame, found.late_error} - {None}
        assert names
        for name in names:
            assert name is not None
            validator(dialect, name)


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ({"object": "response.input_tokens", "input_tokens": 1}, False),
        ({"object": "response.input_tokens", "input_token": 1}, True),
        ({"object": "response.input_tokens"}, True),
        ({"object": "response.input_tokens", "input_tokens": 1, "more": 1}, True),
        ({"object": "response.input_tokens", "input_tokens": -1}, True),
    ],
)
def test_a_key_too_many_too_few_or_misspelt_fails(value: Any, wrong: bool) -> None:
    assert bool(faults("openai", "input_tokens", value)) is wrong


def test_what_is_inherited_may_be_narrowed() -> None:
    wide = {"extends": "openai/event", "properties": {"type": {"const": "x"}}}
    schema = strict("openai", wide)

    assert list(schema["properties"]) == ["type", "sequence_number"]
    assert schema["required"] == ["type", "sequence_number"]
    assert schema["properties"]["type"] == {"const": "x"}


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ({"type": "text", "text": "a"}, False),
        ({"type": "text", "thinking": "a"}, True),
        ({"type": "image"}, True),
        ({}, True),
    ],
)
def test_a_tag_says_which_schema_holds(value: Any, wrong: bool) -> None:
    assert bool(faults("anthropic", "block", value)) is wrong


def test_a_path_finds_its_route() -> None:
    found = route("openai", "GET", "/v1/models/org/a%2Fb:c?x=1")

    assert found is not None
    assert found.answer == "model"
    assert route("openai", "PUT", "/v1/models") is None


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        (b'event: ping\ndata: {"type":"ping"}\n\n', ""),
        (b'data: {"type":"ping"}\n\n', ""),
        (b'event: pong\ndata: {"type":"ping"}\n\n', "is the name of"),
        (b'event: ping\ndata:{"type":"ping"}\n\n', "a frame is"),
        (b'event: ping\ndata: {"type":"ping"}\n', "has no end"),
        (b'event: ping\ndata: {"type":"ping","x":1}\n\n', "unexpected"),
        (b': ping\n\nevent: ping\ndata: {"type":"ping"}\n\n', ""),
    ],
)
def test_the_framing_of_a_stream_counts(body: bytes, wrong: str) -> None:
    found = route("anthropic", "POST", "/v1/messages")
    assert found is not None

    assert (wrong or "[]") in str(answer_faults(found, "text/event-stream", body))


def test_a_stream_without_its_last_word_fails() -> None:
    found = route("openai", "POST", "/v1/chat/completions")
    assert found is not None

    assert "is not [DONE]" in str(answer_faults(found, "text/event-stream", b"data: {}\n\n"))


def test_a_blank_line_is_no_line_of_ndjson() -> None:
    with pytest.raises(ValueError):
        frames_of("application/x-ndjson", b'{"a":1}\n\n{"a":2}\n')
