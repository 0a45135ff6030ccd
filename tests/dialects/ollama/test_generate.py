"""The prompts of /api/generate."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from service.events import ReasoningDelta, TextDelta
from service.fleet.residency import AS_IT_IS
from service.generation import Infill, LoadWishes, Text, Tokens
from tests.dialects.fakes import FACTS, FakeRuntime, Script, end, says
from tests.dialects.ollama.http import CHAT, GENERATE, post, whole

THOUGHTS: Script = [[ReasoningDelta(0, "hm"), TextDelta(0, "ok"), end()]]


def test_raw_text_is_taken_as_it_is_and_leaves_no_context() -> None:
    runtime = FakeRuntime()
    body = whole("/api/generate", {**GENERATE, "raw": True}, runtime)

    assert runtime.requests[0].input == Text("hi")
    assert "context" not in body


def test_a_gap_is_filled_by_a_model_that_can() -> None:
    runtime = FakeRuntime(able_to=frozenset({"completion", "insert"}))
    body = {**GENERATE, "suffix": "!", "system": "s", "context": [1], "stream": False}
    response = post("/api/generate", body, runtime)

    assert runtime.requests[0].input == Infill("hi", "!")
    assert response.headers["x-ignored-params"] == "system, context"


def test_only_a_loaded_model_says_whether_it_fills_gaps() -> None:
    class Late(FakeRuntime):
        async def load(
            self, model: str, keep_alive: float | None = None, wishes: LoadWishes = AS_IT_IS
        ) -> Any:
            self.able_to |= {"insert"}
            return await super().load(model, keep_alive, wishes)

    runtime = Late()

    assert post("/api/generate", {**GENERATE, "suffix": "!"}, runtime).status_code == 200
    assert runtime.loads == [("demo", None)]


def test_a_context_goes_before_the_prompt_and_comes_back_longer() -> None:
    runtime = FakeRuntime(script=[[TextDelta(0, "a", ids=(65,)), end()]])
    first = whole("/api/generate", GENERATE, runtime)
    whole("/api/generate", {**GENERATE, "context": first["context"]}, runtime)
    again = runtime.requests[1].input

    assert first["context"] == [*range(7), 65]
    assert again == Tokens((*first["context"], *b"<user>hi"))


def test_a_context_is_not_begun_twice() -> None:
    runtime = FakeRuntime()
    body = {"model": "demo", "template": "</s>{{ .Prompt }}", "prompt": "x", "context": [7]}
    runtime.facts = replace(FACTS, bos="<")
    post("/api/generate", {**body, "template": "<{{ .Prompt }}"}, runtime)

    assert runtime.requests[0].input == Tokens((7, *b"x"))


def test_thoughts_after_a_context_are_found_all_the_same() -> None:
    template = "<think>{{ messages }}</think>"
    pieces = ["<th", "ink>hm</thi", "nk>o", "k"]
    runtime = FakeRuntime(script=says(*pieces), facts=replace(FACTS, chat_template=template))
    body = whole("/api/generate", {**GENERATE, "context": [1], "think": True}, runtime)

    assert (body["thinking"], body["response"]) == ("hm", "ok")


@pytest.mark.parametrize(
    ("path", "body", "prompt"),
    [
        ("/api/chat", CHAT, "<user>hi"),
        ("/api/generate", GENERATE, "<user>hi"),
        ("/api/generate", {**GENERATE, "system": "s"}, "<system>s<user>hi"),
        ("/api/generate", {**GENERATE, "raw": True}, "hi"),
        ("/api/generate", {**GENERATE, "template": "[{{ .Prompt }}]"}, "[hi]"),
        ("/api/generate", {**GENERATE, "context": [72, 111]}, "Ho<user>hi"),
    ],
)
def test_a_prompt_can_be_seen_without_an_answer(
    path: str, body: dict[str, Any], prompt: str
) -> None:
    runtime = FakeRuntime()
    response = post(path, {**body, "_debug_render_only": True}, runtime)

    assert response.json()["_debug_info"] == {"rendered_template": prompt, "image_count": 0}
    assert runtime.requests == []
