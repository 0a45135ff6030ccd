"""The shape that an answer must have, under all the names that clients use for it.

OpenAI's response_format, HuggingFace's and llama-server's variants of it, vLLM's
structured_outputs and its older guided_*, llama-server's json_schema and grammar, TGI's grammar
of a type and a value, Ollama's format. Exactly one may be given: two constraints cannot both be
promised.
"""

from __future__ import annotations

from typing import Final

import msgspec

from service.dialects.fields import Fields, kind
from service.dialects.framing import encode_json
from service.errors import InvalidRequest
from service.generation import ResponseFormat
from service.text.gbnf import check_gbnf
from service.text.literal_choice import LONGEST, MOST, check_choice
from service.text.regex_gbnf import regex_grammar

MAX_SCHEMA_BYTES: Final = 64 * 1024
MAX_GRAMMAR_BYTES: Final = 16 * 1024
TYPES: Final = "must be one of text, json_object, json_schema, json, regex, grammar"
CONSTRAINTS: Final = ("json", "regex", "choice", "grammar", "json_object")
# Beside a schema. They change nothing: every schema is enforced.
NAMING: Final = ("name", "description", "strict")

TEXT: Final = ResponseFormat()


def parse_format(fields: Fields) -> ResponseFormat:
    found: dict[str, ResponseFormat] = {}
    if (given := fields.object("response_format")) is not None:
        found["response_format"] = response_format(given)
    if (given := fields.object("structured_outputs")) is not None:
        found["structured_outputs"] = structured(given, "")
        if not any(name in given for name in CONSTRAINTS):
            words = ", ".join(CONSTRAINTS)
            raise fields.bad("structured_outputs", f"must have one of {words}")
    if any(key.startswith("guided_") and key in fields for key in fields.values):
        found["guided_*"] = structured(fields, "guided_")
    if "structural_tag" in fields:
        raise fields.bad("structural_tag", "is not supported")
    if "json_schema" in fields:
        found["json_schema"] = schema(fields, "json_schema")
    if "grammar" in fields:
        typed = isinstance(fields.values["grammar"], dict) and fields.object("grammar")
        found["grammar"] = response_format(typed) if typed else grammar(fields, "grammar")
    if "format" in fields:
        found["format"] = ollama_format(fields, "format")
    constraints = {name: shape for name, shape in found.items() if shape.kind != "text"}
    if len(constraints) > 1:
        *_, last = constraints
        raise fields.bad(last, f"only one of {', '.join(constraints)} can be honoured")
    return next(iter(constraints.values()), TEXT)


def response_format(fields: Fields) -> ResponseFormat:
    """An object with a `type`: OpenAI's response_format, or TGI's grammar."""
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
            return grammar(fields, "value" if "value" in fields else "grammar", needed=True)
        case "structural_tag":
            raise fields.bad("type", "structural_tag is not supported")
        case _:
            raise fields.bad("type", TYPES)


def json_format(fields: Fields, word: str) -> ResponseFormat:
    if (nested := fields.object("json_schema")) is not None:
        return named_schema(nested)
    # As a response has it, flat.
    fields.skip(NAMING)
    value = fields.values.get("value")
    if word == "json_schema" and isinstance(value, dict) and "schema" in value:
        # TGI names a schema as OpenAI does, in another place.
        nested = fields.object("value")
        assert nested is not None
        return named_schema(nested)
    # llama-server's `schema`; HuggingFace's client and TGI say `value`.
    for key in ("schema", "value"):
        if key in fields:
            return schema(fields, key)
    if word == "json_schema":
        raise fields.bad("json_schema", "is missing")
    return ResponseFormat("json")


def named_schema(fields: Fields) -> ResponseFormat:
    """{"name": …, "schema": …}"""
    fields.skip(NAMING)
    return schema(fields, "schema")


def ollama_format(fields: Fields, key: str) -> ResponseFormat:
    """The word `json`, or a schema."""
    value = fields.get(key)
    if value is None or value == "":
        return TEXT
    if value == "json":
        return ResponseFormat("json", param=fields.name(key))
    if isinstance(value, dict):
        return schema(fields, key)
    shown = encode_json(value)[:80].decode("utf-8", "ignore")
    message = f'invalid format: {shown}; expected "json" or a valid JSON Schema object'
    raise InvalidRequest(message, param=fields.name(key))


def structured(fields: Fields, prefix: str) -> ResponseFormat:
    """vLLM's names: `json`, or with the prefix `guided_json`, and so on."""
    readers = {"json": schema, "regex": regex, "choice": choice, "grammar": grammar}
    given = [name for name in readers if prefix + name in fields]
    if fields.flag(f"{prefix}json_object"):
        given.append("json_object")
    if f"{prefix}structural_tag" in fields:
        raise fields.bad(f"{prefix}structural_tag", "is not supported")
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
    return ResponseFormat("schema", schema=value, param=fields.name(key))


def grammar(fields: Fields, key: str, *, needed: bool = False) -> ResponseFormat:
    text = fields.text(key, longest=MAX_GRAMMAR_BYTES)
    if not text:
        if needed:
            raise fields.bad(key, "is missing")
        return TEXT
    # llama.cpp's own parser aborts the engine's process on some of what it is given.
    try:
        check_gbnf(text, fields.name(key))
    except InvalidRequest:
        if "::=" in text:
            raise
        why = "is not GBNF (`root ::= …`), the only notation for grammars here; Lark is another"
        raise fields.bad(key, why) from None
    return ResponseFormat("grammar", grammar=text, param=fields.name(key))


def regex(fields: Fields, key: str) -> ResponseFormat:
    source = fields.text(key)
    if source is None:
        raise fields.bad(key, "is missing")
    regex_grammar(source, fields.name(key))
    return ResponseFormat("regex", regex=source, param=fields.name(key))


def choice(fields: Fields, key: str) -> ResponseFormat:
    words = fields.strings(key, most=MOST, longest=LONGEST)
    check_choice(words, fields.name(key))
    return ResponseFormat("choice", choice=words, param=fields.name(key))
