from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from starlette.testclient import TestClient

from service.app import create_app
from service.dialects.fields import Fields
from service.dialects.openai.extras import Extras, parse_extras
from service.errors import InvalidRequest
from service.generation import Chat, LoadWishes, SamplingParams
from service.settings import Settings
from tests.dialects.fakes import FACTS, FakeRuntime

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}


def client(runtime: FakeRuntime) -> TestClient:
    return TestClient(create_app(Settings(), runtime.make), base_url="http://localhost")


def test_where_nothing_is_added_nothing_changes() -> None:
    assert parse_extras(Fields({})) == Extras()


def test_ollamas_options_are_sampling_and_openais_own_names_come_first() -> None:
    runtime = FakeRuntime()
    options = {"temperature": 0.5, "top_k": 4, "num_predict": 9, "seed": 3, "stop": ["x"]}
    with client(runtime) as http:
        http.post("/v1/chat/completions", json={**CHAT, "options": options, "temperature": 0.25})
        http.post("/v1/chat/completions", json={**CHAT, "options": options, "max_tokens": 5})
        http.post("/v1/completions", json={"prompt": "hi", "options": options})
        http.post("/v1/responses", json={"input": "hi", "options": options})

    shared = SamplingParams(temperature=0.5, top_k=4, max_tokens=9, seed=3, stop=("x",))
    assert [request.sampling for request in runtime.requests] == [
        replace(shared, temperature=0.25),
        replace(shared, max_tokens=5),
        shared,
        shared,
    ]


@pytest.mark.parametrize(
    ("think", "asked"), [(True, (True, None)), (False, (False, None)), ("high", (True, "high"))]
)
def test_thinking_under_ollamas_name(think: Any, asked: tuple[bool, str | None]) -> None:
    runtime = FakeRuntime()
    with client(runtime) as http:
        http.post("/v1/chat/completions", json={**CHAT, "think": think})
        http.post("/v1/responses", json={"input": "hi", "think": think})

    for request in runtime.requests:
        assert isinstance(request.input, Chat)
        assert (request.input.enable_thinking, request.input.reasoning_effort) == asked


def test_a_format_and_how_long_the_model_stays() -> None:
    runtime = FakeRuntime()
    with client(runtime) as http:
        http.post("/v1/chat/completions", json={**CHAT, "format": "json", "keep_alive": "5m"})

    (request,) = runtime.requests
    assert request.response_format.kind == "json"
    assert request.keep_alive == 300.0


@pytest.mark.parametrize(
    ("wire", "param"),
    [
        ({"options": 1}, "options"),
        ({"options": {"temperature": "hot"}}, "options.temperature"),
        ({"num_ctx": "big"}, "num_ctx"),
        ({"think": "deeply"}, "think"),
        ({"think": [1]}, "think"),
        ({"format": "xml"}, "format"),
        ({"format": [1]}, "format"),
        ({"format": "json", "response_format": {"type": "json_object"}}, "format"),
        ({"keep_alive": "soon"}, "keep_alive"),
        ({"keep_alive": True}, "keep_alive"),
        ({"n_predict": "x"}, "n_predict"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(wire: dict[str, Any], param: str) -> None:
    with client(FakeRuntime()) as http:
        response = http.post("/v1/chat/completions", json={**CHAT, **wire})

    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_how_the_model_is_loaded_is_reported_where_it_differs() -> None:
    body = {**CHAT, "num_ctx": FACTS.n_ctx_seq, "options": {"num_batch": 7, "frobnicate": 1}}
    runtime = FakeRuntime()
    with client(runtime) as http:
        response = http.post("/v1/chat/completions", json=body)
        larger = http.post("/v1/chat/completions", json={**CHAT, "num_ctx": 10**6})

    assert response.headers["x-ignored-params"] == "options.frobnicate, options.num_batch"
    assert larger.headers["x-ignored-params"] == "num_ctx"
    assert [request.load for request in runtime.requests] == [
        LoadWishes(n_ctx=FACTS.n_ctx_seq, n_batch=7),
        LoadWishes(n_ctx=10**6),
    ]


def test_a_parameter_of_the_wrong_place_is_known() -> None:
    with pytest.raises(InvalidRequest):
        parse_extras(Fields({"think": 1}))


def test_what_a_model_has_no_words_for_is_reported() -> None:
    function = {"name": "f", "parameters": {"type": "object"}}
    tools = [{"type": "function", "function": function}]
    runtime = FakeRuntime(able_to=frozenset({"completion"}))
    with client(runtime) as http:
        chat = http.post(
            "/v1/chat/completions", json={**CHAT, "tools": tools, "reasoning_effort": "low"}
        )
        older = http.post("/v1/chat/completions", json={**CHAT, "functions": [function]})
        response = http.post(
            "/v1/responses", json={"input": "hi", "tools": tools, "reasoning": {"effort": "low"}}
        )

    ignored = [answer.headers["x-ignored-params"] for answer in (chat, older, response)]
    assert ignored == ["tools, reasoning_effort", "functions", "tools, reasoning"]


def test_an_older_client_gets_one_call_and_no_other_is_lost() -> None:
    runtime = FakeRuntime()
    function = {"name": "f", "parameters": {"type": "object"}}
    with client(runtime) as http:
        http.post("/v1/chat/completions", json={**CHAT, "functions": [function]})

    (request,) = runtime.requests
    assert isinstance(request.input, Chat)
    assert request.input.parallel_tool_calls is False


@pytest.mark.parametrize(
    ("wire", "wishes", "reported"),
    [
        ({"threads": 1}, LoadWishes(threads=1), "threads"),
        ({"n_threads": 1, "options": {"num_thread": 2}}, LoadWishes(threads=1), "n_threads"),
        ({"n_threads": -1}, LoadWishes(), None),
        ({"n_threads": FACTS.threads}, None, None),
        ({"gpu_layers": 3}, LoadWishes(gpu_layers=3), "gpu_layers"),
        ({"n_gpu_layers": -1}, LoadWishes(), None),
        ({"n_gpu_layers": 0}, LoadWishes(gpu_layers=0), None),
        ({"tensor_split": [3, 1]}, LoadWishes(tensor_split=(3.0, 1.0)), "tensor_split"),
        ({"tensor_split": "3,1"}, LoadWishes(tensor_split=(3.0, 1.0)), "tensor_split"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat/completions"])
def test_how_to_load_is_asked_for_by_older_names_too(
    wire: dict[str, Any], wishes: LoadWishes | None, reported: str | None, path: str
) -> None:
    runtime = FakeRuntime()
    with client(runtime) as http:
        response = http.post(path, json={**CHAT, **wire})

    assert response.status_code == 200
    assert response.headers.get("x-ignored-params") == reported
    assert wishes is None or runtime.requests[0].load == wishes


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("threads", "many"),
        ("n_gpu_layers", 1.5),
        ("gpu_layers", True),
        ("tensor_split", "half"),
        ("tensor_split", [-1]),
        ("tensor_split", {"0": 1}),
    ],
)
def test_a_way_to_load_that_makes_no_sense_is_refused_by_name(key: str, value: Any) -> None:
    with client(FakeRuntime()) as http:
        response = http.post("/v1/chat/completions", json={**CHAT, key: value})

    assert response.status_code == 400
    assert response.json()["error"]["param"] == key
