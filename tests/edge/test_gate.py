"""The whole application behind its gate: what is reached with which key, and what is said if not."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families as families
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import Message, Receive, Scope, Send

from service.access.caller import Scope as KeyScope
from service.access.routes import scopes_for
from service.app import create_app
from service.control.audit_chain import entries, verified
from service.dialects.responses.store import ResponseStore
from service.edge.gate import Gate, Guarded
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime
from tests.edge.gated import CHAT, client
from tests.key_files import bearer, key_of, line, put

SCOPES = [scope.value for scope in KeyScope if scope is not KeyScope.GRAMMAR]


def guarded(routes: list[BaseRoute], prefix: str = "") -> Iterator[tuple[str, Route, Guarded]]:
    for route in routes:
        if isinstance(route, Mount):
            yield from guarded(list(route.routes), prefix + route.path)
        else:
            assert isinstance(route, Route)
            assert isinstance(route.app, Guarded), f"{route.path} has no gate before it"
            yield prefix + re.sub(r"\{[^}]*\}", "1", route.path), route, route.app


async def reached(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def ask(
    app: Any, method: str, path: str, headers: Mapping[str, str], state: dict[str, Any]
) -> tuple[int, bytes]:
    """(status, body), without a client in between: there are thousands of these."""
    sent: list[Message] = []
    given = {"host": "localhost", "x-request-id": "r", **headers}

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 4000),
        "server": ("localhost", 80),
        "scheme": "http",
        "root_path": "",
        "state": dict(state),
    }
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


async def test_no_route_is_reached_outside_of_its_scope(tmp_path: Path) -> None:
    keys = put(tmp_path / "keys", *(line(scope, scope) for scope in SCOPES), line("all", "read"))
    settings = Settings(state_dir=tmp_path, api_keys_file=keys)
    app = create_app(settings, FakeRuntime().make)
    routes = list(guarded(list(app.routes)))
    for _, _, guard in routes:
        guard.app = reached
    state = {"runtime": FakeRuntime(), "responses": ResponseStore(), "settings": settings}
    # Enough of them, or the eleventh would be told to wait.
    routes[0][2].gate.failures.count = lambda address: None  # type: ignore[method-assign]
    wrong, outcomes = [], Counter[int]()
    for path, route, guard in routes:
        assert guard.gate is routes[0][2].gate
        for method in sorted(route.methods or ()):
            scopes = scopes_for(method, route.path)
            assert scopes is not None
            for shown in (None, "nobody", *SCOPES):
                headers = {} if shown is None else bearer(shown)
                status, _ = await ask(app, method, path, headers, state)
                outcomes[status] += 1
                known = {KeyScope(shown)} if shown in SCOPES else set[KeyScope]()
                expected = 299 if not scopes or scopes & known else 403 if known else 401
                if status != expected:
                    wrong.append((method, path, shown, status, expected))

    assert wrong == []
    assert outcomes.keys() == {299, 401, 403}
    assert sum(outcomes.values()) > 6 * 250


async def test_a_route_without_a_row_is_open_to_nobody(tmp_path: Path) -> None:
    keys = put(tmp_path / "keys", line("a", ",".join(SCOPES)))
    settings = Settings(state_dir=tmp_path, api_keys_file=keys)
    app = create_app(settings, FakeRuntime().make)
    gate = next(guarded(list(app.routes)))[2].gate
    app.router.routes += gate.guarded([Route("/new", reached)])
    state = {"runtime": FakeRuntime(), "responses": ResponseStore(), "settings": settings}

    status, body = await ask(app, "GET", "/new", bearer("a"), state)

    assert (status, b"one that no key has" in body) == (403, True)


def test_what_is_no_route_cannot_be_guarded() -> None:
    gate = Gate.__new__(Gate)
    with pytest.raises(TypeError, match="could be guarded"):
        gate.guarded([Mount("/static", app=reached), BaseRoute()])


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/v1/chat/completions", {"error": {
            "message": "Incorrect API key provided.", "type": "invalid_request_error",
            "param": None, "code": "invalid_api_key"}}),
        ("/v1/messages", {"type": "error", "error": {
            "type": "authentication_error", "message": "Incorrect API key provided."},
            "request_id": "r"}),
        ("/api/chat", {"error": "unauthorized"}),
        ("/vllm/v1/chat/completions", {"error": "Unauthorized"}),
        ("/generate", {"error": "Incorrect API key provided.", "error_type": "unauthorized"}),
        ("/completion", {"error": {"code": 401, "message": "Incorrect API key provided.",
            "type": "authentication_error"}}),
    ],
)  # fmt: skip
def test_a_wrong_key_is_refused_in_each_dialects_words(
    tmp_path: Path, path: str, error: dict[str, Any]
) -> None:
    with client(tmp_path, line("a", "inference")) as http:
        answers = [
            http.post(path, json=CHAT, headers={"X-Request-Id": "r", **shown})
            for shown in ({}, bearer("b"), {"x-api-key": "b"}, {"Authorization": "Basic !"})
        ]

    assert [answer.status_code for answer in answers] == [401] * 4
    assert [answer.json() for answer in answers] == [error] * 4
    assert all("Bearer" in answer.headers["www-authenticate"] for answer in answers)
    assert all("Basic" in answer.headers["www-authenticate"] for answer in answers)


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/v1/chat/completions", ("error", "type")),
        ("/v1/messages", ("error", "type")),
        ("/api/chat", ("error",)),
        ("/vllm/v1/chat/completions", ("error", "type")),
        ("/generate", ("error_type",)),
    ],
)
def test_a_key_for_something_else_is_refused_in_each_dialects_words(
    tmp_path: Path, path: str, place: tuple[str, ...]
) -> None:
    with client(tmp_path, line("a", "read")) as http:
        answer = http.post(path, json=CHAT, headers=bearer("a"))

    said: Any = answer.json()
    for key in place:
        said = said[key]
    assert answer.status_code == 403
    assert said in (
        "permission_error", "PermissionDeniedError", "forbidden",
        "The API key 'a' lacks the scope for this: inference.",
    )  # fmt: skip


@pytest.mark.parametrize(
    "shown",
    [
        bearer("a"),
        {"x-api-key": key_of("a")},
        {"Authorization": httpx.BasicAuth("u", key_of("a"))._auth_header},
    ],
)
def test_a_key_is_shown_in_whichever_way_the_client_has(
    tmp_path: Path, shown: dict[str, str]
) -> None:
    with client(tmp_path, line("a", "inference")) as http:
        assert http.post("/v1/chat/completions", json=CHAT, headers=shown).status_code == 200


def test_an_expired_key_is_no_key(tmp_path: Path) -> None:
    with client(tmp_path, line("a", "read", expires="2020-01-01")) as http:
        assert http.get("/v1/models", headers=bearer("a")).status_code == 401


def test_who_fails_too_often_is_told_to_wait_and_who_has_a_key_is_not(tmp_path: Path) -> None:
    with client(tmp_path, line("a", "inference,metrics")) as http:
        answers = [http.get("/v1/models", headers=bearer("b")) for _ in range(12)]
        valid = http.get("/v1/models", headers=bearer("a"))
        text = http.get("/metrics", headers=bearer("a")).text

    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 2
    assert 0 < int(answers[-1].headers["retry-after"]) <= 60
    assert valid.status_code == 200
    failures = {
        sample.labels["reason"]: sample.value
        for family in families(text)
        for sample in family.samples
        if sample.name == "llm_auth_failures_total"
    }
    assert (failures["unknown"], failures["throttled"]) == (10, 2)


def test_a_key_may_make_so_many_requests_a_minute(tmp_path: Path) -> None:
    with client(tmp_path, line("a", "inference", rpm=2), line("m", "metrics")) as http:
        answers = [
            http.post(path, json=CHAT | {"inputs": "hi"}, headers=bearer("a"))
            for path in (
                "/api/chat",
                "/v1/chat/completions",
                "/api/chat",
                "/generate",
                "/vllm/v1/chat/completions",
            )
        ]
        listing = http.get("/v1/models", headers=bearer("a"))
        counted = http.get("/metrics", headers=bearer("m")).text

    assert [answer.status_code for answer in answers] == [200, 200, 429, 429, 429]
    assert 'llm_auth_failures_total{reason="limited"} 3.0' in counted
    assert {answer.headers["retry-after"] for answer in answers[2:]} <= {"29", "30"}
    assert answers[3].json()["error_type"] == "overloaded"
    assert listing.status_code == 200


async def test_a_key_may_have_so_many_requests_at_a_time(tmp_path: Path) -> None:
    keys = put(tmp_path / "keys", line("a", "inference", max_concurrent=2), line("b", "inference"))
    settings = Settings(state_dir=tmp_path, api_keys_file=keys)
    app = create_app(settings, FakeRuntime().make)
    entered, free = asyncio.Semaphore(0), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        entered.release()
        await free.wait()
        await reached(scope, receive, send)

    for path, _, guard in guarded(list(app.routes)):
        if path == "/v1/completions":
            guard.app = slow
    state = {"runtime": FakeRuntime(), "responses": ResponseStore(), "settings": settings}

    def post(name: str) -> Any:
        return asyncio.create_task(ask(app, "POST", "/v1/completions", bearer(name), state))

    running = [post("a"), post("a")]
    for _ in running:
        await asyncio.wait_for(entered.acquire(), 10)
    assert (await asyncio.wait_for(post("a"), 10))[0] == 429
    other = post("b")
    await asyncio.wait_for(entered.acquire(), 10)
    free.set()
    assert [(await asyncio.wait_for(task, 10))[0] for task in (*running, other)] == [299] * 3
    assert (await asyncio.wait_for(post("a"), 10))[0] == 299


def test_unloading_by_an_empty_prompt_is_administration(tmp_path: Path) -> None:
    runtime = FakeRuntime()
    body = {"model": "demo", "keep_alive": 0}
    with client(tmp_path, line("a", "inference"), runtime=runtime) as http:
        answers = [
            http.post(p, json=body, headers=bearer("a")) for p in ("/api/generate", "/api/chat")
        ]

    assert [answer.status_code for answer in answers] == [403, 403]
    assert runtime.unloads == []


def test_refused_administration_is_written_down_and_no_flood_of_it(tmp_path: Path) -> None:
    with client(tmp_path, line("a", "inference")) as http:
        for _ in range(15):
            assert http.post("/models/unload", json={}, headers=bearer("a")).status_code == 403
        http.post("/v1/chat/completions", json=CHAT, headers=bearer("b"))

    lines = list(entries(tmp_path))
    assert len(lines) == 10
    assert {key: lines[0][key] for key in ("key", "address", "action", "result")} == {
        "key": "a",
        "address": "testclient",
        "action": "POST /models/unload",
        "result": "refused: the key lacks the scope",
    }
    assert verified(tmp_path).problems == ()


def test_an_attempt_without_a_key_is_written_down_too(tmp_path: Path) -> None:
    with client(tmp_path, line("a", "inference")) as http:
        http.post("/models/unload", json={}, headers=bearer("b"))
        http.post("/models/unload", json={}, headers={"Origin": "http://evil.example"})

    assert [(entry["key"], entry["result"]) for entry in entries(tmp_path)] == [
        ("", "refused: no key that is valid"),
        ("", "refused: a page of another origin"),
    ]


def test_no_key_leaves_a_trace(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not in answers, metrics, the audit log or the log; its name does."""
    caplog.set_level("DEBUG")
    bodies = []
    with client(tmp_path, line("canary", "inference,metrics")) as http:
        for path in ("/v1/chat/completions", "/api/chat", "/models/unload", "/nothing"):
            shown = [bearer("canary"), {"x-api-key": key_of("canary")}, bearer("canary-x")]
            bodies += [http.post(path, json=CHAT, headers=headers).text for headers in shown]
        bodies.append(http.get("/metrics", headers=bearer("canary")).text)
    log = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    places = [*bodies, log, (tmp_path / "audit.log").read_text()]

    assert [place for place in places if key_of("canary") in place] == []
    assert "'key_name': 'canary'" in log
