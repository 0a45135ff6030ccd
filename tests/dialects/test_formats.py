from __future__ import annotations

from typing import Any

import pytest

from service.dialects.fields import Fields
from service.dialects.formats import parse_format
from service.errors import InvalidRequest
from service.generation import ResponseFormat

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
BY_SCHEMA = ResponseFormat("schema", schema=SCHEMA)
JSON = ResponseFormat("json")
TEXT = ResponseFormat()


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ({}, TEXT),
        ({"response_format": {"type": "text"}}, TEXT),
        ({"response_format": {"type": "json_object"}}, JSON),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
         BY_SCHEMA),
        ({"response_format": {"type": "json_schema", "schema": SCHEMA}}, BY_SCHEMA),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, BY_SCHEMA),
        ({"response_format": {"type": "json_object", "value": SCHEMA}}, BY_SCHEMA),
        ({"response_format": {"type": "json", "value": SCHEMA}}, BY_SCHEMA),
        ({"guided_json": SCHEMA}, BY_SCHEMA),
        ({"guided_json": '{"type":"object","properties":{"a":{"type":"integer"}}}'}, BY_SCHEMA),
        ({"structured_outputs": {"json": SCHEMA}}, BY_SCHEMA),
        ({"structured_outputs": {"json_object": True}}, JSON),
        ({"json_schema": SCHEMA}, BY_SCHEMA),
        ({"grammar": 'root ::= "a"'}, ResponseFormat("grammar", grammar='root ::= "a"')),
        ({"guided_grammar": 'root ::= "a"'}, ResponseFormat("grammar", grammar='root ::= "a"')),
        ({"grammar": ""}, TEXT),
        ({"response_format": {"type": "text"}, "grammar": 'root ::= "a"'},
         ResponseFormat("grammar", grammar='root ::= "a"')),
    ],
)  # fmt: skip
def test_every_clients_way_to_ask_for_a_shape_is_understood(
    wire: dict[str, Any], expected: ResponseFormat
) -> None:
    assert parse_format(Fields(wire)) == expected


def test_a_choice_becomes_a_grammar_of_its_words() -> None:
    shape = parse_format(Fields({"guided_choice": ["yes", 'n"o']}))

    assert shape.kind == "grammar"
    assert shape.grammar is not None
    assert '"yes"' in shape.grammar
    assert r'"n\"o"' in shape.grammar


@pytest.mark.parametrize(
    ("wire", "param"),
    [
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": 1}}},
         "response_format.json_schema.schema"),
        ({"response_format": {"type": "regex", "value": "a+"}}, "response_format.value"),
        ({"structured_outputs": {"json": SCHEMA, "choice": ["a"]}}, "structured_outputs.choice"),
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag"),
        ({"guided_json": "{"}, "guided_json"),
        ({"guided_json": SCHEMA, "guided_choice": ["a"]}, "guided_choice"),
        ({"guided_regex": "a+"}, "guided_regex"),
        ({"guided_choice": []}, "guided_choice"),
        ({"grammar": 'root ::= "\\x00"+'}, "grammar"),
        ({"grammar": "root ::= " + "(" * 1000 + '"a"' + ")" * 1000}, "grammar"),
        ({"grammar": 'root ::= "a"', "json_schema": SCHEMA}, "grammar"),
        ({"json_schema": {"description": "x" * 70_000}}, "json_schema"),
    ],
)  # fmt: skip
def test_a_shape_that_cannot_be_promised_is_refused(wire: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_format(Fields(wire))

    assert caught.value.param == param
