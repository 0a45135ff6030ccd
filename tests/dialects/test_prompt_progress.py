from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.dialects.prompt_progress import Watched, encode_progress
from service.events import Event, TextDelta
from service.serving.runtime import Progress
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime, end


def at(processed: int | None = None, position: int | None = None) -> Progress:
    return Progress(
        "1",
        "demo:latest",
        "openai",
        "/",
        "prefill",
        10.0,
        10.5,
        prompt_tokens=100,
        processed_tokens=processed,
        queue_position=position,
    )


class Answers:
    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.closed = False

    async def batches(self) -> AsyncIterator[list[Event]]:
        await self.go.wait()
        yield [TextDelta(0, "a")]
        yield [end()]

    async def aclose(self) -> None:
        self.closed = True


def test_what_is_not_known_is_absent() -> None:
    assert encode_progress(at(40)) == {
        "prompt_progress": {"total": 100, "processed": 40, "time_ms": 500}
    }
    assert encode_progress(at(position=2)) == {
        "prompt_progress": {"total": 100, "time_ms": 500},
        "queue_position": 2,
    }


async def test_news_are_told_until_the_answer_begins_and_nothing_twice() -> None:
    answers = Answers()
    told: list[Progress] = []
    moments = iter([None, at(position=1), at(position=1), at(40), at(80)])

    def look() -> Progress | None:
        moment = next(moments)
        if moment is not None and moment.processed_tokens == 80:
            answers.go.set()
        return moment

    watched = Watched(answers, look, told.append, seconds=0.001)
    batches = [batch async for batch in watched.batches()]
    await watched.aclose()

    assert told == [at(position=1), at(40), at(80)]
    assert batches == [[], [], [], [TextDelta(0, "a")], [end()]]
    assert answers.closed


def chunks(path: str, **body: Any) -> list[Any]:
    runtime = FakeRuntime(script=[0.1, [TextDelta(0, "a")], [end()]], known={"me": at(40)})
    app = create_app(Settings(), runtime.make)
    with TestClient(app, base_url="http://localhost") as http:
        text = http.post(path, json={"stream": True, **body}, headers={"X-Request-Id": "me"}).text
    lines = [line.removeprefix("data: ") for line in text.split("\n\n")[:-1]]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def test_a_chat_tells_it_only_where_it_is_asked_for() -> None:
    chat = {"messages": [{"role": "user", "content": "hi"}]}
    first, *_ = chunks("/v1/chat/completions", **chat, return_progress=True)

    assert first["choices"] == []
    assert first["prompt_progress"] == {"total": 100, "processed": 40, "time_ms": 500}
    assert all("prompt_progress" not in chunk for chunk in chunks("/v1/chat/completions", **chat))


def test_a_completion_of_llama_servers_tells_it_too() -> None:
    first, *_ = chunks("/completion", prompt="hi", return_progress=True)

    assert (first["content"], first["stop"]) == ("", False)
    assert first["prompt_progress"] == {"total": 100, "processed": 40, "time_ms": 500}


@pytest.mark.parametrize(
    ("path", "body", "empty"),
    [
        (
            "/api/chat",
            {"messages": [{"role": "user", "content": "hi"}]},
            {"message": {"role": "assistant", "content": ""}},
        ),
        ("/api/generate", {"prompt": "hi"}, {"response": ""}),
    ],
)
def test_ollamas_clients_are_told_it_in_lines(
    path: str, body: dict[str, Any], empty: dict[str, Any]
) -> None:
    asked = {"model": "demo", **body}
    first, *rest = lines(path, **asked, return_progress=True)

    assert first.pop("created_at")
    assert first == {
        "model": "demo",
        **empty,
        "done": False,
        "prompt_eval_completed": 40,
        "prompt_eval_total": 100,
    }
    assert [line["done"] for line in rest] == [False, True]
    assert all("prompt_eval_total" not in line for line in lines(path, **asked))


def test_an_ollama_answer_that_comes_whole_has_no_room_for_it() -> None:
    app = create_app(Settings(), FakeRuntime().make)
    body = {"model": "demo", "prompt": "hi", "stream": False, "return_progress": True}
    with TestClient(app, base_url="http://localhost") as http:
        assert http.post("/api/generate", json=body).headers["x-ignored-params"] == (
            "return_progress"
        )


def lines(path: str, **body: Any) -> list[Any]:
    runtime = FakeRuntime(script=[0.1, [TextDelta(0, "a")], [end()]], known={"me": at(40)})
    app = create_app(Settings(), runtime.make)
    with TestClient(app, base_url="http://localhost") as http:
        text = http.post(path, json=body, headers={"X-Request-Id": "me"}).text
    return [json.loads(line) for line in text.splitlines()]
