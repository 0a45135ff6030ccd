"""What is wrong with an answer, if something is. Pure."""

from __future__ import annotations

import json
from typing import Any, Final

from tests.dialects.wire_schemas import (
    DIALECTS,
    Route,
    answer_faults,
    error_faults,
    frames_of,
    is_late_error,
    route,
)
from tests.fuzz.exchange import Answer
from tests.fuzz.requests import Request

PREFIXES: Final = tuple(f"/{dialect}" for dialect in DIALECTS)
# Whether a model can answer at once, which it cannot while it is loaded anew.
ASKING: Final = frozenset({b"/health", b"/health/ready", b"/tgi/health", b"/vllm/health", b"/tgi/"})

# Where no driver is, there is nothing to share out: a status that clients know.
WITHOUT_GPUS: Final = b"/api/dashboard/weight-distribution"


def fault(request: Request, answer: Answer) -> str | None:
    if answer.ending == "left" or (request.hang_up and answer.ending == "broken"):
        return None
    if answer.ending != "complete":
        # Bytes that are no HTTP may be answered by closing the connection, but not by silence.
        tolerated = request.malformed and answer.ending == "broken"
        return None if tolerated else f"the answer is {answer.ending}"
    if answer.status >= 500 and not is_meant(request, answer):
        return f"{answer.status}: {answer.body[:500]!r}"
    if answer.status >= 400:
        return error_fault(request, answer)
    if answer.status >= 300:
        meant = request.astray or is_for_browsers(request, answer)
        return None if meant else f"{answer.status} redirects"
    return success_fault(request, answer)


def is_for_browsers(request: Request, answer: Answer) -> bool:
    """The address alone, asked for as pages are."""
    asked = (
        request.target.partition(b"?")[0] == b"/" and (b"Accept", b"text/html") in request.headers
    )
    return asked and answer.headers.get("location") == "/dashboard"


def is_meant(request: Request, answer: Answer) -> bool:
    """Some 5xx are the client's own doing: what no server of text models does, a deadline that
    the client itself has set, and a question that is to be answered by a status."""
    if answer.status == 501:
        return request.endpoint.unsupported or request.astray
    if answer.status == 503:
        if request.target.startswith(WITHOUT_GPUS):
            return True
        return request.target.partition(b"?")[0] in ASKING or b"fail_on_no_slot" in request.target
    return answer.status == 504 and request.has(b"x-request-timeout")


def error_fault(request: Request, answer: Answer) -> str | None:
    if request.method == "HEAD":
        return "a HEAD has a body" if answer.body else None
    if request.malformed and answer.media_type == "text/plain":
        return None
    if answer.media_type != "application/json":
        return f"{answer.status} as {answer.media_type!r}: {answer.body[:200]!r}"
    try:
        body = json.loads(answer.body)
    except ValueError:
        return f"{answer.status} is no JSON: {answer.body[:200]!r}"
    wordings = {"openai", *request.wordings} if request.malformed else request.wordings
    faults = [error_faults(wording, body) for wording in sorted(wordings)]
    if not all(faults):
        return None
    return f"{answer.status} not in the words of {sorted(wordings)}: {faults[0]}: {body}"


def success_fault(request: Request, answer: Answer) -> str | None:
    if request.method == "HEAD":
        return "a HEAD has a body" if answer.body else None
    found = None if request.astray or request.malformed else route_of(request)
    if found is None:
        return None
    # An error that came too late for the status line is one all the same.
    frames = frames_of(answer.media_type, answer.body)
    errors = [frame for frame in frames if is_late_error(found, frame)]
    if errors and not request.has(b"x-request-timeout"):
        return f"a stream ended with {errors[0]}"
    if request.free:
        return None
    wrong = answer_faults(found, answer.media_type, answer.body)
    return f"200: {wrong[0]}: {answer.body[:500]!r}" if wrong else None


def route_of(request: Request) -> Route | None:
    """Where its answers are described; None for what has no shape of its own."""
    path = request.endpoint.path
    for prefix in PREFIXES:
        path = path.removeprefix(prefix) or "/"
    speakers: Any = (request.endpoint.wording, "openai")
    found = (route(dialect, request.method, path) for dialect in speakers)
    return next((each for each in found if each is not None), None)
