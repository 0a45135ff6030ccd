from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from service.access.caller import Caller, Scope
from service.errors import Forbidden, ModelNotFound
from service.generation import EmbeddingRequest, GenerationRequest, ResponseFormat, Text
from service.serving.keyed_runtime import KeyedRuntime, matches
from service.serving.runtime import Runtime
from tests.dialects.fakes import CARD, FakeRuntime

ROOT = Path(__file__).parents[2]
ASKED = re.compile(r'(?:\bruntime|state\["runtime"\])\.([a-z_]+)')


def keyed(runtime: FakeRuntime, *scopes: Scope, models: tuple[str, ...] = ()) -> KeyedRuntime:
    who = Caller("a", frozenset(scopes or {Scope.INFERENCE}), "127.0.0.1", models)
    return KeyedRuntime(cast(Runtime, runtime), who, shared_prefixes=False)


def test_it_has_all_that_a_route_asks_a_runtime_for() -> None:
    files = [
        *(ROOT / "service/dialects").glob("*.py"),
        ROOT / "service/admin.py",
        ROOT / "service/tuning/distribution.py",
    ]
    asked = {name for file in files for name in ASKED.findall(file.read_text())}

    assert {"models", "admit", "leaving"} < asked
    assert asked & set(dir(Runtime)) - set(dir(KeyedRuntime)) == set()
    assert {name for name in asked if hasattr(FakeRuntime(), name)} <= set(dir(KeyedRuntime))


@pytest.mark.parametrize(
    ("name", "pattern", "fits"),
    [
        ("demo:latest", "demo", True),
        ("demo:latest", "demo:latest", True),
        ("demo:latest", "demo:*", True),
        ("Demo:Latest", "demo", True),
        ("demo:7b", "demo", False),
        ("user/demo:7b", "demo*", False),
        ("user/demo:7b", "user/*", True),
        ("qwen2.5:7b-q4", "qwen?.5:*", True),
        ("demos:latest", "demo", False),
    ],
)
def test_a_pattern_means_the_name_with_its_tag_or_the_latest(
    name: str, pattern: str, fits: bool
) -> None:
    assert matches(replace(CARD, name=name), pattern) is fits


async def test_a_model_that_is_not_for_the_key_can_be_used_in_no_way() -> None:
    runtime = FakeRuntime()
    own = keyed(runtime, models=("other",))
    request = GenerationRequest("r", "demo", Text("hi"), 0.0, "openai", "/")
    embedding = EmbeddingRequest("r", "demo", (Text("hi"),), 0.0, "openai", "/")
    for trying in (
        own.admit(request),
        own.embed(embedding),
        own.tokenize("demo", Text("hi")),
        own.detokenize("demo", [1]),
        own.render("demo", cast(Any, None)),
        own.load("demo"),
    ):
        with pytest.raises(ModelNotFound):
            await trying
    with pytest.raises(ModelNotFound):
        own.status("demo")
    with pytest.raises(ModelNotFound, match="default"):
        own.resolve(None)
    assert own.models() == []
    assert (runtime.requests, runtime.embedded, runtime.loads) == ([], [], [])


async def test_a_grammar_of_ones_own_and_unloading_need_more_than_a_key_to_generate() -> None:
    grammar = ResponseFormat(kind="grammar", grammar='root ::= "a"')
    request = GenerationRequest(
        "r", "demo", Text("hi"), 0.0, "openai", "/", response_format=grammar
    )
    runtime = FakeRuntime()
    with pytest.raises(Forbidden, match="grammar"):
        await keyed(runtime).admit(request)
    with pytest.raises(Forbidden, match="admin"):
        await keyed(runtime).unload("demo")
    await keyed(runtime, Scope.INFERENCE, Scope.GRAMMAR).admit(request)
    await keyed(runtime, Scope.ADMIN).unload("demo")

    assert (len(runtime.requests), runtime.unloads) == (1, ["demo"])
