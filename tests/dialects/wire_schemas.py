"""What every dialect's answers look like: schemas/*.yaml, read as JSON schemas that are strict.

An object with `properties` has those and no others, and all but those it calls `optional`: a key
that is misspelt, or forgotten, fails. Beside JSON schema's own words there are

    $ref: name, $ref: dialect/name    one of `types`, of this file or another
    extends: name                     its properties too; ours come before them
    tagged: key, of: {value: …}       which schema holds is said by the value of that key
    nullable: true                    or null
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

FOLDER: Final = Path(__file__).parent / "schemas"
DIALECTS: Final = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


@cache
def document(dialect: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((FOLDER / f"{dialect}.yaml").read_text())
    return loaded


def looked_up(dialect: str, name: str) -> tuple[str, Any]:
    """The dialect that has the type, and the type as it is written there."""
    owner, _, own = name.rpartition("/")
    owner = owner or dialect
    return owner, document(owner)["types"][own]


def strict(dialect: str, schema: Any) -> Any:
    """The schema as a validator takes it."""
    if isinstance(schema, list):
        return [strict(dialect, each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return strict(*looked_up(dialect, schema["$ref"]))
    if "tagged" in schema:
        return one_of(schema["tagged"], strict(dialect, schema["of"]))
    if "properties" not in schema:
        return {key: strict(dialect, value) for key, value in schema.items()}
    properties, optional = members(dialect, schema)
    closed = {
        "type": "object",
        "properties": properties,
        "required": [key for key in properties if key not in optional],
        "additionalProperties": False,
    }
    return {"anyOf": [{"type": "null"}, closed]} if schema.get("nullable") else closed


def members(dialect: str, schema: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """The properties, inherited ones among them, and those that may be absent."""
    properties: dict[str, Any] = {}
    optional: set[str] = set()
    if "extends" in schema:
        properties, optional = members(*looked_up(dialect, schema["extends"]))
    own = {key: strict(dialect, value) for key, value in schema["properties"].items()}
    return properties | own, (optional - own.keys()) | set(schema.get("optional", ()))


def one_of(key: str, schemas: dict[str, Any]) -> dict[str, Any]:
    chosen = [
        {"if": {"properties": {key: {"const": value}}, "required": [key]}, "then": schema}
        for value, schema in schemas.items()
    ]
    return {
        "type": "object",
        "required": [key],
        "properties": {key: {"enum": list(schemas)}},
        "allOf": chosen,
    }


@cache
def validator(dialect: str, name: str) -> Draft202012Validator:
    return Draft202012Validator(strict(*looked_up(dialect, name)))


def faults(dialect: str, name: str, value: Any) -> list[str]:
    error = best_match(validator(dialect, name).iter_errors(value))
    return [] if error is None else [described(error)]


def described(error: ValidationError) -> str:
    return f"{error.json_path}: {error.message[:500]}"


@dataclass(frozen=True)
class Route:
    """The types of what it answers: whole, in frames, and with an error after the first frame."""

    dialect: str
    path: str
    answer: str | None = None
    frame: str | None = None
    late_error: str = "error"
    terminator: str | None = None


@cache
def routes(dialect: str) -> dict[str, Route]:
    given = document(dialect)
    common = {key: given[key] for key in ("late_error", "terminator") if key in given}
    return {
        path: Route(dialect, path, **{**common, **types}) for path, types in given["routes"].items()
    }


def route(dialect: str, method: str, path: str) -> Route | None:
    """The route of a path, without the prefix that its dialect may stand under."""
    path = path.partition("?")[0]
    for known, found in routes(dialect).items():
        pattern = re.escape(known).replace(r"\{id\}", ".+")
        if re.fullmatch(pattern, f"{method} {path}"):
            return found
    return None


def error_faults(dialect: str, body: Any) -> list[str]:
    return faults(dialect, document(dialect)["error"], body)


def answer_faults(route: Route, media_type: str, body: bytes) -> list[str]:
    """What is wrong with a 200, whole or streamed; an error within a stream is not wrong."""
    match media_type:
        case "text/event-stream":
            framing = framing_faults(route, body)
        case "application/x-ndjson":
            framing = [] if body.endswith(b"\n") else ["the last line has no end"]
        case "application/json" if route.answer is not None:
            return faults(route.dialect, route.answer, json.loads(body))
        case _:
            return [f"{route.path} answers with {media_type!r}"]
    if framing:
        return framing
    found: list[str] = []
    for frame in frames_of(media_type, body):
        kind = route.late_error if is_late_error(route, frame) else route.frame
        assert kind is not None, f"{route.path} has no stream"
        found += faults(route.dialect, kind, frame)
    return found


def is_late_error(route: Route, frame: Any) -> bool:
    return not faults(route.dialect, route.late_error, frame)


def frames_of(media_type: str, body: bytes) -> list[Any]:
    """The objects of a stream; none of what is no stream. A blank line is no object of NDJSON."""
    if media_type == "application/x-ndjson":
        return [json.loads(line) for line in body.removesuffix(b"\n").split(b"\n")]
    if media_type != "text/event-stream":
        return []
    lines = [line.removeprefix(b"data: ") for line in body.split(b"\n") if line[:5] == b"data:"]
    return [json.loads(line) for line in lines if line != b"[DONE]"]


def framing_faults(route: Route, body: bytes) -> list[str]:
    """Frames end with an empty line, have one space behind `data:` and, if they are named, the
    name of what they hold."""
    if not body.endswith(b"\n\n"):
        return ["the last frame has no end"]
    found = []
    frames = [frame for frame in body.removesuffix(b"\n\n").split(b"\n\n") if frame != b": ping"]
    if route.terminator is not None and frames.pop() != b"data: " + route.terminator.encode():
        found.append(f"the last frame is not {route.terminator}")
    for frame in frames:
        named, _, data = frame.rpartition(b"\n")
        if not data.startswith(b"data: {"):
            found.append(f"a frame is {frame[:80]!r}")
        elif named and named != b"event: " + json.loads(data[6:])["type"].encode():
            found.append(f"{named!r} is the name of {data[:80]!r}")
    return found
