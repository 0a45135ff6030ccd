"""What happens to models, told while it happens."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service.dialects.llama_server.events import Said, news, watched
from tests.dialects.fakes import FakeRuntime

LOADED: dict[str, Any] = {"status": "loaded"}
LOADING: dict[str, Any] = {"status": "loading"}


@pytest.mark.parametrize(
    ("before", "after", "events"),
    [
        ({"a": LOADED}, {"a": LOADED}, []),
        (
            {"a": LOADING},
            {"a": LOADED},
            [{"model": "a", "event": "model_status", "data": LOADED}],
        ),
        ({"a": LOADED}, {}, [{"model": "a", "event": "model_remove"}]),
        ({}, {"a": LOADED}, [{"model": "*", "event": "models_reload"}]),
        ({"a": (LOADED, 7)}, {"a": (LOADED, 7)}, []),
        (
            {"a": (LOADED, 7)},
            {"a": (LOADED, 8)},
            [
                {"model": "a", "event": "model_status", "data": {"status": "unloaded"}},
                {"model": "a", "event": "model_status", "data": LOADED},
            ],
        ),
    ],
)
def test_each_change_is_an_event(
    before: dict[str, Any], after: dict[str, Any], events: list[Any]
) -> None:
    assert list(news(known(before), known(after))) == events


def known(models: dict[str, Any]) -> dict[str, Said]:
    return {
        name: Said(*said) if isinstance(said, tuple) else Said(said)
        for name, said in models.items()
    }


@pytest.mark.anyio
async def test_a_subscriber_is_told_of_loads_and_unloads_until_the_service_stops() -> None:
    runtime: Any = FakeRuntime(state="unloaded")
    told = watched(runtime, seconds=0.001)
    assert (await anext(told)).startswith(b":")
    for state, word in (("loading", "loading"), ("ready", "loaded"), ("failed", "unloaded")):
        runtime.state = state
        frame = await anext(told)
        event = json.loads(frame.removeprefix(b"data: "))
        assert (event["model"], event["event"]) == ("demo:latest", "model_status")
        assert event["data"]["status"] == word
    runtime.draining = True

    assert [frame async for frame in told] == []
