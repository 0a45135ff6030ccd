"""What type the text of a parameter has, for syntaxes that write all values without quotes."""

from __future__ import annotations

import json
from typing import Any

from service.generation import Tool
from service.text.literals import Literal

TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
_TYPE_OF = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer",
            float: "number", type(None): "null"}  # fmt: skip
_DEEPEST = 8


def types_of(tool: Tool | None, key: str) -> frozenset[str]:
    """The JSON types that the tool's schema allows for a parameter: all where it does not say."""
    document = (tool.parameters if tool else None) or {}
    properties = document.get("properties")
    schema = properties.get(key) if isinstance(properties, dict) else None
    return _types(schema, document, 0) or TYPES


def _types(schema: Any, document: dict[str, Any], depth: int) -> frozenset[str]:
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return frozenset()
    if "type" in schema:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        return TYPES & {name for name in names if isinstance(name, str)}
    if isinstance(schema.get("$ref"), str):
        return _types(_target(schema["$ref"], document), document, depth + 1)
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(values, list):
        return frozenset(_TYPE_OF[type(value)] for value in values if type(value) in _TYPE_OF)
    branches = schema.get("anyOf", schema.get("oneOf"))
    if isinstance(branches, list):
        found = [_types(branch, document, depth + 1) for branch in branches]
        return frozenset().union(*found) if all(found) else frozenset()
    return frozenset()


def _target(ref: str, document: dict[str, Any]) -> Any:
    node: Any = document
    for step in ref.removeprefix("#").split("/")[1:]:
        node = (
            node.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(node, dict) else None
        )
    return node


def value_json(text: str, types: frozenset[str]) -> str:
    """`text` as JSON of one of `types`; as a string where it is none of those.

    Models write Python's constants too, and templates show them Python's lists.
    """
    bare = text.strip()
    for candidate in (bare, _from_python(bare)):
        try:
            value = json.loads(candidate, parse_constant=_refuse)
        except (ValueError, RecursionError):
            continue
        kinds = {_TYPE_OF[type(value)]} | ({"number"} if type(value) is int else set())
        if types == TYPES or "string" not in types or (kinds - {"string"}) & types:
            return candidate
    return json.dumps(text, ensure_ascii=False)


def _from_python(text: str) -> str:
    literal = Literal()
    written, rest = literal.feed(text + " ")
    return written if literal.done and not rest.strip() else ""


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
