from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InvalidRequest
from service.text.json_schema import json_grammar, schema_grammar
from tests.text import llama
from tests.text.matcher import Matcher

Schema = dict[str, Any]


def matcher(schema: Schema | bool) -> Matcher:
    return Matcher(schema_grammar(schema))


def accepts(schema: Schema | bool, *values: Any) -> list[bool]:
    grammar = matcher(schema)
    return [grammar.accepts(json.dumps(value, ensure_ascii=False)) for value in values]


def test_json_means_an_object_of_anything_in_any_layout() -> None:
    grammar = Matcher(json_grammar())

    assert grammar.accepts('{"a": [1, -2.5e3, true, null, {"b": "\\u00e9\\n\\""}], "": {}}')
    assert grammar.accepts('{"a":1,\n  "b":\n    [ ]}')
    for text in ("[]", '"a"', '{"a"}', '{"a":01}', '{"a":"\n"}', "{} ", '{"a":"\\ud800"}'):
        assert not grammar.accepts(text), text


def test_white_space_comes_to_an_end() -> None:
    grammar = Matcher(json_grammar())

    assert grammar.begins("{\n" + 20 * " ")
    assert not grammar.begins("{\n" + 21 * " ")
    assert not grammar.begins("{\n\n")


def test_properties_come_in_the_order_of_the_schema_and_optional_ones_may_be_missing() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "string"}, "c": {"type": "null"}},
        "required": ["b"],
    }

    assert accepts(schema, {"a": 1, "b": "", "c": None}, {"b": ""}, {"b": "", "c": None}) == [
        True, True, True,
    ]  # fmt: skip
    assert accepts(schema, {}, {"a": 1}, {"b": "", "a": 1}, {"b": "", "d": 1}, {"b": 1}) == [
        False, False, False, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize("more", [{}, {"additionalProperties": True}])
def test_what_is_required_and_not_listed_may_be_anything(more: Schema) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a", "b"]}

    assert accepts(schema | more, {"a": 1, "b": "x"}, {"a": 1, "b": [None]}) == [True, True]
    assert accepts(schema | more, {"a": 1}, {"b": 1}, {"a": "x", "b": 1}) == [False] * 3
    assert accepts(schema | more, {"a": 1, "b": 2, "c": 3}) == [bool(more)]


def test_what_is_required_and_not_listed_is_what_others_may_be() -> None:
    schema = {"type": "object", "properties": {"a": True}, "required": ["b"]}
    others = {"type": "integer"}

    assert accepts(schema | {"additionalProperties": others}, {"b": 1}, {"b": "x"}) == [True, False]
    assert accepts(schema | {"unevaluatedProperties": others}, {"b": 1}, {"b": "x"}) == [
        True, False,
    ]  # fmt: skip
    with pytest.raises(InvalidRequest):
        schema_grammar(schema | {"additionalProperties": False})


def test_additional_properties_are_never_named_like_listed_ones() -> None:
    schema = {
        "properties": {"ab": {"type": "integer"}, "a": {"type": "integer"}},
        "additionalProperties": {"type": "string"},
    }

    assert accepts(schema, {"ab": 1, "a": 1, "abc": "x", "b": "y"}, {"": "x"}, {"x": "y"}) == [
        True, True, True,
    ]  # fmt: skip
    assert accepts(schema, {"ab": "x"}, {"a": "x"}, {"z": 1}, {"z": "", "a": 1}) == [
        False, False, False, False,
    ]  # fmt: skip
    assert not matcher(schema).begins('{"\\u0061')


def test_arrays_are_counted() -> None:
    items = {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3}
    pair = {"prefixItems": [{"type": "string"}, {"type": "integer"}]}

    assert accepts(items, [], [1], [1, 2, 3], [1, 2, 3, 4], ["a"]) == [
        False, True, True, False, False,
    ]  # fmt: skip
    assert accepts(pair, ["a", 1], ["a"], ["a", 1, 2]) == [True, False, False]
    assert accepts({**pair, "items": {"type": "null"}}, ["a", 1, None, None]) == [True]
    assert accepts({"type": "array", "maxItems": 0}, [], [1]) == [True, False]


def test_long_counts_are_exact_too() -> None:
    schema = {"type": "string", "minLength": 3, "maxLength": 2503}

    assert accepts(schema, "ab", "abc", "x" * 1003, "x" * 2503, "x" * 2504) == [
        False, True, True, True, False,
    ]  # fmt: skip


def test_a_tree_refers_to_itself() -> None:
    schema = {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "value": {"type": "integer"},
                    "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                },
                "required": ["value", "next"],
                "additionalProperties": False,
            }
        },
    }

    assert accepts(schema, {"value": 1, "next": {"value": 2, "next": None}}) == [True]
    assert accepts(schema, {"value": 1, "next": {"value": 2}}) == [False]


def test_schemas_are_merged_where_all_of_them_count() -> None:
    schema = {
        "allOf": [
            {"properties": {"a": {"type": "integer"}}, "required": ["a"]},
            {"$ref": "#/$defs/b"},
        ],
        "$defs": {"b": {"properties": {"b": {"type": "string"}}, "required": ["b"]}},
    }

    assert accepts(schema, {"a": 1, "b": "x"}, {"a": 1}, {"b": "x"}) == [True, False, False]
    assert accepts({"$ref": "#/$defs/n", "maximum": 5, "$defs": {"n": {"minimum": 2, "type": "integer"}}}, 1, 2, 5, 6) == [
        False, True, True, False,
    ]  # fmt: skip
    assert accepts(
        {"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}},
         "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
        {"a": None}, {"b": None}, {},
    ) == [True, True, False]  # fmt: skip


def test_values_are_listed_whatever_they_are() -> None:
    values: list[Any] = [None, True, 0, "a", 'q"\\\n', [1, {"b": 2}], {"k": []}]

    assert accepts({"enum": values}, *values, 1, "b") == [True] * 7 + [False] * 2
    assert accepts({"const": {"a": [1]}}, {"a": [1]}, {"a": [2]}) == [True, False]
    assert accepts({"enum": [1, "a", None], "type": ["string", "null"]}, 1, "a", None) == [
        False, True, True,
    ]  # fmt: skip


def test_many_words_become_a_tree_that_matches_the_same() -> None:
    words = [
        f"{a}{b}{c}" for a in ("", "un", "re") for b in ("do", "load") for c in ("", "ing", "s")
    ]

    assert all(accepts({"enum": words}, *words))
    assert not any(accepts({"enum": words}, "un", "doin", "unloadings", "x"))


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (r"^\d{3}-\d{4}$", ["555-0199"], ["5550199", "a555-0199"]),
        (r"^(a|bc)+$", ["a", "bca"], ["", "b"]),
        (r"[0-9]", ["7", "a7b"], ["ab"]),
        (r"^[^a-z\"]x?$", ["A", "Ax", "\\", "\n"], ["a", '"', "Axx"]),
        (r"^a.b\\$", ["a\\b\\", "a b\\", 'a"b\\'], ["a\nb\\", "ab\\"]),
        (r"^\w+@\w+\.(com|org)$", ["me@x.org"], ["me@x.net", "@x.com"]),
        (r"^$", [""], ["a"]),
        (r"^(?:ab){2,3}?$", ["abab", "ababab"], ["ab", "abababab"]),
        (r"^\u00e9[\x41-\x43]$", ["éB"], ["éD"]),
        (r"^a|b$", ["ax", "xb", "a"], ["xa", "bx"]),
        (r"^(a*)*$", ["", "aa"], ["b"]),
    ],
)
def test_patterns_hold_strings(pattern: str, good: list[str], bad: list[str]) -> None:
    schema = {"type": "string", "pattern": pattern}

    assert all(accepts(schema, *good))
    assert not any(accepts(schema, *bad))


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        ("date", "2024-02-29", "2024-13-01"),
        ("time", "23:59:59.5Z", "24:00:00Z"),
        ("date-time", "2024-02-29T10:00:00+02:00", "2024-02-29 10:00:00Z"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567e89b12d3a456426614174000"),
    ],
)
def test_formats_hold_strings(form: str, good: str, bad: str) -> None:
    assert accepts({"type": "string", "format": form}, good, bad) == [True, False]


def test_other_formats_are_annotations() -> None:
    assert accepts({"type": "string", "format": "iri"}, "anything") == [True]


bounds = st.none() | st.integers(-250, 250)


@settings(max_examples=40, deadline=None)
@given(bounds, bounds, st.booleans(), st.booleans())
def test_integers_lie_exactly_between_their_bounds(
    low: int | None, high: int | None, open_low: bool, open_high: bool
) -> None:
    schema: Schema = {"type": "integer"}
    if low is not None:
        schema["exclusiveMinimum" if open_low else "minimum"] = low
    if high is not None:
        schema["exclusiveMaximum" if open_high else "maximum"] = high
    values = range(-260, 261)
    expected = [jsonschema.Draft202012Validator(schema).is_valid(value) for value in values]
    if not any(expected):
        with pytest.raises(InvalidRequest):
            schema_grammar(schema)
    else:
        assert accepts(schema, *values) == expected


@pytest.mark.parametrize("kind", ["integer", "number"])
@pytest.mark.parametrize("most", [2**53 - 1, 2**63 - 1, 2**64 - 1])
def test_bounds_may_be_those_of_machine_integers(kind: str, most: int) -> None:
    schema: Schema = {"type": kind, "minimum": -most, "maximum": most}

    assert accepts(schema, -most - 1, -most, 0, 42, most, most + 1) == [
        False, True, True, True, True, False,
    ]  # fmt: skip


def test_few_multiples_are_listed_exactly_however_far_and_fine_they_are() -> None:
    schema: Schema = {"type": "number", "multipleOf": 1e-15, "minimum": 10**15, "maximum": 10**15}

    assert accepts(schema, 10**15, 10**15 + 1) == [True, False]


@settings(max_examples=40, deadline=None)
@given(bounds, bounds, st.booleans(), st.booleans(), st.lists(st.floats(-300, 300), max_size=20))
def test_numbers_lie_exactly_between_whole_bounds(
    low: int | None, high: int | None, open_low: bool, open_high: bool, values: list[float]
) -> None:
    schema: Schema = {"type": "number"}
    if low is not None:
        schema["exclusiveMinimum" if open_low else "minimum"] = low
        values += [low, low + 0.5, low - 0.5]
    if high is not None:
        schema["exclusiveMaximum" if open_high else "maximum"] = high
        values += [high, high + 0.5, high - 0.5]
    texts = [f"{value:.8f}".replace("-0.00000000", "0.00000000") for value in values]
    valid = jsonschema.Draft202012Validator(schema).is_valid
    expected = [valid(float(text)) for text in texts]
    try:
        grammar = matcher(schema)
    except InvalidRequest:
        assert (low or 0) >= (high or 0)
    else:
        assert [grammar.accepts(text) for text in texts] == expected


def test_llama_cpp_agrees_with_the_recogniser() -> None:
    tree = {
        "$ref": "#/$defs/n",
        "$defs": {"n": {"type": "object", "properties": {"n": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}}}},
    }  # fmt: skip
    schemas_and_values: list[tuple[Schema, list[Any]]] = [
        (tree, [{"n": {"n": None}}, {}, {"n": 1}, {"n": {"m": 1}}]),
        ({"type": "integer", "minimum": -7, "maximum": 1312}, [-8, -7, 0, 999, 1312, 1313]),
        ({"type": "string", "maxLength": 2100}, ["", "é🦙" * 40, "x" * 2100, "x" * 2101]),
        ({"properties": {"a": {"type": "null"}}, "additionalProperties": {"type": "string"}},
         [{"a": None, "b": "x"}, {"a": "x"}, {"abc": "x"}]),
        ({"type": "string", "format": "date-time"}, ["2024-02-29T10:00:00Z", "2024-02-29"]),
        ({"enum": [f"word{n}" for n in range(300)]}, ["word7", "word299", "word300", "word"]),
    ]  # fmt: skip
    cases = [
        (schema_grammar(schema), "root", json.dumps(value, ensure_ascii=False))
        for schema, values in schemas_and_values
        for value in values
    ]

    assert llama.verdicts(cases) == [Matcher(g, root).accepts(text) for g, root, text in cases]
