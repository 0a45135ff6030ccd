"""A slice of `python -m tests.fuzz`, the same requests each time; and the means it is made with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from tests.fuzz.endpoints import DIALECTS
from tests.fuzz.exchange import Answer
from tests.fuzz.requests import Request, request
from tests.fuzz.run import FLAGS, Violation, aftermath, empty_folder, fuzz
from tests.fuzz.verdict import fault
from tests.service_process import Service, service

SLICE = 150


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(empty_folder(tmp_path_factory.mktemp("fuzz")), *FLAGS) as started:
        yield started


@pytest.mark.parametrize("dialect", DIALECTS)
def test_whatever_is_asked_is_answered_or_refused(running: Service, dialect: str) -> None:
    # Another dialect's requests may have had it loaded for a longer context.
    for what in ("unload", "load"):
        httpx.post(f"{running.url}/models/{what}", json={"model": "demo"}, timeout=60)
    tally = asyncio.run(fuzz(running.url, dialect, 0, range(SLICE)))
    violations = [*tally.violations, *aftermath(running, dialect)]

    assert [told(violation) for violation in violations] == []
    assert sum(tally.classes.values()) == SLICE
    # Neither all of it nonsense, nor all of it harmless.
    assert tally.classes["2xx"] > SLICE // 10
    assert tally.classes["4xx"] > SLICE // 10


def told(violation: Violation) -> str:
    raw = violation.request.raw()[:500] if violation.request else b""
    return f"{violation.number}: {violation.what} {raw!r}"


def test_the_same_seed_draws_the_same_requests() -> None:
    drawn = [request("openai", 7, number) for number in range(50)]

    assert drawn == [request("openai", 7, number) for number in range(50)]
    assert drawn != [request("openai", 8, number) for number in range(50)]


# ---- what counts as a violation

PLAIN = replace(
    request("openai", 0, 0),
    endpoint=DIALECTS["openai"][0],
    method="POST",
    target=b"/v1/chat/completions",
    headers=(),
    wordings=frozenset({"openai"}),
    malformed=False,
    astray=False,
    hang_up=None,
)
BROWSER = replace(PLAIN, method="GET", target=b"/", headers=((b"Accept", b"text/html"),))
JSON = {"content-type": "application/json"}
REFUSED = {"error": {"message": "no", "type": "invalid_request_error", "param": None, "code": None}}


def answer(status: int, body: object, ending: str = "complete") -> Answer:
    return Answer(ending, status, JSON, json.dumps(body).encode())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sent", "got", "wrong"),
    [
        (PLAIN, answer(400, REFUSED), None),
        (PLAIN, answer(400, {"error": "no"}), "not in the words"),
        (PLAIN, answer(400, {"error": {**REFUSED["error"], "parm": 1}}), "not in the words"),
        (PLAIN, Answer("complete", 404, {}, b"not found"), "as ''"),
        (PLAIN, answer(500, REFUSED), "500"),
        (PLAIN, answer(501, REFUSED), "501"),
        (PLAIN, answer(504, REFUSED), "504"),
        (replace(PLAIN, headers=((b"X-Request-Timeout", b"1"),)), answer(504, REFUSED), None),
        (PLAIN, answer(200, {"id": "x"}), "200: "),
        (PLAIN, answer(307, {}), "redirects"),
        (BROWSER, Answer("complete", 302, {"location": "/dashboard"}, b""), None),
        (BROWSER, Answer("complete", 302, {"location": "/elsewhere"}, b""), "redirects"),
        (PLAIN, answer(0, {}, "hung"), "hung"),
        (PLAIN, answer(0, {}, "broken"), "broken"),
        (replace(PLAIN, malformed=True), answer(0, {}, "broken"), None),
        (replace(PLAIN, malformed=True), answer(0, {}, "hung"), "hung"),
        (replace(PLAIN, hang_up=("sent", 0)), answer(0, {}, "left"), None),
    ],
)
def test_what_is_a_violation(sent: Request, got: Answer, wrong: str | None) -> None:
    found = fault(sent, got)

    assert (found is None) if wrong is None else (wrong in str(found))


def test_an_error_within_a_stream_is_one() -> None:
    body = b"data: " + json.dumps(REFUSED).encode() + b"\n\ndata: [DONE]\n\n"
    streamed = Answer("complete", 200, {"content-type": "text/event-stream"}, body)

    assert "a stream ended with" in str(fault(PLAIN, streamed))
