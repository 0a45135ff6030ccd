"""Any schema of what grammars can say, any value: accepted where valid and in order."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import InvalidRequest
from service.text.json_schema import schema_grammar
from tests.text.matcher import Matcher

Schema = dict[str, Any]

leaves: st.SearchStrategy[Schema] = st.one_of(
    st.sampled_from([{"type": t} for t in ("boolean", "null", "integer", "number", "string")]),
    st.builds(lambda v: {"enum": v}, st.lists(st.sampled_from(["a", 1, None, True]), min_size=1)),
    st.builds(lambda n: {"type": "string", "minLength": n, "maxLength": n + 1}, st.integers(0, 2)),
    st.builds(lambda n: {"type": "integer", "minimum": n, "maximum": n + 9}, st.integers(-9, 9)),
)


def containers(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    names = st.lists(st.sampled_from(["a", "ab", "b"]), unique=True)
    return st.one_of(
        st.builds(
            lambda items, n: {"type": "array", "items": items, "minItems": n}, inner,
            st.integers(0, 2),
        ),
        st.builds(lambda branches: {"anyOf": branches}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(
            lambda names, schemas, required, extra: {
                "type": "object",
                "properties": dict(zip(names, schemas, strict=False)),
                "required": [name for name in required if name in names[: len(schemas)]],
                "additionalProperties": extra,
            },
            names, st.lists(inner, min_size=3, max_size=3), names, st.just(False) | inner,
        ),
    )  # fmt: skip


schemas = st.recursive(leaves, containers, max_leaves=5)
keys = st.sampled_from(["a", "ab", "b", "c", ""])
values = st.recursive(
    st.sampled_from([None, True, 0, 7, -3, 1.5, "", "a", "bc", "é\n"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)


def in_order(schema: Schema, value: Any) -> bool:
    """Whether the properties of `value`, which is valid, come as the grammar has them."""
    if "anyOf" in schema:
        valid = [s for s in schema["anyOf"] if jsonschema.Draft202012Validator(s).is_valid(value)]
        return any(in_order(s, value) for s in valid)
    if isinstance(value, list):
        return all(in_order(schema.get("items", {}), item) for item in value)
    if isinstance(value, dict) and "properties" in schema:
        listed = [*schema["properties"], *schema["required"]]
        known = [name for name in value if name in listed]
        extra = schema["additionalProperties"]
        return (
            list(value)[: len(known)] == known
            and known == sorted(known, key=listed.index)
            and all(in_order(schema["properties"].get(k, extra), v) for k, v in value.items())
        )
    return True


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(schemas, st.lists(values, max_size=8))
def test_what_the_grammar_accepts_is_valid_and_what_is_valid_in_order_it_accepts(
    schema: Schema, instances: list[Any]
) -> None:
    try:
        grammar = Matcher(schema_grammar(schema))
    except InvalidRequest:  # an object that requires a property which it forbids
        return
    valid = jsonschema.Draft202012Validator(schema).is_valid
    for value in instances:
        accepted = grammar.accepts(json.dumps(value, ensure_ascii=False))
        assert accepted == (valid(value) and in_order(schema, value)), value
