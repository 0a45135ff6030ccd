"""Parts of Ollama's JSON that more than one of its endpoints writes. Pure, apart from clocks.

Times are RFC 3339 in UTC with nanoseconds, durations whole nanoseconds and at least one, since
Go's clients take 0 for absent.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from starlette.responses import Response

from service.dialects.body import EMPTY
from service.dialects.failures import Failure
from service.dialects.framing import json_response
from service.dialects.openai.shapes import encode_logprob
from service.events import Finished, FinishReason, TokenLogprobs

API: Final = "ollama"
NDJSON: Final = "application/x-ndjson"
JSON: Final = "application/json; charset=utf-8"
SECOND: Final = 10**9

# A deadline is a limit too; `timed_out` tells it from the token limit.
LIMITS: Final = frozenset({FinishReason.LENGTH, FinishReason.TIMEOUT})

# Failure.code → Ollama's status and sentence for it, None where ours stands.
SENTENCES: Final[dict[str | None, tuple[int, str | None]]] = {
    "queue_full": (503, "server busy, please try again.  maximum pending requests exceeded"),
    "context_length_exceeded": (400, "the input length exceeds the context length"),
    "cancelled": (499, "request canceled"),
    "invalid_api_key": (401, "unauthorized"),
}


def worded(failure: Failure) -> tuple[int, dict[str, Any]]:
    status, sentence = SENTENCES.get(failure.code, (failure.status, None))
    if failure.message == EMPTY:
        sentence = "missing request body"
    return status, {"error": sentence or failure.message}


def json(body: object) -> Response:
    return json_response(body, media_type=JSON)


def rfc3339(nanoseconds: int) -> str:
    """Of Unix time: 2026-01-02T03:04:05.000000006Z."""
    seconds, rest = divmod(nanoseconds, SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def now() -> str:
    return rfc3339(time.time_ns())


def nanoseconds(start: float | None, end: float | None) -> int:
    """From one stamp to another, both in seconds."""
    if start is None or end is None:
        return 1
    return max(1, round((end - start) * SECOND))


@dataclass(frozen=True)
class Journey:
    """What a request went through around its generation. `arrived` is in monotonic seconds.

    cut_tokens: how many of its prompt's tokens had to go.
    """

    arrived: float
    load_seconds: float = 0.0
    cut_tokens: int = 0


def encode_end(end: Finished, journey: Journey, now: float) -> dict[str, Any]:
    """Everything that only the last object has; all counts, also those that Go leaves out."""
    times, usage = end.timings, end.usage
    body: dict[str, Any] = {
        "done": True,
        "done_reason": "length" if end.reason in LIMITS else "stop",
        "total_duration": nanoseconds(journey.arrived, now),
        "load_duration": nanoseconds(0.0, journey.load_seconds),
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_cached_count": usage.cached_tokens,
        "prompt_eval_duration": nanoseconds(times.scheduled, times.first_token),
        "eval_count": usage.generation_tokens,
        "eval_duration": nanoseconds(times.first_token, times.last_token),
    }
    if end.reason is FinishReason.TIMEOUT:
        body["timed_out"] = True
    return body | encode_cut(usage.prompt_tokens, journey.cut_tokens)


def encode_cut(prompt_tokens: int, cut_tokens: int) -> dict[str, Any]:
    """How long a prompt was that did not fit; nothing where it did."""
    if not cut_tokens:
        return {}
    return {"prompt_truncated": True, "prompt_original_count": prompt_tokens + cut_tokens}


def encode_logprobs(tokens: Sequence[TokenLogprobs]) -> list[dict[str, Any]]:
    entries = []
    for token in tokens:
        entry = encode_logprob(token.chosen, False)
        if token.top:
            entry["top_logprobs"] = [encode_logprob(other, False) for other in token.top]
        entries.append(entry)
    return entries
