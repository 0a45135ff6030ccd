"""A request and its answer as text: what went over the wire, byte for byte, but for what is never
the same twice. In its place stands what it is: `<call 1>`, `<unix seconds>`.

    > POST /v1/chat/completions
    > {"messages": […]}

    200
    content-type: application/json

    {"id":"chatcmpl-golden", …}
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import httpx2
from starlette.testclient import TestClient

from service.app import VERSION, create_app
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime
from tests.dialects.golden_cases import Case

REQUEST_ID: Final = "golden"
# Headers whose value is the time that it took, or how long the bytes below are.
MEASURED: Final = {
    "content-length": "<bytes>",
    "openai-processing-ms": "<milliseconds>",
    "x-compute-time": "<seconds>",
    "x-total-time": "<milliseconds>",
    "x-validation-time": "<milliseconds>",
}
# How far from now a time may be that is now's.
NEAR_SECONDS: Final = 3600


def transcript(case: Case) -> str:
    runtime = FakeRuntime(script=case.script)
    app = create_app(Settings(), runtime.make)
    headers = {"X-Request-Id": REQUEST_ID, **case.headers}
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        answer = client.request(
            case.method,
            case.path,
            json=case.body,
            content=case.content or None,
            headers=headers,
        )
    return f"{asked(case)}\n{answered(answer)}"


def asked(case: Case) -> str:
    lines = [f"{case.method} {case.path}", *[f"{k}: {v}" for k, v in case.headers.items()]]
    if case.body is not None:
        lines.append(json.dumps(case.body, ensure_ascii=False))
    elif case.content:
        lines.append(case.content.decode())
    return "".join(f"> {line}\n" for line in lines)


def answered(answer: httpx2.Response) -> str:
    headers = sorted(answer.headers.items())
    head = [f"{name}: {MEASURED.get(name, stable(value))}\n" for name, value in headers]
    return f"{answer.status_code}\n{''.join(head)}\n{stable(answer.content.decode())}"


def stable(text: str) -> str:
    """The same text from the same request, whenever it is made and by whatever release."""
    text = re.sub(r"\b(?<!\d\.)\d{10}\b(?![.\d])", seconds_of_now, text)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*Z", instant_of_now, text)
    text = re.sub(r'("total_duration":)\d+', r"\1<nanoseconds>", text)
    text = text.replace(f'"version":"{VERSION}"', '"version":"<version>"')
    if text == VERSION:
        return "<version>"
    return re.sub(r"\b(call_|toolu_|chatcmpl-tool-)([0-9a-f]{24})\b", numbered(), text)


def seconds_of_now(found: re.Match[str]) -> str:
    return "<unix seconds>" if is_now(float(found[0])) else found[0]


def instant_of_now(found: re.Match[str]) -> str:
    # Nine digits of a second are more than the parser reads.
    moment = datetime.fromisoformat(found[0].partition(".")[0].rstrip("Z")).replace(tzinfo=UTC)
    return "<instant>" if is_now(moment.timestamp()) else found[0]


def is_now(seconds: float) -> bool:
    return abs(seconds - time.time()) < NEAR_SECONDS


def numbered() -> Callable[[re.Match[str]], str]:
    """Which call an id is of stays visible: the first, the second, the first again."""
    known: dict[str, int] = {}

    def replace(found: re.Match[str]) -> str:
        number = known.setdefault(found[2], len(known) + 1)
        return f"{found[1]}<call {number}>"

    return replace
