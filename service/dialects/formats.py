"""The shape that an answer must have, under all the names that clients use for it.

OpenAI's response_format, HuggingFace's and llama-server's variants of it, vLLM's
structured_outputs and its older guided_*, llama-server's json_schema and grammar. Exactly one
may be given: two constraints cannot both be promised.
"""

from __future__ import annotations

from typing import Final

import msgspec

from service.dialects.fields import Fields, kind
from service.dialects.framing import encode_json
from service.generation import ResponseFormat
from service.text.gbnf import check_gbnf
from service.text.gbnf_rules import GbnfRules

MAX_SCHEMA_BYTES: Final = 64 * 1024
MAX_GRAMMAR_BYTES: Final = 16 * 1024
MAX_CHOICES: Final = 256

TEXT: Final = ResponseFormat()


def parse_format(fields: Fields) -> ResponseFormat:
    found: dict[str, ResponseFormat] = {}
    if (given := fields.object("response_format")) is not None:
        found["response_format"] = response_format(given)
    if (given := fields.object("structured_outputs")) is not None:
        found["structured_outputs"] = structured(given, "")
    if any(key.startswith("guided_") and key in fields for key in fields.values):
        found["guided_*"] = structured(fields, "guided_")
    if "json_schema" in fields:
        found["json_schema"] = schema(fields, "json_schema")
    if "grammar" in fields:
        found["grammar"] = grammar(fields, "grammar")
    constraints = {name: shape for name, shape in found.items() if shape.kind != "text"}
    if len(constraints) > 1:
        *_, last = constraints
        raise fields.bad(last, f"only one of {', '.join(constraints)} can be honoured")
    return next(iter(constraints.values()), TEXT)


def response_format(fields: Fields) -> ResponseFormat:
    word = fields.text("type")
    match word:
        case None:
            raise fields.bad("type", "is missing")
        case "text":
            return TEXT
        case "json_object" | "json" | "json_schema":
            return json_format(fields, word)
        case "regex":
            return regex(fields, "value")
        case "grammar":
            return grammar(fields, "value" if "value" in fields else "grammar")
        case _:
            raise fields.bad("type", "must be one of text, json_object, json_schema")


def json_format(fields: Fields, word: str) -> ResponseFormat:
    nested = fields.object("json_schema")
    if nested is not None:
        # `name`, `description` and `strict` change nothing: every schema is enforced.
        return schema(nested, "schema")
    # llama-server's `schema`; HuggingFace's client and TGI say `value`.
    for key in ("schema", "value"):
        if key in fields:
            return schema(fields, key)
    if word == "json_schema":
        raise fields.bad("json_schema", "is missing")
    return ResponseFormat("json")


def structured(fields: Fields, prefix: str) -> ResponseFormat:
    """vLLM's names: `json`, or with the prefix `guided_json`, and so on."""
    readers = {"json": schema, "regex": regex, "choice": choice, "grammar": grammar}
    given = [name for name in readers if prefix + name in fields]
    if fields.flag(f"{prefix}json_object"):
        given.append("json_object")
    if "structural_tag" in fields and not prefix:
        raise fields.bad("structural_tag", "is not supported")
    if len(given) > 1:
        raise fields.bad(prefix + given[1], "only one constraint can be honoured")
    if not given:
        return TEXT
    if given == ["json_object"]:
        return ResponseFormat("json")
    return readers[given[0]](fields, prefix + given[0])


def schema(fields: Fields, key: str) -> ResponseFormat:
    """A JSON schema, as an object, or as text that holds one."""
    value = fields.get(key)
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError, ValueError):
            raise fields.bad(key, "must be a JSON schema; this text is not JSON") from None
    if not isinstance(value, dict | bool):
        raise fields.bad(key, f"must be a JSON schema, not {kind(value)}")
    if len(encode_json(value)) > MAX_SCHEMA_BYTES:
        raise fields.bad(key, f"must not be longer than {MAX_SCHEMA_BYTES} bytes")
    return ResponseFormat("schema", schema=value)


def grammar(fields: Fields, key: str) -> ResponseFormat:
    text = fields.text(key, longest=MAX_GRAMMAR_BYTES)
    if not text:
        return TEXT
    # llama.cpp's own parser aborts the engine's process on some of what it is given.
    check_gbnf(text, fields.name(key))
    return ResponseFormat("grammar", grammar=text)


def regex(fields: Fields, key: str) -> ResponseFormat:
    raise fields.bad(key, "regular expressions are not supported as a constraint")


def choice(fields: Fields, key: str) -> ResponseFormat:
    words = fields.strings(key, most=MAX_CHOICES, longest=1024)
    if not words:
        raise fields.bad(key, "must have at least one element")
    rules = GbnfRules(fields.name(key))
    return ResponseFormat("grammar", grammar=rules.text(rules.words(words)))
