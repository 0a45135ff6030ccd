"""Two keys at one service: whose models, responses, requests and computed prompts are whose."""

from __future__ import annotations

from pathlib import Path

import msgspec

from service.serving.progress import Progress
from tests.dialects.fakes import FakeRuntime
from tests.edge.gated import CHAT, client
from tests.key_files import bearer, line


def test_a_model_that_is_not_for_the_key_is_not_there(tmp_path: Path) -> None:
    lines = [line("a", "inference,read", models="other*"), line("b", "inference", models="Demo")]
    with client(tmp_path, *lines) as http:
        listed = [
            http.get(path, headers=bearer("a")).json()
            for path in ("/v1/models", "/api/tags", "/models", "/api/models", "/vllm/v1/models")
        ]
        refused = [
            http.post(path, json=CHAT | {"prompt": "hi", "input": "hi"}, headers=bearer("a"))
            for path in (
                "/v1/chat/completions",
                "/api/chat",
                "/api/show",
                "/v1/embeddings",
                "/v1/messages/count_tokens",
            )
        ]
        named = http.get("/v1/models/demo", headers=bearer("a"))
        unnamed = http.post("/v1/chat/completions", json={**CHAT, "model": ""}, headers=bearer("a"))
        allowed = http.post("/v1/chat/completions", json=CHAT, headers=bearer("b"))

    assert ["demo" in msgspec.json.encode(answer).decode() for answer in listed] == [False] * 5
    assert [answer.status_code for answer in refused] == [404] * 5
    assert (named.status_code, unnamed.status_code, allowed.status_code) == (404, 404, 200)


def test_without_keys_nothing_is_asked_for(tmp_path: Path) -> None:
    with client(tmp_path) as http:
        assert http.post("/v1/chat/completions", json=CHAT).status_code == 200
        assert http.get("/metrics").status_code == 200
        assert "llm_api_keys 0" not in http.get("/metrics").text


def test_what_one_key_has_computed_serves_no_other(tmp_path: Path) -> None:
    runtime = FakeRuntime()
    lines = [line("a", "inference"), line("b", "inference")]
    with client(tmp_path, *lines, runtime=runtime) as http:
        for name in "ab":
            http.post("/v1/chat/completions", json=CHAT | {"cache_salt": "s"}, headers=bearer(name))
    with client(tmp_path, *lines, runtime=runtime, shared_prefix_cache=True) as http:
        http.post("/v1/chat/completions", json=CHAT, headers=bearer("a"))
    with client(tmp_path, runtime=runtime) as http:
        http.post("/v1/chat/completions", json=CHAT)

    assert [request.cache_salt for request in runtime.requests] == ["a/s", "b/s", "", ""]
    assert [request.owner for request in runtime.requests] == ["a", "b", "a", "local"]


def test_a_grammar_of_ones_own_needs_leave(tmp_path: Path) -> None:
    body = CHAT | {"structured_outputs": {"grammar": 'root ::= "a"'}}
    lines = [line("a", "inference"), line("b", "inference,grammar")]
    with client(tmp_path, *lines) as http:
        answers = [http.post("/v1/chat/completions", json=body, headers=bearer(n)) for n in "ab"]
    with client(tmp_path) as http:
        answers.append(http.post("/v1/chat/completions", json=body))

    assert [answer.status_code for answer in answers] == [403, 200, 200]


def test_a_response_is_found_by_the_key_that_made_it_alone(tmp_path: Path) -> None:
    lines = [line("a", "inference"), line("b", "inference")]
    with client(tmp_path, *lines) as http:
        made = http.post(
            "/v1/responses", json={"model": "demo", "input": "hi"}, headers=bearer("a")
        )
        path = f"/v1/responses/{made.json()['id']}"
        found = [http.get(path, headers=bearer(name)).status_code for name in "ab"]
        going_on = {"model": "demo", "input": "more", "previous_response_id": made.json()["id"]}
        gone_on = http.post("/v1/responses", json=going_on, headers=bearer("b"))
        deleted = [http.delete(path, headers=bearer(name)).status_code for name in "ba"]

    assert (found, gone_on.status_code, deleted) == ([200, 404], 404, [404, 200])


def known(id: str, owner: str) -> Progress:
    return Progress(id, "demo:latest", "openai", "/v1/x", "completed", 1.0, 2.0, 2.0, owner=owner)


def test_requests_of_others_are_neither_seen_nor_ended(tmp_path: Path) -> None:
    requests = {id: known(id, id[0]) for id in ("a1", "a2", "b1")}
    runtime = FakeRuntime(known=requests, open={"a1", "b1"})
    lines = [line("a", "inference"), line("ops", "admin"), line("eyes", "read")]
    with client(tmp_path, *lines, runtime=runtime) as http:
        seen = [http.get(f"/api/progress/{id}", headers=bearer("a")).status_code for id in requests]
        ended = [
            http.post(f"/api/cancel/{id}", headers=bearer(name)).status_code
            for name, id in (("a", "a1"), ("a", "b1"), ("ops", "b1"))
        ]
        listed = http.get("/api/requests", headers=bearer("eyes")).json()["requests"]
        http.post("/api/dismiss/b1", headers=bearer("a"))
        http.post("/api/dismiss/completed", headers=bearer("a"))

    assert seen == [200, 200, 404]
    assert ended == [200, 404, 200]
    assert runtime.cancelled == ["a1", "b1"]
    assert len(listed) == 3
    assert runtime.dismissed == {"a1", "a2"}
