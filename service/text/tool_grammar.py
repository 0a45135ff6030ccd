"""The arguments of a call as GBNF, from the tool's schema, for each way of writing them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from zlib import crc32

from service.errors import InvalidRequest
from service.generation import Tool
from service.text.gbnf import literal
from service.text.gbnf_rules import GbnfRules
from service.text.json_containers import json_text
from service.text.json_schema import schema_expression
from service.text.tagged_reader import Tags
from service.text.tool_values import types_of

Arguments = Callable[[Tool, GbnfRules], str]
# A key that is not in any schema.
_ANY_KEY = "[A-Za-z0-9_-]{1,64}"


_LOOSE = {"{n}": "[0-9]{1,4}", "{lf}": '"\\n"?', "{name}": "[A-Za-z0-9_.-]{1,64}"}


def marks(text: str) -> str:
    """`text` as GBNF, in which `{n}` is any number, `{lf}` a line break that may be missing, and
    `{name}` any name."""
    parts = re.split(r"(\{(?:n|lf|name)\})", text)
    return " ".join(_LOOSE.get(part) or literal(part) for part in parts if part)


def json_arguments(tool: Tool, rules: GbnfRules) -> str:
    """The tool's schema; any object for a schema that no grammar can say, unless it is strict."""
    try:
        return schema_expression(_schema(tool), rules)
    except InvalidRequest:
        if tool.strict:
            raise
        return rules.json("object")


def tagged_arguments(tags: Tags, *, gap: str = "", key_gap: str = "", typed: str = "") -> Arguments:
    """Parameters between tags, with `gap` after each and `key_gap` after its key.

    typed: what follows the key where the call tells the type; `{type}` and `{text}` are filled in.
    What may be a string is held to nothing but its end, and to an `enum`.
    """

    def arguments(tool: Tool, rules: GbnfRules) -> str:
        def field(key: str, schema: Any, required: bool) -> str:
            types = types_of(tool, key)
            text = "string" in types
            if text:
                value = _text(schema, types, tool, tags.value_end, rules)
            else:
                value = _json_value(schema, tool, rules)
            told = "string" if text else min(types - {"integer"} or {"number"})
            end = typed.replace("{type}", told).replace("{text}", str(text).lower())
            head = tags.key + key + (end or tags.key_end) + key_gap + tags.value + tags.around
            parts = f"{marks(head)} {value} {marks(tags.around + tags.value_end + gap)}"
            return parts if required else f"({parts})?"

        fields = _fields(tool)
        if fields is not None:
            return " ".join(field(*each) for each in fields)
        end = typed.replace("{type}", "string").replace("{text}", "true") or tags.key_end
        body = until(tags.value_end, rules)
        head = f"{literal(tags.key)} {_ANY_KEY} {marks(end + key_gap + tags.value + tags.around)}"
        return f"({head} {body} {marks(tags.around + tags.value_end + gap)})*"

    return arguments


def literal_arguments(sign: str, comma: str, quote: str = "") -> Arguments:
    """`key`, `sign`, and a value in JSON, which programs can read too; with commas between.

    quote: stands round strings instead of JSON's quotation marks.
    """

    def arguments(tool: Tool, rules: GbnfRules) -> str:
        def field(key: str, schema: Any) -> str:
            if quote and types_of(tool, key) == {"string"}:
                text = _text(schema, types_of(tool, key), tool, quote, rules)
                return f"{literal(key + sign + quote)} {text} {literal(quote)}"
            return f"{literal(key + sign)} {_json_value(schema, tool, rules)}"

        fields = _fields(tool)
        if fields is None:
            pair = rules.rule("pair", f"{_ANY_KEY} {literal(sign)} {rules.json('value')}")
            return f"({pair} ({literal(comma)} {pair})*)?"
        rest = first = ""
        for key, schema, required in reversed(fields):
            pair = rules.rule("pair", field(key, schema))
            with_comma, without = f"{literal(comma)} {pair} {rest}", f"{pair} {rest}"
            if not required:
                with_comma, without = (
                    f"({with_comma} | {rest or _NOTHING})",
                    (f"({without} | {first or _NOTHING})"),
                )
            rest, first = rules.rule("rest", with_comma), rules.rule("first", without)
        return first

    return arguments


_NOTHING = '""'
# What says nothing of how a value has to be.
_ANNOTATIONS = frozenset({
    "$comment", "$defs", "$id", "$schema", "default", "definitions", "deprecated", "description",
    "examples", "readOnly", "title", "writeOnly",
})  # fmt: skip


def _schema(tool: Tool) -> dict[str, Any]:
    schema = tool.parameters
    if schema is None:
        schema = {"type": "object", "additionalProperties": False}
    if schema.get("type", "object") != "object":
        raise InvalidRequest(
            f"The parameters of `{tool.name}` must be of type object", param="tools"
        )
    return {**schema, "type": "object"}


def _fields(tool: Tool) -> list[tuple[str, Any, bool]] | None:
    """Key, schema, and whether it is required; None where the schema lists no keys."""
    schema = _schema(tool)
    known = {"type", "properties", "required", "additionalProperties"}
    if tool.strict and (others := schema.keys() - known - _ANNOTATIONS):
        raise InvalidRequest(
            f"The parameters of `{tool.name}` cannot be held to in this model's syntax: "
            f"{', '.join(sorted(others))}",
            param="tools",
        )
    properties, required = schema.get("properties"), schema.get("required")
    properties = properties if isinstance(properties, dict) else {}
    required = required if isinstance(required, list) else []
    if not properties and not required:
        return [] if schema.get("additionalProperties") is False else None
    missing = {key: True for key in required if key not in properties}
    return [(key, each, key in required) for key, each in (properties | missing).items()]


def _json_value(schema: Any, tool: Tool, rules: GbnfRules) -> str:
    if isinstance(schema, dict):
        # What its references refer to comes along.
        defined = tool.parameters or {}
        schema = schema | {key: defined[key] for key in ("$defs", "definitions") if key in defined}
    try:
        return schema_expression(schema, rules)
    except InvalidRequest:
        if tool.strict:
            raise
        return rules.json("value")


def _text(schema: Any, types: frozenset[str], tool: Tool, end: str, rules: GbnfRules) -> str:
    """A string without quotation marks, up to `end`."""
    schema = schema if isinstance(schema, dict) else {}
    if tool.strict and schema.keys() - {"type", "enum", "const"} - _ANNOTATIONS:
        raise InvalidRequest(
            f"A string of `{tool.name}` cannot be held to its schema in this model's syntax",
            param="tools",
        )
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(values, list) and values:
        texts = [value if isinstance(value, str) else json_text(value) for value in values]
        return rules.words(texts)
    return until(end, rules)


def until(mark: str, rules: GbnfRules) -> str:
    """Any text that `mark` is not in: an automaton, with a rule for each part of `mark` read."""
    names = [f"until-{crc32(mark.encode()):x}-{n}" for n in range(len(mark))]
    if names[0] not in rules:
        for at, name in enumerate(names):
            steps = {char: _overlap(mark[:at] + char, mark) for char in dict.fromkeys(mark)}
            known = "".join(f"\\U{ord(char):08X}" for char, to in steps.items() if to)
            bodies = [f"[^{known}] {names[0]}"]
            bodies += [
                f"{literal(char)} {names[to]}" for char, to in steps.items() if 0 < to < len(mark)
            ]
            rules.define(name, f"({' | '.join(bodies)})?")
    return names[0]


def _overlap(text: str, mark: str) -> int:
    """The length of the longest end of `text` that begins `mark`."""
    return next((n for n in range(len(text), 0, -1) if mark.startswith(text[-n:])), 0)
