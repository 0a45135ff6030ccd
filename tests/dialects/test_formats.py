from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from service.dialects.fields import Fields
from service.dialects.formats import parse_format
from service.errors import InvalidRequest
from service.generation import ResponseFormat
from service.text.grammar import grammar_of
from tests.text.matcher import Matcher

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
BY_SCHEMA = ResponseFormat("schema", schema=SCHEMA)
JSON = ResponseFormat("json")
TEXT = ResponseFormat()
GBNF = 'root ::= "a"'
BY_GRAMMAR = ResponseFormat("grammar", grammar=GBNF)
BY_REGEX = ResponseFormat("regex", regex="a+")
BY_CHOICE = ResponseFormat("choice", choice=("yes", 'n"o'))
LARK = 'start: "yes" | "no"\n'


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
        ({"grammar": GBNF}, BY_GRAMMAR),
        ({"guided_grammar": GBNF}, BY_GRAMMAR),
        ({"grammar": ""}, TEXT),
        ({"response_format": {"type": "json_schema", "value": {"name": "x", "schema": SCHEMA}}},
         BY_SCHEMA),
        ({"response_format": {"type": "json_schema", "value": SCHEMA}}, BY_SCHEMA),
        ({"response_format": {"type": "regex", "value": "a+"}}, BY_REGEX),
        ({"response_format": {"type": "grammar", "grammar": GBNF}}, BY_GRAMMAR),
        ({"response_format": {"type": "grammar", "value": GBNF}}, BY_GRAMMAR),
        ({"grammar": {"type": "json", "value": SCHEMA}}, BY_SCHEMA),
        ({"grammar": {"type": "regex", "value": "a+"}}, BY_REGEX),
        ({"structured_outputs": {"regex": "a+"}}, BY_REGEX),
        ({"structured_outputs": {"choice": ["yes", 'n"o']}}, BY_CHOICE),
        ({"structured_outputs": {"grammar": GBNF}}, BY_GRAMMAR),
        ({"structured_outputs": {"json_object": False}}, TEXT),
        ({"structured_outputs": None}, TEXT),
        ({"guided_regex": "a+", "guided_decoding_backend": "auto"}, BY_REGEX),
        ({"guided_choice": ["yes", 'n"o']}, BY_CHOICE),
        ({"format": "json"}, JSON),
        ({"format": SCHEMA}, BY_SCHEMA),
        ({"format": ""}, TEXT),
        ({"response_format": {"type": "text"}, "grammar": GBNF},
         BY_GRAMMAR),
    ],
)  # fmt: skip
def test_every_clients_way_to_ask_for_a_shape_is_understood(
    wire: dict[str, Any], expected: ResponseFormat
) -> None:
    assert replace(parse_format(Fields(wire)), param=TEXT.param) == expected


@pytest.mark.parametrize(
    ("wire", "good", "bad"),
    [
        ({"guided_choice": ["yes", 'n"o']}, 'n"o', "no"),
        ({"guided_regex": "a+"}, "aa", "ab"),
        ({"response_format": {"type": "regex", "value": "a+"}}, "a", ""),
        ({"format": SCHEMA}, '{"a": 1}', '{"a": "1"}'),
    ],
)
def test_what_is_understood_is_held(wire: dict[str, Any], good: str, bad: str) -> None:
    grammar = grammar_of(parse_format(Fields(wire)))

    assert grammar is not None
    assert Matcher(grammar.text).accepts(good)
    assert not Matcher(grammar.text).accepts(bad)


@pytest.mark.parametrize(
    ("wire", "names"),
    [
        ({"structured_outputs": {"json": SCHEMA, "whitespace_pattern": " ", "backend": None}},
         ["structured_outputs.whitespace_pattern"]),
        ({"guided_json": SCHEMA, "guided_whitespace_pattern": " "}, ["guided_whitespace_pattern"]),
        ({"response_format": {"type": "text", "schema": SCHEMA}}, ["response_format.schema"]),
        ({"response_format": {"type": "json_schema", "json_schema": {
            "name": "x", "strict": True, "description": "y", "schema": SCHEMA, "examples": []}}},
         ["response_format.json_schema.examples"]),
        ({"response_format": {"type": "json_schema", "value": {"schema": SCHEMA, "name": "x"}}}, []),
        ({"response_format": {"type": "json_schema", "name": "x", "strict": True, "schema": SCHEMA}},
         []),
        ({"grammar": {"type": "regex", "value": "a", "flags": "i"}}, ["grammar.flags"]),
    ],
)  # fmt: skip
def test_what_changes_nothing_about_a_shape_is_left_unread(
    wire: dict[str, Any], names: list[str]
) -> None:
    fields = Fields(wire)
    parse_format(fields)

    assert fields.unread() == names


def test_what_cannot_be_compiled_later_is_named_as_it_was_given() -> None:
    shape = parse_format(Fields({"guided_json": {"uniqueItems": True}}))

    with pytest.raises(InvalidRequest) as caught:
        grammar_of(shape)
    assert caught.value.param == "guided_json"


def test_lark_is_told_apart_from_a_mistake_in_gbnf() -> None:
    messages = {}
    for text in (LARK, 'root ::= "yes'):
        with pytest.raises(InvalidRequest) as caught:
            parse_format(Fields({"guided_grammar": text}))
        messages[text] = caught.value.message

    assert "Lark" in messages[LARK]
    assert "in line 1" in messages['root ::= "yes']


@pytest.mark.parametrize(
    ("wire", "param"),
    [
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": 1}}},
         "response_format.json_schema.schema"),
        ({"response_format": {"type": "regex", "value": "a(?=b)"}}, "response_format.value"),
        ({"response_format": {"type": "regex"}}, "response_format.value"),
        ({"response_format": {"type": "grammar"}}, "response_format.grammar"),
        ({"response_format": {"type": "structural_tag"}}, "response_format.type"),
        ({"grammar": {"type": "json", "value": 1}}, "grammar.value"),
        ({"grammar": {}}, "grammar.type"),
        ({"format": 1}, "format"),
        ({"format": "yaml"}, "format"),
        ({"format": "json", "guided_json": SCHEMA}, "format"),
        ({"structural_tag": {}}, "structural_tag"),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"whitespace_pattern": " "}}, "structured_outputs"),
        ({"structured_outputs": {"regex": 1}}, "structured_outputs.regex"),
        ({"structured_outputs": {"regex": "a", "grammar": GBNF}}, "structured_outputs.grammar"),
        ({"structured_outputs": {"regex": "a"}, "guided_regex": "a"}, "guided_*"),
        ({"guided_grammar": LARK}, "guided_grammar"),
        ({"guided_choice": ["a", ""]}, "guided_choice"),
        ({"guided_choice": ["\0"]}, "guided_choice"),
        ({"guided_choice": [f"{n}" for n in range(2000)]}, "guided_choice"),
        ({"structured_outputs": {"json": SCHEMA, "choice": ["a"]}}, "structured_outputs.choice"),
        ({"guided_json": "{"}, "guided_json"),
        ({"guided_json": SCHEMA, "guided_choice": ["a"]}, "guided_choice"),
        ({"guided_regex": r"\bword\b"}, "guided_regex"),
        ({"guided_choice": []}, "guided_choice"),
        ({"grammar": 'root ::= "\\x00"+'}, "grammar"),
        ({"grammar": "root ::= " + "(" * 1000 + '"a"' + ")" * 1000}, "grammar"),
        ({"grammar": GBNF, "json_schema": SCHEMA}, "grammar"),
        ({"json_schema": {"description": "x" * 70_000}}, "json_schema"),
    ],
)  # fmt: skip
def test_a_shape_that_cannot_be_promised_is_refused(wire: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_format(Fields(wire))

    assert caught.value.param == param
