"""Schemas of every keyword that is held: what their grammars accept is valid, whatever it is."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from random import Random
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import InvalidRequest
from service.text.json_schema import schema_grammar
from tests.text import llama
from tests.text.matcher import Matcher
from tests.text.walk import walk

Schema = dict[str, Any]

KIND = {"type": "object", "properties": {"kind": {"enum": ["a", "b"]}, "x": {"type": "null"}}, "required": ["kind"]}  # fmt: skip
THREE = {name: {"type": "integer"} for name in "abc"}

# A schema, what is valid and accepted, what is neither.
HELD: list[tuple[Any, list[Any], list[Any]]] = [
    ({"type": ["string", "null"]}, ["a", None], [1]),
    ({"not": {"type": ["object", "array", "string"]}}, [1, None, True], ["a", {}, []]),
    ({"not": {"const": "a"}, "type": "string"}, ["", "ab", "b"], ["a", 1]),
    ({"not": {"enum": ["a", "b"]}, "enum": ["a", "c"]}, ["c"], ["a", "b"]),
    ({"not": {"const": True}, "type": "boolean"}, [False], [True]),
    ({"type": "integer", "not": {"minimum": 3}}, [2, -9], [3, 4]),
    ({"type": "string", "not": {"maxLength": 2}}, ["abc"], ["ab", ""]),
    ({"not": {"anyOf": [{"type": "string"}, {"type": ["number", "null"]}]}}, [True], ["a", 1, None]),
    ({**KIND, "not": {"required": ["x"]}}, [{"kind": "a"}], [{"kind": "a", "x": None}]),
    ({**KIND, "if": {"properties": {"kind": {"const": "a"}}}, "then": {"required": ["x"]}},
     [{"kind": "b"}, {"kind": "a", "x": None}, {"kind": "b", "x": None}], [{"kind": "a"}]),
    ({**KIND, "allOf": [
        {"if": {"properties": {"kind": {"const": "a"}}, "required": ["kind"]}, "then": {"required": ["x"]},
         "else": {"properties": {"x": False}}}]},
     [{"kind": "b"}, {"kind": "a", "x": None}], [{"kind": "a"}, {"kind": "b", "x": None}]),
    ({"type": "object", "properties": THREE, "dependentRequired": {"a": ["b"]}},
     [{"a": 1, "b": 2}, {"b": 1}, {}], [{"a": 1}, {"a": 1, "c": 1}]),
    ({"type": "object", "properties": THREE, "dependentSchemas": {"a": {"required": ["c"]}}},
     [{"a": 1, "c": 2}, {"b": 1}], [{"a": 1}]),
    ({"type": "object", "properties": THREE, "minProperties": 1, "maxProperties": 2},
     [{"a": 1}, {"b": 1, "c": 1}], [{}, {"a": 1, "b": 1, "c": 1}]),
    ({"type": "object", "properties": THREE, "required": ["b"], "minProperties": 2},
     [{"a": 1, "b": 1}, {"b": 1, "c": 1}], [{"b": 1}, {"a": 1, "c": 1}]),
    ({"properties": {"a": {}}, "additionalProperties": {"type": "null"}, "maxProperties": 2, "minProperties": 1},
     [{"a": 1, "b": None}, {"b": None}, {"b": None, "c": None}], [{}, {"a": 1, "b": None, "c": None}]),
    ({"type": "object", "patternProperties": {"^x-": {"type": "integer"}}, "additionalProperties": False},
     [{}, {"x-a": 1, "x-": 2}], [{"a": 1}, {"x-a": "1"}]),
    ({"type": "object", "propertyNames": {"pattern": "^[a-z]+$", "maxLength": 3}}, [{"abc": 1}], [{"A": 1}, {"abcd": 1}]),
    ({"propertyNames": {"enum": ["a", "b"]}, "additionalProperties": {"type": "integer"}}, [{"a": 1}], [{"c": 1}, {"a": "x"}]),
    ({"properties": {"a": {}}, "unevaluatedProperties": False}, [{"a": 1}], [{"b": 1}]),
    ({"allOf": [{"properties": {"a": {}}}], "properties": {"b": {}}, "unevaluatedProperties": False},
     [{"b": 1, "a": 1}], [{"c": 1}]),
    ({"type": "array", "contains": {"const": 1}, "items": {"type": "integer"}}, [[1], [2, 1, 3]], [[], [2]]),
    ({"type": "array", "contains": {"type": "null"}, "minItems": 2, "maxItems": 3}, [[None, 1], [1, 2, None]], [[None], [1, 2]]),
    ({"type": "array", "uniqueItems": True, "maxItems": 1}, [[], [1]], [[1, 1]]),
    ({"type": "array", "uniqueItems": False}, [[1, 1]], [{}]),
    ({"items": [{"type": "string"}], "additionalItems": {"type": "null"}}, [["a", None]], [[1], ["a", 1]]),
    ({"prefixItems": [{"type": "string"}], "items": False}, [["a"]], [["a", 1]]),
    ({"type": "string", "pattern": "^[a-z]+$", "minLength": 2, "maxLength": 4}, ["ab", "abcd"], ["a", "abcde", "AB"]),
    ({"type": "string", "pattern": "^x[0-9]*$", "maxLength": 3}, ["x", "x12"], ["x123", "y"]),
    ({"type": "string", "pattern": "^a{2}|b{3}$", "minLength": 1}, ["aa", "xbbb"], ["a", "bb"]),
    ({"type": "number", "minimum": 0.5, "maximum": 2.25}, [0.5, 1, 2.25, 2.2, 1.999], [0.49, 2.26, 3, 0, -1]),
    ({"type": "number", "exclusiveMinimum": -0.1, "exclusiveMaximum": 0.1}, [0, 0.05, -0.05, 0.099], [0.1, -0.1, 0.11]),
    ({"type": "number", "exclusiveMinimum": 1.25, "maximum": 1.3}, [1.26, 1.3, 1.2501], [1.25, 1.31, 1.2]),
    ({"type": "number", "maximum": -2.5}, [-2.5, -3, -100.1], [-2.4, 0, 2.5]),
    ({"type": "integer", "minimum": 0.5, "exclusiveMaximum": 3}, [1, 2], [0, 3]),
    ({"type": "integer", "multipleOf": 5}, [0, 5, -10, 125], [1, 12]),
    ({"type": "integer", "multipleOf": 7, "minimum": 0}, [0, 7, 14, 700, 7007], [1, -7, 15]),
    ({"type": "integer", "multipleOf": 7, "minimum": 10, "maximum": 30}, [14, 21, 28], [7, 35, 15]),
    ({"type": "number", "multipleOf": 0.25}, [0, 0.25, 3.5, 12, -0.75], [0.3, 0.125]),
    ({"type": "number", "multipleOf": 1, "exclusiveMinimum": 0}, [1, 20], [0, 0.5, -1]),
    ({"type": "integer", "minimum": 1, "exclusiveMinimum": True}, [2], [1]),
    ({"allOf": [{"type": "number"}, {"type": "integer", "minimum": 2}]}, [2, 3], [1, 2.5]),
    ({"allOf": [{"anyOf": [{"type": "null"}, {"type": "integer"}]}, {"anyOf": [{"type": "integer"}, {"type": "string"}]}]},
     [1], [None, "a"]),
    ({"anyOf": [False, {"type": "string", "enum": [1]}, {"type": "null"}]}, [None], [1, "a"]),
    ({"type": "object", "properties": {"a": {"type": "string", "enum": [1]}, "b": {}}}, [{}, {"b": 1}], [{"a": 1}]),
    ({"enum": [1, 5, 9, "abc"], "minimum": 5, "maxLength": 2}, [5, 9], [1, "abc"]),
    ({"enum": [True, 1, 0, False], "const": 1}, [1], [True, 0]),
    ({"$ref": "#item", "$defs": {"x": {"$anchor": "item", "type": "null"}}}, [None], [1]),
    ({"$ref": "#/$defs/a%20b", "$defs": {"a b": {"type": "null"}}}, [None], [1]),
    ({"$id": "urn:x", "$ref": "urn:x#/$defs/y", "$defs": {"y": {"type": "null"}}}, [None], [1]),
    ({"definitions": {"t": {"type": "object", "properties": {"t": {"$ref": "#/definitions/t"}}}}, "$ref": "#/definitions/t"},
     [{}, {"t": {"t": {}}}], [{"t": 1}]),
    ({"title": "x", "description": "y", "default": 1, "examples": [1], "readOnly": True, "type": "null", "x-y": 1}, [None], [1]),
    (True, [1, "a", None, [], {}], []),
    *[({"type": "string", "format": name}, good, bad) for name, good, bad in [
        ("date", ["2024-02-29", "2023-12-31"], ["2023-02-29", "2023-04-31", "2023-13-01"]),
        ("date-time", ["2000-02-29T23:59:59.5Z"], ["1900-02-29T00:00:00Z"]),
        ("duration", ["P1Y2M3DT4H5M6S", "PT1M", "P2W", "P1D"], ["P", "PT", "P1S"]),
        ("email", ["a.b+c@ex-ample.org"], ["a@b", "@b.org", "a b@c.org", "a@-b.org"]),
        ("hostname", ["a", "ex-ample.org"], ["-a", "a..b", "a_b"]),
        ("ipv4", ["127.0.0.1", "255.255.255.255"], ["256.0.0.1", "1.2.3", "01.2.3.4"]),
        ("ipv6", ["::", "::1", "fe80::1", "1:2:3:4:5:6:7:8", "1:2::7:8", "1::"], [":", "1:2", ":::", "1:2:3:4:5:6:7:8:9"]),
        ("uri", ["https://example.org/a?b=c#d", "urn:x:y", "mailto:a@b.org"], ["example.org", "//x", "http://a b"]),
    ]],
]  # fmt: skip
WALKS = 6


def text_of(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise LookupError  # which no grammar can forbid
    return dict(pairs)


def walked(grammar: Matcher, seed: int) -> list[Any]:
    random = Random(seed)
    out = []
    for _ in range(WALKS):
        with suppress(LookupError):
            out.append(json.loads(walk(grammar, random), object_pairs_hook=named_once))
    return out


def is_valid(schema: Any, value: Any) -> bool:
    checker = jsonschema.FormatChecker(["date", "ipv4", "ipv6", "email", "uuid"])
    return jsonschema.Draft202012Validator(schema, format_checker=checker).is_valid(value)


@pytest.mark.parametrize("case", range(len(HELD)))
def test_a_keyword_is_held(case: int) -> None:
    schema, good, bad = HELD[case]
    grammar = Matcher(schema_grammar(schema))

    assert [value for value in good if not grammar.accepts(text_of(value))] == []
    assert [value for value in bad if grammar.accepts(text_of(value))] == []
    older = "additionalItems" in str(schema) or "True" in str(schema.get("exclusiveMinimum")) if isinstance(schema, dict) else False  # fmt: skip
    if not older:
        assert [value for value in good if not is_valid(schema, value)] == []
        exact = "multipleOf" not in str(schema)  # which the validator asks of floats
        assert [v for v in walked(grammar, case) if exact and not is_valid(schema, v)] == []


def test_nullable_is_as_in_openapi() -> None:
    grammar = Matcher(schema_grammar({"type": "string", "nullable": True, "maxLength": 1}))

    assert grammar.accepts("null")
    assert grammar.accepts('"a"')
    assert not grammar.accepts('"ab"')


numbers = st.sampled_from([-3, -0.5, 0, 0.25, 1, 2.5, 10, 99.9, 100])
counts = st.integers(0, 3)
leaves: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([True, {}, {"type": "null"}, {"type": "boolean"}, {"type": "string"}]),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["number", "integer"])},
        optional=dict.fromkeys(
            ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"], numbers
        ),
    ),
    st.fixed_dictionaries(
        {"type": st.just("string")},
        optional={
            "minLength": counts,
            "maxLength": counts,
            "pattern": st.sampled_from(["^[a-c]+$", "x", "^a|b$", r"^\d{2}"]),
        },
    ),
    st.builds(lambda v: {"enum": v}, st.lists(st.sampled_from(["a", 1, 2.5, None, True, [1]]), min_size=1)),
    st.builds(lambda v: {"const": v}, st.sampled_from(["a", 0, False, {"k": []}])),
)  # fmt: skip
names = st.lists(st.sampled_from(["a", "ab", "b", "c"]), unique=True, max_size=3)


def grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    properties = st.dictionaries(st.sampled_from(["a", "ab", "b"]), inner, max_size=3)
    some = st.lists(inner, min_size=1, max_size=2)
    return st.one_of(
        st.fixed_dictionaries(
            {"type": st.just("object"), "properties": properties},
            optional={
                "required": names,
                "additionalProperties": inner,
                "minProperties": counts,
                "maxProperties": counts,
                "dependentRequired": st.dictionaries(st.sampled_from(["a", "b"]), names, max_size=1),
                "not": st.builds(lambda n: {"required": n}, names.filter(bool)),
            },
        ),
        st.fixed_dictionaries(
            {"type": st.just("array")},
            optional={
                "items": inner, "prefixItems": some, "minItems": counts, "maxItems": counts,
                "contains": inner,
            },
        ),
        st.builds(lambda s: {"anyOf": s}, some),
        st.builds(lambda s: {"allOf": s}, some),
        st.builds(lambda a, b: {"not": a, **b}, inner, st.just({"type": ["string", "integer", "null"]})),
        st.fixed_dictionaries({"if": inner, "then": inner}, optional={"else": inner}),
        st.builds(lambda i: {"type": "object", "propertyNames": {"maxLength": 2}, "additionalProperties": i}, inner),
    )  # fmt: skip


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.recursive(leaves, grown, max_leaves=6), st.integers(0, 2**32))
def test_whatever_a_grammar_accepts_is_valid(schema: Any, seed: int) -> None:
    with suppress(InvalidRequest):
        for value in walked(Matcher(schema_grammar(schema)), seed):
            assert is_valid(schema, value), text_of(value)


junk = st.recursive(
    st.sampled_from([None, True, False, 0, -1, 1.5, 10**400, "", "a", "#", "string", "^("]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "type", "not", "$ref"]), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip
keywords = st.sampled_from(
    "type enum const properties required additionalProperties patternProperties propertyNames "
    "minProperties maxProperties prefixItems items additionalItems contains minContains maxContains "
    "minItems maxItems uniqueItems minLength maxLength pattern format minimum maximum "
    "exclusiveMinimum exclusiveMaximum multipleOf allOf anyOf oneOf not if then else $ref $anchor "
    "$defs $id nullable dependentRequired dependentSchemas dependencies unevaluatedItems "
    "unevaluatedProperties".split()
)


@settings(max_examples=120, deadline=None)
@given(st.dictionaries(keywords, junk, max_size=4))
def test_no_schema_raises_anything_else(schema: Schema) -> None:
    for whole in (schema, {"allOf": [schema, {"type": "object"}]}, {"not": schema}):
        with suppress(InvalidRequest):
            schema_grammar(whole)


def conditions(count: int) -> Schema:
    fields = {f"k{n}": {"enum": ["a", "b"]} for n in range(count)}
    branches = [
        {"if": {"properties": {name: {"const": "a"}}}, "then": {"required": [name]}}
        for name in fields
    ]
    return {"type": "object", "properties": fields, "allOf": branches}


HOSTILE = {
    "many conditions": conditions(40),
    "eight conditions": conditions(8),
    "counts of many": {"properties": {f"p{n}": {} for n in range(500)}, "maxProperties": 400},
    "a far bound": {"type": "number", "minimum": 1e-300},
    "many multiples": {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 10**15},
    "not of not": json.loads('{"not":' * 30 + "{}" + "}" * 30),
    "long words": {"enum": ["a" * n for n in range(1, 340)]},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_schemas_are_settled_soon(name: str) -> None:
    started = time.thread_time()
    with suppress(InvalidRequest):
        schema_grammar(HOSTILE[name])

    assert time.thread_time() - started < 1


def test_llama_cpp_agrees_with_the_recogniser() -> None:
    chosen = [case for case in HELD if isinstance(case[0], dict)][::3]
    cases = [
        (schema_grammar(schema), "root", text_of(value))
        for schema, good, bad in chosen
        for value in (*good, *bad)
    ]

    assert llama.verdicts(cases) == [Matcher(g, root).accepts(text) for g, root, text in cases]
