"""The keywords of a JSON schema: whether they are well-formed, and older words for the same.

`read` brings a schema to a few keywords of draft 2020-12. What is left out of `_SHAPES` and of
the lists below is annotation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from service.text.gbnf_rules import GbnfRules

Schema = dict[str, Any]

TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
KEYWORDS_OF = {
    "object": {
        "properties", "required", "additionalProperties", "patternProperties", "propertyNames",
        "minProperties", "maxProperties", "unevaluatedProperties",
    },
    "array": {
        "items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains", "minContains",
        "maxContains", "unevaluatedItems",
    },
    "string": {"minLength", "maxLength", "pattern", "format"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
}  # fmt: skip
_CONSTRAINTS = frozenset(
    {"type", "enum", "const", "anyOf", "oneOf", "allOf", "not", "$ref"}.union(*KEYWORDS_OF.values())
)
_UNSUPPORTED = ("$dynamicRef", "$recursiveRef")


def constraints(schema: Schema) -> set[str]:
    """The keywords of `schema` that constrain a value; everything else is annotation."""
    return set(_CONSTRAINTS & schema.keys())


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def read(schema: Any, rules: GbnfRules) -> Schema | bool:
    """`schema` without its annotations, in today's words; other parts of it are left as they are.

    Raises InvalidRequest, by `rules.refuse`, for what is no schema.
    """
    if isinstance(schema, bool):
        return schema
    if not isinstance(schema, dict):
        raise rules.refuse("a schema must be an object or a boolean")
    for keyword in _UNSUPPORTED:
        if keyword in schema:
            raise rules.refuse(f"`{keyword}` is not supported")
    out = _renamed(schema)
    for keyword in out.keys() & _SHAPES.keys():
        fits, shape = _SHAPES[keyword]
        if not fits(out[keyword]):
            raise rules.refuse(f"`{keyword}` must be {shape}")
    for name in listed(out.get("type", [])):
        if name not in TYPES:
            raise rules.refuse(f"`{name[:40]}` is no type")
    conditions = _conditions(out)
    out = {keyword: out[keyword] for keyword in out if keyword in _CONSTRAINTS}
    if conditions:
        out["allOf"] = [*out.get("allOf", []), *conditions]
    return out


def _renamed(schema: Schema) -> Schema:
    out = dict(schema)
    if isinstance(out.get("items"), list):
        out["prefixItems"] = out.pop("items")
        if "additionalItems" in out:
            out["items"] = out.pop("additionalItems")
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(flag := out.get(exclusive), bool):
            del out[exclusive]
            if flag and bound in out:
                out[exclusive] = out.pop(bound)
    if out.get("nullable") is True and "type" in out:
        out["type"] = [*listed(out["type"]), "null"]
    if out.get("uniqueItems") is False:
        del out["uniqueItems"]
    # Found in the wild for "not said".
    for keyword in ("format", "pattern", "enum", "minLength", "maxLength", "minimum", "maximum"):
        if keyword in out and out[keyword] is None:
            del out[keyword]
    return out


def _conditions(schema: Schema) -> list[Schema]:
    out: list[Schema] = []
    if "if" in schema and ("then" in schema or "else" in schema):
        met = {"allOf": [schema["if"], schema.get("then", True)]}
        unmet = {"allOf": [{"not": schema["if"]}, schema.get("else", True)]}
        out.append({"anyOf": [met, unmet]})
    for keyword in ("dependentRequired", "dependentSchemas", "dependencies"):
        for name, then in schema.get(keyword, {}).items():
            then = {"required": then} if isinstance(then, list) else then
            present = {"allOf": [{"type": "object", "required": [name]}, then]}
            absent = {"type": "object", "properties": {name: False}}
            out.append({"anyOf": [absent, present]})
    return out


def _is_schema(value: Any) -> bool:
    return isinstance(value, (dict, bool))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_schema, value))


def _is_map(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_schema, value.values()))


_Shape = tuple[Callable[[Any], bool], str]
_SCHEMA: _Shape = (_is_schema, "a schema")
_SCHEMAS: _Shape = (lambda value: bool(value) and _is_list(value), "a list of schemas")
_SCHEMA_OF: _Shape = (_is_map, "an object of schemas")
_NUMBER: _Shape = (_is_number, "a number")
_COUNT: _Shape = (_is_count, "a whole number")
_TEXT: _Shape = (lambda value: isinstance(value, str), "a string")
_FLAG: _Shape = (lambda value: isinstance(value, bool), "true or false")
_SHAPES: dict[str, _Shape] = {
    "type": (lambda value: _is_words(listed(value)) and bool(value), "a type or a list of types"),
    "enum": (lambda value: isinstance(value, list) and bool(value), "a list of values"),
    "required": (_is_words, "a list of names"),
    "dependentRequired": (
        lambda value: isinstance(value, dict) and all(map(_is_words, value.values())),
        "an object of lists of names",
    ),
    "dependencies": (
        lambda value: (
            isinstance(value, dict)
            and all(_is_words(then) or _is_schema(then) for then in value.values())
        ),
        "an object of schemas or lists of names",
    ),
    "prefixItems": (_is_list, "a list of schemas"),
    "multipleOf": (lambda value: _is_number(value) and value > 0, "a number above 0"),
    "uniqueItems": _FLAG,
    **dict.fromkeys(("anyOf", "oneOf", "allOf"), _SCHEMAS),
    **dict.fromkeys(("properties", "patternProperties", "dependentSchemas"), _SCHEMA_OF),
    **dict.fromkeys(("not", "if", "then", "else", "items", "contains", "propertyNames"), _SCHEMA),
    **dict.fromkeys(("additionalProperties", "unevaluatedProperties", "unevaluatedItems"), _SCHEMA),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _NUMBER),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), _COUNT),
    **dict.fromkeys(("minProperties", "maxProperties", "minContains", "maxContains"), _COUNT),
    **dict.fromkeys(("pattern", "format", "$ref"), _TEXT),
}
