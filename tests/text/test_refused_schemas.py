"""What no grammar says, and schemas that would cost too much."""

from __future__ import annotations

from typing import Any

import pytest

from service.errors import InvalidRequest
from service.text.json_schema import schema_grammar

Schema = dict[str, Any]


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"not": {"pattern": "a"}}, "pattern"),
        ({"not": {"const": 1}}, "not"),
        ({"dependentRequired": {"a": 1}}, "dependentRequired"),
        ({"contains": {}, "minContains": 2}, "minContains"),
        ({"contains": {}, "maxContains": 2}, "maxContains"),
        ({"patternProperties": {"a": {}, "b": {}}, "additionalProperties": False}, "patternProperties"),
        ({"propertyNames": {}, "properties": {"a": {}}}, "propertyNames"),
        ({"type": "string", "pattern": "a", "format": "date"}, "format"),
        ({"enum": ["a"], "pattern": "a"}, "pattern"),
        ({"$dynamicRef": "#a"}, "$dynamicRef"),
        ({"properties": {"a": {"$id": "x"}}}, "$id"),
        ({"type": "number", "multipleOf": 0.3}, "multipleOf"),
        ({"type": "integer", "multipleOf": 2, "minimum": 7}, "multipleOf"),
        ({"type": "integer", "multipleOf": 1.5}, "multipleOf"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"patternProperties": {"^a": {}}}, "patternProperties"),
        ({"type": "string", "pattern": "a(?=b)"}, "(?"),
        ({"type": "string", "pattern": r"(a)\1"}, r"\1"),
        ({"type": "string", "pattern": "a^b"}, "ends"),
        ({"type": "string", "pattern": "a", "maxLength": 3}, "pattern"),
        ({"$ref": "http://example.com/s"}, "$ref"),
        ({"$ref": "#/$defs/none"}, "nothing"),
        ({"$ref": "#none"}, "nothing"),
        ({"allOf": [{"contains": {"type": "null"}}, {"contains": {"type": "string"}}]}, "contains"),
        ({"type": "text"}, "text"),
        (
            {"allOf": [{"properties": {"a": {}}, "additionalProperties": False},
                       {"properties": {"b": {}}}]},
            "additionalProperties",
        ),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "bounds"),
        ({"type": "string", "maxLength": 10**9}, "counts"),
        (False, "false"),
    ],
)  # fmt: skip
def test_what_cannot_be_held_to_is_refused_by_name(schema: Schema | bool, named: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        schema_grammar(schema, "tools")

    assert named in caught.value.message
    assert caught.value.param == "tools"


def nested(depth: int) -> Schema:
    schema: Schema = {"type": "null"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def doubling(levels: int, keyword: str) -> Schema:
    defs = {
        f"d{n}": {
            keyword: [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}", "title": ""}]
        }
        for n in range(levels)
    }
    return {"$ref": "#/$defs/d0", "$defs": {**defs, f"d{levels}": {"type": "null"}}}


def crossing(levels: int, keyword: str) -> Schema:
    """Two definitions a level, each made of both of the next level's, in an order of its own."""
    defs: Schema = {f"{name}{levels}": {"type": "null"} for name in "ab"}
    for n in range(levels):
        below = [{"$ref": f"#/$defs/{name}{n + 1}"} for name in "ab"]
        defs |= {f"a{n}": {keyword: below}, f"b{n}": {keyword: below[::-1]}}
    return {"$ref": "#/$defs/a0", "$defs": defs}


@pytest.mark.parametrize(
    "schema",
    [
        nested(1000),
        {"enum": ["x" * 70_000]},
        {"$ref": "#"},
        {"anyOf": [{"type": "null"}, {"$ref": "#"}]},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"minLength": 1, "anyOf": [{"$ref": "#"}]},
        crossing(60, "allOf"),
        crossing(60, "anyOf"),
        {"properties": {f"p{n}": {} for n in range(2000)}},
        {"type": "string", "pattern": "(" * 500 + "a" + ")" * 500},
        {"type": "string", "pattern": "((a{900}){900}){900}" + "\\"},
    ],
)
def test_hostile_schemas_are_refused(schema: Schema) -> None:
    with pytest.raises(InvalidRequest):
        schema_grammar(schema)


@pytest.mark.parametrize("keyword", ["anyOf", "allOf"])
def test_what_is_shared_is_written_once(keyword: str) -> None:
    assert len(schema_grammar(doubling(40, keyword))) < 5000
