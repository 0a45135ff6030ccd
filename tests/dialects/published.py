"""`python -m tests.dialects.published --openai FILE --ollama FILE --tgi FILE`: live answers of the
demo model against the OpenAPI documents that others have published.

The documents are not kept here: openai/openai-openapi (openapi.yaml), ollama/ollama
(docs/openapi.yaml) and huggingface/text-generation-inference (docs/openapi.json) have them. What is known to
differ is in published_deviations.yaml, each with its reason; anything else, and anything there
that no longer differs, fails.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from tests.dialects.live import ASKED, Told, replies
from tests.dialects.wire_schemas import frames_of
from tests.service_process import service

DEVIATIONS: Final = Path(__file__).parent / "published_deviations.yaml"
SHOWN: Final = 400
# How a document's paths begin where ours are longer.
BASES: Final = {"openai": "/v1", "ollama": "", "tgi": ""}


@dataclass(frozen=True)
class Deviation:
    """`at` is a regular expression for the fault: `METHOD path media-type $.json.path: message`."""

    document: str
    at: str
    because: str
    fault_of: str


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.dialects.published", description=__doc__)
    for name in BASES:
        parser.add_argument(f"--{name}", type=Path, help="its OpenAPI document, JSON or YAML")
    given = {name: path for name, path in vars(parser.parse_args()).items() if path is not None}
    documents = {name: Document(name, read(path)) for name, path in given.items()}
    with tempfile.TemporaryDirectory() as folder, service(Path(folder)) as running:
        asked = [each for each in ASKED if each.dialect in documents]
        told = list(replies(running.url, asked))
    known = [each for each in deviations() if each.document in documents]
    met: set[Deviation] = set()
    unknown: dict[str, int] = {}
    compared = 0
    for each in told:
        found = list(documents[each.asked.dialect].faults(each))
        compared += bool(documents[each.asked.dialect].schema(each))
        for fault in found:
            allowed = [
                one
                for one in known
                if one.document == each.asked.dialect and re.search(one.at, fault)
            ]
            met.update(allowed)
            if not allowed:
                line = f"{each.asked.dialect}: {fault[:SHOWN]}"
                unknown[line] = unknown.get(line, 0) + 1
    for fault, count in unknown.items():
        say(f"{count} x {fault}")
    stale = [each for each in known if each not in met]
    for deviation in stale:
        say(f"no longer so: {deviation.document} {deviation.at}")
    say(
        f"{len(told)} answers, {compared} of them described; "
        f"{len(met)} known deviations, {len(unknown)} others"
    )
    return 1 if unknown or stale else 0


class Document:
    """One OpenAPI document; 3.0's `nullable` is read as 3.1 writes it."""

    def __init__(self, name: str, document: dict[str, Any]) -> None:
        self.name = name
        self.document = modern(document)

    def faults(self, told: Told) -> Iterator[str]:
        schema = self.schema(told)
        if schema is None:
            return
        whole = {**schema, "components": self.document["components"]}
        validator = Draft202012Validator(whole)
        frames = frames_of(told.media_type, told.content) or [json.loads(told.content)]
        where = f"{told.asked.method} {told.asked.path} {told.status} {told.media_type}"
        for frame in frames:
            for error in validator.iter_errors(frame):
                yield f"{where} {described(error)}"

    def schema(self, told: Told) -> dict[str, Any] | None:
        """What it says of this answer; None where it says nothing."""
        path = told.asked.path.removeprefix(BASES[self.name])
        for known, operations in self.document["paths"].items():
            pattern = re.sub(r"\{[^}]*\}", ".+", known)
            operation = operations.get(told.asked.method.lower())
            if operation is None or not re.fullmatch(pattern, path):
                continue
            answer = operation["responses"].get(str(told.status), {})
            content = answer.get("content", {}).get(told.media_type)
            return None if content is None else content.get("schema")
        return None


def described(error: ValidationError) -> str:
    """Where, whatever the place in a list, and what; of alternatives, what is nearest to fitting."""
    nearest = best_match([error])
    assert nearest is not None
    place = re.sub(r"\[\d+\]", "[]", nearest.json_path)
    return f"{place}: {nearest.message}"


def modern(schema: Any) -> Any:
    if isinstance(schema, list):
        return [modern(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    read = {key: modern(value) for key, value in schema.items() if key != "nullable"}
    return {"anyOf": [{"type": "null"}, read]} if schema.get("nullable") is True else read


def read(path: Path) -> dict[str, Any]:
    text = path.read_text()
    loaded: dict[str, Any] = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    return loaded


def deviations() -> list[Deviation]:
    return [Deviation(**each) for each in yaml.safe_load(DEVIATIONS.read_text())]


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
